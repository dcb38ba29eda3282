package mempool

import (
	"time"

	"qcitycoin.org/qcity/node/types"
)

// Info sums up a pool.
type Info struct {
	Count    int
	Bytes    int   // of all serialised transactions
	MaxBytes int   // Config.MaxBytes
	Fees     int64 // base units
	// MinFeeRate is what a transaction must pay now, and ConfigFeeRate what it
	// must pay when the pool is not full, in base units per 1,000 bytes.
	MinFeeRate, ConfigFeeRate int64
}

// Entry describes one transaction of a pool.
type Entry struct {
	ID     types.Hash
	Tx     *types.Transaction
	Bytes  int
	Fee    int64 // base units
	SigOps int
	Added  time.Time
	Height uint32 // of the tip when it was added
	// Ancestors and Descendants count the transaction itself, as Bitcoin does.
	Ancestors, Descendants Package
	DependsOn, SpentBy     []types.Hash // in the pool, direct
}

// Package is a group of transactions that depend on each other.
type Package struct {
	Count int
	Bytes int
	Fee   int64 // base units
}

// Info returns the totals.
func (p *Pool) Info() Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := Info{
		Count: len(p.entries), Bytes: p.bytes, MaxBytes: p.cfg.MaxBytes,
		MinFeeRate: p.minFeeRate(), ConfigFeeRate: p.cfg.MinFeeRate,
	}
	for _, e := range p.entries {
		i.Fees += e.spend.Fee
	}
	return i
}

// Has reports whether a transaction is in the pool.
func (p *Pool) Has(id types.Hash) bool {
	_, ok := p.Get(id)
	return ok
}

// Get returns a transaction of the pool.
func (p *Pool) Get(id types.Hash) (*types.Transaction, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[id]
	if !ok {
		return nil, false
	}
	return e.tx, true
}

// Spender returns the transaction of the pool that spends an output.
func (p *Pool) Spender(o types.OutPoint) (types.Hash, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.spenders[o]
	if !ok {
		return types.Hash{}, false
	}
	return e.id, true
}

// IDs returns the ids of all transactions, each after those it depends on.
func (p *Pool) IDs() []types.Hash {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]types.Hash, 0, len(p.entries))
	for _, e := range p.sorted() {
		ids = append(ids, e.id)
	}
	return ids
}

// Entry describes one transaction.
func (p *Pool) Entry(id types.Hash) (Entry, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[id]
	if !ok {
		return Entry{}, false
	}
	return e.describe(), true
}

// Entries describes all transactions, each after those it depends on.
func (p *Pool) Entries() []Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Entry, 0, len(p.entries))
	for _, e := range p.sorted() {
		list = append(list, e.describe())
	}
	return list
}

func (e *entry) describe() Entry {
	d := Entry{
		ID: e.id, Tx: e.tx, Bytes: e.bytes, Fee: e.spend.Fee, SigOps: e.spend.SigOps,
		Added: e.added, Height: e.height,
		Ancestors: e.ancestors.describe(), Descendants: e.descendants.describe(),
	}
	for _, parent := range e.parents {
		d.DependsOn = append(d.DependsOn, parent.id)
	}
	for _, child := range e.children {
		d.SpentBy = append(d.SpentBy, child.id)
	}
	return d
}

func (s sum) describe() Package { return Package{Count: s.count, Bytes: s.bytes, Fee: s.fee} }
