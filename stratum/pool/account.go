package pool

import (
	"strings"
	"time"
)

// Reason says why a share was refused; its text is what statistics show.
type Reason int

// The reasons, in the order in which a share is tested for them. Their numbers
// are in the journal: a new one goes to the end.
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

// MaxName is the longest name of a worker, in bytes.
const MaxName = 128

// Account is the part of a worker's name before the first dot: whom the
// worker's shares are credited to, if it is an address that can be paid.
func Account(worker string) string {
	account, _, _ := strings.Cut(worker, ".")
	return account
}

// Worker is the account of one worker name.
type Worker struct {
	id    uint32 // of this name for as long as it is known; in the journal
	name  string
	payee string // account that is credited; "" is the operator

	// All below belongs to the books' state and is guarded by its lock.
	tally    tally
	fresh    [reasons]uint32 // refusals that are not in a batch yet
	sessions int
	used     time.Time // last authorized, accepted or rejected
}

// Name is the worker's name as the miner gave it: any bytes.
func (w *Worker) Name() string { return w.name }

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

func (t *tally) accept(now time.Time, s *Share) {
	t.accepted++
	t.credit += s.Difficulty
	t.best = max(t.best, s.Real)
	if now.After(t.last) {
		t.last = now
	}
	t.rate.add(now, s.Difficulty)
	if s.Block {
		t.blocks++
	}
}

// ShareStats counts shares since the books were begun.
type ShareStats struct {
	Accepted   uint64
	Rejected   map[string]uint64 // by reason, only those that happened
	Difficulty float64           // sum over accepted shares
	Best       float64           // highest difficulty a share's hash would have met
	Blocks     uint64            // accepted or held by the chain
	LastShare  time.Time         // zero if none
	HashRate   HashRate
}

// Refused is the number of refused shares.
func (s *ShareStats) Refused() (n uint64) {
	for _, count := range s.Rejected {
		n += count
	}
	return n
}

// WorkerStats is the account of one worker name.
type WorkerStats struct {
	Name     string // as the miner gave it: any bytes
	Sessions int    // open connections that authorized it
	ShareStats
}

func (t *tally) stats(now time.Time) ShareStats {
	st := ShareStats{
		Accepted: t.accepted, Rejected: map[string]uint64{}, Difficulty: t.credit, Best: t.best,
		Blocks: t.blocks, LastShare: t.last, HashRate: t.rate.estimate(now),
	}
	for r, n := range t.rejected {
		if n > 0 {
			st.Rejected[Reason(r).String()] = n
		}
	}
	return st
}
