package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

func newCeremony() *cobra.Command {
	c := &cobra.Command{
		Use:   "ceremony",
		Short: "Make the keys of a network in front of witnesses",
		Long: `Make the keys of a network in front of witnesses, from one reviewed file: plan it,
rehearse it on software tokens, run it on the real ones, and let anybody verify
the transcript. docs/ceremony.md is the security officer's guide.`,
	}
	c.AddCommand(newCeremonyPlan(), newCeremonyRehearse(), newCeremonyRun(), newCeremonyVerify())
	return c
}

func newCeremonyPlan() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "plan FILE",
		Short:   "Print the numbered steps of a ceremony, to be reviewed",
		Example: "  qcity ceremony plan ceremony.toml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := loadCeremony(args[0])
			if err != nil {
				return err
			}
			binary, err := ownSHA256()
			if err != nil {
				return err
			}
			steps := ceremony.Steps(r.script)
			if asJSON {
				type step struct {
					ID      string `json:"id"`
					Role    string `json:"role"`
					Title   string `json:"title"`
					Command string `json:"command"`
					Expect  string `json:"expect"`
				}
				out := struct {
					Script string `json:"script"`
					Binary string `json:"binary"`
					Steps  []step `json:"steps"`
				}{Script: r.sha256, Binary: binary}
				for _, s := range steps {
					out.Steps = append(out.Steps, step{s.ID, s.Role, s.Title, s.Command, s.Expect})
				}
				return writeJSON(cmd.OutOrStdout(), out)
			}
			return printPlan(cmd.OutOrStdout(), r, binary, steps)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printPlan(w io.Writer, r reviewed, binary string, steps []ceremony.Step) error {
	roles := r.script.Roles
	fmt.Fprintf(w, "%s\n\nscript sha256   %s\nscript words    %s\nprogram sha256  %s\n", r.script.Title, r.sha256, ceremony.HashWords(r.sha256), binary)
	switch r.script.BinarySHA256 {
	case "":
		fmt.Fprintln(w, "                the script names no program: compare this hash with the reviewed one")
	case binary:
		fmt.Fprintln(w, "                as the script wants it")
	default:
		fmt.Fprintf(w, "                THE SCRIPT WANTS %s\n", r.script.BinarySHA256)
	}
	fmt.Fprintf(w, "\nadministrator   %s (reads out)\noperator        %s (types)\nwitness         %s (compares)\ncustodians      %s (%d of %d)\n",
		roles.Administrator, roles.Operator, roles.Witness, strings.Join(roles.Custodians, ", "), roles.Threshold, len(roles.Custodians))
	for _, s := range steps {
		fmt.Fprintf(w, "\n%s  [%s] %s\n    does      %s\n    expected  %s\n", s.ID, s.Role, s.Title, s.Command, s.Expect)
	}
	return nil
}

// ceremonyFlags are what a rehearsal and a run share.
type ceremonyFlags struct {
	dir, worker, answers, tokens string
	pin, soPIN                   pinFlag // with {token} for the label
	ask                          bool
}

func newCeremonyRehearse() *cobra.Command {
	var o ceremonyFlags
	c := &cobra.Command{
		Use:   "rehearse FILE",
		Short: "Carry every step out on fresh SoftHSM tokens",
		Long: `Carry every step out on fresh SoftHSM tokens with random PINs. Without --dir it
happens in a temporary folder that is removed; with --ask persons answer, as in
the run. The transcript is that of the run but for key material.`,
		Example: `  qcity ceremony rehearse ceremony.toml
  qcity ceremony rehearse ceremony.toml --ask --dir ./rehearsal`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.dir == "" {
				if o.dir, err = os.MkdirTemp("", "qcity-rehearsal-"); err != nil {
					return err
				}
				defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
			}
			pins := filepath.Join(o.dir, "pins")
			o.tokens, o.pin.text, o.soPIN.text = filepath.Join(o.dir, "tokens"), "file:"+pins+"/{token}.pin", "file:"+pins+"/{token}.so-pin"
			for _, d := range []string{o.tokens, pins} {
				if err := os.MkdirAll(d, 0o700); err != nil {
					return err
				}
			}
			return o.perform(cmd, args[0], ceremony.Rehearsal)
		},
	}
	c.Flags().StringVar(&o.dir, "dir", "", "folder to keep the rehearsal in")
	c.Flags().BoolVar(&o.ask, "ask", false, "persons confirm each step")
	c.Flags().StringVar(&o.worker, "worker", "", "path of qcity-p11; without it the one beside this program")
	c.Flags().StringVar(&o.answers, "answers", "", "file with answers, lines STEP = ANSWER")
	c.MarkFlagsMutuallyExclusive("ask", "answers")
	return c
}

