package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/bench"
	"qcitycoin.org/qcity/miner/sha256d"
)

// benchmark holds the flags of qcity bench.
type benchmark struct {
	kernels         []string
	threads         int
	cpus            []int
	pin             bool
	seconds, warmup float64
	json            bool
	chart           string
	noProgress      bool
	against         string
	pattern         string
	rounds          int
}

// Seconds for each kernel, and for each turn against a foreign miner: those write
// their rate every five seconds or so.
const (
	benchSeconds   = 3
	againstSeconds = 10
)

func newBench() *cobra.Command {
	var b benchmark
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the SHA-256d kernels",
		Long: `Measure how fast the SHA-256d kernels are here. They take turns, a short sample
each, so that a machine whose speed drifts treats all alike; the figure is the
median of the samples, with the range that eight in ten of them lie in. Each
kernel is proved against crypto/sha256 first, in a process of its own; one that
fails, or whose CPU features are missing, is listed with the reason and never
measured.

With --against another miner's benchmark and our best kernel take turns on the
same CPUs. docs/bench.md says how to measure well and what the figures mean.`,
		Example: `  qcity bench
  qcity bench --threads 2 --seconds 10 --chart kernels.svg
  qcity bench --kernel hybrid-zmm,hybrid-ymm,stdlib --json > after.json
  qcity bench compare before.json after.json
  qcity bench --against "minerd --benchmark -a sha256d -t 1"
  qcity bench --against "cpuminer --benchmark -a sha256d -t 1 --time-limit=20" --seconds 20`,
		Args:    cobra.NoArgs,
		PreRunE: checkFeatures,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.check(cmd.Flags().Changed); err != nil {
				return err
			}
			return b.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringSliceVar(&b.kernels, "kernel", nil, "measure these only, separated by commas; without it all")
	f.IntVar(&b.threads, "threads", 1, "threads that hash at the same time")
	f.IntSliceVar(&b.cpus, "cpus", nil, "CPUs to pin the threads to, one for each; without it cores first, strongest first")
	f.BoolVar(&b.pin, "pin", true, "keep each thread on a CPU of its own")
	f.Float64Var(&b.seconds, "seconds", benchSeconds, fmt.Sprintf("seconds for each kernel; with --against for each turn, and %d unless given", againstSeconds))
	f.Float64Var(&b.warmup, "warmup", 0.5, "seconds to hash before anything counts; with --against in each of our turns")
	f.BoolVar(&b.json, "json", false, "print JSON")
	f.StringVar(&b.chart, "chart", "", "also draw the kernels to this file, an .svg or .png")
	f.BoolVar(&b.noProgress, "no-progress", false, "show no progress on the terminal")
	f.StringVar(&b.against, "against", "", "take turns with this command, another miner's benchmark")
	f.StringVar(&b.pattern, "against-pattern", "", "regular expression for its rate: the first group, or the whole match")
	f.IntVar(&b.rounds, "rounds", 4, "turns of each with --against")
	c.MarkFlagsMutuallyExclusive("against", "chart")
	c.AddCommand(newBenchCompare())
	return c
}

// check names the first flag that makes no sense. given says whether a flag was
// used.
func (b *benchmark) check(given func(flag string) bool) error {
	if given("cpus") && !given("threads") {
		b.threads = len(b.cpus)
	}
	if b.against != "" && !given("seconds") {
		b.seconds = againstSeconds
	}
	switch {
	case !(b.seconds >= .01 && b.seconds <= 3600):
		return fmt.Errorf("--seconds is %v: give 0.01 to 3600", b.seconds)
	case !(b.warmup >= 0 && b.warmup <= 3600):
		return fmt.Errorf("--warmup is %v: give 0 to 3600 seconds", b.warmup)
	case b.threads < 1 || b.threads > 1024:
		return fmt.Errorf("--threads is %d: give 1 to 1024", b.threads)
	case b.rounds < 1 || b.rounds > 1000:
		return fmt.Errorf("--rounds is %d: give 1 to 1000", b.rounds)
	case given("cpus") && !b.pin:
		return errors.New("--cpus lists CPUs to pin to: leave out --pin=false")
	case given("cpus") && len(b.cpus) != b.threads:
		return fmt.Errorf("--cpus lists %d CPUs for %d threads: list one for each", len(b.cpus), b.threads)
	case given("against") && b.against == "":
		return errors.New(`--against is empty: give a command, such as "minerd --benchmark -a sha256d"`)
	case b.against == "" && (given("against-pattern") || given("rounds")):
		return errors.New("--rounds and --against-pattern are about a foreign miner: name it with --against")
	case b.chart != "" && drawings[chartForm(b.chart)] == nil:
		return fmt.Errorf("--chart %s: give a name that ends in .svg or .png", b.chart)
	}
	if _, err := os.Stat(filepath.Dir(b.chart)); err != nil { // known before the work
		return fmt.Errorf("write --chart: %w", err)
	}
	return nil
}

