package miner

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

const (
	// refreshSeconds is how far the header time may lag behind the clock.
	refreshSeconds = 10

	// callTime is how long one call into a kernel is to last. Assembly cannot be
	// pre-empted, so this bounds how long a job switch or a garbage collection
	// waits.
	callTime = 250 * time.Microsecond
	// Sizes of a call, in hashes: below 256 the calls themselves begin to cost,
	// above 8,192 nothing more is gained.
	minCall = 256
	maxCall = 8192
)

// callHashes returns how many hashes a worker of that speed (hashes per second,
// 0: unknown) is to make in one call: a power of two, as vectors like it.
func callHashes(speed float64) int {
	size := minCall
	for size < maxCall && float64(2*size) <= speed*callTime.Seconds() {
		size *= 2
	}
	return size
}

// worker is one hashing thread.
type worker struct {
	m       *Miner
	id      int
	cpus    []int // that it keeps to; nil: any
	choice  *choice
	scanner *sha256d.Scanner
	cursor  cursor
	hits    []sha256d.Hit // reused by every scan
	speed   float64       // hashes per second while hashing, of late; 0: unknown
	watch   rateWatch

	// What Stats reads meanwhile.
	hashes atomic.Uint64
	busy   atomic.Int64 // time.Duration spent in kernels
	active atomic.Bool  // hashing, not waiting
	cpu    atomic.Int64 // that it is pinned to; −1: none of its own
	kernel atomic.Pointer[string]
}

// run hashes the newest job worth it until ctx ends.
func (w *worker) run(ctx context.Context) error {
	// Never unlocked: the thread's affinity and nice level must not outlive
	// the worker, and the runtime ends the thread with the goroutine.
	runtime.LockOSThread()
	w.tuneThread()
	for ctx.Err() == nil {
		job, changed := w.m.feed.Latest()
		if job == nil {
			w.wait(ctx, changed, time.Time{})
			continue
		}
		if until, paused := w.m.gate.pause(job, time.Now()); paused {
			w.wait(ctx, changed, until)
			continue
		}
		w.active.Store(true)
		err := w.search(ctx, job, changed)
		w.active.Store(false)
		if err != nil {
			return err
		}
	}
	return nil
}

// tuneThread applies the configuration to the calling thread. A miner that may
// not be pinned or niced still mines.
func (w *worker) tuneThread() {
	if len(w.cpus) > 0 {
		err := hw.PinThread(w.cpus...)
		switch {
		case err != nil:
			w.m.log.Warn("mining worker is not pinned", "worker", w.id, "err", err)
		case len(w.cpus) == 1:
			w.cpu.Store(int64(w.cpus[0]))
		}
	}
	if nice := w.m.cfg.Nice; nice != 0 {
		if err := niceThread(nice); err != nil {
			w.m.log.Warn("mining worker keeps its priority", "worker", w.id, "err", err)
		}
	}
}

// wait blocks until the job changes, ctx ends, or the clock reaches until (zero:
// never).
func (w *worker) wait(ctx context.Context, changed <-chan struct{}, until time.Time) {
	var due <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-due:
	}
}

