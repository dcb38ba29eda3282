package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/interchange"
)

// vault is the signing journal of a configuration and what it should hold.
type vault struct {
	net   *consensus.Network
	path  string
	audit string
	keys  []types.PublicKey
}

func newWatermark() *cobra.Command {
	c := &cobra.Command{
		Use:   "watermark",
		Short: "Show, move and raise what the signer remembers of its signatures",
		Long: `The signing journal remembers every block, vote and set change that the signer's
keys signed, so that none is ever contradicted. These commands make it, show it,
move what it knows to another machine, and raise its floors. None of them can lower
anything. All but show need the signer stopped. docs/watermarks.md has the steps
for moving a key, and what each refusal to start means.`,
	}
	var file string
	c.PersistentFlags().StringVar(&file, "config", configs.FileName, "configuration file")
	c.AddCommand(newWatermarkShow(&file), newWatermarkInit(&file), newWatermarkExport(&file),
		newWatermarkImport(&file), newWatermarkRaise(&file), newWatermarkAdopt(&file))
	return c
}

// openVault reads which journal the configuration means.
func openVault(file string) (*vault, error) {
	c, err := configs.Load(file)
	if err != nil {
		return nil, err
	}
	if c.Signer.Journal == "" {
		return nil, fmt.Errorf("%s: signer.journal is missing: name the signing journal", file)
	}
	v := &vault{path: c.Path(c.Signer.Journal), audit: c.AuditLog()}
	if v.net, err = configs.LoadNetwork(c.NetworkName()); err != nil {
		return nil, err
	}
	v.keys = make([]types.PublicKey, len(c.Signer.Keys))
	for i, k := range c.Signer.Keys {
		if err := v.keys[i].UnmarshalText([]byte(k.PublicKey)); err != nil {
			return nil, fmt.Errorf("%s: signer.keys[%d]: %w", file, i, err)
		}
	}
	return v, nil
}

// with opens the journal, to change it or to read it when nobody else can, and closes it.
func (v *vault) with(do func(j *signer.Journal) error) error {
	j, err := signer.OpenJournal(v.path, v.net.ID, nil)
	if err != nil {
		return v.explain(err)
	}
	return errors.Join(do(j), j.Close())
}

func (v *vault) explain(err error) error {
	switch {
	case errors.Is(err, durable.ErrInUse):
		return fmt.Errorf("the signing journal %s is in use: stop the signer first", v.path)
	case signer.IsTerminal(err):
		return needsPerson{err}
	}
	return err
}

// note writes what was done into the audit log. It is done already: what stands in
// the way of the note is told, and no more.
func (v *vault) note(cmd *cobra.Command, e audit.Entry) {
	e.Time, e.Actor = time.Now(), fmt.Sprintf("uid %d", os.Getuid())
	l, err := audit.Open(v.audit, v.net.ID, audit.Options{})
	if err == nil {
		_, err = l.Append(e)
		err = errors.Join(err, l.Close())
	}
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "not noted in the audit log: %v\n", err)
	}
}

