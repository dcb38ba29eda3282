package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"qcitycoin.org/qcity/miner/bench"
	"qcitycoin.org/qcity/miner/sha256d"
)

// What a foreign miner is given besides its time, and how long it may take to
// obey a signal.
const (
	againstGrace    = 3 * time.Second
	againstPatience = 2 * time.Second
	// trialTime finds our fastest kernel, before the first round.
	trialTime = 300 * time.Millisecond
)

// runAgainst lets our fastest kernel of the plan take turns with a foreign miner.
func (b *benchmark) runAgainst(ctx context.Context, w io.Writer, setup bench.Setup, plan bench.Plan) error {
	args, err := bench.Split(b.against)
	if err != nil {
		return fmt.Errorf("--against: %w", err)
	}
	theirs := bench.Foreign{Args: args, CPUs: plan.CPUs, Time: plan.Time, Grace: againstGrace, Patience: againstPatience}
	if err := theirs.Check(); err != nil {
		return fmt.Errorf("--against: %w", err)
	}
	if b.pattern != "" {
		if theirs.Pattern, err = regexp.Compile(b.pattern); err != nil {
			return fmt.Errorf("--against-pattern: %w", err)
		}
	}
	duel := bench.Duel{Setup: setup, Command: b.against, Rounds: []bench.Round{}}
	err = b.fight(ctx, &duel, plan, &theirs)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("--against: %w", err)
	}
	if printErr := b.printDuel(w, &duel); printErr != nil {
		return printErr
	}
	return err
}

// fight chooses the kernel and plays the rounds.
func (b *benchmark) fight(ctx context.Context, duel *bench.Duel, plan bench.Plan, theirs *bench.Foreign) error {
	best := plan.Kernels[0]
	if len(plan.Kernels) > 1 {
		trial := plan
		trial.Time = trialTime
		outcome, err := b.measure(ctx, trial, "choosing a kernel")
		if err != nil {
			return err
		}
		best = outcome.Best().Kernel
	}
	duel.Kernel, plan.Kernels = best.Name, []sha256d.Kernel{best}
	update, end := b.progress(best.Name + " against " + filepath.Base(theirs.Args[0]))
	defer end()
	update(0, 2*b.rounds)
	ours := func(ctx context.Context) (float64, error) {
		o, err := bench.Measure(ctx, plan)
		// Other miners report means; a median would hide from ours what slows both.
		return o.Best().Mean, err
	}
	return duel.Fight(ctx, b.rounds, ours, theirs.Run, update)
}

func (b *benchmark) printDuel(w io.Writer, d *bench.Duel) error {
	if b.json {
		return writeJSON(w, d)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%s against %s\n%s\n%g s for each turn\n", orDash(d.Kernel), d.Command, whatHashed(&d.Setup), d.Seconds)
	if !d.Complete {
		fmt.Fprintf(&s, "interrupted: %d of %d rounds\n", len(d.Rounds), b.rounds)
	}
	s.WriteByte('\n')
	t := tabwriter.NewWriter(&s, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "round\tours MH/s\ttheirs MH/s\tours ÷ theirs\treadings\t\n")
	for i, r := range d.Rounds {
		fmt.Fprintf(t, "%d\t%.2f\t%.2f\t%.3f\t%d\t\n", i+1, r.Ours, r.Theirs, r.Ratio, r.Readings)
	}
	fmt.Fprintf(t, "median\t%s\t%s\t%s\t\t\n", decimals(d.Ours, 2), decimals(d.Theirs, 2), decimals(d.Ratio, 3))
	if err := t.Flush(); err != nil {
		return err
	}
	if least, ok := d.RatioMin.Get(); ok {
		fmt.Fprintf(&s, "\nours ÷ theirs: %s, from %.3f to %.3f\n", decimals(d.Ratio, 3), least, d.RatioMax.Or(0))
	}
	writeNotes(&s, d.Notes)
	_, err := io.WriteString(w, s.String())
	return err
}
