package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
)

func newAudit() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Read and check the signer's audit log",
		Long: `Read and check the signer's audit log: what was asked of it, by whom, and what it
did, each entry bound to all before it by a hash. tail, verify and export change
nothing, and may run beside the signer. docs/audit.md describes the format.`,
	}
	c.AddCommand(newAuditTail(), newAuditVerify(), newAuditExport(), newAuditAnchors(), newAuditCreate())
	return c
}

// auditLog says which log a command is about.
type auditLog struct{ file, config string }

func (a *auditLog) flags(c *cobra.Command) {
	c.Flags().StringVar(&a.file, "file", "", "the log's first file, instead of the one that the configuration names")
	c.Flags().StringVar(&a.config, "config", configs.FileName, "configuration file")
	c.MarkFlagsMutuallyExclusive("file", "config")
}

// find returns the log's path and its network, null when only a file is named.
func (a *auditLog) find() (path string, network types.Hash, err error) {
	if a.file != "" {
		return a.file, network, nil
	}
	c, err := configs.Load(a.config)
	if err != nil {
		return "", network, fmt.Errorf("%w; or name the log with --file", err)
	}
	if path = c.AuditLog(); path == "" {
		return "", network, fmt.Errorf("%s names no audit log: it has no signer, or set signer.audit", a.config)
	}
	net, err := configs.LoadNetwork(c.NetworkName())
	if err != nil {
		return "", network, err
	}
	return path, net.ID, nil
}

func newAuditCreate() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:   "create",
		Short: "Begin the audit log of a new signer",
		Long: `Begin an audit log where the configuration names it. The signer refuses to start
without one and never makes one by itself: a log that is gone is to be noticed. If
one was lost or damaged, move its files away, keep them, and then begin a new one.`,
		Example: "  qcity audit create --config qcity.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, network, err := (&auditLog{config: config}).find()
			if err != nil {
				return err
			}
			if err := audit.Create(path, network, audit.Options{}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "created %s\n", path)
			return err
		},
	}
	c.Flags().StringVar(&config, "config", configs.FileName, "configuration file")
	return c
}

