package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/stratum/pool"
)

// workerRow is one worker or account, as JSON has it.
type workerRow struct {
	Worker     string            `json:"worker,omitempty"`
	Account    string            `json:"account"`
	Minute     float64           `json:"hashRate1m"` // hashes per second
	TenMinutes float64           `json:"hashRate10m"`
	Hour       float64           `json:"hashRate1h"`
	Accepted   uint64            `json:"accepted"`
	Difficulty float64           `json:"difficulty"`
	Best       float64           `json:"bestShare"`
	Rejected   map[string]uint64 `json:"rejected"`
	LastShare  *string           `json:"lastShare"`
	Blocks     uint64            `json:"blocks"`
}

func newPoolWorkers() *cobra.Command {
	var q poolQuery
	var accounts bool
	c := &cobra.Command{
		Use:   "workers",
		Short: "Hash rate, best share, rejects and blocks of every worker",
		Long: `Hash rate, best share, accepted and rejected shares, last share and blocks of every
worker since the books were begun, or with --accounts of every account. Hash rates
are estimates over the last minute, ten minutes and hour.`,
		Example: `  qcity pool workers
  qcity pool workers --accounts --since 24h
  qcity pool workers --account bcrt1qexample --csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := q.read(cmd.Context())
			if err != nil {
				return err
			}
			rows := workerRows(v, &q, accounts, time.Now())
			switch {
			case q.json:
				return writeJSON(cmd.OutOrStdout(), map[string]any{"until": jsonMoment(v.Until), "workers": rows})
			case q.csv:
				return workersCSV(cmd.OutOrStdout(), rows)
			}
			return workersTable(cmd.OutOrStdout(), rows, accounts)
		},
	}
	q.flags(c, "only those whose last share was")
	c.Flags().BoolVar(&accounts, "accounts", false, "sum the workers of each account up")
	c.MarkFlagsMutuallyExclusive("accounts", "worker")
	return c
}

func workerRows(v *pool.View, q *poolQuery, accounts bool, now time.Time) []workerRow {
	_, workers := v.Stats(now)
	workers = slices.DeleteFunc(workers, func(w pool.WorkerStats) bool { return !q.named(w.Name) })
	if accounts {
		workers = pool.ByAccount(workers)
	}
	rows := []workerRow{}
	for _, w := range workers {
		if !q.at(w.LastShare) {
			continue
		}
		row := workerRow{
			Worker: escaped(w.Name), Account: escaped(pool.Account(w.Name)), Minute: w.HashRate.Minute, TenMinutes: w.HashRate.TenMinutes, Hour: w.HashRate.Hour,
			Accepted: w.Accepted, Difficulty: w.Difficulty, Best: w.Best, Rejected: w.Rejected, LastShare: jsonMoment(w.LastShare), Blocks: w.Blocks,
		}
		if accounts {
			row.Worker = ""
		}
		rows = append(rows, row)
	}
	return rows
}

// rejectReasons are all that there are, in the order of their columns.
func rejectReasons() (list []string) {
	for r := pool.Malformed; r <= pool.DuplicateShare; r++ {
		list = append(list, r.String())
	}
	return list
}

func workersCSV(w io.Writer, rows []workerRow) error {
	out := newCSV(w)
	head := []string{"worker", "account", "hash_rate_1m", "hash_rate_10m", "hash_rate_1h", "accepted", "difficulty", "best_share", "last_share", "blocks"}
	for _, r := range rejectReasons() {
		head = append(head, "rejected_"+strings.ReplaceAll(r, "-", "_"))
	}
	if err := out.Write(head); err != nil {
		return err
	}
	for _, r := range rows {
		line := []string{
			out.text(r.Worker), out.text(r.Account), decimal(r.Minute), decimal(r.TenMinutes), decimal(r.Hour), strconv.FormatUint(r.Accepted, 10),
			decimal(r.Difficulty), decimal(r.Best), deref(r.LastShare), strconv.FormatUint(r.Blocks, 10),
		}
		for _, reason := range rejectReasons() {
			line = append(line, strconv.FormatUint(r.Rejected[reason], 10))
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	return out.end()
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func workersTable(w io.Writer, rows []workerRow, accounts bool) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no workers")
		return err
	}
	name := "worker"
	if accounts {
		name = "account"
	}
	t := newTable(w, name, "1 min", "10 min", "1 h", "accepted", "best share", "last share", "blocks", "rejected")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%.4g\t%s\t%d\t%s\n", orDash(cmp.Or(r.Worker, r.Account)), hashRate(r.Minute), hashRate(r.TenMinutes), hashRate(r.Hour),
			r.Accepted, r.Best, orDash(deref(r.LastShare)), r.Blocks, rejectText(r.Rejected))
	}
	return t.Flush()
}

// rejectText lists the reasons, the most frequent first.
func rejectText(rejected map[string]uint64) string {
	var parts []string
	for _, reason := range slices.SortedFunc(maps.Keys(rejected), func(a, b string) int {
		return cmp.Or(cmp.Compare(rejected[b], rejected[a]), cmp.Compare(a, b))
	}) {
		parts = append(parts, fmt.Sprintf("%s %d", reason, rejected[reason]))
	}
	return orDash(strings.Join(parts, ", "))
}
