package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/node/simulate"
)

// simulation is what the flags of qcity simulate ask for.
type simulation struct {
	model         simulate.Model
	rules         string
	confirmations int
	trials        int64
	seed          uint64
	risk          float64
	replay        bool
	json, csv     bool
	chart         string

	one, oneQ, oneZ, oneRules bool // which of the flags that choose cells were given; one: a single cell
}

func newSimulate() *cobra.Command {
	var s simulation
	var table bool
	c := &cobra.Command{
		Use:   "simulate",
		Short: "How long to wait: the risk that a payment is undone",
		Long: `Say how likely an attacker without a validator's key is to undo a payment after
some confirmations, simulated and calculated side by side. With --q and
--confirmations the answer is one number, otherwise a table. docs/simulate.md
says what is assumed.

Rules: pow is plain proof of work, literal is Proof of Online as its source text
has it, poof is what this chain does.`,
		Example: `  qcity simulate
  qcity simulate --rules poof --q 0.3 --confirmations 6 --json
  qcity simulate --rules pow --confirmations 6
  qcity simulate --rules poof --q 0.6 --missed 0.05 --chart risk.svg
  qcity simulate --replay --q 0.7`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := cmd.Flags().Changed
			s.oneRules, s.oneQ, s.oneZ = given("rules"), given("q"), given("confirmations")
			s.one = s.oneQ && s.oneZ
			if err := s.check(); err != nil {
				return err
			}
			return s.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&s.rules, "rules", string(simulate.PoOF), "pow, literal or poof")
	f.Float64Var(&s.model.Q, "q", 0.6, "the attacker's share of the hash power; without it several, or 0.6 with --replay")
	f.IntVar(&s.confirmations, "confirmations", 6, "confirmations the payment has; without it several")
	f.Int64Var(&s.trials, "trials", 1_000_000, "attacks to simulate for each share")
	f.Uint64Var(&s.seed, "seed", 1, "the same seed gives the same numbers")
	f.IntVar(&s.model.N, "n", 10, "every nth block is signed")
	f.Float64Var(&s.model.Missed, "missed", 0, "probability that the validators miss a slot")
	f.IntVar(&s.model.Premined, "premined", 1, "blocks the attacker has mined before the payment")
	f.IntVar(&s.model.Fork, "fork", 0, "blocks between the last slot and the fork; 0 is the worst case")
	f.BoolVar(&s.model.NoGate, "no-gate", false, "leave out poof's waiting time for mined slot blocks")
	f.Float64Var(&s.risk, "risk", 0.001, "risk you accept: the table says how many confirmations that takes")
	f.BoolVar(&s.replay, "replay", false, "replay published reorganisations against each rule set")
	f.BoolVar(&s.json, "json", false, "print JSON")
	f.BoolVar(&s.csv, "csv", false, "print comma-separated values")
	f.BoolVar(&table, "table", false, "print text for people, which is the default")
	f.StringVar(&s.chart, "chart", "", "also draw the risks to this file, an .svg or .png")
	c.MarkFlagsMutuallyExclusive("json", "csv", "table")
	for _, name := range []string{"q", "confirmations"} {
		f.Lookup(name).DefValue = "0" // not shown: without these flags there is a table
	}
	return c
}

// check names the first flag that makes no sense.
func (s *simulation) check() error {
	s.model.Rules = simulate.Rules(s.rules)
	switch {
	case s.trials < 1 || s.trials > simulate.MaxTrials:
		return fmt.Errorf("--trials is %d: simulate 1 to %d attacks", s.trials, int64(simulate.MaxTrials))
	case !(s.risk > 0 && s.risk < 1):
		return fmt.Errorf("--risk is %v: give a probability between 0 and 1, as 0.001 is", s.risk)
	case s.replay && s.oneZ:
		return errors.New("--replay takes its confirmations from the published depths: leave out --confirmations")
	case s.replay && s.model.NoGate && !s.oneRules:
		return errors.New("--no-gate concerns poof only: add --rules poof")
	case s.chart != "" && drawings[chartForm(s.chart)] == nil:
		return fmt.Errorf("--chart %s: give a name that ends in .svg or .png", s.chart)
	}
	if err := s.model.Check(); err != nil {
		return fmt.Errorf("wrong flag: %w", err)
	}
	if err := simulate.CheckConfirmations(s.confirmations); err != nil {
		return fmt.Errorf("wrong flag: %w", err)
	}
	if _, err := os.Stat(filepath.Dir(s.chart)); err != nil { // known before minutes of work
		return fmt.Errorf("write --chart: %w", err)
	}
	return nil
}

