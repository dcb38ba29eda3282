package pool

import (
	"sync"
	"time"

	"qcitycoin.org/qcity/miner/work"
)

// drainAt is how many entries wait at most, about: whoever puts in this one
// books them all.
const drainAt = 4096

// intake is where shares wait to be booked, so that a miner's goroutine does
// nothing but append.
type intake struct {
	mu    sync.Mutex
	buf   []entry
	spare []entry
}

// entry is one thing that happens often.
type entry struct {
	kind       byte // evShare, evBlock, evReject, evParent or evTarget
	reason     Reason
	at         int64 // unix milliseconds
	worker     *Worker
	difficulty float64
	real       float64
	hash       [32]byte
}

// put queues an entry and reports whether it is time to book the queue.
func (in *intake) put(e *entry) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.buf = append(in.buf, *e)
	return len(in.buf) == drainAt
}

// take empties the queue. Only one caller at a time uses what it returns.
func (in *intake) take() []entry {
	in.mu.Lock()
	defer in.mu.Unlock()
	full := in.buf
	in.buf, in.spare = in.spare[:0], full
	return full
}

func (b *Books) put(e *entry) {
	if b.in.put(e) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.drain()
	}
}

// NewParent says that shares belong to another parent block from now on: those
// of the last one are stale and need no memory.
func (b *Books) NewParent(parent [32]byte) {
	// In the journal before the table is empty: a share that is put into the
	// empty table comes after it.
	b.put(&entry{kind: evParent, at: time.Now().UnixMilli(), hash: parent})
	b.seen.Reset(parent)
}

// Network says what a hash must meet to be a block from now on. PPLNS and luck
// are measured by it.
func (b *Books) Network(target work.Target) {
	b.put(&entry{kind: evTarget, at: time.Now().UnixMilli(), hash: target})
}

// Accept books a share to w (nil: to the total only), unless its hash was seen
// before: then it books nothing and returns false.
func (b *Books) Accept(now time.Time, w *Worker, s Share) bool {
	e := entry{kind: evShare, at: now.UnixMilli(), worker: w, difficulty: s.Difficulty, real: s.Real, hash: s.Hash}
	if s.Block {
		e.kind = evBlock
	}
	fresh, full := b.accept(&e)
	if full {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.drain()
	}
	return fresh
}

// accept queues a share if it is new, in one step: a snapshot holds the hashes
// of the shares that it counts, and of no others.
func (b *Books) accept(e *entry) (fresh, full bool) {
	b.seen.mu.Lock()
	defer b.seen.mu.Unlock()
	if !b.seen.add(e.hash) {
		return false, false
	}
	return true, b.in.put(e)
}

// Reject counts a refused share of w (nil: in the total only).
func (b *Books) Reject(now time.Time, w *Worker, r Reason) {
	b.put(&entry{kind: evReject, at: now.UnixMilli(), worker: w, reason: r})
}

// drain books what waits. The caller holds b.mu.
func (b *Books) drain() {
	for _, e := range b.in.take() {
		b.book(&e)
	}
}

func (b *Books) book(e *entry) {
	at := time.UnixMilli(e.at).UTC()
	switch e.kind {
	case evShare, evBlock:
		s := Share{Hash: e.hash, Difficulty: e.difficulty, Real: e.real, Block: e.kind == evBlock}
		b.state.share(at, e.worker, &s)
		if j := b.record(e.at, e.kind); j != nil {
			j.num(uint64(e.worker.number()))
			j.difficulty(e.difficulty)
			j.bytes(e.hash[:])
			j.shares++
		}
	case evReject:
		b.state.reject(at, e.worker, e.reason, 1)
		b.refused(e.worker, e.reason)
	case evParent:
		if b.state.parent == e.hash {
			return
		}
		b.state.parent = e.hash
		if j := b.record(e.at, e.kind); j != nil {
			j.bytes(e.hash[:])
		}
	case evTarget:
		if b.state.target == e.hash {
			return
		}
		b.state.setTarget(e.hash)
		if j := b.record(e.at, e.kind); j != nil {
			j.bytes(e.hash[:])
		}
	}
}

func (w *Worker) number() uint32 {
	if w == nil {
		return 0
	}
	return w.id
}
