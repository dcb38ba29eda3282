package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

func newKeyBackup() *cobra.Command {
	var t tokenFlags
	var custodians []string
	var threshold int
	var dir string
	c := &cobra.Command{
		Use:   "backup [-- VENDOR-TOOL ARGUMENTS…]",
		Short: "Back up a token",
		Long: `Back up a token. A key that never leaves its token cannot be copied through
PKCS#11, so it takes the vendor's own tool, given after "--": it is run without a
shell, with {token}, {serial} and {file} replaced, and its file is hashed.

Without a tool the token must be SoftHSM's (--softhsm-tokens): its folder is
archived and sealed (AES-256-GCM) with a random key, of which every custodian gets
a share in a file of mode 0400; --threshold of them open it. Nothing else may use
the token meanwhile. Hand out the shares and remove them from this machine.`,
		Example: `  qcity key backup --softhsm-tokens ./tokens --token validator-0 --custodian Carl --custodian Cora --custodian Cleo --threshold 2 --out ./backup
  qcity key backup --module /usr/lib/vendor.so --token validator-0 --out ./backup -- /opt/vendor/bin/tool backup --serial {serial} --out {file}`,
		RunE: func(cmd *cobra.Command, tool []string) (err error) {
			w, end, err := t.open()
			if err != nil {
				return err
			}
			token, err := w.FindToken(cmd.Context(), t.token, t.serial)
			if err = errors.Join(err, end()); err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			file := filepath.Join(dir, t.token+".backup")
			if err := refuseExisting(file); err != nil {
				return err
			}
			if len(tool) > 0 {
				err = ceremony.RunTool(cmd.Context(), tool, token.TokenRef, file)
			} else {
				err = sealToken(cmd, t, token.TokenRef, custodians, threshold, dir, file)
			}
			if err != nil {
				return err
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("the backup is missing: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "backup       %s\nsha256       %x\ntoken        %s\n", file, sha256.Sum256(data), token.TokenRef)
			return err
		},
	}
	f := c.Flags()
	t.register(f)
	must(f.MarkHidden("pin"))
	f.StringArrayVar(&custodians, "custodian", nil, "name of a custodian; once for each")
	f.IntVar(&threshold, "threshold", 2, "custodians that opening the backup takes")
	f.StringVar(&dir, "out", "", "folder for the backup and the shares")
	for _, name := range []string{"token", "out"} {
		must(c.MarkFlagRequired(name))
	}
	return c
}

func refuseExisting(file string) error {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s exists: a backup is never overwritten, name another folder", file)
	}
	return nil
}

func sealToken(cmd *cobra.Command, t tokenFlags, token worker.TokenRef, custodians []string, threshold int, dir, file string) error {
	if t.tokens == "" {
		return errors.New("name SoftHSM's token directory with --softhsm-tokens, or the vendor's tool after --")
	}
	split, err := ceremony.NewSplit(custodians, threshold)
	if err != nil {
		return err
	}
	defer split.Clear()
	sealed, err := ceremony.SealSoftHSM(t.tokens, token, split)
	if err != nil {
		return err
	}
	for i, s := range split.Shares {
		path := filepath.Join(dir, fmt.Sprintf("%s.custodian-%d.share", t.token, i+1))
		if err := refuseExisting(path); err != nil {
			return err
		}
		if err := durable.WriteFile(path, s.Encode(), 0o400); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "share %-2d     %s for %s\n", i+1, path, s.Custodian)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "to open it   %d of %d\n", threshold, len(custodians))
	return durable.WriteFile(file, sealed, 0o600)
}

