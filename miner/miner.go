// Package miner searches the jobs of a work.Feed on this machine's CPUs and
// hands solutions to a work.Submitter. It knows no chain.
package miner

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

// submitGrace is how long a block found just before the end may still take to
// be handed in.
const submitGrace = 5 * time.Second

// Config is what a user may choose, and what the miner needs to know of its
// machine. The zero value of everything but Workers and Kernel is usable.
type Config struct {
	Workers int    // hashing threads, 1 … 65,536
	Kernel  string // a kernel's name, or sha256d.Auto

	// Pinning and CPUs say where the workers run. Where threads cannot be
	// pinned, PinAuto is PinOff. A worker that finds no CPU of its own shares
	// those of the others.
	Pinning Pinning
	CPUs    []int // for PinList: of worker 0, 1, …, all different
	// Nice is the nice level of the hashing threads, −20 … 19; 0: as the
	// process. Linux only.
	Nice int

	Duty           int     // percent of the time to hash, 1 … 100; 0: 100
	MaxTemperature float64 // °C that the CPU is to stay under; 0: no limit
	MaxPower       float64 // watts that the CPU packages are to stay under; 0: no limit
	// Temperature and Energy read the sensors of these limits: °C now, and joules
	// used since some moment. Nil: there is no such sensor.
	Temperature, Energy func() (float64, error)

	Machine hw.Inventory // hw.Detect
	Memory  Store        // where the choice of a kernel is remembered; nil: nowhere
	// Probe runs the self tests of kernels; nil: sha256d.InProcess, for tests and for
	// kernels that are known to run here.
	Probe sha256d.Prober
}

func (c *Config) check(kernels []sha256d.Kernel) error {
	if err := sha256d.CheckName(kernels, c.Kernel); err != nil {
		return err
	}
	finite := func(limit float64) bool { return limit >= 0 && !math.IsInf(limit, 0) }
	switch {
	case c.Workers < 1 || c.Workers > maxWorkers:
		return fmt.Errorf("%d mining workers: choose 1 to %d", c.Workers, maxWorkers)
	case c.Nice < -20 || c.Nice > 19:
		return fmt.Errorf("nice level %d: choose -20 to 19", c.Nice)
	case c.Duty < 0 || c.Duty > 100:
		return fmt.Errorf("mining duty of %d %%: choose 1 to 100", c.Duty)
	case !finite(c.MaxTemperature):
		return fmt.Errorf("temperature limit of %g °C: choose one above 0, or 0 for none", c.MaxTemperature)
	case !finite(c.MaxPower):
		return fmt.Errorf("power limit of %g W: choose one above 0, or 0 for none", c.MaxPower)
	}
	return nil
}

// Miner is the CPU miner.
type Miner struct {
	cfg     Config
	crowded string // a line for the operator; "": none
	feed    *work.Feed
	sub     work.Submitter
	log     *slog.Logger

	gate     gate
	chooser  *chooser
	governor *governor
	workers  []*worker
	history  history
	blocks   blockCounters
	started  time.Time // set by Run before any worker starts

	submits   sync.WaitGroup
	submitCtx context.Context // likewise
}

// New returns a Miner that will choose among kernels (sha256d.Kernels()). The
// error names what is wrong with cfg.
//
// Every worker keeps an operating-system thread of its own busy. Raise
// GOMAXPROCS by Workers, so that the process's other goroutines need not wait
// for them and the kernel's scheduler, which knows the nice level, shares the
// CPUs out.
func New(cfg Config, kernels []sha256d.Kernel, feed *work.Feed, sub work.Submitter, log *slog.Logger) (*Miner, error) {
	if err := cfg.check(kernels); err != nil {
		return nil, err
	}
	order, err := cfg.placement()
	if err != nil {
		return nil, err
	}
	features := hw.Features()
	m := &Miner{
		cfg: cfg, crowded: cfg.crowded(order), feed: feed, sub: sub, log: log,
		chooser: &chooser{
			all: slices.Clone(kernels), name: cfg.Kernel, features: features, log: log,
			probe: cfg.Probe, choose: sha256d.Pick, choosing: make(chan struct{}, 1),
			memory: newMemory(cfg.Memory, &cfg.Machine, features, kernels),
		},
		governor: newGovernor(&cfg, log),
	}
	var seed [8]byte
	rand.Read(seed[:]) // never fails (crypto/rand, since Go 1.24)
	start := binary.BigEndian.Uint64(seed[:])
	for i := range cfg.Workers {
		w := &worker{m: m, id: i, cpus: cpusFor(i, order), cursor: cursor{worker: uint16(i), counter: start}}
		w.cpu.Store(-1)
		m.workers = append(m.workers, w)
	}
	return m, nil
}

// Run tests and chooses the kernel, then mines until ctx ends, which is no
// error. Blocks found before that are still handed in, for at most a few
// seconds. Run is called once.
func (m *Miner) Run(ctx context.Context) error {
	if m.crowded != "" {
		m.log.Warn(m.crowded)
	}
	if o := m.cfg.Machine.CPU.FeatureOverride; o != "" {
		m.log.Warn("the CPU's features are changed by "+hw.FeatureEnv, "by", o, "features", m.chooser.features)
	}
	if err := m.chooser.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	first := m.chooser.current.Load()
	m.log.Info("mining", "kernel", first.kernel.Name, "workers", m.cfg.Workers)

	// Submissions outlive ctx by submitGrace: a block is worth more than a
	// quick exit.
	var cancel context.CancelFunc
	m.submitCtx, cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	m.started = time.Now()
	m.history.add(m.started, m.counts())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { m.governor.run(ctx); return nil })
	group.Go(func() error { m.sampleRates(ctx); return nil })
	for _, w := range m.workers {
		group.Go(func() error { return w.run(ctx) })
	}
	err := group.Wait()

	grace := time.AfterFunc(submitGrace, cancel)
	defer grace.Stop()
	m.submits.Wait()
	return err
}

// solved hands a solution in, unless its job has one already or a newer job has
// another parent: then no block can come of it any more. It does not wait.
func (m *Miner) solved(worker int, job *work.Job, s work.Solution) {
	if newest, _ := m.feed.Latest(); newest.PrevBlock != job.PrevBlock {
		return
	}
	if !m.gate.claim(job, time.Now()) {
		return
	}
	m.blocks.found.Add(1)
	m.submits.Go(func() { m.submit(worker, job, s) })
}

func (m *Miner) submit(worker int, job *work.Job, s work.Solution) {
	outcome, id, err := m.sub.SubmitSolution(m.submitCtx, s)
	if err != nil {
		outcome = work.Rejected
	}
	m.gate.verdict(job, s.Time, outcome, time.Now())
	m.blocks.count(outcome)
	log := m.log.With("height", job.Height, "worker", worker, "outcome", outcome)
	if outcome == work.Rejected {
		log.Warn("the chain refused a block found here", "err", err)
		return
	}
	slices.Reverse(id[:]) // ids are shown as big-endian numbers
	log.Info("block found", "id", hex.EncodeToString(id[:]))
}
