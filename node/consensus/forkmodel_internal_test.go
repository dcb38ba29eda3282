package consensus

import (
	"os"
	"strings"
	"testing"

	"github.com/holiman/uint256"

	"qcitycoin.org/qcity/node/types"
)

// A forkChain is a chain of a model of fork choice: what stands at each of its
// slots, and the work of blocks that were mined beside what every chain has.
// Chains that begin alike share these blocks. At a slot stands one of
//
//	a  a block signed by the validator of rank 0
//	t  its twin, by the same validator
//	b  a block signed by the validator of rank 1
//	l  a fallback block
//	h  a fallback block with a higher id
type forkChain struct {
	slots string
	extra uint64
}

const (
	signedKinds   = "atb"
	fallbackKinds = "lh"
)

// forkNetwork has five validators whose signatures nobody looks at.
var forkNetwork = &Network{
	Params:    Params{N: modelStep},
	authority: genesisAuthority(types.Hash{}, modelKeys(0, 5)),
}

// forkParent is the state before slot i, which decides the ranks.
func forkParent(i int) *State { return &State{Network: forkNetwork, Height: uint32(i)*modelStep - 1} }

// forkHeader is what stands at slot i.
func forkHeader(kind byte, i int) *types.SignedHeader {
	h := &types.SignedHeader{}
	switch kind {
	case 'a', 't':
		h.VchBlockSig = types.BlockSig{Index: forkParent(i).ValidatorOfRank(0)}.Bytes()
		h.Nonce = uint32(kind) // the twin is another block
	case 'b':
		h.VchBlockSig = types.BlockSig{Index: forkParent(i).ValidatorOfRank(1)}.Bytes()
	default:
		// Two nonces whose ids are in the order of their names.
		low, high := &types.SignedHeader{Header: types.Header{Nonce: 1}}, &types.SignedHeader{Header: types.Header{Nonce: 2}}
		if low.Header.ID().Compare(high.Header.ID()) > 0 {
			low, high = high, low
		}
		if h = low; kind == 'h' {
			h = high
		}
	}
	return h
}

func isSigned(kind byte) bool { return strings.IndexByte(signedKinds, kind) >= 0 }

// weight is the chain's, given the highest certified slot on it.
func (c *forkChain) weight(certified int) Weight {
	s := State{Work: *uint256.NewInt(100*uint64(len(c.slots)) + c.extra)}
	for i := range len(c.slots) {
		if isSigned(c.slots[i]) {
			s.SignedSlots++
		}
	}
	return s.Weight(uint32(certified) * modelStep)
}

// breakTie is State.BreakTie at the first slot where two chains differ; 0 where
// one of them has not reached it.
func (c *forkChain) breakTie(o *forkChain) int {
	for i := range min(len(c.slots), len(o.slots)) {
		if c.slots[i] != o.slots[i] {
			return forkParent(i+1).BreakTie(forkHeader(c.slots[i], i+1), forkHeader(o.slots[i], i+1))
		}
	}
	return 0
}

// forkSlot is a place in the tree of chains: the block at the last slot of a prefix.
type forkSlot = string

// certifiedOn returns the highest slot of a chain whose block is in the set.
func (c *forkChain) certifiedOn(set map[forkSlot]bool) (highest int) {
	for i := 1; i <= len(c.slots); i++ {
		if set[c.slots[:i]] {
			highest = i
		}
	}
	return highest
}

// chainsUpTo returns every chain of up to n slots with each of these works.
func chainsUpTo(n int, kinds string, extras ...uint64) (list []forkChain) {
	prefixes := []string{""}
	for range n {
		var longer []string
		for _, p := range prefixes {
			for _, k := range kinds {
				longer = append(longer, p+string(k))
			}
		}
		for _, s := range longer {
			for _, e := range extras {
				list = append(list, forkChain{s, e})
			}
		}
		prefixes = longer
	}
	return list
}

// signedSlots are the blocks of some chains that votes may certify.
func signedSlots(chains ...*forkChain) (list []forkSlot) {
	seen := make(map[forkSlot]bool)
	for _, c := range chains {
		for i := range len(c.slots) {
			if p := c.slots[:i+1]; isSigned(c.slots[i]) && !seen[p] {
				seen[p] = true
				list = append(list, p)
			}
		}
	}
	return list
}

// subsets calls f with every set of the given slots, one map that changes.
func subsets(all []forkSlot, f func(certified map[forkSlot]bool)) {
	set := make(map[forkSlot]bool, len(all))
	for bits := range 1 << len(all) {
		clear(set)
		for i, s := range all {
			if bits>>i&1 == 1 {
				set[s] = true
			}
		}
		f(set)
	}
}

// TestVoteModelForkOrder: over all triples of small chains and all sets of
// certified slots, the order of fork choice is antisymmetric and transitive; it
// leaves undecided only what one validator signed twice and what has not come to
// a slot; and three chains lead to the best one in whatever order they are met.
func TestVoteModelForkOrder(t *testing.T) {
	t.Parallel()
	t.Logf("%d cases", exploreOrder(t, chainsUpTo(2, "atblh", 0)))
	t.Logf("%d cases", exploreOrder(t, chainsUpTo(2, "atl", 0, 100)))
}

