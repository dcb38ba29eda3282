package miner

import (
	"sync"
	"sync/atomic"
	"time"

	"qcitycoin.org/qcity/miner/work"
)

// Pauses between submissions of one job after rejections. A chain that refuses
// one block of a template will most likely refuse the next; on an easy network
// it would be sent thousands a second.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 30 * time.Second
)

// gate decides which jobs are worth hashing and which solutions worth handing
// in. One solution settles a job: another block at the same height would only
// compete with our own.
type gate struct {
	// changes counts verdicts, so that a worker looks again only after one.
	changes atomic.Uint64

	mu       sync.Mutex
	settled  uint64    // jobs up to this one need no more hashing
	claimed  uint64    // newest job of which a solution was handed in
	inFlight bool      // that one's verdict is still to come
	rejects  uint      // in a row, of that job
	quiet    time.Time // no further solution of that job before this
	heldOn   [32]byte  // parent of the newest held block
	heldTill time.Time // when that block is due
}

// claim reports whether the caller is to hand in its solution of a job; then it
// must report the verdict.
func (g *gate) claim(job *work.Job, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case job.ID <= g.settled || job.ID < g.claimed:
		return false
	case job.ID > g.claimed:
		g.claimed, g.rejects = job.ID, 0
	case g.inFlight || now.Before(g.quiet):
		return false
	}
	g.inFlight = true
	return true
}

// verdict records what became of a claimed solution.
func (g *gate) verdict(job *work.Job, headerTime uint32, outcome work.Outcome, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.changes.Add(1)
	current := job.ID == g.claimed
	if current {
		g.inFlight = false
	}
	if outcome == work.Rejected {
		if current {
			g.quiet = now.Add(min(firstBackoff<<min(g.rejects, 16), lastBackoff))
			g.rejects++
		}
		return
	}
	g.settled = max(g.settled, job.ID)
	if outcome == work.Held {
		g.heldOn, g.heldTill = job.PrevBlock, time.Unix(int64(headerTime), 0)
	}
}

// pause reports whether a job is not worth hashing, and if that ends by itself,
// when (else zero). It does for a job on the parent of a held block: while that
// block waits for its time, a second one is wasted power; if a job with that
// parent is still the newest once it was due, the block did not make it.
func (g *gate) pause(job *work.Job, now time.Time) (until time.Time, paused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if job.ID <= g.settled {
		return time.Time{}, true
	}
	if job.PrevBlock == g.heldOn && now.Before(g.heldTill) {
		return g.heldTill, true
	}
	return time.Time{}, false
}