// attack is an attacker with the numbers of confirmations that are asked about:
// a row of the table.
type attack struct {
	model         simulate.Model
	confirmations []int
}

// rows lists the attacks.
func (s *simulation) rows() []attack {
	rules := []simulate.Rules{s.model.Rules}
	if s.replay && !s.oneRules {
		rules = simulate.All()
	}
	var all []attack
	for _, r := range rules {
		shares, depths := simulate.Shares(r), simulate.Confirmations(r)
		if s.oneQ || s.replay {
			shares = []float64{s.model.Q}
		}
		if s.oneZ {
			depths = []int{s.confirmations}
		}
		if s.replay {
			depths = nil
			for _, p := range simulate.Published() {
				depths = append(depths, p.Depth)
			}
		}
		for _, q := range shares {
			m := s.model
			m.Rules, m.Q = r, q
			all = append(all, attack{m, depths})
		}
	}
	return all
}

// cell is one answer, as JSON has it.
type cell struct {
	Rules         simulate.Rules `json:"rules"`
	Q             float64        `json:"q"`
	Confirmations int            `json:"confirmations"`
	Trials        int64          `json:"trials"`
	Seed          uint64         `json:"seed"`
	N             int            `json:"n"`
	Missed        float64        `json:"missed"`
	Premined      int            `json:"premined"`
	Fork          int            `json:"fork"`
	NoGate        bool           `json:"noGate"`
	Estimate      float64        `json:"estimate"`
	StandardError float64        `json:"standardError"`
	Bias          float64        `json:"bias"`
	Exact         *float64       `json:"exact"`
	ExactNote     string         `json:"exactNote,omitempty"` // why exact is null
	Chain         string         `json:"chain,omitempty"`     // of a replayed reorganisation
	When          string         `json:"when,omitempty"`
	AtLeast       bool           `json:"atLeast,omitempty"`
}

// wait is how many confirmations bring the risk below what is accepted.
type wait struct {
	Q             float64 `json:"q"`
	Risk          float64 `json:"risk"`
	Confirmations *int    `json:"confirmations"`
	Note          string  `json:"note,omitempty"` // why confirmations is null
}