func newCeremonyRun() *cobra.Command {
	var o ceremonyFlags
	c := &cobra.Command{
		Use:   "run FILE",
		Short: "Carry a ceremony out on the real tokens",
		Long: `Carry a ceremony out on the modules that the file names. Each step is shown and
then confirmed by a role; a wrong answer ends the run with 78. After any
interruption the same command goes on at the step where it stopped: the
transcript in the folder is the state. PINs are asked for at the terminal, or
come from where --pin and --so-pin say, with the label of each token for {token}.`,
		Example: `  qcity ceremony run ceremony.toml --dir ./ceremony
  qcity ceremony run ceremony.toml --dir ./ceremony --softhsm-tokens ./tokens --pin file:pins/{token}.pin --so-pin file:pins/{token}.so-pin`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(o.dir, 0o700); err != nil {
				return err
			}
			o.ask = o.answers == ""
			return o.perform(cmd, args[0], ceremony.Run)
		},
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "", "folder of the ceremony")
	f.StringVar(&o.worker, "worker", "", "path of qcity-p11; without it the one beside this program")
	f.StringVar(&o.tokens, "softhsm-tokens", "", "SoftHSM's token directory, if the file names softhsm2")
	o.pin.register(f, "pin", "terminal", "user PIN")
	o.soPIN.register(f, "so-pin", "terminal", "security officer PIN")
	f.StringVar(&o.answers, "answers", "", "file with answers, lines STEP = ANSWER; the transcript says that no person typed them")
	must(c.MarkFlagRequired("dir"))
	return c
}

func (o ceremonyFlags) perform(cmd *cobra.Command, file, kind string) error {
	r, err := loadCeremony(file)
	if err != nil {
		return needsPerson{err}
	}
	cfg, err := o.config(cmd.ErrOrStderr(), r, kind)
	if err != nil {
		return err
	}
	if err := ceremony.New(cfg).Run(cmd.Context()); err != nil {
		return forOfficer(err)
	}
	report, err := verifyCeremony(r, o.dir)
	if err != nil {
		return needsPerson{err}
	}
	return printReport(cmd.OutOrStdout(), report)
}

