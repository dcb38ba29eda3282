package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

// exitNotAttested is how `qcity key attest` ends for a token that attests nothing.
const exitNotAttested = 3

func newKey() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Make, check, prove and back up validator keys in tokens",
		Long: `Work with the validator keys inside PKCS#11 tokens. Tokens are named by label and,
if that is not enough, serial number. PINs are asked for at the terminal, or come
from where --pin says, in the form of the configuration; there is no flag for a
PIN itself. The keys of a new network are made by "qcity ceremony", which does all of this with witnesses.`,
	}
	c.AddCommand(newKeyGenerate(), newKeyList(), newKeyCheck(), newKeyAttest(), newKeyProve(), newKeyBackup(), newKeyRestoreTest())
	return c
}

// tokenFlags name a token and how to reach it.
type tokenFlags struct {
	module, initArgs string
	worker, tokens   string
	env              []string
	token, serial    string
	pin              pinFlag
}

func (t *tokenFlags) register(f *pflag.FlagSet) {
	f.StringVar(&t.module, "module", ceremony.SoftHSM, "path of the PKCS#11 library; softhsm2 is found by itself")
	f.StringVar(&t.initArgs, "init-args", "", "string that the library wants in C_Initialize; NSS does")
	f.StringVar(&t.worker, "worker", "", "path of qcity-p11; without it the one beside this program")
	f.StringVar(&t.tokens, "softhsm-tokens", "", "SoftHSM's token directory; without it what SOFTHSM2_CONF says")
	f.StringArrayVar(&t.env, "env", nil, "name of an environment variable that the library is configured by; once for each")
	f.StringVar(&t.token, "token", "", "label of the token")
	f.StringVar(&t.serial, "serial", "", "serial number of the token, if the label is not enough")
	t.pin.register(f, "pin", "terminal", "user PIN")
}

// open starts a worker. The caller calls end.
func (t *tokenFlags) open() (w *worker.Supervisor, end func() error, err error) {
	module := t.module
	binary, err := workerBinary(t.worker)
	if err != nil {
		return nil, nil, err
	}
	if module == ceremony.SoftHSM {
		if module, err = worker.SoftHSMModule(); err != nil {
			return nil, nil, err
		}
	}
	cfg := worker.Config{Binary: binary, Module: module, InitArgs: t.initArgs, Env: ceremony.Environment(t.env), Log: slog.New(slog.DiscardHandler)}
	remove := func() error { return nil }
	if t.tokens != "" {
		dir, err := os.MkdirTemp("", "qcity-softhsm-")
		if err != nil {
			return nil, nil, err
		}
		remove = func() error { return os.RemoveAll(dir) }
		conf := filepath.Join(dir, "softhsm2.conf")
		abs, err := filepath.Abs(t.tokens)
		if err != nil {
			return nil, nil, errors.Join(err, remove())
		}
		if err := os.WriteFile(conf, []byte(worker.SoftHSMConf(abs)), 0o600); err != nil {
			return nil, nil, errors.Join(err, remove())
		}
		cfg.Env = append(cfg.Env, "SOFTHSM2_CONF="+conf)
	}
	if w, err = worker.New(cfg); err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return w, func() error { return errors.Join(w.Close(), remove()) }, nil
}

// forOfficer marks what trying again cannot mend: a token, a key or a PIN that is not
// what it should be, or a person who did not confirm.
func forOfficer(err error) error {
	var own *ceremony.Error
	var key *worker.AttributeError
	var token *worker.Error
	if errors.As(err, &own) || errors.Is(err, ceremony.ErrTranscript) || errors.As(err, &key) ||
		errors.As(err, &token) && worker.Classify(err) == worker.ClassStop {
		return needsPerson{err}
	}
	return err
}

// login finds the token and logs in to it. No child may have been started before.
func (t *tokenFlags) login(ctx context.Context, w *worker.Supervisor) (worker.TokenInfo, error) {
	r, err := t.pin.reader()
	if err != nil {
		return worker.TokenInfo{}, err
	}
	return t.loginWith(ctx, w, r)
}

func (t *tokenFlags) loginWith(ctx context.Context, w *worker.Supervisor, r *signer.PINReader) (worker.TokenInfo, error) {
	token, err := w.FindToken(ctx, t.token, t.serial)
	if err != nil {
		return token, forOfficer(err)
	}
	what := fmt.Sprintf("user PIN of token %s", token.TokenRef)
	if r.AtDevice() {
		fmt.Fprintln(os.Stderr, "enter the "+what+" at the token")
		return token, forOfficer(w.LoginAtDevice(ctx, token.TokenRef))
	}
	pin, err := r.Read(ctx, what, false)
	if err != nil {
		return token, needsPerson{err}
	}
	defer clear(pin)
	return token, forOfficer(w.Login(ctx, token.TokenRef, pin))
}

