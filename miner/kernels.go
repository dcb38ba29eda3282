package miner

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
)

const (
	// pickTime is how long each kernel is measured when one is to be chosen.
	pickTime = 50 * time.Millisecond
	// remeasurePause is the shortest time between two measurements.
	remeasurePause = 10 * time.Minute
	// switchGain is how much faster another kernel must be to be worth a switch:
	// less is within what two measurements of one kernel differ by.
	switchGain = 1.02
)

// DisabledKernel is a kernel that is not used any more, because it gave wrong
// answers or crashed. Code or CPU is at fault.
type DisabledKernel struct {
	Name   string    `json:"name"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// choice is a kernel for the workers to run. It is never changed.
type choice struct {
	kernel sha256d.Kernel
	rate   float64 // of one worker when it was chosen, hashes per second; 0: not measured
}

// chooser decides which kernel the workers run.
type chooser struct {
	all      []sha256d.Kernel
	name     string // the one to use, or sha256d.Auto
	features []hw.Feature
	memory   *memory // nil: none
	log      *slog.Logger
	probe    sha256d.Prober
	// choose is sha256d.Pick; tests that start many miners leave its self tests out.
	choose func(context.Context, sha256d.Contest) (sha256d.Kernel, []sha256d.Trial, error)

	current atomic.Pointer[choice] // nil until start has returned

	choosing chan struct{} // full while somebody measures: one worker at a time
	measured time.Time     // when last; zero: not by this process

	mu       sync.Mutex // never held for long
	disabled []DisabledKernel
}

// start makes the first choice: the configured kernel, else the remembered one,
// else the fastest. The error says why there is none.
func (c *chooser) start(ctx context.Context) error {
	c.choosing <- struct{}{}
	defer func() { <-c.choosing }()
	if c.name == sha256d.Auto && c.recall(ctx) {
		return nil
	}
	best, _, err := c.pick(ctx, c.name)
	if err != nil {
		return fmt.Errorf("choose hashing kernel: %w", err)
	}
	c.use(best)
	return nil
}

// recall takes the kernel that an earlier run measured, if it still works.
func (c *chooser) recall(ctx context.Context) bool {
	name, rate, ok := c.memory.load()
	if !ok {
		return false
	}
	kernel, _, err := c.among(ctx, name)
	if err != nil {
		return false
	}
	c.log.Info("hashing kernel remembered from an earlier measurement", "kernel", name, "mhs", megahashes(rate))
	c.current.Store(&choice{kernel, rate})
	return true
}

// among chooses the kernel of that name, or the fastest, from those in use.
func (c *chooser) among(ctx context.Context, name string) (sha256d.Kernel, []sha256d.Trial, error) {
	kernel, trials, err := c.choose(ctx, sha256d.Contest{
		Kernels: c.usable(), Name: name, Features: c.features, Versions: versionCount, PerKernel: pickTime, Probe: c.probe,
	})
	c.note(trials)
	return kernel, trials, err
}

// usable returns the kernels that are not disabled.
func (c *chooser) usable() []sha256d.Kernel {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.all), func(k sha256d.Kernel) bool {
		return slices.ContainsFunc(c.disabled, func(d DisabledKernel) bool { return d.Name == k.Name })
	})
}

// pick measures on the calling thread; the caller has filled c.choosing.
func (c *chooser) pick(ctx context.Context, name string) (*choice, []sha256d.Trial, error) {
	kernel, trials, err := c.among(ctx, name)
	if err != nil {
		return nil, trials, err
	}
	if name == sha256d.Auto {
		c.measured = time.Now()
	}
	return &choice{kernel, rateOf(kernel.Name, trials)}, trials, nil
}

// note logs what a choice has found out, and disables what failed.
func (c *chooser) note(trials []sha256d.Trial) {
	for _, t := range trials {
		switch {
		case t.Broken:
			c.disable(t.Name, t.Err)
		case t.Err != nil:
			c.log.Debug("hashing kernel does not suit", "kernel", t.Name, "err", t.Err)
		case t.Rate > 0:
			c.log.Info("hashing kernel measured", "kernel", t.Name, "mhs", megahashes(t.Rate))
		}
	}
}

func (c *chooser) disable(name string, why error) {
	c.log.Warn("hashing kernel disabled: its code or this CPU is faulty, please report it", "kernel", name, "err", why)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disabled = append(c.disabled, DisabledKernel{name, why.Error(), time.Now()})
}

// use makes a choice the workers' and remembers it.
func (c *chooser) use(best *choice) {
	c.current.Store(best)
	if best.rate == 0 {
		return
	}
	if err := c.memory.save(best); err != nil {
		c.log.Warn("the measured hashing kernel is not remembered: the next start measures again", "err", err)
	}
}

// remeasure looks, on the calling worker's thread, whether another kernel has
// become the faster one, and switches all workers to it then. It does nothing
// when a kernel is configured, when there is no other, while another worker is
// measuring, and within ten minutes of the last measurement.
func (c *chooser) remeasure(ctx context.Context) {
	if c.name != sha256d.Auto {
		return
	}
	select {
	case c.choosing <- struct{}{}:
		defer func() { <-c.choosing }()
	default:
		return
	}
	if !c.measured.IsZero() && time.Since(c.measured) < remeasurePause || len(c.usable()) < 2 {
		return
	}
	old := c.current.Load()
	best, trials, err := c.pick(ctx, sha256d.Auto)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("hashing kernels cannot be measured again: mining goes on with the present one", "kernel", old.kernel.Name, "err", err)
		}
		c.measured = time.Now()
		return
	}
	rate := rateOf(old.kernel.Name, trials) // 0 if it failed its self test just now
	log := c.log.With("kernel", old.kernel.Name, "mhs", megahashes(rate))
	if rate > 0 && best.rate <= rate*switchGain {
		log.Info("hashing has become slower, but the kernel is still the right one")
		// What it can do now is what it is held against from now on.
		best = &choice{old.kernel, rate}
	} else {
		log.Info("hashing has become slower: switching to another kernel", "to", best.kernel.Name, "toMHs", megahashes(best.rate))
	}
	c.use(best)
}

// replace takes a choice that crashed out of use. The error says that no kernel
// is left.
func (c *chooser) replace(ctx context.Context, broken *choice, why error) error {
	select {
	case c.choosing <- struct{}{}:
		defer func() { <-c.choosing }()
	case <-ctx.Done():
		return nil
	}
	if c.current.Load() != broken {
		return nil // another worker was quicker
	}
	c.disable(broken.kernel.Name, why)
	// Also when a kernel was configured: nobody is there to choose another.
	best, _, err := c.pick(ctx, sha256d.Auto)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("replace hashing kernel: %w", err)
	}
	c.log.Info("mining goes on with another kernel", "kernel", best.kernel.Name)
	c.use(best)
	return nil
}

// snapshot returns the disabled kernels.
func (c *chooser) snapshot() []DisabledKernel {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]DisabledKernel{}, c.disabled...)
}

func rateOf(name string, trials []sha256d.Trial) float64 {
	for _, t := range trials {
		if t.Name == name {
			return t.Rate
		}
	}
	return 0
}

func megahashes(rate float64) string { return fmt.Sprintf("%.2f", rate/1e6) }
