package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
)

func newSigner() *cobra.Command {
	c := &cobra.Command{Use: "signer", Short: "Hold validator keys in an HSM and sign their slots"}
	c.AddCommand(newSignerRun(), newSignerJournal(), newSignerCluster())
	return c
}

func newSignerRun() *cobra.Command {
	var file string
	var endWithParent bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the signer daemon",
		Long: `Run the signer daemon: it checks every block it is shown against the rules,
writes its journal, and only then asks the HSM. It answers the node on a Unix
socket. Exit code 78 means that a person is needed, for example because a PIN
was refused; do not restart it by itself then.`,
		Example: "  qcity signer run --config ./devnet/qcity.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if endWithParent {
				ctx = untilOrphaned(ctx)
			}
			net, cfg, err := signerConfig(file)
			if err != nil {
				return needsPerson{err}
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", "signer")
			d, err := signer.Open(ctx, cfg, net, log)
			if err != nil {
				if ctx.Err() != nil {
					return nil // ended while it was starting
				}
				if signer.IsTerminal(err) {
					return needsPerson{err}
				}
				return err
			}
			return d.Run(ctx)
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file")
	c.Flags().BoolVar(&endWithParent, "end-with-parent", false, "end when standard input is closed")
	return c
}

// signerConfig turns the signer's part of a configuration file into the
// daemon's own terms.
func signerConfig(file string) (*consensus.Network, signer.Config, error) {
	c, err := configs.Load(file)
	if err != nil {
		return nil, signer.Config{}, err
	}
	net, err := configs.LoadNetwork(c.NetworkName())
	if err != nil {
		return nil, signer.Config{}, err
	}
	binary, err := workerBinary(c.Path(c.Signer.Worker))
	if err != nil {
		return nil, signer.Config{}, err
	}
	out := signer.Config{
		Journal: c.Path(c.Signer.Journal), Socket: c.Path(c.Signer.Socket), Worker: binary,
		Module: c.Path(c.Signer.Module), SoftHSMCopy: c.Path(c.Signer.PristineTokens),
		SignaturesPerSecond: c.Signer.SignaturesPerSecond, SignatureBurst: c.Signer.SignatureBurst,
	}
	for i, k := range c.Signer.Keys {
		key := signer.KeyConfig{
			TokenLabel: k.Token, TokenSerial: k.Serial, KeyLabel: k.Label,
			PINFile: c.Path(k.PINFile), AllowExtractable: k.AllowExtractable,
		}
		if err := key.PublicKey.UnmarshalText([]byte(k.PublicKey)); err != nil {
			return nil, out, fmt.Errorf("%s: signer.keys[%d]: %w", file, i, err)
		}
		out.Keys = append(out.Keys, key)
	}
	return net, out, nil
}

func newSignerJournal() *cobra.Command {
	var file string
	var floor uint32
	c := &cobra.Command{
		Use:   "create-journal",
		Short: "Create the signing journal of a new signer",
		Long: `Create the signing journal. The signer refuses to start without one, as a journal
that is lost could let it sign a slot twice. --floor is the highest height that
any of the keys may have signed before, anywhere; nothing at or below it will be
signed. For keys that were never used it is 0.`,
		Example: "  qcity signer create-journal --config qcity.toml --floor 0",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			net, cfg, err := signerConfig(file)
			if err != nil {
				return err
			}
			keys := make([]types.PublicKey, len(cfg.Keys))
			for i := range keys {
				keys[i] = cfg.Keys[i].PublicKey
			}
			if err := signer.CreateJournal(cfg.Journal, net.ID, keys, floor); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "created %s for %d keys, floor %d\n", cfg.Journal, len(keys), floor)
			return err
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file")
	c.Flags().Uint32Var(&floor, "floor", 0, "highest height that may have been signed before")
	must(c.MarkFlagRequired("floor"))
	return c
}