// withToken runs f with a worker that is logged in to the token.
func (t *tokenFlags) withToken(ctx context.Context, f func(*worker.Supervisor, worker.TokenInfo) error) (err error) {
	w, end, err := t.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	token, err := t.login(ctx, w)
	if err != nil {
		return err
	}
	return f(w, token)
}

// keyFlags name one key in a token.
type keyFlags struct {
	tokenFlags
	label, key string
}

func (k *keyFlags) register(f *pflag.FlagSet) {
	k.tokenFlags.register(f)
	f.StringVar(&k.label, "label", "", "label of the key")
	f.StringVar(&k.key, "key", "", "public key as ALGORITHM:HEX, instead of the label")
}

func (k *keyFlags) find(ctx context.Context, w *worker.Supervisor, token worker.TokenRef) (worker.Key, error) {
	q := worker.KeyQuery{Label: k.label}
	if k.key != "" {
		var p types.PublicKey
		if err := p.UnmarshalText([]byte(k.key)); err != nil {
			return worker.Key{}, err
		}
		q.Algorithm, q.PublicKey = worker.Algorithm(p.Algorithm), p.Point
	}
	return w.FindKey(ctx, token, q)
}

func newKeyGenerate() *cobra.Command {
	var t tokenFlags
	var algorithm, label, id, network, record string
	var soPIN pinFlag
	var initialise, foreign, asJSON bool
	c := &cobra.Command{
		Use:   "generate",
		Short: "Generate a key inside a token",
		Long: `Generate a key pair inside a token: sensitive, never extractable, for signing only.
With --init a blank token is initialised first, with new PINs. Read the six words
aloud and let a second person compare them.`,
		Example: `  qcity key generate --token validator-0 --label validator-0 --id 01 --network ./network.toml
  qcity key generate --init --token spare --label spare --id 07 --pin file:spare.pin --so-pin file:spare.so-pin`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx := cmd.Context()
			alg, err := worker.ParseAlgorithm(algorithm)
			if err != nil {
				return err
			}
			rawID, err := hex.DecodeString(id)
			if err != nil || len(rawID) == 0 {
				return fmt.Errorf("--id %q: want hexadecimal digits, two for each byte, for example 01", id)
			}
			if record != "" {
				if err := placeForRecord(record); err != nil {
					return err
				}
			}
			var addresses *types.AddressVersions
			if network != "" {
				net, err := configs.LoadNetwork(network)
				if err != nil {
					return err
				}
				addresses = &net.Addresses
			}
			w, end, err := t.open()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, end()) }()
			var token worker.TokenInfo
			if initialise {
				token, err = initToken(ctx, w, t, soPIN)
			} else {
				token, err = t.login(ctx, w)
			}
			if err != nil {
				return err
			}
			key, err := ceremony.NewKey(ctx, w, token.TokenRef, alg, label, rawID)
			if errors.Is(err, ceremony.ErrTokenState) && foreign {
				err = nil // the record and the last line say NO
			}
			if err != nil {
				return forOfficer(err)
			}
			r := ceremony.NewRecord(token.TokenRef, key)
			if record != "" {
				err = durable.WriteFile(record, r.Encode(), 0o644)
			}
			return errors.Join(err, printKey(cmd.OutOrStdout(), r, addresses, asJSON))
		},
	}
	f := c.Flags()
	t.register(f)
	f.StringVar(&algorithm, "algorithm", "secp256k1", "secp256k1 or p256")
	f.StringVar(&label, "label", "", "label of the new key")
	f.StringVar(&id, "id", "", "CKA_ID of the new key, hexadecimal digits")
	f.StringVar(&network, "network", "", "network name or file: the address is then shown")
	f.BoolVar(&initialise, "init", false, "initialise a blank token with the label first")
	soPIN.register(f, "so-pin", "terminal", "security officer's new PIN, with --init,")
	f.BoolVar(&foreign, "allow-not-local", false, "accept that the token does not say that it made the key itself (CKA_LOCAL), as NSS does not: for tests")
	f.StringVar(&record, "record", "", `write a record for "qcity key check" into this file`)
	f.BoolVar(&asJSON, "json", false, "print JSON")
	for _, name := range []string{"token", "label", "id"} {
		must(c.MarkFlagRequired(name))
	}
	return c
}

// placeForRecord looks before there is a key, as no record can be made afterwards.
func placeForRecord(file string) error {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s exists: a record is never overwritten, choose another name for --record", file)
	}
	if _, err := os.Stat(filepath.Dir(file)); err != nil {
		return fmt.Errorf("the folder for --record: %w", err)
	}
	return nil
}