func (s *simulation) run(ctx context.Context, w io.Writer) error {
	rows := s.rows()
	cells, err := s.answer(ctx, rows)
	if err != nil {
		return err
	}
	var waits []wait
	if !s.one && !s.replay {
		for _, r := range rows {
			waits = append(waits, waitFor(ctx, r.model, s.risk))
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	if s.chart != "" {
		if err := s.draw(ctx, rows, cells); err != nil {
			return err
		}
	}
	return s.print(w, rows, cells, waits)
}

// answer simulates and calculates all cells, row by row.
func (s *simulation) answer(ctx context.Context, rows []attack) ([]cell, error) {
	update, end := newProgress("simulating")
	defer end()
	var cells []cell
	for i, r := range rows {
		sample, err := simulate.Run(ctx, r.model, slices.Max(r.confirmations), s.trials, s.seed, func(done, of uint32) {
			update(uint32(i)*of+done, uint32(len(rows))*of)
		})
		if err != nil {
			return nil, err
		}
		for j, z := range r.confirmations {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			c := s.cell(r.model, z, sample)
			if s.replay {
				p := simulate.Published()[j]
				c.Chain, c.When, c.AtLeast = p.Chain, p.When, p.AtLeast
			}
			cells = append(cells, c)
		}
	}
	return cells, nil
}

func (s *simulation) cell(m simulate.Model, z int, sample *simulate.Sample) cell {
	c := cell{
		Rules: m.Rules, Q: m.Q, Confirmations: z, Trials: s.trials, Seed: s.seed,
		N: m.N, Missed: m.Missed, Premined: m.Premined, Fork: m.Fork, NoGate: m.NoGate,
		Estimate: sample.Estimate(z), StandardError: sample.StandardError(z), Bias: sample.Bias(),
	}
	if exact, err := m.Exact(z); err != nil {
		c.ExactNote = err.Error()
	} else {
		c.Exact = &exact
	}
	return c
}

func waitFor(ctx context.Context, m simulate.Model, risk float64) wait {
	a := wait{Q: m.Q, Risk: risk}
	switch z, ok, err := m.Wait(ctx, risk); {
	case err != nil:
		a.Note = err.Error()
	case ok:
		a.Confirmations = &z
	case m.Certain():
		a.Note = "never: this attacker overtakes in the end"
	default:
		a.Note = fmt.Sprintf("more than %d", simulate.MaxConfirmations)
	}
	return a
}

// drawings are the forms a chart can have, by the ending of its file's name.
var drawings = map[string]func(simulate.Chart) ([]byte, error){".svg": simulate.Chart.SVG, ".png": simulate.Chart.PNG}

func chartForm(file string) string { return strings.ToLower(filepath.Ext(file)) }

// draw writes the chart: simulated cells as dots on the calculated curve.
func (s *simulation) draw(ctx context.Context, rows []attack, cells []cell) error {
	chart := simulate.Chart{
		Title:    "Risk that a payment is undone",
		Subtitle: fmt.Sprintf("%s; %d trials, seed %d", s.title(), s.trials, s.seed),
		Risk:     s.risk, LogZ: s.replay,
	}
	update, end := newProgress("drawing")
	defer end()
	for i, r := range rows {
		curve := simulate.Curve{Label: fmt.Sprintf("q = %g", r.model.Q)}
		if s.replay {
			curve.Label = string(r.model.Rules)
		}
		line := lineTo(slices.Max(r.confirmations))
		for j, z := range line {
			if err := ctx.Err(); err != nil {
				return err
			}
			p, err := r.model.Exact(z)
			if err != nil {
				break // the dots remain
			}
			curve.Line = append(curve.Line, simulate.Point{Z: z, P: p})
			update(uint32(i*len(line)+j+1), uint32(len(rows)*len(line)))
		}
		for range r.confirmations {
			curve.Dots = append(curve.Dots, simulate.Point{Z: cells[0].Confirmations, P: cells[0].Estimate})
			cells = cells[1:]
		}
		chart.Curves = append(chart.Curves, curve)
	}
	if s.replay {
		chart.Subtitle = fmt.Sprintf("attacker with %g %% of the hash power; %s", 100*s.model.Q, chart.Subtitle)
		for _, p := range simulate.Published() {
			last := len(chart.Notes) - 1
			if last < 0 || chart.Notes[last].Label != p.Chain {
				chart.Notes = append(chart.Notes, simulate.Note{From: p.Depth, To: p.Depth, Label: p.Chain})
				continue
			}
			n := &chart.Notes[last]
			n.From, n.To = min(n.From, p.Depth), max(n.To, p.Depth)
		}
	} else {
		slices.Reverse(chart.Curves) // the strongest attacker first
	}
	picture, err := drawings[chartForm(s.chart)](chart)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.chart, picture, 0o644); err != nil {
		return fmt.Errorf("write --chart: %w", err)
	}
	return nil
}

// lineTo lists where a line is calculated: near the balance of the shares a point
// takes a second, so there are fewer far out, where nothing happens at once.
func lineTo(last int) (all []int) {
	for z := 1; z < last; z += max(1, z/100*12) {
		all = append(all, z)
	}
	return append(all, last)
}

// title names what all cells have in common.
func (s *simulation) title() string {
	m := s.model
	var parts []string
	if !s.replay || s.oneRules {
		parts = append(parts, "rules "+s.rules)
	}
	if m.Rules != simulate.PoW || s.replay && !s.oneRules {
		parts = append(parts, fmt.Sprintf("n = %d", m.N), fmt.Sprintf("%g %% of slots missed", 100*m.Missed))
		if m.Fork > 0 {
			parts = append(parts, fmt.Sprintf("fork %d above a slot", m.Fork))
		}
		if m.NoGate {
			parts = append(parts, "no arrival gate")
		}
	}
	return strings.Join(append(parts, fmt.Sprintf("premined %d", m.Premined)), ", ")
}
