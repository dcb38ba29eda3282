// Package pool keeps the books of a Stratum port: which worker found which
// share, what was refused and why, and how fast everybody hashes. It knows
// nothing of connections or of the wire.
package pool

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Config bounds the books. Zero fields mean the defaults named here.
type Config struct {
	// MaxWorkers is the largest number of worker names; when it is reached, the
	// name unused for longest makes room. Default 16,384.
	MaxWorkers int
	// DuplicateEntries bounds the table of seen shares (32 bytes and map
	// overhead each). Only shares of the current parent are in it, and of those
	// at least the newest half of this number. Default 262,144.
	DuplicateEntries int
}

// WithDefaults fills the zero fields.
func (c Config) WithDefaults() Config {
	if c.MaxWorkers == 0 {
		c.MaxWorkers = 16_384
	}
	if c.DuplicateEntries == 0 {
		c.DuplicateEntries = 1 << 18
	}
	return c
}

// Share is an accepted share.
type Share struct {
	Hash       [32]byte // of the whole header, internal order
	Difficulty float64  // what it counts for
	Real       float64  // what its hash would have met
	Block      bool     // it made a block
}

// Books holds every worker's account and the total. All methods may be called
// from any goroutine; none of them waits for a disk.
type Books struct {
	cfg  Config
	seen *Seen

	mu      sync.Mutex
	workers map[string]*Worker

	totalMu sync.Mutex
	total   tally
}

// New returns empty books.
func New(now time.Time, cfg Config) *Books {
	cfg = cfg.WithDefaults()
	b := &Books{cfg: cfg, seen: NewSeen(cfg.DuplicateEntries), workers: map[string]*Worker{}}
	b.total.rate.fade(now)
	return b
}

// Open returns the account of name for one more session, or nil if the table
// is full of workers that are connected. Close gives it back.
func (b *Books) Open(now time.Time, name string) *Worker {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.workers[name]
	if w == nil {
		if len(b.workers) >= b.cfg.MaxWorkers && !b.evict() {
			return nil
		}
		w = &Worker{name: name}
		w.tally.rate.fade(now)
		b.workers[name] = w
	}
	w.mu.Lock()
	w.sessions++
	w.used = now
	w.mu.Unlock()
	return w
}

// evict drops the disconnected account that was unused for longest.
func (b *Books) evict() bool {
	var oldest *Worker
	var used time.Time
	for _, w := range b.workers {
		w.mu.Lock()
		if w.sessions == 0 && (oldest == nil || w.used.Before(used)) {
			oldest, used = w, w.used
		}
		w.mu.Unlock()
	}
	if oldest == nil {
		return false
	}
	delete(b.workers, oldest.name)
	return true
}

// Close ends a session's use of a worker's account.
func (b *Books) Close(w *Worker) {
	w.mu.Lock()
	w.sessions--
	w.mu.Unlock()
}

// NewParent says that shares belong to another parent block from now on: those
// of the last one are stale and need no memory.
func (b *Books) NewParent(parent [32]byte) { b.seen.Reset(parent) }

// Accept books a share to w (nil: to the total only), unless its hash was seen
// before: then it books nothing and returns false.
func (b *Books) Accept(now time.Time, w *Worker, s Share) bool {
	if !b.seen.Add(s.Hash) {
		return false
	}
	b.totalMu.Lock()
	b.total.accept(now, s)
	b.totalMu.Unlock()
	if w != nil {
		w.mu.Lock()
		w.tally.accept(now, s)
		w.used = now
		w.mu.Unlock()
	}
	return true
}

// Reject counts a refused share of w (nil: in the total only).
func (b *Books) Reject(now time.Time, w *Worker, r Reason) {
	b.totalMu.Lock()
	b.total.rejected[r]++
	b.totalMu.Unlock()
	if w == nil {
		return
	}
	w.mu.Lock()
	w.tally.rejected[r]++
	w.used = now
	w.mu.Unlock()
}

// Stats returns the total and every account, by name.
func (b *Books) Stats(now time.Time) (ShareStats, []WorkerStats) {
	b.totalMu.Lock()
	total := b.total.stats(now)
	b.totalMu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	workers := make([]WorkerStats, 0, len(b.workers))
	for _, w := range b.workers {
		w.mu.Lock()
		workers = append(workers, WorkerStats{Name: w.name, Sessions: w.sessions, ShareStats: w.tally.stats(now)})
		w.mu.Unlock()
	}
	slices.SortFunc(workers, func(a, b WorkerStats) int { return cmp.Compare(a.Name, b.Name) })
	return total, workers
}
