package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/worker"
)

func newHSM() *cobra.Command {
	c := &cobra.Command{Use: "hsm", Short: "Look at HSMs and find out how they behave"}
	c.AddCommand(newHSMList(), newHSMProbe())
	return c
}

// hsmFlags are those that both commands have.
type hsmFlags struct {
	module, initArgs, worker string
	json                     bool
}

func (h *hsmFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&h.module, "module", "", "PKCS#11 library of the HSM; SoftHSM if there is none")
	f.StringVar(&h.initArgs, "init-args", "", "string that the library wants in C_Initialize; NSS does")
	f.StringVar(&h.worker, "worker", "", "the qcity-p11 program; by default the one beside this program")
	f.BoolVar(&h.json, "json", false, "print JSON")
}

func (h *hsmFlags) runner() (*conformance.Runner, error) {
	binary, err := workerBinary(h.worker)
	if err != nil {
		return nil, err
	}
	if h.module == "" {
		if h.module, err = worker.SoftHSMModule(); err != nil {
			return nil, fmt.Errorf("name the HSM's library with --module: %w", err)
		}
	}
	return &conformance.Runner{Binary: binary, Module: h.module, InitArgs: h.initArgs}, nil
}

func newHSMList() *cobra.Command {
	var h hsmFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "List the tokens that a PKCS#11 library shows",
		Long: `List the initialised tokens that a PKCS#11 library shows, with the state of their
user PIN: ok, low (a wrong one was tried), final (one try is left), locked,
expired or not set. Nothing is logged in to. PKCS#11 has no way to ask for
curves: whether a token offers secp256k1 is known if it shows such a key or if it
is of a kind that was probed before; "qcity hsm probe --scratch" finds out.`,
		Example: `  qcity hsm list
  qcity hsm list --module /usr/lib/vendor/libpkcs11.so --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := h.runner()
			if err != nil {
				return err
			}
			tokens, err := r.List(cmd.Context())
			if err != nil {
				return err
			}
			if h.json {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"module": h.module, "tokens": tokens})
			}
			return printTokens(cmd.OutOrStdout(), h.module, tokens)
		},
	}
	h.add(c)
	return c
}

func printTokens(out io.Writer, module string, tokens []conformance.Token) error {
	if len(tokens) == 0 {
		_, err := fmt.Fprintf(out, "%s shows no initialised token: connect one, or check the library's configuration\n", module)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOKEN\tSERIAL\tMODEL\tFIRMWARE\tPIN\tSESSIONS\tSECP256K1")
	for _, t := range tokens {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Label, t.Serial, t.Model, t.Firmware, t.PIN, t.Sessions, t.Secp256k1)
	}
	return w.Flush()
}

func newHSMProbe() *cobra.Command {
	var h hsmFlags
	var opts conformance.Options
	var pin pinFlag
	var profile string
	c := &cobra.Command{
		Use:   "probe",
		Short: "Ask a token everything a signer needs to know of it",
		Long: `Ask a token, case by case, how it behaves, and print PASS, FAIL, NOT ANSWERED or
SKIPPED for each. docs/hsm.md says what every case means. Without --scratch nothing
is made in the token and nothing is signed, so it may be a production device; with
--pin the right PIN is used, and after a login that fails none is tried again.

--scratch makes keys labelled qcity-probe-scratch, signs with them and destroys
them. --wrong-pin tries a wrong PIN, once, followed by the right one: never do that to a device that matters; a TPM counts wrong PINs for hours.

--profile names a file: if it is not there, what the token answered is written to
it; if it is, the answers are compared and the command fails if any has changed.
After a login that fails neither is done.`,
		Example: `  qcity hsm probe --module /usr/lib/vendor/libpkcs11.so --token validator-0
  qcity hsm probe --module /usr/lib/vendor/libpkcs11.so --token validator-0 --pin file:pin --profile device.json
  qcity hsm probe --token test --pin file:pin --scratch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := h.runner()
			if err != nil {
				return err
			}
			if pin.text != "" {
				if opts.PIN, err = pin.read(cmd.Context(), "user PIN of the token", false); err != nil {
					return err
				}
				defer clear(opts.PIN)
			} else if opts.Scratch || opts.WrongPIN {
				return errors.New("--scratch and --wrong-pin need a login: add --pin")
			}
			return probeHSM(cmd.Context(), cmd.OutOrStdout(), r, opts, profile, h.json)
		},
	}
	h.add(c)
	f := c.Flags()
	f.StringVar(&opts.Label, "token", "", "label of the token, if there are several")
	f.StringVar(&opts.Serial, "serial", "", "serial number of the token, if labels are not unique")
	pin.register(f, "pin", "", "user PIN")
	f.BoolVar(&opts.Scratch, "scratch", false, "make keys, sign with them and destroy them")
	f.BoolVar(&opts.WrongPIN, "wrong-pin", false, "try a wrong PIN")
	f.StringVar(&profile, "profile", "", "file to write the answers to, or to compare them with")
	return c
}