func (b *benchmark) run(ctx context.Context, w io.Writer) error {
	machine := hw.Detect(os.DirFS("/"))
	kernels, err := chooseKernels(sha256d.Kernels(), b.kernels)
	if err != nil {
		return err
	}
	plan := bench.Plan{Threads: b.threads, Time: seconds(b.seconds), Warmup: seconds(b.warmup)}
	if plan.CPUs, err = b.place(&machine); err != nil {
		return err
	}
	var reasons map[string]string
	plan.Kernels, reasons = bench.Check(ctx, kernels, machine.CPU.Features, probeKernels(newLog(os.Stderr)))
	setup := bench.NewSetup(&machine, &plan, version, time.Now())
	if len(plan.Kernels) > 0 && b.against != "" {
		return b.runAgainst(ctx, w, setup, plan)
	}
	if plan.Energy, err = hw.OpenEnergy(os.DirFS("/")); err != nil {
		setup.NoEnergy(err)
	}
	var outcome bench.Outcome
	if err = ctx.Err(); err == nil && len(plan.Kernels) > 0 {
		outcome, err = b.measure(ctx, plan, "measuring")
	}
	if err != nil && ctx.Err() == nil {
		return err
	}
	report := bench.NewReport(setup, kernels, reasons, outcome, err == nil)
	if printErr := b.print(w, &report); printErr != nil {
		return printErr
	}
	switch {
	case err != nil:
		return err
	case report.Best == "":
		return errors.New("none of these kernels may be measured here: name others with --kernel, or none for all")
	case b.chart != "":
		return writeBenchChart(b.chart, &report)
	}
	return nil
}

// measure runs a plan and shows how far it is.
func (b *benchmark) measure(ctx context.Context, plan bench.Plan, what string) (bench.Outcome, error) {
	update, end := b.progress(what)
	defer end()
	plan.Progress = update
	return bench.Measure(ctx, plan)
}

// progressEvery is seldom enough for a terminal that shares the CPU not to count.
const progressEvery = 250 * time.Millisecond

func (b *benchmark) progress(what string) (update func(done, of int), end func()) {
	if b.noProgress {
		return func(int, int) {}, func() {}
	}
	show, end := newProgress(what)
	var last time.Time
	return func(done, of int) {
		if now := time.Now(); now.Sub(last) >= progressEvery {
			last = now
			show(uint32(done), uint32(of))
		}
	}, end
}

// place chooses the CPU of each thread; nil: any.
func (b *benchmark) place(machine *hw.Inventory) ([]int, error) {
	usable, known := machine.Usable.CPUs.Get()
	switch {
	case len(b.cpus) == 0 && (!b.pin || !hw.CanPin || !known):
		return nil, nil
	case len(b.cpus) == 0 && b.threads > len(usable):
		return nil, fmt.Errorf("--threads is %d, but there are %d usable CPUs to pin them to: use fewer, or add --pin=false", b.threads, len(usable))
	case len(b.cpus) == 0:
		return machine.Spread()[:b.threads], nil
	}
	for i, cpu := range b.cpus {
		switch {
		case slices.Contains(b.cpus[:i], cpu):
			return nil, fmt.Errorf("--cpus lists CPU %d twice: list another one", cpu)
		case known && !slices.Contains(usable, cpu):
			return nil, fmt.Errorf("--cpus lists CPU %d, but this process may use %v only", cpu, usable)
		}
	}
	return b.cpus, nil
}

// chooseKernels returns the kernels of those names, all without names.
func chooseKernels(all []sha256d.Kernel, names []string) ([]sha256d.Kernel, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []sha256d.Kernel
	for i, name := range names {
		k := slices.IndexFunc(all, func(k sha256d.Kernel) bool { return k.Name == name })
		switch {
		case k < 0:
			return nil, fmt.Errorf("no kernel is called %q: there are %s", name, sha256d.Names(all))
		case !slices.Contains(names[:i], name):
			chosen = append(chosen, all[k])
		}
	}
	return chosen, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