// TestVoteModelForkOrderLong takes chains of three slots.
func TestVoteModelForkOrderLong(t *testing.T) {
	longModel(t)
	t.Logf("%d cases", exploreOrder(t, chainsUpTo(3, "abl", 0, 100)))
	t.Logf("%d cases", exploreOrder(t, chainsUpTo(3, "atl", 0, 100)))
}

func longModel(t *testing.T) {
	t.Helper()
	if os.Getenv("QCITY_MODEL") == "" {
		t.Skip("set QCITY_MODEL=1 or run make model: it takes minutes")
	}
}

func exploreOrder(t *testing.T, chains []forkChain) (cases int) {
	var ties [][]int
	for i := range chains {
		ties = append(ties, make([]int, len(chains)))
		for j := range chains {
			ties[i][j] = chains[i].breakTie(&chains[j])
		}
	}
	for i := range chains {
		for j := range i {
			for k := range j {
				three := [3]int{i, j, k}
				subsets(signedSlots(&chains[i], &chains[j], &chains[k]), func(certified map[forkSlot]bool) {
					cases++
					var w [3]Weight
					for n, c := range three {
						w[n] = chains[c].weight(chains[c].certifiedOn(certified))
					}
					cmp := func(x, y int) int {
						if c := w[x].Compare(w[y]); c != 0 {
							return c
						}
						return ties[three[x]][three[y]]
					}
					if what := judgeOrder(cmp); what != "" {
						t.Fatalf("%s: %v, %v, %v with %v certified", what, chains[i], chains[j], chains[k], certified)
					}
					for x := range 3 {
						if y := (x + 1) % 3; cmp(x, y) == 0 && !mayTie(&chains[three[x]], &chains[three[y]]) {
							t.Fatalf("undecided: %v, %v with %v certified", chains[three[x]], chains[three[y]], certified)
						}
					}
				})
			}
		}
	}
	return cases
}

// judgeOrder says what is wrong with an order of three, if anything.
func judgeOrder(cmp func(x, y int) int) string {
	orders := [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	for _, o := range orders {
		if (cmp(o[0], o[1]) > 0) != (cmp(o[1], o[0]) < 0) {
			return "who asks decides"
		}
		if cmp(o[0], o[1]) > 0 && cmp(o[1], o[2]) > 0 && cmp(o[0], o[2]) <= 0 {
			return "not transitive"
		}
	}
	// What is met later replaces the tip only if it is better.
	best := [3]bool{true, true, true}
	count := 0
	for x := range 3 {
		for y := range 3 {
			best[x] = best[x] && (x == y || cmp(y, x) <= 0)
		}
		if best[x] {
			count++
		}
	}
	for _, o := range orders {
		tip := o[0]
		for _, next := range o[1:] {
			if cmp(next, tip) > 0 {
				tip = next
			}
		}
		if !best[tip] {
			return "the order of arrival leads to a chain that is not the best"
		}
	}
	if count == 0 {
		return "a circle"
	}
	return ""
}

// mayTie reports whether what was seen first may decide between two chains.
func mayTie(a, b *forkChain) bool {
	for i := range min(len(a.slots), len(b.slots)) {
		if x, y := a.slots[i], b.slots[i]; x != y {
			return (x == 'a' && y == 't') || (x == 't' && y == 'a')
		}
	}
	return true // one has not come to the slot where they part
}

// TestVoteModelKeyless: a branch without a validator's signature never beats
// one that keeps a signed slot, whatever its work and whatever is certified.
func TestVoteModelKeyless(t *testing.T) {
	t.Parallel()
	t.Logf("%d pairs of branches and sets of certified slots", exploreKeyless(t, 3))
}

// TestVoteModelKeylessLong takes branches of up to five slots.
func TestVoteModelKeylessLong(t *testing.T) {
	longModel(t)
	t.Logf("%d pairs of branches and sets of certified slots", exploreKeyless(t, 5))
}

func exploreKeyless(t *testing.T, slots int) (cases int) {
	keepers := chainsUpTo(slots, "abl", 0)
	keyless := chainsUpTo(slots, "h", 0, 1<<40)
	common := append([]forkChain{{}}, chainsUpTo(2, "abl", 0)...)
	for _, c := range common {
		for _, k := range keepers {
			kept := forkChain{c.slots + k.slots, 0}
			if !strings.ContainsAny(k.slots, signedKinds) {
				continue
			}
			for _, a := range keyless {
				secret := forkChain{c.slots + a.slots, a.extra}
				subsets(signedSlots(&kept, &secret), func(certified map[forkSlot]bool) {
					cases++
					k, s := kept.weight(kept.certifiedOn(certified)), secret.weight(secret.certifiedOn(certified))
					if k.Compare(s) <= 0 {
						t.Fatalf("%v does not beat %v with %v certified", kept, secret, certified)
					}
				})
			}
		}
	}
	return cases
}