func probeHSM(ctx context.Context, out io.Writer, r *conformance.Runner, opts conformance.Options, file string, asJSON bool) error {
	var old *conformance.Profile
	if file != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			p, err := conformance.ParseProfile(text)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			old = &p
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	total, done := len(conformance.Cases()), 0
	if !asJSON {
		opts.Progress = func(o conformance.Outcome) {
			done++
			fmt.Fprintf(out, "%3d/%d  %d  %-12s  %s%s\n", done, total, o.Number, o.Result, o.Name, detail(o))
		}
	}
	report, err := r.Probe(ctx, opts)
	if err != nil {
		return err
	}
	profile := conformance.NewProfile(report)
	var drift []string
	switch {
	case report.LoginFailed != "":
		old, file = nil, ""
	case old != nil:
		drift = old.Drift(profile)
	case file != "":
		if err := durable.WriteFile(file, profile.Encode(), 0o644); err != nil {
			return err
		}
	}
	if asJSON {
		err = writeJSON(out, map[string]any{
			"token": report.Token, "outcomes": report.Outcomes, "rates": report.Rates,
			"profile": profile, "profileSHA256": profile.Hash(), "drift": drift, "loginFailed": report.LoginFailed,
		})
	} else {
		err = printProbe(out, report, profile, old, drift, file)
	}
	switch failed := report.Count()[conformance.Fail]; {
	case err != nil:
		return err
	case report.LoginFailed != "":
		return needsPerson{fmt.Errorf("%s; what needs one was not asked, and no profile was written or compared: correct the PIN", report.LoginFailed)}
	case len(drift) > 0:
		return fmt.Errorf("%d answers differ from %s: find out what changed before signing with this token", len(drift), file)
	case failed > 0:
		return fmt.Errorf("%d cases failed: docs/hsm.md says what each means for signing", failed)
	}
	return nil
}

func detail(o conformance.Outcome) string {
	text := ""
	if o.Value != "" {
		text = ": " + o.Value
	}
	if o.Note != "" {
		text += " (" + o.Note + ")"
	}
	return text
}

func printProbe(out io.Writer, report *conformance.Report, profile conformance.Profile, old *conformance.Profile, drift []string, file string) error {
	var b bytes.Buffer
	n := report.Count()
	fmt.Fprintf(&b, "\n%d PASS, %d FAIL, %d NOT ANSWERED, %d SKIPPED\n",
		n[conformance.Pass], n[conformance.Fail], n[conformance.NotAnswered], n[conformance.Skipped])
	for _, r := range report.Rates {
		fmt.Fprintf(&b, "%d sessions: %.0f signatures per second\n", r.Sessions, r.PerSecond)
	}
	if profile.PoolSize > 0 {
		fmt.Fprintf(&b, "recommended size of the session pool: %d\n", profile.PoolSize)
	}
	if old != nil {
		profile = *old // its hash is the file's
	}
	if report.LoginFailed == "" {
		fmt.Fprintf(&b, "profile of %s %s, SHA-256 %s\n", profile.Manufacturer, profile.Model, profile.Hash())
	}
	switch {
	case old != nil && len(drift) == 0:
		fmt.Fprintf(&b, "all answers are those of %s\n", file)
	case old != nil:
		for _, line := range drift {
			fmt.Fprintf(&b, "drift: %s\n", line)
		}
	case file != "":
		fmt.Fprintf(&b, "written to %s\n", file)
	}
	_, err := b.WriteTo(out)
	return err
}