func newAuditTail() *cobra.Command {
	var log auditLog
	var n int
	var follow, asJSON bool
	c := &cobra.Command{
		Use:   "tail",
		Short: "Show the newest entries",
		Long: `Show the newest entries, oldest first, one on a line: number, time, event and what
belongs to it. Keys and hashes are shortened; --json prints everything, in the form
of an export. What is shown is checked, what is before it is not: see verify.`,
		Example: `  qcity audit tail
  qcity audit tail -n 100 --file ./signer/audit.log
  qcity audit tail --follow --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 0 {
				return fmt.Errorf("-n is %d: show 0 entries or more", n)
			}
			path, _, err := log.find()
			if err != nil {
				return err
			}
			line := auditLine
			if asJSON {
				line = func(r *audit.Record) string { return string(r.AppendLine(nil)) }
			}
			return auditTail(cmd.Context(), cmd.OutOrStdout(), path, n, follow, line)
		},
	}
	log.flags(c)
	c.Flags().IntVarP(&n, "lines", "n", 20, "how many entries")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new entries as they come, until Ctrl-C")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON lines")
	return c
}

// followEvery is how often new entries are looked for.
const followEvery = 250 * time.Millisecond

func auditTail(ctx context.Context, w io.Writer, path string, n int, follow bool, line func(*audit.Record) string) error {
	last, reader, tailErr := audit.Last(ctx, path, n, audit.Options{})
	out := bufio.NewWriter(w)
	for i := range last {
		fmt.Fprintln(out, line(&last[i]))
	}
	if err := errors.Join(tailErr, out.Flush()); err != nil || !follow {
		return err
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for record, err := range reader.Records(ctx) {
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(w, line(&record)); err != nil {
				return err
			}
		}
	}
}

// auditLine shows a record on one line.
func auditLine(r *audit.Record) string {
	if h := r.Header; h != nil {
		what := "the log begins"
		if h.Seq > 0 {
			what = "the log goes on"
		}
		return fmt.Sprintf("%8d  %-24s  %-16s  %s, network %s", r.Seq, "", "file "+h.File.String()[:8], what, h.Network)
	}
	e := &r.Entry
	parts := []string{fmt.Sprintf("%8d", r.Seq), e.Time.Format("2006-01-02 15:04:05.000Z"), fmt.Sprintf("%-16s", e.Event)}
	add := func(ok bool, format string, args ...any) {
		if ok {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(e.Kind != "", "%s", e.Kind)
	add(e.Height != 0, "height %d", e.Height)
	add(e.Rule != "", "rule %s", e.Rule)
	add(e.Key != types.PublicKey{}, "key %s", e.Key.Algorithm.String()+":"+short(hex.EncodeToString(e.Key.Point[:])))
	add(!e.Digest.IsZero(), "digest %s", short(e.Digest.String()))
	add(e.Actor != "", "by %s", escaped(e.Actor))
	add(e.Detail != "", "%s", escaped(e.Detail))
	return strings.TrimRight(strings.Join(parts, "  "), " ")
}

// escaped keeps text that others chose from steering the terminal, and drops
// nothing of it.
func escaped(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

func newAuditVerify() *cobra.Command {
	var log auditLog
	var anchors []string
	var head, export string
	var asJSON, signatures bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check every entry and the chain of their hashes",
		Long: `Check every entry of the log and the chain of their hashes across all its files.
Exit code 1 means that the log is broken, or not the one expected; the first broken
record is named with its file and offset.

The chain cannot show that its end was cut off, or that the last entry is another
one. A head, SEQ:HASH, that somebody else holds shows both: signed blocks carry
heads (--anchor), "qcity signer status" shows the newest (--head).`,
		Example: `  qcity audit verify
  qcity audit verify --file ./signer/audit.log --json
  qcity audit verify --anchor 1200:5f1c… --anchor 1300:09ab…
  qcity audit verify --export audit.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := audit.VerifyOptions{Signatures: signatures}
			for _, s := range anchors {
				a, err := audit.ParseHead(s)
				if err != nil {
					return fmt.Errorf("--anchor: %w", err)
				}
				o.Anchors = append(o.Anchors, a)
			}
			if head != "" {
				h, err := audit.ParseHead(head)
				if err != nil {
					return fmt.Errorf("--head: %w", err)
				}
				o.Head = &h
			}
			report, err := verifyAudit(cmd, &log, export, o)
			return printAudit(cmd.OutOrStdout(), &report, o.Head, asJSON, err)
		},
	}
	log.flags(c)
	c.Flags().StringArrayVar(&anchors, "anchor", nil, "a head, SEQ:HASH, that must be in the log; may be given more than once")
	c.Flags().StringVar(&head, "head", "", "the head, SEQ:HASH, that the log must end with")
	c.Flags().BoolVar(&signatures, "signatures", false, "also verify each signature with the key and digest beside it: some 6,000 a second")
	c.Flags().StringVar(&export, "export", "", "check this export instead of the log; - is standard input")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.MarkFlagsMutuallyExclusive("export", "file")
	return c
}

func verifyAudit(cmd *cobra.Command, log *auditLog, export string, o audit.VerifyOptions) (audit.Report, error) {
	if export == "" {
		path, network, err := log.find()
		if err != nil {
			return audit.Report{}, err
		}
		progress, end := newProgress("verifying, KiB")
		defer end()
		o.Network = network
		o.Progress = func(done, of int64) { progress(uint32(done>>10), uint32(of>>10)) }
		return audit.Verify(cmd.Context(), path, o)
	}
	if cmd.Flags().Changed("config") {
		_, network, err := log.find()
		if err != nil {
			return audit.Report{}, err
		}
		o.Network = network
	}
	in := cmd.InOrStdin()
	if export != "-" {
		f, err := os.Open(export)
		if err != nil {
			return audit.Report{}, fmt.Errorf("open --export: %w", err)
		}
		defer f.Close()
		in = f
	}
	return audit.VerifyExport(cmd.Context(), in, o)
}

