package mempool

import (
	"cmp"
	"math/bits"
	"slices"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// entry is a transaction in the pool and its place among the others.
type entry struct {
	tx     *types.Transaction
	id     types.Hash
	bytes  int
	spend  consensus.Spend
	added  time.Time
	height uint32 // of the tip when it was added
	// seq rises with every insertion, and parents are inserted before their
	// children: sorting by it is a topological order.
	seq uint64
	// contextual marks what a reorganisation can make invalid although all its
	// inputs still exist: lock times, and outputs of a coinbase.
	contextual bool

	parents, children []*entry
	// Sums over everything it depends on, and over everything that depends on
	// it, itself included in both.
	ancestors, descendants sum

	evictIndex int  // position in Pool.cheapest
	pick       pick // scratch of Select
}

// sum adds up transactions.
type sum struct {
	count, bytes, sigOps int
	fee                  int64
}

func (e *entry) own() sum {
	return sum{count: 1, bytes: e.bytes, sigOps: e.spend.SigOps, fee: e.spend.Fee}
}

func (s *sum) add(o sum) {
	s.count += o.count
	s.bytes += o.bytes
	s.sigOps += o.sigOps
	s.fee += o.fee
}

func (s *sum) sub(o sum) {
	s.count -= o.count
	s.bytes -= o.bytes
	s.sigOps -= o.sigOps
	s.fee -= o.fee
}

// compareRates orders a and b by fee per byte, exactly. Fees are not negative.
func compareRates(a, b sum) int {
	aHi, aLo := bits.Mul64(uint64(a.fee), uint64(b.bytes))
	bHi, bLo := bits.Mul64(uint64(b.fee), uint64(a.bytes))
	if c := cmp.Compare(aHi, bHi); c != 0 {
		return c
	}
	return cmp.Compare(aLo, bLo)
}

// perKB returns the fee rate in base units per 1,000 bytes.
func (s sum) perKB() float64 { return float64(s.fee) * 1000 / float64(s.bytes) }

// ancestorsOf returns everything the given entries depend on, themselves included.
func ancestorsOf(of ...*entry) []*entry {
	return reach(of, func(e *entry) []*entry { return e.parents })
}

// withDescendants returns e and everything that depends on it.
func withDescendants(e *entry) []*entry {
	return reach([]*entry{e}, func(e *entry) []*entry { return e.children })
}

// reach walks breadth first. The limits on ancestors and descendants keep the
// result so short that searching it beats a map.
func reach(from []*entry, next func(*entry) []*entry) []*entry {
	found := slices.Clone(from)
	for i := 0; i < len(found); i++ {
		for _, n := range next(found[i]) {
			if !slices.Contains(found, n) {
				found = append(found, n)
			}
		}
	}
	return found
}

func bySeq(a, b *entry) int { return cmp.Compare(a.seq, b.seq) }

func without(list []*entry, e *entry) []*entry {
	if i := slices.Index(list, e); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// evictionHeap has the entry on top whose removal, with all that depends on it,
// costs the least fee per byte.
type evictionHeap []*entry

func (h evictionHeap) Len() int { return len(h) }

func (h evictionHeap) Less(i, j int) bool {
	if c := compareRates(h[i].descendants, h[j].descendants); c != 0 {
		return c < 0
	}
	return h[i].seq > h[j].seq // among equals the newest leaves first
}

func (h evictionHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].evictIndex, h[j].evictIndex = i, j
}

func (h *evictionHeap) Push(x any) {
	e := x.(*entry)
	e.evictIndex = len(*h)
	*h = append(*h, e)
}

func (h *evictionHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
