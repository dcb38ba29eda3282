package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/stratum/pool"
)

// shareRow is one share, as JSON has it.
type shareRow struct {
	Time       string  `json:"time"`
	Worker     string  `json:"worker"`
	Account    string  `json:"account"`
	Difficulty float64 `json:"difficulty"`
	Weight     uint64  `json:"weight"` // hashes it stands for
	Real       float64 `json:"realDifficulty"`
	Block      bool    `json:"block"`
	Hash       string  `json:"hash"`
	Missing    uint64  `json:"missing,omitempty"`
}

func newPoolShares() *cobra.Command {
	var q poolQuery
	c := &cobra.Command{
		Use:   "shares",
		Short: "Single accepted shares, as long as they are kept",
		Long: `Single accepted shares, oldest first, as long as they are kept (pool.retention_days).
--json prints one object on a line. A row that says how many are missing stands for
shares that were counted while the disk could not be written for long.`,
		Example: `  qcity pool shares --since 10m
  qcity pool shares --worker bcrt1qexample.rig1 --since 2026-11-28 --csv > shares.csv
  qcity pool shares --since 1h --json | jq -r .hash`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			dir, err := q.dir()
			if err != nil {
				return err
			}
			out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
			defer func() { err = errors.Join(err, out.Flush()) }()
			write := sharesPrinter(out, &q)
			update, end := newProgress("reading files")
			defer end()
			progress := func(done, of int) { update(uint32(done), uint32(of)) }
			return noBooks(pool.Shares(cmd.Context(), dir, q.from, progress, func(s *pool.ShareRecord) error {
				if !q.at(s.Time) || !q.named(s.Worker) && s.Missing == 0 {
					return nil
				}
				return write(s)
			}))
		},
	}
	q.flags(c, "only shares")
	return c
}

// sharesPrinter writes the head, and returns what writes a share.
func sharesPrinter(out io.Writer, q *poolQuery) func(*pool.ShareRecord) error {
	switch {
	case q.json:
		e := json.NewEncoder(out)
		return func(s *pool.ShareRecord) error { return e.Encode(newShareRow(s)) }
	case q.csv:
		w := newCSV(out)
		err := w.Write([]string{"time", "worker", "account", "difficulty", "weight", "real_difficulty", "block", "hash", "missing"})
		return func(s *pool.ShareRecord) error {
			r := newShareRow(s)
			return errors.Join(err, w.Write([]string{
				r.Time, w.text(r.Worker), w.text(r.Account), decimal(r.Difficulty), strconv.FormatUint(r.Weight, 10), decimal(r.Real),
				strconv.FormatBool(r.Block), r.Hash, strconv.FormatUint(r.Missing, 10),
			}), w.end())
		}
	}
	fmt.Fprintf(out, "%-24s  %12s  %12s  %-16s  %s\n", "time", "difficulty", "real", "hash", "worker")
	return func(s *pool.ShareRecord) error {
		r := newShareRow(s)
		if r.Missing > 0 {
			_, err := fmt.Fprintf(out, "%s  %d shares are counted, and missing here: the disk could not be written\n", r.Time, r.Missing)
			return err
		}
		block := ""
		if r.Block {
			block = "  block"
		}
		_, err := fmt.Fprintf(out, "%s  %12.6g  %12.6g  %s  %s%s\n", r.Time, r.Difficulty, r.Real, r.Hash[:16], orDash(r.Worker), block)
		return err
	}
}

func newShareRow(s *pool.ShareRecord) shareRow {
	r := shareRow{Time: moment(s.Time), Missing: s.Missing}
	if s.Missing > 0 {
		return r
	}
	r.Worker, r.Account, r.Hash = escaped(s.Worker), escaped(pool.Account(s.Worker)), blockID(s.Hash)
	r.Difficulty, r.Weight, r.Real, r.Block = s.Difficulty, s.Weight, s.Real, s.Block
	return r
}

// blockID writes a hash as it is shown: its bytes reversed.
func blockID(hash [32]byte) string {
	slices.Reverse(hash[:])
	return hex.EncodeToString(hash[:])
}
