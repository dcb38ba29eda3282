package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

// blockRow is one found block, as JSON has it. Amounts are base units.
type blockRow struct {
	Height   uint32  `json:"height"`
	ID       string  `json:"id"`
	Time     string  `json:"time"`
	Finder   string  `json:"finder"` // "" is this machine
	State    string  `json:"state"`
	Rewards  string  `json:"rewards"` // the rule it was divided by
	Reward   int64   `json:"reward"`
	Fee      int64   `json:"fee"`
	Paid     int64   `json:"paid"`   // to accounts, in its coinbase
	Effort   float64 `json:"effort"` // percent of the expected work that was done since the last; 0: not known
	Payments []paid  `json:"payments"`
}

type paid struct {
	Account string `json:"account"`
	Amount  int64  `json:"amount"`
}

func newPoolBlocks() *cobra.Command {
	var q poolQuery
	c := &cobra.Command{
		Use:   "blocks",
		Short: "Found blocks: finder, reward, state, luck",
		Long: `Blocks that the pool's miners found, newest last: height, id, finder, reward, what
became of them, and the effort: the work done since the last found block in percent
of what a block takes on average; below 100 is luck. The last thousand are listed.`,
		Example: `  qcity pool blocks
  qcity pool blocks --since 7d --csv
  qcity pool blocks --account bcrt1qexample --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := q.read(cmd.Context())
			if err != nil {
				return err
			}
			report := v.Report()
			rows := []blockRow{}
			for i := range report.Blocks {
				if b := &report.Blocks[i]; q.at(b.Time) && q.named(b.Finder) {
					rows = append(rows, newBlockRow(b))
				}
			}
			switch {
			case q.json:
				return writeJSON(cmd.OutOrStdout(), map[string]any{"until": jsonMoment(v.Until), "blocks": rows, "pastBlocks": report.PastBlocks, "pastOrphans": report.PastOrphans})
			case q.csv:
				return blocksCSV(cmd.OutOrStdout(), rows)
			}
			return blocksTable(cmd.OutOrStdout(), rows, &report)
		},
	}
	q.flags(c, "only blocks found")
	return c
}

func newBlockRow(b *reward.BlockReport) blockRow {
	r := blockRow{
		Height: b.Height, ID: blockID(b.ID), Time: moment(b.Time), Finder: escaped(b.Finder), State: b.State.String(), Rewards: b.Mode.String(),
		Reward: b.Reward, Fee: b.Fee, Effort: b.Effort(), Payments: []paid{},
	}
	for _, p := range b.Payments {
		r.Payments = append(r.Payments, paid{p.Account, p.Amount})
		r.Paid += p.Amount
	}
	return r
}

func blocksCSV(w io.Writer, rows []blockRow) error {
	out := newCSV(w)
	if err := out.Write([]string{"height", "id", "time", "finder", "state", "rewards", "reward", "fee", "paid", "effort"}); err != nil {
		return err
	}
	for _, r := range rows {
		if err := out.Write([]string{
			strconv.FormatUint(uint64(r.Height), 10), r.ID, r.Time, out.text(r.Finder), r.State, r.Rewards,
			units(r.Reward), units(r.Fee), units(r.Paid), decimal(r.Effort),
		}); err != nil {
			return err
		}
	}
	return out.end()
}

func units(amount int64) string { return strconv.FormatInt(amount, 10) }

func blocksTable(w io.Writer, rows []blockRow, report *reward.Report) error {
	if len(rows) == 0 {
		fmt.Fprintln(w, "no blocks")
	} else {
		t := newTable(w, "height", "id", "time", "state", "reward", "paid", "effort", "finder")
		for _, r := range rows {
			effort := "-"
			if r.Effort > 0 {
				effort = fmt.Sprintf("%.1f %%", r.Effort)
			}
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Height, short(r.ID), r.Time, r.State, types.FormatAmount(r.Reward), types.FormatAmount(r.Paid), effort, orDash(r.Finder))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if report.PastBlocks+report.PastOrphans > 0 {
		fmt.Fprintf(w, "%d confirmed and %d orphaned blocks before these are in the sums only\n", report.PastBlocks, report.PastOrphans)
	}
	return nil
}

// payoutRow is one account, as JSON has it. Amounts are base units.
type payoutRow struct {
	Account  string        `json:"account"`
	Credited int64         `json:"credited"`
	Pending  int64         `json:"pending"` // of it, by blocks that are not confirmed
	Paid     int64         `json:"paid"`
	Balance  int64         `json:"balance"`
	Coinbase []payoutBlock `json:"coinbases"` // the listed blocks that paid it
}

type payoutBlock struct {
	Height uint32 `json:"height"`
	ID     string `json:"id"`
	Time   string `json:"time"`
	State  string `json:"state"`
	Amount int64  `json:"amount"`
}

// payoutTotals prove that the books add up: rewards = credited + operator = paid
// + held, and held = owed + operator.
type payoutTotals struct {
	Rewards  int64 `json:"rewards"`
	Credited int64 `json:"credited"`
	Operator int64 `json:"operator"`
	Fees     int64 `json:"fees"`
	Paid     int64 `json:"paid"`
	Held     int64 `json:"held"`
	Owed     int64 `json:"owed"`
}

func newPoolPayouts() *cobra.Command {
	var q poolQuery
	c := &cobra.Command{
		Use:   "payouts",
		Short: "What each account was credited and paid, and the proof of the sum",
		Long: `What each account was credited by blocks that stand, what coinbases paid it, and
what it is owed. The totals are of all accounts and all time, whatever the filters
say, and add up to the last unit: the rewards of standing blocks are what accounts
and the operator were credited, and what was paid and what the operator holds; of
that, one part is owed to accounts. If they did not add up, this command would fail.`,
		Example: `  qcity pool payouts
  qcity pool payouts --account bcrt1qexample --json
  qcity pool payouts --since 7d --csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := q.read(cmd.Context())
			if err != nil {
				return err
			}
			report := v.Report()
			if err := report.Check(); err != nil {
				return err
			}
			rows := payoutRows(&report, &q)
			totals := payoutTotals{report.Rewards, report.Credited, report.Operator, report.Fees, report.Paid, report.Held, report.Owed}
			switch {
			case q.json:
				return writeJSON(cmd.OutOrStdout(), map[string]any{"until": jsonMoment(v.Until), "accounts": rows, "totals": totals})
			case q.csv:
				return payoutsCSV(cmd.OutOrStdout(), rows, &totals)
			}
			return payoutsTable(cmd.OutOrStdout(), rows, &totals)
		},
	}
	q.flags(c, "list only coinbases of blocks found")
	return c
}

