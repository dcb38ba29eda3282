package mempool

import (
	"container/heap"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Chain is what a pool needs of the chain it stands on.
type Chain interface {
	// View returns the tip and those of the outpoints that are unspent as of
	// it, both of one moment.
	View(outpoints []types.OutPoint) (consensus.State, consensus.Coins, error)
	// Path returns the way from a block to the tip: blocks to revert, newest
	// first, then blocks to apply, oldest first, at most max of them all
	// together; none when the block is the tip. It is called again from where
	// the answer leads until it leads nowhere.
	Path(from types.Hash, max int) (reverted, applied []*types.Block, err error)
}

// Pool holds unconfirmed transactions. All methods may be called from any
// goroutine. Transactions handed in or out must not be changed afterwards.
type Pool struct {
	chain Chain
	cfg   Config
	now   func() time.Time
	log   *slog.Logger

	mu       sync.Mutex
	tip      consensus.State
	torn     bool // a walk to the tip broke off; see follow
	entries  map[types.Hash]*entry
	spenders map[types.OutPoint]*entry
	cheapest evictionHeap
	bytes    int
	seq      uint64
	changed  chan struct{}

	// After an eviction the pool asks more than MinFeeRate for a while, or
	// anyone could push transactions through the network for free by having
	// each evict the last (as Bitcoin Core's rolling minimum).
	floor   float64 // base units per 1,000 bytes at floorAt
	floorAt time.Time
}

// New returns an empty pool on the chain's tip. now is the clock for expiry and
// entry times.
func New(chain Chain, cfg Config, now func() time.Time, log *slog.Logger) (*Pool, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("mempool: %w", err)
	}
	tip, _, err := chain.View(nil)
	if err != nil {
		return nil, fmt.Errorf("mempool: reading the tip: %w", err)
	}
	return &Pool{
		chain: chain, cfg: cfg, now: now, log: log,
		tip:      tip,
		entries:  make(map[types.Hash]*entry),
		spenders: make(map[types.OutPoint]*entry),
		changed:  make(chan struct{}),
	}, nil
}

// Changed returns a channel that is closed when transactions next come or go.
// Take it before looking at the pool, or a change in between is missed.
func (p *Pool) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *Pool) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Remove drops a transaction with everything that depends on it and returns
// the ids of all that left, those that depend on others first.
func (p *Pool) Remove(id types.Hash) []types.Hash {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[id]
	if !ok {
		return nil
	}
	gone := p.removeTree(e)
	p.notify()
	return gone
}

// insert adds an entry whose parents are in place and whose limits were checked.
func (p *Pool) insert(e *entry) {
	p.seq++
	e.seq = p.seq
	e.ancestors, e.descendants = e.own(), e.own()
	for _, a := range ancestorsOf(e.parents...) {
		e.ancestors.add(a.own())
		a.descendants.add(e.own())
		heap.Fix(&p.cheapest, a.evictIndex)
	}
	for _, parent := range e.parents {
		parent.children = append(parent.children, e)
	}
	for i := range e.tx.Inputs {
		p.spenders[e.tx.Inputs[i].Previous] = e
	}
	p.entries[e.id] = e
	p.bytes += e.bytes
	heap.Push(&p.cheapest, e)
}

// removeOne takes an entry out and leaves those that depend on it, as its
// outputs are on the chain now or they are about to leave too.
func (p *Pool) removeOne(e *entry) {
	for _, d := range withDescendants(e)[1:] {
		d.ancestors.sub(e.own())
	}
	for _, a := range ancestorsOf(e)[1:] {
		a.descendants.sub(e.own())
		heap.Fix(&p.cheapest, a.evictIndex)
	}
	for _, parent := range e.parents {
		parent.children = without(parent.children, e)
	}
	for _, child := range e.children {
		child.parents = without(child.parents, e)
	}
	for i := range e.tx.Inputs {
		delete(p.spenders, e.tx.Inputs[i].Previous)
	}
	delete(p.entries, e.id)
	p.bytes -= e.bytes
	heap.Remove(&p.cheapest, e.evictIndex)
}

// removeTree takes an entry out with everything that depends on it.
func (p *Pool) removeTree(e *entry) []types.Hash {
	tree := withDescendants(e)
	slices.SortFunc(tree, bySeq)
	slices.Reverse(tree)
	ids := make([]types.Hash, len(tree))
	for i, d := range tree {
		ids[i] = d.id
		p.removeOne(d)
	}
	return ids
}

// trim evicts what pays least until the pool is within its size.
func (p *Pool) trim() {
	for p.bytes > p.cfg.MaxBytes {
		e := p.cheapest[0]
		rate := e.descendants.perKB()
		gone := p.removeTree(e)
		p.floor, p.floorAt = max(p.currentFloor(), rate+float64(p.cfg.MinFeeRate)), p.now()
		p.log.Debug("transactions evicted from a full pool", "tx", e.id, "count", len(gone), "fee per kB", rate)
	}
}

func (p *Pool) currentFloor() float64 {
	if p.floor == 0 {
		return 0
	}
	age := p.now().Sub(p.floorAt).Seconds() / floorHalfLife.Seconds()
	return p.floor * math.Exp2(-max(0, age))
}

// minFeeRate is what a transaction must pay at this moment.
func (p *Pool) minFeeRate() int64 {
	floor := p.currentFloor()
	if floor < float64(p.cfg.MinFeeRate) {
		p.floor = 0
		return p.cfg.MinFeeRate
	}
	return int64(math.Ceil(floor))
}

// expire drops what has waited too long.
func (p *Pool) expire() {
	oldest := p.now().Add(-p.cfg.Expiry)
	for _, e := range p.entries {
		if e.added.Before(oldest) {
			gone := p.removeTree(e)
			p.log.Info("transaction expired", "tx", e.id, "added", e.added, "count", len(gone))
		}
	}
}
