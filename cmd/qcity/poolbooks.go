package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

// poolQuery is what the flags of the commands that read the books ask for.
type poolQuery struct {
	config          string
	since, until    string
	account, worker string
	json, csv       bool

	from, to time.Time // zero: no bound
}

func (q *poolQuery) flags(c *cobra.Command, times string) {
	f := c.Flags()
	f.StringVar(&q.config, "config", configs.FileName, "configuration file; it names the data directory")
	f.StringVar(&q.since, "since", "", times+" at or after this time: 2026-11-28, 2026-11-28T10:00:00Z, or as long ago as 90m, 24h, 7d")
	f.StringVar(&q.until, "until", "", times+" before this time, in the same forms")
	f.StringVar(&q.account, "account", "", "only this account: the part of a worker's name before the first dot")
	f.StringVar(&q.worker, "worker", "", "only this worker")
	f.BoolVar(&q.csv, "csv", false, "print comma-separated values")
	f.BoolVar(&q.json, "json", false, "print JSON")
	c.MarkFlagsMutuallyExclusive("json", "csv")
}

// read parses the times and opens the books.
func (q *poolQuery) read(ctx context.Context) (*pool.View, error) {
	dir, err := q.dir()
	if err != nil {
		return nil, err
	}
	v, err := pool.Read(ctx, dir)
	return v, noBooks(err)
}

func (q *poolQuery) dir() (string, error) {
	now := time.Now()
	var err error
	if q.from, err = parseMoment(now, q.since); err != nil {
		return "", fmt.Errorf("--since: %w", err)
	}
	if q.to, err = parseMoment(now, q.until); err != nil {
		return "", fmt.Errorf("--until: %w", err)
	}
	c, err := configs.LoadIncomplete(q.config)
	if err != nil {
		return "", err
	}
	return c.PoolDir(), nil
}

// poolConfig is what [pool] says, as the books take it.
func poolConfig(c *configs.Config) (pool.Config, error) {
	mode, err := reward.ParseMode(c.Pool.Rewards)
	if err != nil {
		return pool.Config{}, fmt.Errorf("pool.rewards: %w", err)
	}
	return pool.Config{
		Dir:       c.PoolDir(),
		Rules:     reward.Rules{Mode: mode, Fee: c.Pool.Fee, Factor: c.Pool.Factor(), MinPayout: c.Pool.MinPayout},
		Retention: time.Duration(c.Pool.RetentionDays) * 24 * time.Hour,
		MaxBytes:  int64(c.Pool.MaxMiB) << 20,
	}, nil
}

func noBooks(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there are no books yet: a box begins them when it starts with a payout address and a Stratum port (%w)", err)
	}
	return err
}

// parseMoment reads a time, or how long ago it is.
func parseMoment(now time.Time, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	ago := text
	if days, ok := strings.CutSuffix(text, "d"); ok {
		ago = days + "h"
	}
	d, err := time.ParseDuration(ago)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("%q is no time: want 2026-11-28, 2026-11-28T10:00:00Z (UTC), or as long ago as 90m, 24h, 7d", text)
	}
	if ago != text {
		d *= 24
	}
	return now.Add(-d), nil
}

func (q *poolQuery) at(t time.Time) bool {
	return (q.from.IsZero() || !t.Before(q.from)) && (q.to.IsZero() || t.Before(q.to))
}

func (q *poolQuery) named(worker string) bool {
	return (q.worker == "" || worker == q.worker) && (q.account == "" || pool.Account(worker) == q.account)
}

// csvWriter writes rows for spreadsheets.
type csvWriter struct{ *csv.Writer }

func newCSV(w io.Writer) csvWriter { return csvWriter{csv.NewWriter(w)} }

// text makes what others chose fit for a spreadsheet: unprintable characters
// are escaped, and what such programs take for a formula begins with an
// apostrophe, which they show as text.
func (csvWriter) text(s string) string {
	s = escaped(s)
	if strings.HasPrefix(s, "'") || strings.IndexAny(strings.TrimLeft(s, " "), "=+-@|") == 0 {
		return "'" + s
	}
	return s
}

// end flushes and reports the first error.
func (c csvWriter) end() error {
	c.Flush()
	return c.Error()
}

func newTable(w io.Writer, heads ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(heads, "\t"))
	return t
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func jsonMoment(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := moment(t)
	return &s
}