func payoutRows(report *reward.Report, q *poolQuery) []payoutRow {
	coinbases := map[string][]payoutBlock{}
	for _, b := range report.Blocks {
		if !q.at(b.Time) {
			continue
		}
		for _, p := range b.Payments {
			coinbases[p.Account] = append(coinbases[p.Account], payoutBlock{b.Height, blockID(b.ID), moment(b.Time), b.State.String(), p.Amount})
		}
	}
	rows := []payoutRow{}
	account := q.account
	if account == "" {
		account = pool.Account(q.worker)
	}
	for _, a := range report.Accounts {
		if account != "" && a.Account != account {
			continue
		}
		row := payoutRow{a.Account, a.Credited, a.Pending, a.Paid, a.Balance, coinbases[a.Account]}
		if row.Coinbase == nil {
			row.Coinbase = []payoutBlock{}
		}
		rows = append(rows, row)
	}
	return rows
}

func payoutsCSV(w io.Writer, rows []payoutRow, t *payoutTotals) error {
	out := newCSV(w)
	lines := [][]string{{"kind", "account", "height", "id", "time", "state", "credited", "pending", "paid", "balance"}}
	for _, r := range rows {
		lines = append(lines, []string{"account", out.text(r.Account), "", "", "", "", units(r.Credited), units(r.Pending), units(r.Paid), units(r.Balance)})
		for _, b := range r.Coinbase {
			lines = append(lines, []string{"coinbase", out.text(r.Account), strconv.FormatUint(uint64(b.Height), 10), b.ID, b.Time, b.State, "", "", units(b.Amount), ""})
		}
	}
	lines = append(lines,
		[]string{"accounts", "", "", "", "", "", units(t.Credited), "", units(t.Paid), units(t.Owed)},
		[]string{"operator", "", "", "", "", "", units(t.Operator), "", "", ""},
		[]string{"rewards", "", "", "", "", "", units(t.Rewards), "", "", ""},
		[]string{"held", "", "", "", "", "", "", "", "", units(t.Held)},
	)
	for _, l := range lines {
		if err := out.Write(l); err != nil {
			return err
		}
	}
	return out.end()
}

func payoutsTable(w io.Writer, rows []payoutRow, total *payoutTotals) error {
	amount := types.FormatAmount
	if len(rows) > 0 {
		t := newTable(w, "account", "credited", "pending", "paid", "balance", "last paid in")
		for _, r := range rows {
			last := "-"
			for _, b := range slices.Backward(r.Coinbase) {
				if b.State != reward.Orphaned.String() {
					last = fmt.Sprintf("block %d (%s), %s", b.Height, b.State, amount(b.Amount))
					break
				}
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", escaped(r.Account), amount(r.Credited), amount(r.Pending), amount(r.Paid), amount(r.Balance), last)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(w, "no accounts were credited")
	}
	_, err := fmt.Fprintf(w, `
rewards %s = credited to accounts %s + operator %s (fees %s)
rewards %s = paid in coinbases %s + held %s
held    %s = owed to accounts %s + operator %s
`, amount(total.Rewards), amount(total.Credited), amount(total.Operator), amount(total.Fees),
		amount(total.Rewards), amount(total.Paid), amount(total.Held),
		amount(total.Held), amount(total.Owed), amount(total.Operator))
	return err
}