// auditJSON is what verify prints as JSON.
type auditJSON struct {
	OK bool `json:"ok"`
	audit.Report
	Broken *auditBroken `json:"broken"`
}

type auditBroken struct {
	Seq    uint64 `json:"seq"`
	File   string `json:"file"` // empty in an export
	Offset int64  `json:"offset"`
	Reason string `json:"reason"`
}

// printAudit says what verify found; the error it returns is err, if there is one.
func printAudit(w io.Writer, r *audit.Report, expected *audit.Head, asJSON bool, err error) error {
	var broken *audit.Broken
	if err != nil && !errors.As(err, &broken) {
		return err
	}
	if asJSON {
		out := auditJSON{OK: err == nil, Report: *r}
		if broken != nil {
			out.Broken = &auditBroken{broken.Seq, broken.File, broken.Offset, broken.Reason}
		}
		return errors.Join(err, writeJSON(w, out))
	}
	if broken != nil {
		if r.Entries > 0 {
			_, printErr := fmt.Fprintf(w, "good up to record %s: %s\n", r.Head, count(r.Entries, "entry", "entries"))
			err = errors.Join(err, printErr)
		}
		return err
	}
	_, err = io.WriteString(w, describeAudit(r, expected))
	return err
}

func describeAudit(r *audit.Report, expected *audit.Head) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ok: %s in %s, chain intact, head %s\n", count(r.Entries, "entry", "entries"), count(uint64(len(r.Files)), "file", "files"), r.Head)
	if r.Entries > 0 {
		fmt.Fprintf(&b, "from %s to %s, network %s\n", r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339), r.Network)
	}
	if r.From != nil {
		fmt.Fprintf(&b, "what is before record %d is not in this export: it is taken on trust that it ends with %s\n", r.From.Seq+1, r.From.Hash)
	}
	if r.Signatures > 0 {
		fmt.Fprintf(&b, "signatures verified: %d\n", r.Signatures)
	}
	if r.StepsBack > 0 {
		fmt.Fprintf(&b, "note: the clock was set back before %s\n", count(r.StepsBack, "entry", "entries"))
	}
	if r.Unfinished > 0 {
		fmt.Fprintf(&b, "note: %d bytes of a record that was never acknowledged follow; the signer's next start cuts them off\n", r.Unfinished)
	}
	switch {
	case expected != nil:
		fmt.Fprintf(&b, "the log ends with the head that was expected\n")
	case r.Anchored != nil:
		fmt.Fprintf(&b, "anchors found: %d; record %d and all before it are those that the anchors name, those after it only follow them\n", r.Anchors, r.Anchored.Seq)
	default:
		fmt.Fprintf(&b, "no anchor was given: whether entries were cut off the end cannot be seen without one\n")
	}
	return b.String()
}

func count(n uint64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

func newAuditExport() *cobra.Command {
	var log auditLog
	var out string
	var from uint64
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the log as JSON lines that another program can check",
		Long: `Write every record of the log as a line of JSON: seq, prev, hash and entry.
docs/audit.md says how to check them; "qcity audit verify --export" does. With
--from the first line is the header of the file that the record is in, which a check
needs, and what is left out is taken on trust.`,
		Example: `  qcity audit export --out audit.jsonl
  qcity audit export --from 1200 | qcity audit verify --export -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			path, _, err := log.find()
			if err != nil {
				return err
			}
			export := func(w io.Writer) error { return audit.Export(cmd.Context(), w, path, from, audit.Options{}) }
			if out != "" {
				return writeNewFile(out, 0o600, export)
			}
			return export(cmd.OutOrStdout())
		},
	}
	log.flags(c)
	c.Flags().StringVar(&out, "out", "", "write to this new file instead of standard output")
	c.Flags().Uint64Var(&from, "from", 0, "begin with this record")
	return c
}
