package miner

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync/atomic"
	"time"

	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

const (
	// callHashes is the size of one call into a kernel. Assembly cannot be
	// pre-empted, so this bounds how long a job switch or a garbage collection
	// waits; below about 256 hashes the calls themselves begin to cost.
	callHashes = 2048
	// refreshSeconds is how far the header time may lag behind the clock.
	refreshSeconds = 10
)

// worker is one hashing thread.
type worker struct {
	m       *Miner
	id      int
	kernel  sha256d.Kernel
	scanner *sha256d.Scanner
	cursor  cursor
	hits    []sha256d.Hit // reused by every scan

	hashes atomic.Uint64
	active atomic.Bool // hashing, not waiting
}

// run hashes the newest job worth it until ctx ends.
func (w *worker) run(ctx context.Context) error {
	if w.m.cfg.locksThreads() {
		// Never unlocked: the thread's affinity and nice level must not outlive
		// the worker, and the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		w.tuneThread()
	}
	w.scanner = sha256d.NewScanner(w.kernel)
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
	var versions [sha256d.MaxVersions]uint32
	for !stop() {
		extranonce, group := w.cursor.next(job.Version, versions[:])
		s := work.Solution{JobID: job.ID, Extranonce: extranonce, Time: headerTime(job, time.Now())}
		err := w.scanner.Prepare(&sha256d.Work{Header: job.Header(s), Versions: group, Target: job.Target})
		if err != nil {
			return fmt.Errorf("prepare kernel %s: %w", w.kernel.Name, err)
		}
		w.scanNonces(job, s, len(group), stop)
	}
	return nil
}

// scanNonces goes through the nonces of the prepared headers. It ends early on
// a solution (the rest would only find rivals of it), on stop, and when the
// header time has fallen behind.
func (w *worker) scanNonces(job *work.Job, s work.Solution, versions int, stop func() bool) {
	for first, n := range chunks(versions) {
		var hashes uint64
		hashes, w.hits = w.scanner.Scan(first, n, w.hits[:0])
		w.hashes.Add(hashes)
		if len(w.hits) > 0 {
			s.Version, s.Nonce = w.hits[0].Version, w.hits[0].Nonce
			w.m.solved(w.id, job, s)
			w.cursor.skip()
			return
		}
		if stop() || headerTime(job, time.Now()) >= s.Time+refreshSeconds {
			return
		}
		if !w.m.cfg.locksThreads() {
			// Give the node's goroutines their turn now instead of after the
			// scheduler's 10 ms. A locked thread would pay two thread switches
			// for this; it is the operating system's to share out.
			runtime.Gosched()
		}
	}
}

// chunks cuts the nonce space into ranges (first, number) of about callHashes
// hashes for that many versions.
func chunks(versions int) iter.Seq2[uint32, int] {
	size := uint64(callHashes / versions)
	return func(yield func(uint32, int) bool) {
		for first := uint64(0); first < sha256d.NonceSpace; first += size {
			if !yield(uint32(first), int(min(size, sha256d.NonceSpace-first))) {
				return
			}
		}
	}
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
