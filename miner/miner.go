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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

const (
	// pickTime is how long each kernel is measured when one is to be chosen.
	pickTime = 50 * time.Millisecond
	// submitGrace is how long a block found just before the end may still take
	// to be handed in.
	submitGrace = 5 * time.Second
)

// Config is what a user may choose.
type Config struct {
	Workers int    // hashing threads, 1 … 65,536; hw's Usable.Threads is a good number
	Kernel  string // a kernel's name, or sha256d.Auto
	// CPUs pins worker i to CPUs[i mod len]; empty: no pinning. Linux only.
	CPUs []int
	// Nice is the nice level of the hashing threads, −20 … 19; 0: as the
	// process. Linux only.
	//
	// With CPUs or Nice set every worker keeps an operating-system thread of its
	// own busy. Raise GOMAXPROCS by Workers then, so that the process's other
	// goroutines need not wait for them and the kernel's scheduler, which knows
	// the nice level, shares the CPUs out.
	Nice int
}

func (c *Config) locksThreads() bool { return len(c.CPUs) > 0 || c.Nice != 0 }

func (c *Config) check() error {
	switch {
	case c.Workers < 1 || c.Workers > maxWorkers:
		return fmt.Errorf("%d mining workers: choose 1 to %d", c.Workers, maxWorkers)
	case c.Nice < -20 || c.Nice > 19:
		return fmt.Errorf("nice level %d: choose -20 to 19", c.Nice)
	}
	for _, cpu := range c.CPUs {
		if cpu < 0 || cpu >= 1024 { // the size of the kernel's classic CPU mask
			return fmt.Errorf("cannot pin a mining worker to CPU %d: choose 0 to 1023", cpu)
		}
	}
	return nil
}

// Miner is the CPU miner.
type Miner struct {
	cfg     Config
	kernels []sha256d.Kernel
	feed    *work.Feed
	sub     work.Submitter
	log     *slog.Logger

	gate    gate
	kernel  atomic.Pointer[string]
	workers []*worker
	history history
	blocks  blockCounters

	submits   sync.WaitGroup
	submitCtx context.Context // set by Run before any worker starts
}

// New returns a Miner that will choose among kernels (sha256d.Kernels()). The
// error names what is wrong with cfg.
func New(cfg Config, kernels []sha256d.Kernel, feed *work.Feed, sub work.Submitter, log *slog.Logger) (*Miner, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.CPUs = slices.Clone(cfg.CPUs)
	m := &Miner{cfg: cfg, kernels: kernels, feed: feed, sub: sub, log: log}
	var seed [8]byte
	rand.Read(seed[:]) // never fails (crypto/rand, since Go 1.24)
	start := binary.BigEndian.Uint64(seed[:])
	for i := range cfg.Workers {
		m.workers = append(m.workers, &worker{
			m: m, id: i, cursor: cursor{worker: uint16(i), counter: start},
		})
	}
	return m, nil
}

// Run tests and chooses the kernel, then mines until ctx ends, which is no
// error. Blocks found before that are still handed in, for at most a few
// seconds. Run is called once.
func (m *Miner) Run(ctx context.Context) error {
	kernel, trials, err := sha256d.Pick(ctx, m.kernels, m.cfg.Kernel, hw.Features(), pickTime)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("choose hashing kernel: %w", err)
	}
	m.logTrials(trials)
	m.log.Info("mining", "kernel", kernel.Name, "workers", m.cfg.Workers)
	m.kernel.Store(&kernel.Name)

	// Submissions outlive ctx by submitGrace: a block is worth more than a
	// quick exit.
	var cancel context.CancelFunc
	m.submitCtx, cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	m.history.add(time.Now(), m.counts())
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range m.workers {
		w.kernel = kernel
		w.cursor.lanes = uint32(kernel.Lanes)
		group.Go(func() error { return w.run(ctx) })
	}
	group.Go(func() error { m.sampleRates(ctx); return nil })
	err = group.Wait()

	grace := time.AfterFunc(submitGrace, cancel)
	defer grace.Stop()
	m.submits.Wait()
	return err
}

func (m *Miner) logTrials(trials []sha256d.Trial) {
	for _, t := range trials {
		switch {
		case t.Err != nil:
			m.log.Warn("kernel disabled", "kernel", t.Name, "err", t.Err)
		case t.Rate > 0:
			m.log.Info("kernel measured", "kernel", t.Name, "mhs", fmt.Sprintf("%.2f", t.Rate/1e6))
		}
	}
}

// solved hands a solution in, unless its job has one already. It does not wait.
func (m *Miner) solved(worker int, job *work.Job, s work.Solution) {
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

// tuneThread applies the configuration to the calling thread. A miner that may
// not be pinned or niced still mines.
func (w *worker) tuneThread() {
	cfg := &w.m.cfg
	if n := len(cfg.CPUs); n > 0 {
		if err := pinThread(cfg.CPUs[w.id%n]); err != nil {
			w.m.log.Warn("mining worker is not pinned", "worker", w.id, "err", err)
		}
	}
	if cfg.Nice != 0 {
		if err := niceThread(cfg.Nice); err != nil {
			w.m.log.Warn("mining worker keeps its priority", "worker", w.id, "err", err)
		}
	}
}