func (o ceremonyFlags) config(screen io.Writer, r reviewed, kind string) (ceremony.Config, error) {
	for _, p := range []pinFlag{o.pin, o.soPIN} {
		if _, err := p.forToken("token"); err != nil {
			return ceremony.Config{}, err
		}
	}
	binary, err := workerBinary(o.worker)
	if err != nil {
		return ceremony.Config{}, err
	}
	own, err := ownSHA256()
	if err != nil {
		return ceremony.Config{}, err
	}
	softHSM := ""
	if o.tokens != "" {
		if softHSM, err = worker.SoftHSMModule(); err != nil {
			return ceremony.Config{}, err
		}
		if o.tokens, err = filepath.Abs(o.tokens); err != nil {
			return ceremony.Config{}, err
		}
	}
	answers := ceremony.Answers{"*": ceremony.AsShown}
	if o.answers != "" {
		text, err := os.ReadFile(o.answers)
		if err != nil {
			return ceremony.Config{}, err
		}
		if answers, err = ceremony.ParseAnswers(string(text)); err != nil {
			return ceremony.Config{}, fmt.Errorf("%s: %w", o.answers, err)
		}
	}
	ask := askAnswers(screen, answers)
	if o.ask {
		ask = askPersons(newTerminal())
	}
	return ceremony.Config{
		Script: r.script, ScriptSHA256: r.sha256, BinarySHA256: own, Kind: kind, Dir: o.dir,
		Worker: binary, SoftHSM: softHSM, SoftHSMTokens: o.tokens, Root: r.root,
		Scripted: !o.ask || !term.IsTerminal(int(os.Stdin.Fd())),
		Show: func(lines []string) error {
			_, err := fmt.Fprintln(screen, strings.Join(lines, "\n"))
			return err
		},
		Ask: ask, PIN: o.pins(kind), WriteNetwork: configs.WriteNetwork, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(screen, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}, nil
}

type askFunc = func(context.Context, ceremony.Question) (string, error)

func prompt(q ceremony.Question) string {
	return fmt.Sprintf("%s (%s), if all of this is as expected, type %s\n> ", q.Step.Role, q.Person, q.Hint)
}

func askPersons(t *terminal) askFunc {
	return func(ctx context.Context, q ceremony.Question) (string, error) {
		answer, err := t.line(ctx, prompt(q))
		return strings.TrimSpace(answer), err
	}
}

func askAnswers(screen io.Writer, a ceremony.Answers) askFunc {
	return func(_ context.Context, q ceremony.Question) (string, error) {
		answer := a.For(q)
		_, err := fmt.Fprintf(screen, "%s%s   (scripted)\n", prompt(q), answer)
		return answer, err
	}
}

// pins returns where PINs come from. A rehearsal makes the files with random digits.
func (o ceremonyFlags) pins(kind string) func(context.Context, ceremony.PINs) ([]byte, error) {
	return func(ctx context.Context, p ceremony.PINs) ([]byte, error) {
		what, from := "user PIN", o.pin
		if p.Admin {
			what, from = "security officer PIN", o.soPIN
		}
		if p.New {
			what = "new " + what
		}
		from, err := from.forToken(p.Token)
		if err != nil {
			return nil, err
		}
		if file, ok := strings.CutPrefix(from.text, "file:"); ok && kind == ceremony.Rehearsal && p.New {
			if err := durable.WriteFile(file, []byte(randomDigits()+"\n"), 0o400); err != nil {
				return nil, err
			}
		}
		return from.read(ctx, fmt.Sprintf("%s of token %q", what, p.Token), p.New)
	}
}

// forToken puts the token's label into a source. Of what can be read once, or not at
// all, a ceremony with its many PINs cannot make use.
func (p pinFlag) forToken(label string) (pinFlag, error) {
	p.text = strings.ReplaceAll(p.text, "{token}", label)
	if _, err := signer.ParsePINSource(p.text); err != nil {
		return p, needsPerson{fmt.Errorf("--%s: %w", p.name, err)}
	}
	if strings.HasPrefix(p.text, "fd:") || p.text == "device" {
		return p, needsPerson{fmt.Errorf("--%s: a ceremony needs many PINs: use credential:, file: or keyring: with {token} in the name, or terminal", p.name)}
	}
	return p, nil
}

func newCeremonyVerify() *cobra.Command {
	var dir, words string
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Replay the transcript of a ceremony",
		Long: `Replay a transcript against the ceremony file, without any token: the chain of
hashes, every step in order and confirmed, the public keys, both proofs of
possession of each, and that the network file has these keys. Compare the words it
prints with those that were written down in the room, or give them with --words:
whoever can write the file could have written another ceremony.`,
		Example: `  qcity ceremony verify ceremony.toml --dir ./ceremony --words "six words from the signed sheet"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := loadCeremony(args[0])
			if err != nil {
				return needsPerson{err}
			}
			report, err := verifyCeremony(r, dir)
			if err != nil {
				return needsPerson{err}
			}
			if cmd.Flags().Changed("words") && strings.Join(strings.Fields(strings.ToLower(words)), " ") != report.Words {
				return needsPerson{fmt.Errorf("the transcript ends with the words %q, not with those given: it is another ceremony's", report.Words)}
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), report)
			}
			return printReport(cmd.OutOrStdout(), report)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "folder of the ceremony")
	c.Flags().StringVar(&words, "words", "", "the words that were written down at the end")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	must(c.MarkFlagRequired("dir"))
	return c
}

func verifyCeremony(r reviewed, dir string) (*ceremony.Report, error) {
	text, err := os.ReadFile(filepath.Join(dir, ceremony.TranscriptFile))
	if err != nil {
		return nil, fmt.Errorf("read the transcript: %w", err)
	}
	entries, err := ceremony.ReadTranscript(text)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, ceremony.NetworkFile)
	var net *consensus.Network
	if net, err = configs.LoadNetwork(file); err != nil {
		return nil, err
	}
	report, err := ceremony.Verify(r.script, r.sha256, entries, net)
	if err != nil {
		return nil, err
	}
	return report, ceremony.VerifyFiles(dir, entries)
}

func printReport(w io.Writer, r *ceremony.Report) error {
	fmt.Fprintf(w, "\n%s verified: %d lines, chain intact, every step confirmed\n", r.Kind, r.Lines)
	for i, k := range r.Keys {
		fmt.Fprintf(w, "validator %-2d   %s\n", i, k)
	}
	fmt.Fprintf(w, "network        %s\nattested       %d of %d keys\nlast hash      %s\nwords          %s\n", r.Network, r.Attested, len(r.Keys), r.Head, r.Words)
	for _, remark := range r.Remarks {
		fmt.Fprintf(w, "remark         %s\n", remark)
	}
	if r.Scripted {
		fmt.Fprintln(w, "remark         confirmations were scripted: no person typed them")
	}
	return nil
}