// search hashes a job until ctx ends, the job changes or is not worth it any
// longer.
func (w *worker) search(ctx context.Context, job *work.Job, changed <-chan struct{}) error {
	verdicts := w.m.gate.changes.Load()
	if _, paused := w.m.gate.pause(job, time.Now()); paused {
		return nil // decided between run's look and this one
	}
	stop := func() bool {
		select {
		case <-ctx.Done():
			return true
		case <-changed:
			return true
		default:
			return w.m.gate.changes.Load() != verdicts
		}
	}
	for !stop() {
		err := w.searchOn(ctx, job, stop)
		if crash := (*crashError)(nil); errors.As(err, &crash) {
			err = w.m.chooser.replace(ctx, w.choice, crash)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// searchOn goes on where the cursor stands, with a job's header. It returns on
// stop, when this pair of extranonce and versions is used up, when the header
// time has fallen behind, and when there is another kernel to use.
func (w *worker) searchOn(ctx context.Context, job *work.Job, stop func() bool) error {
	if c := w.m.chooser.current.Load(); c != w.choice {
		if err := w.adopt(c); err != nil {
			return err
		}
	}
	var versions [sha256d.MaxVersions]uint32
	extranonce, group := w.cursor.pair(job.Version, versions[:])
	s := work.Solution{JobID: job.ID, Extranonce: extranonce, Time: headerTime(job, time.Now())}
	if err := w.prepare(&sha256d.Work{Header: job.Header(s), Versions: group, Target: job.Target}); err != nil {
		return err
	}
	for {
		w.rest(ctx)
		start := time.Now()
		if stop() || headerTime(job, start) >= s.Time+refreshSeconds || w.m.chooser.current.Load() != w.choice {
			return nil
		}
		first, n := w.cursor.take(callHashes(w.speed))
		if n == 0 {
			return nil
		}
		hashes, err := w.scan(first, n)
		if err != nil {
			return err
		}
		if len(w.hits) > 0 {
			s.Version, s.Nonce = w.hits[0].Version, w.hits[0].Nonce
			w.m.solved(w.id, job, s)
		}
		if w.account(hashes, time.Since(start)) {
			w.m.chooser.remeasure(ctx)
		}
	}
}

// adopt begins to use a kernel.
func (w *worker) adopt(c *choice) error {
	w.choice, w.speed, w.watch = c, c.rate, rateWatch{}
	w.cursor.setWidth(c.kernel.Lanes)
	w.kernel.Store(&c.kernel.Name)
	return w.catch(func() error {
		w.scanner = sha256d.NewScanner(c.kernel)
		return nil
	})
}

func (w *worker) prepare(job *sha256d.Work) error {
	return w.catch(func() error {
		if err := w.scanner.Prepare(job); err != nil {
			return fmt.Errorf("prepare kernel %s: %w", w.choice.kernel.Name, err)
		}
		return nil
	})
}

// scan hashes nonces and leaves what meets the target in w.hits.
func (w *worker) scan(first uint32, n int) (hashes uint64, err error) {
	err = w.catch(func() error {
		hashes, w.hits = w.scanner.Scan(first, n, w.hits[:0])
		return nil
	})
	return hashes, err
}

// crashError is a panic of a kernel.
type crashError struct {
	kernel string
	reason any
}

func (e *crashError) Error() string { return fmt.Sprintf("kernel %s crashed: %v", e.kernel, e.reason) }

// catch calls a function that runs kernel code.
func (w *worker) catch(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &crashError{w.choice.kernel.Name, r}
		}
	}()
	return f()
}

// rest sleeps while it is not this worker's time to hash.
func (w *worker) rest(ctx context.Context) {
	for ctx.Err() == nil {
		d := rest(time.Since(w.m.started), w.id, len(w.m.workers), w.m.governor.now())
		if d == 0 {
			return
		}
		w.wait(ctx, nil, time.Now().Add(d))
	}
}

// account notes what one call has done, and reports whether hashing has become
// so slow that another kernel may be the better one.
func (w *worker) account(hashes uint64, took time.Duration) (slow bool) {
	w.hashes.Add(hashes)
	w.busy.Add(int64(took))
	if took <= 0 {
		return false
	}
	rate := float64(hashes) / took.Seconds()
	if w.speed == 0 {
		w.speed = rate
	}
	w.speed += (rate - w.speed) / 16 // one call that was interrupted changes little
	if w.m.governor.now() < 1 {
		w.watch = rateWatch{} // a CPU that rests in between has a clock of its own
		return false
	}
	return w.watch.add(hashes, took, w.choice.rate)
}

// headerTime is the time to hash into a header: the clock, but never before the
// job's own time. A fallback block's time decides whether it may take the slot
// at all, so the template's choice stands.
func headerTime(job *work.Job, now time.Time) uint32 {
	t := max(job.Time, job.MinTime)
	if job.Fallback {
		return t
	}
	return max(t, uint32(now.Unix()))
}

const (
	// watchTime is how long, in time spent hashing, a worker must be slow.
	watchTime = time.Minute
	// slowRate is the part of the expected rate below which it is.
	slowRate = 0.9
)

// rateWatch notices that a worker stays behind the rate its kernel was chosen
// for. It counts time in kernels only, so pauses and waits are no slowness.
type rateWatch struct {
	hashes uint64
	busy   time.Duration
}

// add notes a call, and reports at the end of each watchTime whether it was slow.
func (r *rateWatch) add(hashes uint64, took time.Duration, expected float64) bool {
	r.hashes += hashes
	r.busy += took
	if r.busy < watchTime {
		return false
	}
	slow := float64(r.hashes)/r.busy.Seconds() < slowRate*expected
	*r = rateWatch{}
	return slow
}
