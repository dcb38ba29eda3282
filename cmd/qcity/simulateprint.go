package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"qcitycoin.org/qcity/node/simulate"
)

// print writes the answers in the form that was asked for.
func (s *simulation) print(w io.Writer, rows []attack, cells []cell, waits []wait) error {
	switch {
	case s.json && s.one:
		return writeJSON(w, cells[0])
	case s.json && s.replay:
		return writeJSON(w, map[string]any{"cells": cells})
	case s.json:
		return writeJSON(w, map[string]any{"cells": cells, "wait": waits})
	case s.csv:
		return writeCSV(w, cells)
	case s.one:
		return s.printOne(w, cells[0])
	case s.replay:
		return s.printReplay(w, rows, cells)
	}
	return s.printTable(w, rows, cells, waits)
}

func writeCSV(w io.Writer, cells []cell) error {
	c := csv.NewWriter(w)
	lines := [][]string{{
		"rules", "q", "confirmations", "trials", "seed", "n", "missed", "premined", "fork", "noGate",
		"estimate", "standardError", "bias", "exact", "chain", "when",
	}}
	number := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	for _, x := range cells {
		exact := ""
		if x.Exact != nil {
			exact = number(*x.Exact)
		}
		lines = append(lines, []string{
			string(x.Rules), number(x.Q), strconv.Itoa(x.Confirmations), strconv.FormatInt(x.Trials, 10), strconv.FormatUint(x.Seed, 10),
			strconv.Itoa(x.N), number(x.Missed), strconv.Itoa(x.Premined), strconv.Itoa(x.Fork), strconv.FormatBool(x.NoGate),
			number(x.Estimate), number(x.StandardError), number(x.Bias), exact, x.Chain, x.When,
		})
	}
	return c.WriteAll(lines)
}

// percent writes a probability with three decimals, or as a power of ten where
// they would hide it.
func percent(p float64) string {
	switch {
	case p == 0:
		return "0"
	case p < 1e-15: // calculated values are not more precise
		return "<1e-13"
	case p < 0.000_01:
		return fmt.Sprintf("%.0e", 100*p)
	}
	return fmt.Sprintf("%.3f", 100*p)
}

func exactPercent(c cell) string {
	if c.Exact == nil {
		return "unknown"
	}
	return percent(*c.Exact)
}

func (s *simulation) printOne(w io.Writer, c cell) error {
	exact := exactPercent(c) + " %"
	if c.Exact == nil {
		exact = c.ExactNote
	}
	bias := ""
	if c.Bias > c.StandardError/10 {
		bias = fmt.Sprintf("\n           up to %s points too low, because attackers far behind give up", percent(c.Bias))
	}
	_, err := fmt.Fprintf(w, `%s
risk that an attacker with %g %% of the hash power undoes a payment with %d confirmations:
simulated  %s %% ± %s (%d trials, seed %d)%s
exact      %s
`, s.title(), 100*c.Q, c.Confirmations, percent(c.Estimate), percent(c.StandardError), c.Trials, c.Seed, bias, exact)
	return err
}

// printTable writes two lines for each share, simulated and exact.
func (s *simulation) printTable(w io.Writer, rows []attack, cells []cell, waits []wait) error {
	fmt.Fprintf(w, "%s; %d trials, seed %d\nrisk in percent that a payment is undone, by confirmations\n\n", s.title(), s.trials, s.seed)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "q\t\t")
	for _, z := range rows[0].confirmations {
		fmt.Fprintf(t, "%d\t", z)
	}
	fmt.Fprintln(t)
	for _, r := range rows {
		mine := cells[:len(r.confirmations)]
		cells = cells[len(mine):]
		fmt.Fprintf(t, "%g\tsimulated\t", r.model.Q)
		for _, c := range mine {
			fmt.Fprint(t, percent(c.Estimate), "\t")
		}
		fmt.Fprint(t, "\n\texact\t")
		for _, c := range mine {
			fmt.Fprint(t, exactPercent(c), "\t")
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nconfirmations for a risk below %s %%\n", percent(s.risk))
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, x := range waits {
		answer := x.Note
		if x.Confirmations != nil {
			answer = strconv.Itoa(*x.Confirmations)
		}
		fmt.Fprintf(t, "  q %g\t%s\n", x.Q, answer)
	}
	return t.Flush()
}

// printReplay writes a line for each reorganisation with a column for each rule
// set.
func (s *simulation) printReplay(w io.Writer, rows []attack, cells []cell) error {
	published := simulate.Published()
	fmt.Fprintf(w, "%s; attacker with %g %% of the hash power; %d trials, seed %d\nrisk in percent that as many blocks are undone, simulated and exact\n\n", s.title(), 100*s.model.Q, s.trials, s.seed)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "chain\twhen\tblocks")
	for _, r := range rows {
		fmt.Fprintf(t, "\t%s\t", r.model.Rules)
	}
	fmt.Fprintln(t)
	for i, p := range published {
		least := ""
		if p.AtLeast {
			least = ">"
		}
		fmt.Fprintf(t, "%s\t%s\t%s%d", p.Chain, p.When, least, p.Depth)
		for j := range rows {
			c := cells[j*len(published)+i]
			fmt.Fprintf(t, "\t%s\t%s", percent(c.Estimate), exactPercent(c))
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s.model.Missed == 0 && (!s.oneRules || s.model.Rules == simulate.PoOF) {
		_, err := fmt.Fprintf(w, "\nWith every slot signed poof lets an attacker without keys undo %d blocks at most, whatever his hash power.\n", s.model.N-1)
		return err
	}
	return nil
}