func newKeyRestoreTest() *cobra.Command {
	var t tokenFlags
	var from, key, network string
	var shares []string
	c := &cobra.Command{
		Use:   "restore-test [-- VENDOR-TOOL ARGUMENTS…]",
		Short: "Restore a backup elsewhere and prove that the same key signs there",
		Long: `Restore a backup and let the restored token sign a fresh challenge with the key
that is named. Nothing of the original is touched.

A SoftHSM backup is opened with the custodians' shares and restored into a folder
that is removed afterwards. A vendor's tool after "--" restores into a second
device, whose label is --token and which must not be the original (--serial names
the original, so that it cannot be mistaken).`,
		Example: `  qcity key restore-test --from backup/validator-0.backup --share a.share --share b.share --key secp256k1:02… --network network.toml --pin file:validator-0.pin
  qcity key restore-test --module /usr/lib/vendor.so --token validator-0 --serial 123 --from b.bin --key secp256k1:02… --network network.toml -- /opt/vendor/bin/tool restore --in {file}`,
		RunE: func(cmd *cobra.Command, tool []string) error {
			var k types.PublicKey
			if err := k.UnmarshalText([]byte(key)); err != nil {
				return err
			}
			net, err := configs.LoadNetwork(network)
			if err != nil {
				return err
			}
			test := restoreTest{t, from, shares, tool, k, net.ID}
			return test.run(cmd)
		},
	}
	f := c.Flags()
	t.register(f)
	f.StringVar(&from, "from", "", "the backup")
	f.StringArrayVar(&shares, "share", nil, "a custodian's share; once for each")
	f.StringVar(&key, "key", "", "public key that must sign, ALGORITHM:HEX")
	f.StringVar(&network, "network", "", "network name or file")
	for _, name := range []string{"from", "key", "network"} {
		must(c.MarkFlagRequired(name))
	}
	return c
}

type restoreTest struct {
	tokenFlags
	from    string
	shares  []string
	tool    []string
	key     types.PublicKey
	network types.Hash
}

func (r restoreTest) run(cmd *cobra.Command) (err error) {
	ctx := cmd.Context()
	pin, err := r.pin.reader() // before the tool, which would inherit its descriptor
	if err != nil {
		return err
	}
	var token worker.TokenRef
	if len(r.tool) == 0 {
		var dir string
		if dir, err = os.MkdirTemp("", "qcity-restore-"); err != nil { // mode 0700
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		if token, err = r.unseal(dir); err != nil {
			return err
		}
		r.tokens, r.module = dir, ceremony.SoftHSM
	} else {
		if r.token == "" || r.serial == "" {
			return errors.New("name the label of the restored device with --token and the serial number of the original with --serial")
		}
		if err := ceremony.RunTool(ctx, r.tool, worker.TokenRef{Label: r.token, Serial: r.serial}, r.from); err != nil {
			return err
		}
	}
	w, end, err := r.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if len(r.tool) > 0 {
		if token, err = r.other(ctx, w); err != nil {
			return err
		}
	}
	r.token, r.serial = token.Label, token.Serial
	if _, err := r.loginWith(ctx, w, pin); err != nil {
		return err
	}
	p, err := ceremony.Prove(ctx, w, ceremony.Ref(token, r.key), r.network, ceremony.NewChallenge(time.Now()))
	if err != nil {
		return needsPerson{fmt.Errorf("the restored token does not sign with the key: %w", err)}
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "restored     token %s\nkey          %s\nchallenge    %q\nthe same key signs there\n", token, r.key, p.Challenge)
	return err
}

func (r restoreTest) unseal(dir string) (worker.TokenRef, error) {
	sealed, err := os.ReadFile(r.from)
	if err != nil {
		return worker.TokenRef{}, err
	}
	var shares []ceremony.Share
	for _, f := range r.shares {
		text, err := os.ReadFile(f)
		if err != nil {
			return worker.TokenRef{}, err
		}
		s, err := ceremony.ParseShare(text)
		clear(text)
		if err != nil {
			return worker.TokenRef{}, fmt.Errorf("%s: %w", f, err)
		}
		shares = append(shares, s)
	}
	return ceremony.RestoreSoftHSM(sealed, shares, dir)
}

// other finds the restored device, which has the label but not the serial number
// of the original.
func (r restoreTest) other(ctx context.Context, w *worker.Supervisor) (worker.TokenRef, error) {
	tokens, err := w.ListTokens(ctx)
	if err != nil {
		return worker.TokenRef{}, err
	}
	for _, t := range tokens {
		if t.Label == r.token && t.Serial != r.serial {
			return t.TokenRef, nil
		}
	}
	return worker.TokenRef{}, fmt.Errorf("there is no token labelled %q besides the original: see what the vendor's tool said", r.token)
}