func newWatermarkShow(file *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show",
		Short: "Show how far each key has signed",
		Long: `Show for each key the highest block and vote it claimed and signed, its floor and
where that came from. The signer may be running. Exit code 78 means that a signer
would not start with this journal.`,
		Example: "  qcity watermark show --config qcity.toml\n  qcity watermark show --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := openVault(*file)
			if err != nil {
				return err
			}
			view, err := signer.ViewJournal(v.path, v.net.ID)
			if err != nil {
				return v.explain(err)
			}
			if asJSON {
				out := map[string]any{"network": v.net.ID, "journal": view.Status, "keys": view.Marks}
				if view.Refusal != nil {
					out["refusal"] = view.Refusal.Error()
				}
				err = writeJSON(cmd.OutOrStdout(), out)
			} else {
				err = printMarks(cmd.OutOrStdout(), view)
			}
			return errors.Join(err, v.explain(view.Refusal))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newWatermarkInit(file *string) *cobra.Command {
	var floor uint32
	var add bool
	c := &cobra.Command{
		Use:   "init",
		Short: "Make the signing journal of a new signer, or add new keys to it",
		Long: `Make the signing journal for the keys of the configuration, and its audit log
unless there is one. The signer refuses to
start without one, as a journal that is lost could let it sign a slot twice.
--floor is the highest height that any of these keys may have signed before,
anywhere; nothing at or below it will be signed. For keys that were never used it
is 0. With --add the journal is there, and the keys of the configuration that it
does not have yet become its own, with this floor.`,
		Example: "  qcity watermark init --floor 0\n  qcity watermark init --add --floor 120000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := openVault(*file)
			if err != nil {
				return err
			}
			if !add {
				if err := signer.CreateJournal(v.path, v.net.ID, v.keys, floor); err != nil {
					return v.explain(err)
				}
				// A log that is there, from before the journal was lost, goes on.
				if err := audit.Create(v.audit, v.net.ID, audit.Options{}); err != nil && !errors.Is(err, fs.ErrExist) {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "created %s for %d keys, floor %d\n", v.path, len(v.keys), floor)
				return err
			}
			return v.with(func(j *signer.Journal) error {
				had := j.Keys()
				added := slices.DeleteFunc(slices.Clone(v.keys), func(k types.PublicKey) bool { return slices.Contains(had, k) })
				if len(added) == 0 {
					return errors.New("the signing journal has all keys of the configuration: nothing to add")
				}
				if err := j.AddKeys(added, floor); err != nil {
					return err
				}
				for _, k := range added {
					if _, err := fmt.Fprintf(cmd.OutOrStdout(), "added %s, floor %d\n", k, floor); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().Uint32Var(&floor, "floor", 0, "highest height that may have been signed before")
	c.Flags().BoolVar(&add, "add", false, "add the configuration's new keys to the journal that is there")
	must(c.MarkFlagRequired("floor"))
	return c
}

func newWatermarkExport(file *string) *cobra.Command {
	var minimal bool
	var out string
	c := &cobra.Command{
		Use:   "export",
		Short: "Write what the signer remembers, for another signer",
		Long: `Write what the journal knows of its keys as a JSON document that another signer
takes in with "qcity watermark import". The complete one holds every signature, so that
repeats are answered with the same bytes after a move; the minimal one holds just
the latest. What is signed afterwards is not in it: never start this signer again
with a key that moves.`,
		Example: "  qcity watermark export --out watermarks.json\n  qcity watermark export --minimal > watermarks.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := openVault(*file)
			if err != nil {
				return err
			}
			return v.with(func(j *signer.Journal) error {
				doc, err := j.Export(minimal)
				if err != nil {
					return err
				}
				text := doc.Encode()
				if len(text) > interchange.MaxBytes {
					return fmt.Errorf("the complete document has %d bytes, and %d are read: export with --minimal", len(text), interchange.MaxBytes)
				}
				v.note(cmd, audit.Entry{Event: audit.EventExported, Detail: fmt.Sprintf("%d keys", len(doc.Keys))})
				if out == "" {
					_, err = cmd.OutOrStdout().Write(text)
					return err
				}
				if err := durable.WriteFile(out, text, 0o600); err != nil {
					return err
				}
				top := uint32(0)
				for i := range doc.Keys {
					block, vote := doc.Keys[i].Highest()
					top = max(top, block, vote)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: %d keys, signed up to height %d\n", out, len(doc.Keys), top)
				return err
			})
		},
	}
	c.Flags().BoolVar(&minimal, "minimal", false, "only the latest of each key")
	c.Flags().StringVar(&out, "out", "", "write to this file instead of standard output")
	return c
}

func newWatermarkImport(file *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Take in what another signer remembers",
		Long: `Take in a document that "qcity watermark export" wrote; - reads standard input. All
of it is taken in or, after an error or a crash, nothing. It only forbids: no mark
and no floor ever sinks. Keys that the journal was not made for are left out.`,
		Example: "  qcity watermark import watermarks.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := openVault(*file)
			if err != nil {
				return err
			}
			text, err := readDocument(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			doc, err := interchange.Parse(text, v.net.ID, v.net.N)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return v.with(func(j *signer.Journal) error {
				in, err := j.Import(doc)
				if err != nil {
					return err
				}
				if in.Changed {
					v.note(cmd, audit.Entry{Event: audit.EventImported, Detail: fmt.Sprintf("from journal %x, %d keys", doc.Journal, len(doc.Keys))})
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), in)
				}
				return printImport(cmd.OutOrStdout(), in)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// readDocument reads no more than what Parse takes, and one byte that tells.
func readDocument(name string, stdin io.Reader) (b []byte, err error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	if b, err = io.ReadAll(io.LimitReader(r, interchange.MaxBytes+1)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return b, nil
}

func newWatermarkRaise(file *string) *cobra.Command {
	var key string
	var all bool
	var height uint32
	c := &cobra.Command{
		Use:   "raise",
		Short: "Raise the floor of a key, or of all keys",
		Long: `Forbid every block and every target of a vote up to a height, for ever: because
the key may have signed there elsewhere. Votes are cast again once a slot at that
height or above is certified.`,
		Example: "  qcity watermark raise --key secp256k1:02… --height 120000\n  qcity watermark raise --all --height 120000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := openVault(*file)
			if err != nil {
				return err
			}
			return v.with(func(j *signer.Journal) error {
				marks := j.Marks()
				if !all {
					var k types.PublicKey
					if err := k.UnmarshalText([]byte(key)); err != nil {
						return fmt.Errorf("--key: %w", err)
					}
					marks = slices.DeleteFunc(marks, func(m signer.KeyMarks) bool { return m.Key != k })
					if len(marks) == 0 {
						return fmt.Errorf("--key: the signing journal does not have %s: qcity watermark show lists its keys", k)
					}
				}
				for _, m := range marks {
					if height <= m.Floor {
						_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: floor stays at %d\n", m.Key, m.Floor)
					} else if err = j.RaiseFloor(m.Key, height); err == nil {
						v.note(cmd, audit.Entry{Event: audit.EventFloorRaised, Key: m.Key, Height: height, Detail: "by qcity watermark raise"})
						_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: floor raised from %d to %d\n", m.Key, m.Floor, height)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&key, "key", "", "the key, as qcity watermark show prints it")
	c.Flags().BoolVar(&all, "all", false, "all keys of the journal")
	c.Flags().Uint32Var(&height, "height", 0, "the new floor")
	must(c.MarkFlagRequired("height"))
	c.MarkFlagsOneRequired("key", "all")
	c.MarkFlagsMutuallyExclusive("key", "all")
	return c
}

func newWatermarkAdopt(file *string) *cobra.Command {
	var a signer.Adoption
	c := &cobra.Command{
		Use:   "adopt",
		Short: "Let the journal go on at another place",
		Long: `Accept a signing journal that was moved to another machine or file system, or
restored from a copy, and bind it to the place where it is now. A copy may have
forgotten what was signed since: give with --floor the highest height that any of the
keys may have signed. --nothing-newer is your word that this journal is the last one
its keys signed with; it is not believed where the opposite shows.

Stop every other signer of these keys first, and see that it is never started again.`,
		Example: "  qcity watermark adopt --floor 120000\n  qcity watermark adopt --nothing-newer",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := openVault(*file)
			if err != nil {
				return err
			}
			j, err := signer.AdoptJournal(v.path, v.net.ID, a)
			if err != nil {
				return v.explain(err)
			}
			if err := j.Close(); err != nil {
				return err
			}
			v.note(cmd, audit.Entry{Event: audit.EventAdopted, Height: a.Floor, Detail: "the journal's place is " + v.path})
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "adopted %s: its place is here now\n", v.path)
			return err
		},
	}
	c.Flags().Uint32Var(&a.Floor, "floor", 0, "highest height that any of the keys may have signed")
	c.Flags().BoolVar(&a.NothingNewer, "nothing-newer", false, "the keys signed nothing that this journal does not know of")
	c.MarkFlagsOneRequired("floor", "nothing-newer")
	c.MarkFlagsMutuallyExclusive("floor", "nothing-newer")
	return c
}
