package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/signer"
)

// statusTimeout is how long a status may take: the signer answers at once, or is
// not there.
const statusTimeout = 2 * time.Second

func newSignerStatus() *cobra.Command {
	var file string
	var asJSON, asMetrics bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Ask the running signer daemon how it is",
		Long: `Ask the signer daemon on its Unix socket for its role, the state of its keys and
its HSM, what it signed last, what it refused and by which rule, its journal and
its links. Works for the daemon's own user and root. Exit code 1 when the daemon
does not answer, signing is halted or a key is not ready.

--prometheus prints metrics in Prometheus's text format, as node_exporter's textfile
collector reads them from a file; the signer itself opens no port for them. They
say that the daemon does not answer or is halted, so this ends with 0 then.`,
		Example: `  qcity signer status --config qcity.toml
  qcity signer status --json | jq .refusals
  qcity signer status --prometheus > /var/lib/node_exporter/qcity.tmp && mv /var/lib/node_exporter/qcity.tmp /var/lib/node_exporter/qcity.prom`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := askSigner(cmd.Context(), file)
			if asMetrics {
				return printMetrics(cmd, &st, err)
			}
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), &st)
			} else {
				err = printSigner(cmd.OutOrStdout(), &st)
			}
			if err != nil {
				return err
			}
			if st.Halt != nil {
				return errors.New("signing is halted")
			}
			if n := len(readyKeys(&st)); n < len(st.Keys) {
				return fmt.Errorf("%d of %d keys ready", n, len(st.Keys))
			}
			return nil
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file of the signer")
	c.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	c.Flags().BoolVar(&asMetrics, "prometheus", false, "print metrics in Prometheus's text format")
	c.MarkFlagsMutuallyExclusive("json", "prometheus")
	return c
}

// printMetrics writes that a signer is down if it is. A command that cannot know,
// as its configuration is wrong, fails.
func printMetrics(cmd *cobra.Command, st *signer.Status, err error) error {
	switch {
	case errors.Is(err, signer.ErrUnavailable):
		fmt.Fprintln(cmd.ErrOrStderr(), "qcity:", err)
		st = nil
	case err != nil:
		return err
	}
	return writeMetrics(cmd.OutOrStdout(), st)
}

func askSigner(ctx context.Context, file string) (st signer.Status, err error) {
	err = withSigner(ctx, file, func(ctx context.Context, c *signer.Client) error {
		st, err = c.Status(ctx)
		return err
	})
	return st, err
}

// withSigner lets f call the daemon of a configuration on its socket.
func withSigner(ctx context.Context, file string, f func(context.Context, *signer.Client) error) error {
	cfg, err := configs.Load(file)
	if err != nil {
		return err
	}
	if cfg.Signer.Socket == "" {
		return fmt.Errorf("%s names no signer.socket: run this on the signer's machine with the signer's configuration", file)
	}
	net, err := configs.LoadNetwork(cfg.NetworkName())
	if err != nil {
		return err
	}
	client := signer.NewClient(cfg.Path(cfg.Signer.Socket), net.ID)
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return f(ctx, client)
}

func printSigner(out io.Writer, st *signer.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	line("network", "%s", st.Network)
	line("role", "%s", st.Role)
	line("HSM", "%s", hsmState(&st.Worker))
	line("journal", "file %s, %d records, highest claim %d, last signed %d", st.Journal.FileID, st.Journal.Records, st.Journal.Highest, st.Journal.LastSigned)
	if st.Halt != nil {
		line("signing", "%s", haltState(st.Halt))
	}
	line("audit", "%s", auditState(st.Audit))
	line("signed", "%d since the start, %d released again, %d failed", st.Signed, st.Repeated, st.Failed)
	line("refused", "%d since the start", total(st.Refusals))
	for _, r := range slices.Sorted(maps.Keys(st.Refusals)) {
		line("  "+string(r), "%d", st.Refusals[r])
	}
	for _, l := range st.Links {
		state := "connected"
		if !l.Connected {
			state = "NOT CONNECTED: " + cmp.Or(l.Error, "not tried yet")
		}
		line("node "+l.Address, "%s, connections in use: %d", state, l.Connections)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nvalidator\tkey\tlast block\tlast vote\tstate")
	for _, k := range st.Keys {
		index, state := fmt.Sprint(k.Index), "ready"
		if k.Index < 0 {
			index = "-"
		}
		if !k.Ready {
			state = "NOT READY: " + k.Error
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", index, k.PublicKey, k.LastSigned, k.LastVote, state)
	}
	return w.Flush()
}

func hsmState(w *signer.WorkerStatus) string {
	state := "up"
	switch {
	case w.Halted != "":
		state = "STOPPED until a person acts: " + w.Halted
	case w.Down:
		state = "DOWN: restarting the worker did not help"
	case w.PID == 0:
		state = "between two workers"
	}
	return fmt.Sprintf("%s: %s; worker restarted %d times, %d signatures", w.Module, state, w.Restarts, w.Signatures)
}

func auditState(a *consensus.AuditAnchor) string {
	return fmt.Sprintf("%d entries, head %d:%s", a.Seq+1, a.Seq, a.Head)
}

func haltState(h *signer.Halt) string {
	text := fmt.Sprintf("HALTED by %s at %s: %s", h.By, h.At.Format(time.RFC3339), h.Reason)
	if h.Resuming != "" {
		text += fmt.Sprintf("; %s asked to resume at %s and waits for a second person", h.Resuming, h.ResumingAt.Format(time.RFC3339))
	}
	return text
}

func total(refusals map[signer.Rule]uint64) (n uint64) {
	for _, count := range refusals {
		n += count
	}
	return n
}
