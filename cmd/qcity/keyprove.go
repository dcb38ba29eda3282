package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/proof"
	"qcitycoin.org/qcity/signer/worker"
)

func newKeyAttest() *cobra.Command {
	var k keyFlags
	var root string
	c := &cobra.Command{
		Use:   "attest",
		Short: "Verify what the device's vendor says about a key",
		Long: fmt.Sprintf(`Verify the vendor's attestation: a certificate in the token with the key's id, about
this very key, that leads up to the root certificate the vendor publishes. Ends
with %d and the line %q if the token has none.`, exitNotAttested, ceremony.NoAttestation),
		Example: "  qcity key attest --module /usr/lib/vendor.so --token validator-0 --label validator-0 --root vendor-root.pem",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := os.ReadFile(root)
			if err != nil {
				return fmt.Errorf("the vendor's root certificate: %w", err)
			}
			roots, err := ceremony.ParseRoot(text)
			if err != nil {
				return err
			}
			return k.withToken(cmd.Context(), func(w *worker.Supervisor, token worker.TokenInfo) error {
				key, err := k.find(cmd.Context(), w, token.TokenRef)
				if err != nil {
					return err
				}
				certificates, err := w.ListCertificates(cmd.Context(), token.TokenRef)
				if err != nil {
					return err
				}
				a, err := ceremony.Attest(ceremony.Public(key), key.ID, certificates, roots, time.Now())
				if err != nil {
					return needsPerson{err}
				}
				out := cmd.OutOrStdout()
				if a == nil {
					if _, err := fmt.Fprintln(out, ceremony.NoAttestation); err != nil {
						return err
					}
					return exitStatus(exitNotAttested)
				}
				for i, subject := range a.Chain {
					fmt.Fprintf(out, "%*s%s\n", 2*i, "", subject)
				}
				_, err = fmt.Fprintf(out, "attested: key %s, certificate sha256 %s\n", ceremony.Public(key), a.SHA256)
				return err
			})
		},
	}
	k.register(c.Flags())
	c.Flags().StringVar(&root, "root", "", "the vendor's root certificate, PEM")
	for _, name := range []string{"token", "root"} {
		must(c.MarkFlagRequired(name))
	}
	c.MarkFlagsOneRequired("label", "key")
	return c
}

func newKeyProve() *cobra.Command {
	var k keyFlags
	var network, challenge, verify, out string
	c := &cobra.Command{
		Use:   "prove",
		Short: "Prove that a token can sign with its key, or check such a proof",
		Long: `Sign a text that is nothing but a proof: a tagged hash over the network's id, the
key and a challenge that begins with today's date. It cannot be taken for a
transaction, a block or a vote. With --verify FILE a proof is checked without a
token; compare key and challenge with those you asked for.`,
		Example: `  qcity key prove --network network.toml --token validator-0 --label validator-0 --challenge "asked by Wilma"
  qcity key prove --network network.toml --verify proof.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			net, err := configs.LoadNetwork(network)
			if err != nil {
				return err
			}
			if verify != "" {
				return verifyProof(cmd.OutOrStdout(), verify, net.ID)
			}
			if k.token == "" || k.label == "" && k.key == "" {
				return errors.New("name the key with --token and --label, or a proof with --verify")
			}
			text := ceremony.NewChallenge(time.Now())
			if challenge != "" {
				text = []byte(time.Now().UTC().Format(time.DateOnly) + " " + challenge)
			}
			if err := proof.CheckChallenge(text); err != nil {
				return err
			}
			return k.withToken(cmd.Context(), func(w *worker.Supervisor, token worker.TokenInfo) error {
				key, err := k.find(cmd.Context(), w, token.TokenRef)
				if err != nil {
					return err
				}
				p, err := ceremony.Prove(cmd.Context(), w, ceremony.Ref(token.TokenRef, ceremony.Public(key)), net.ID, text)
				if err != nil {
					return err
				}
				if out != "" {
					return durable.WriteFile(out, p.Encode(), 0o644)
				}
				_, err = cmd.OutOrStdout().Write(p.Encode())
				return err
			})
		},
	}
	k.register(c.Flags())
	f := c.Flags()
	f.StringVar(&network, "network", "", "network name or file")
	f.StringVar(&challenge, "challenge", "", "text to sign after the date; without it random digits")
	f.StringVar(&verify, "verify", "", "check the proof in this file")
	f.StringVar(&out, "out", "", "write the proof into this file")
	must(c.MarkFlagRequired("network"))
	for _, signs := range []string{"token", "label", "key", "challenge", "out"} {
		c.MarkFlagsMutuallyExclusive(signs, "verify") // nothing of it would be compared
	}
	return c
}

func verifyProof(out io.Writer, file string, network types.Hash) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	p, err := proof.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := p.Verify(network); err != nil {
		return needsPerson{fmt.Errorf("%s: %w", file, err)}
	}
	_, err = fmt.Fprintf(out, "proof holds\nkey        %s\nwords      %s\nnetwork    %s\nchallenge  %q\n",
		p.Key, ceremony.KeyFingerprint(p.Key).Words, p.Network, p.Challenge)
	return err
}
