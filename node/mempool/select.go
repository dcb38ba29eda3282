package mempool

import (
	"container/heap"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Select gives up after so many packages in a row did not fit, once less than
// nearlyFull bytes are left: most of a large pool need not be looked at.
const (
	maxMisfits = 1000
	nearlyFull = 4000
)

// Select returns transactions for the block after parent, which is the tip:
// those that pay most, in an order in which each comes after all it depends on,
// within maxBytes of serialised transactions and maxSigOps signature checks.
// spends holds fee and signature checks of each. It is Bitcoin Core's choice by
// ancestor fee rate: a transaction is worth what it and everything it needs pay
// together, so that a child can pay for its parent.
func (p *Pool) Select(maxBytes, maxSigOps int) (parent consensus.State, txs []*types.Transaction, spends []consensus.Spend, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.sync(); err != nil {
		return consensus.State{}, nil, nil, err
	}
	s := selection{bytes: maxBytes, sigOps: maxSigOps, queue: make(pickHeap, 0, len(p.entries))}
	for _, e := range p.entries {
		e.pick = pick{need: e.ancestors, index: len(s.queue)}
		s.queue = append(s.queue, e)
	}
	heap.Init(&s.queue)
	for misfits := 0; len(s.queue) > 0 && (misfits < maxMisfits || s.bytes >= nearlyFull); {
		e := heap.Pop(&s.queue).(*entry)
		if e.pick.need.bytes > s.bytes || e.pick.need.sigOps > s.sigOps {
			// What it needs shrinks only by what leaves less room: it never will fit.
			misfits++
			continue
		}
		misfits = 0
		s.take(e)
	}
	for _, e := range s.taken {
		txs = append(txs, e.tx)
		spends = append(spends, e.spend)
	}
	return p.tip, txs, spends, nil
}

// pick is what a selection knows of an entry.
type pick struct {
	need  sum // the ancestors, itself included, that are not taken yet
	taken bool
	index int // in the queue; -1 when it is taken or did not fit
}

type selection struct {
	bytes, sigOps int // left
	queue         pickHeap
	taken         []*entry
}

// take takes e and whatever it needs.
func (s *selection) take(e *entry) {
	group := slices.DeleteFunc(ancestorsOf(e), func(a *entry) bool { return a.pick.taken })
	slices.SortFunc(group, bySeq)
	for _, m := range group {
		m.pick.taken = true
		if m.pick.index >= 0 {
			heap.Remove(&s.queue, m.pick.index)
		}
		s.bytes -= m.bytes
		s.sigOps -= m.spend.SigOps
		s.taken = append(s.taken, m)
	}
	for _, m := range group {
		for _, d := range withDescendants(m)[1:] {
			if d.pick.index >= 0 {
				d.pick.need.sub(m.own())
				heap.Fix(&s.queue, d.pick.index)
			}
		}
	}
}

// pickHeap has the entry on top whose package pays most per byte.
type pickHeap []*entry

func (h pickHeap) Len() int { return len(h) }

func (h pickHeap) Less(i, j int) bool {
	if c := compareRates(h[i].pick.need, h[j].pick.need); c != 0 {
		return c > 0
	}
	return h[i].seq < h[j].seq
}

func (h pickHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pick.index, h[j].pick.index = i, j
}

func (h *pickHeap) Push(x any) {
	e := x.(*entry)
	e.pick.index = len(*h)
	*h = append(*h, e)
}

func (h *pickHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.pick.index = -1
	return e
}
