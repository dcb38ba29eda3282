package sha256d

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"qcitycoin.org/qcity/hw"
)

// Auto, as a kernel name, means the fastest one.
const Auto = "auto"

// Trial is what Pick found out about one kernel.
type Trial struct {
	Name string
	Rate float64 // median hashes per second; 0 when not measured
	Err  error   // why the kernel is not used; nil when it may be
	// Broken says that Err is a failed self test: the code or the CPU is at
	// fault, while other kernels that are not used merely do not suit.
	Broken bool
}

// CheckName returns the error that Pick would return for a name that no kernel
// has, nil for Auto.
func CheckName(kernels []Kernel, name string) error {
	if name == Auto {
		return nil
	}
	_, err := find(kernels, name)
	return err
}

// Prober runs the self tests of kernels and answers with one error for each, in
// their order: nil where it passed, the context's where ctx ended first. Package
// miner/probe has one for which code that kills its process is a failure, too.
type Prober func(ctx context.Context, kernels []Kernel) []error

// InProcess is the Prober that calls SelfTest. An instruction that the CPU does
// not know ends this process then, and nothing can recover.
func InProcess(ctx context.Context, kernels []Kernel) []error {
	errs := make([]error, len(kernels))
	for i, k := range kernels {
		if errs[i] = ctx.Err(); errs[i] == nil {
			errs[i] = SelfTest(k)
		}
	}
	return errs
}

// Contest says which kernels there are to pick from, and on what conditions.
type Contest struct {
	Kernels   []Kernel
	Name      string        // of the one to take, or Auto
	Features  []hw.Feature  // of the CPU
	Versions  int           // header versions that may be rolled, 1 or more
	PerKernel time.Duration // to measure each for
	Probe     Prober        // nil: InProcess
}

// Pick returns the kernel to mine with. With name Auto it is the fastest of
// those that the CPU's features allow, that want no more header versions than
// may be rolled and that pass their self test, each measured on the calling
// thread. With any other name it is that kernel, self-tested but not measured, or
// an error; versions do not count then, as every kernel takes any number. The
// trials tell what became of every kernel looked at; there are none when ctx
// ended before all were tested.
func Pick(ctx context.Context, c Contest) (Kernel, []Trial, error) {
	if c.Name != Auto {
		k, err := find(c.Kernels, c.Name)
		if err != nil {
			return Kernel{}, nil, err
		}
		c.Kernels, c.Versions = []Kernel{k}, MaxVersions
	}
	trials := c.try(ctx)
	if err := ctx.Err(); err != nil {
		return Kernel{}, nil, fmt.Errorf("kernels were not tested: %w", err)
	}
	if c.Name != Auto {
		if err := trials[0].Err; err != nil {
			return Kernel{}, trials, fmt.Errorf("%w: choose another kernel or %s", err, Auto)
		}
		return c.Kernels[0], trials, nil
	}
	var good []Kernel
	var where []int // of good in trials
	var errs []error
	for i, t := range trials {
		if t.Err != nil {
			errs = append(errs, t.Err)
			continue
		}
		good = append(good, c.Kernels[i])
		where = append(where, i)
	}
	if len(good) == 0 {
		return Kernel{}, trials, fmt.Errorf("no hashing kernel works on this machine; do not mine on it: %w", errors.Join(errs...))
	}
	results, err := Bench(ctx, c.PerKernel, good...)
	if err != nil {
		return Kernel{}, trials, err
	}
	for i := range results {
		trials[where[i]].Rate = results[i].Median()
	}
	return good[fastest(results)], trials, nil
}

// fastest returns the index of the best median, of the first when equal.
func fastest(results []Result) int {
	best := 0
	for i := range results {
		if results[i].Median() > results[best].Median() {
			best = i
		}
	}
	return best
}

// try finds out which kernels may run here; it does not measure.
func (c *Contest) try(ctx context.Context) []Trial {
	trials := make([]Trial, len(c.Kernels))
	var suited []Kernel
	var where []int // of suited in trials
	for i, k := range c.Kernels {
		trials[i] = Trial{Name: k.Name, Err: c.unsuited(&k)}
		if trials[i].Err == nil {
			suited = append(suited, k)
			where = append(where, i)
		}
	}
	if len(suited) == 0 {
		return trials
	}
	probe := c.Probe
	if probe == nil {
		probe = InProcess
	}
	for i, err := range probe(ctx, suited) {
		t := &trials[where[i]]
		t.Err, t.Broken = err, err != nil
	}
	return trials
}

// unsuited returns why a kernel need not even be tested, nil if there is no reason.
func (c *Contest) unsuited(k *Kernel) error {
	if missing := k.Missing(c.Features); len(missing) > 0 {
		names := make([]string, len(missing))
		for i, f := range missing {
			names[i] = string(f)
		}
		return fmt.Errorf("kernel %s needs %s, which this CPU does not offer", k.Name, strings.Join(names, ", "))
	}
	if k.Lanes > c.Versions {
		return fmt.Errorf("kernel %s wants %d header versions, but only %d may be rolled", k.Name, k.Lanes, c.Versions)
	}
	return nil
}
