package server

import (
	"sync"
	"time"
)

// Reason says why a share was refused; its text is what statistics show.
type Reason int

// The reasons, in the order in which a share is tested for them.
const (
	Malformed Reason = iota
	NotSubscribed
	UnknownJob
	Unauthorized
	StaleShare
	BadTime
	BadVersion
	LowDifficulty
	DuplicateShare
	reasons // their number
)

func (r Reason) String() string {
	return [...]string{
		"malformed", "not-subscribed", "unknown-job", "unauthorized", "stale",
		"bad-time", "bad-version", "low-difficulty", "duplicate",
	}[r]
}

// tally counts shares; the zero value is ready.
type tally struct {
	accepted uint64
	rejected [reasons]uint64
	credit   float64 // sum of accepted difficulty
	best     float64 // highest difficulty any accepted share's hash would meet
	blocks   uint64
	last     time.Time // of the last accepted share
	rate     rate
}

func (t *tally) accept(now time.Time, credit, real float64, block bool) {
	t.accepted++
	t.credit += credit
	t.best = max(t.best, real)
	t.last = now
	t.rate.add(now, credit)
	if block {
		t.blocks++
	}
}

// worker is the account of one worker name.
type worker struct {
	name string

	mu       sync.Mutex
	tally    tally
	sessions int
	used     time.Time // last authorized, accepted or rejected
}

// accounts holds every worker's account and the total.
type accounts struct {
	limit int

	mu      sync.Mutex
	workers map[string]*worker

	totalMu sync.Mutex
	total   tally
}

func newAccounts(now time.Time, limit int) *accounts {
	a := &accounts{limit: limit, workers: map[string]*worker{}}
	a.total.rate.fade(now)
	return a
}

// open returns the account of name for one more session, or nil if the table
// is full of workers that are connected.
func (a *accounts) open(now time.Time, name string) *worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.workers[name]
	if w == nil {
		if len(a.workers) >= a.limit && !a.evict() {
			return nil
		}
		w = &worker{name: name}
		w.tally.rate.fade(now)
		a.workers[name] = w
	}
	w.mu.Lock()
	w.sessions++
	w.used = now
	w.mu.Unlock()
	return w
}

// evict drops the disconnected account that was unused for longest.
func (a *accounts) evict() bool {
	var oldest *worker
	var used time.Time
	for _, w := range a.workers {
		w.mu.Lock()
		if w.sessions == 0 && (oldest == nil || w.used.Before(used)) {
			oldest, used = w, w.used
		}
		w.mu.Unlock()
	}
	if oldest == nil {
		return false
	}
	delete(a.workers, oldest.name)
	return true
}

func (a *accounts) close(w *worker) {
	w.mu.Lock()
	w.sessions--
	w.mu.Unlock()
}

func (a *accounts) accept(now time.Time, w *worker, credit, real float64, block bool) {
	a.totalMu.Lock()
	a.total.accept(now, credit, real, block)
	a.totalMu.Unlock()
	if w == nil {
		return
	}
	w.mu.Lock()
	w.tally.accept(now, credit, real, block)
	w.used = now
	w.mu.Unlock()
}

func (a *accounts) reject(now time.Time, w *worker, r Reason) {
	a.totalMu.Lock()
	a.total.rejected[r]++
	a.totalMu.Unlock()
	if w == nil {
		return
	}
	w.mu.Lock()
	w.tally.rejected[r]++
	w.used = now
	w.mu.Unlock()
}