// initToken initialises a blank token with both PINs.
func initToken(ctx context.Context, w *worker.Supervisor, t tokenFlags, soPIN pinFlag) (worker.TokenInfo, error) {
	admin, err := soPIN.read(ctx, fmt.Sprintf("new security officer PIN of token %q", t.token), true)
	if err != nil {
		return worker.TokenInfo{}, err
	}
	defer clear(admin)
	pin, err := t.pin.read(ctx, fmt.Sprintf("new user PIN of token %q", t.token), true)
	if err != nil {
		return worker.TokenInfo{}, err
	}
	defer clear(pin)
	token, err := ceremony.NewToken(ctx, w, t.token, admin, pin)
	return token, forOfficer(err)
}

// keyView is the JSON of a key.
type keyView struct {
	ceremony.Record
	Address     string `json:"address,omitempty"`
	Fingerprint string `json:"fingerprint"`
	Words       string `json:"words"`
}

func printKey(out io.Writer, r ceremony.Record, addresses *types.AddressVersions, asJSON bool) error {
	f := ceremony.KeyFingerprint(r.PublicKey)
	k := keyView{Record: r, Fingerprint: f.Hex, Words: f.Words}
	if addresses != nil {
		k.Address = ceremony.Address(*addresses, r.PublicKey)
	}
	if asJSON {
		return writeJSON(out, k)
	}
	if k.Address == "" {
		k.Address = "none shown: name the network with --network (only secp256k1 keys have one)"
	}
	_, err := fmt.Fprintf(out, `public key   %s
address      %s
fingerprint  %s
words        %s
token        %s, serial %s
key          label %s, id %s
%s
`, r.PublicKey, k.Address, k.Fingerprint, k.Words, r.Token, r.Serial, r.Label, r.ID, ceremony.Origin(r.Attributes))
	return err
}

func newKeyList() *cobra.Command {
	var t tokenFlags
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the keys in a token, one line each",
		Example: "  qcity key list --token validator-0 --pin file:validator-0.pin",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.withToken(cmd.Context(), func(w *worker.Supervisor, token worker.TokenInfo) error {
				keys, err := w.ListKeys(cmd.Context(), token.TokenRef)
				if err != nil {
					return err
				}
				if asJSON {
					records := []keyView{}
					for _, k := range keys {
						f := ceremony.KeyFingerprint(ceremony.Public(k))
						records = append(records, keyView{Record: ceremony.NewRecord(token.TokenRef, k), Fingerprint: f.Hex, Words: f.Words})
					}
					return writeJSON(cmd.OutOrStdout(), records)
				}
				return printKeys(cmd.OutOrStdout(), keys)
			})
		},
	}
	t.register(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	must(c.MarkFlagRequired("token"))
	return c
}

func printKeys(out io.Writer, keys []worker.Key) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LABEL\tID\tPUBLIC KEY\tPROTECTED\tWORDS")
	for _, k := range keys {
		public, spoken, fit := "on another curve, or without public half", "-", "yes"
		if k.Algorithm != 0 && k.PublicKey != (worker.PublicKey{}) {
			public, spoken = ceremony.Public(k).String(), ceremony.KeyFingerprint(ceremony.Public(k)).Words
		}
		if k.Attributes.Check() != nil {
			fit = "NO"
		}
		fmt.Fprintf(t, "%s\t%x\t%s\t%s\t%s\n", k.Label, k.ID, public, fit, spoken)
	}
	return t.Flush()
}

func newKeyCheck() *cobra.Command {
	var t tokenFlags
	var file string
	c := &cobra.Command{
		Use:   "check",
		Short: "Compare a key in a token with its record",
		Long: `Compare serial number, label, id, public key and all attributes of a key with the
record that was made when it was generated. Ends with 0 only if everything is
equal and no other key has the same label or id; 78 if not.`,
		Example: "  qcity key check --record records/validator-0.json --pin file:validator-0.pin",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			r, err := ceremony.ParseRecord(text)
			if err != nil {
				return err
			}
			t.token, t.serial = r.Token, r.Serial
			return t.withToken(cmd.Context(), func(w *worker.Supervisor, token worker.TokenInfo) error {
				if err := r.Check(cmd.Context(), w); err != nil {
					return needsPerson{err}
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "token %s holds key %s exactly as recorded\n", token.TokenRef, r.PublicKey)
				return err
			})
		},
	}
	t.register(c.Flags())
	must(c.Flags().MarkHidden("token"))
	must(c.Flags().MarkHidden("serial"))
	c.Flags().StringVar(&file, "record", "", "record of the key")
	must(c.MarkFlagRequired("record"))
	return c
}
