package chain_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// tree draws a random tree of blocks, some of which break a rule that only
// connecting them shows.
func tree(t *rapid.T, net *consensus.Network) (blocks []*types.Block) {
	states := []consensus.State{net.GenesisState()}
	for tag := range uint32(rapid.IntRange(1, 25).Draw(t, "blocks")) {
		// Mostly near the end, so that branches get long enough for slots.
		back := rapid.IntRange(0, min(len(states)-1, 6)).Draw(t, "back")
		parent := states[len(states)-1-back]
		r := recipe{tag: tag}
		if parent.ChildIsSlot() && rapid.Bool().Draw(t, "signed") {
			r.signed, r.index = true, uint8(rapid.IntRange(0, 2).Draw(t, "validator"))
		}
		if rapid.IntRange(0, 9).Draw(t, "bad") == 0 {
			r.over = 1
		}
		b, state := r.make(parent)
		blocks, states = append(blocks, b), append(states, state)
	}
	return blocks
}

// addInOrder adds blocks, again and again as their parents come, and restarts
// the node now and then.
func addInOrder(t *rapid.T, n *node, blocks []*types.Block, order []int) {
	done := make(map[int]bool)
	for len(done) < len(order) {
		before := len(done)
		for _, i := range order {
			if done[i] {
				continue
			}
			_, err := n.m.AddBlock(blocks[i])
			if errors.Is(err, chain.ErrUnknownParent) {
				continue
			}
			if _, rule := consensus.RuleOf(err); err != nil && !rule {
				t.Fatal(err)
			}
			done[i] = true
			n.check()
			if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
				n.restart()
			}
		}
		if len(done) == before {
			t.Fatalf("only %d of %d blocks find their parent", len(done), len(order))
		}
	}
}

// TestOrder: whatever the order in which blocks come, the same chain wins,
// unless it is for first seen to decide. check holds, after each block, that
// nothing valid is better than the tip.
func TestOrder(t *testing.T) {
	net := testNetwork(t, nil)
	rapid.Check(t, func(rt *rapid.T) {
		blocks := tree(rt, net)
		indexes := make([]int, len(blocks))
		for i := range indexes {
			indexes[i] = i
		}
		one := newNode(failer{t, rt}, net, chaintest.NewStore())
		addInOrder(rt, one, blocks, indexes)
		two := newNode(failer{t, rt}, net, chaintest.NewStore())
		addInOrder(rt, two, blocks, rapid.Permutation(indexes).Draw(rt, "order"))
		a, b := one.m.Tip(), two.m.Tip()
		if a.ID == b.ID {
			return
		}
		// Both nodes know both: only a true tie may keep them apart.
		for _, n := range []*node{one, two} {
			if modelCompare(n, n.model(), modelChain(n, a.ID), modelChain(n, b.ID)) != 0 {
				rt.Fatalf("tips %s and %s are no tie", a.ID, b.ID)
			}
		}
	})
}

// failer lets the helpers fail a property.
type failer struct {
	testing.TB
	t *rapid.T
}

func (f failer) Helper()                        {}
func (f failer) Fatal(args ...any)              { f.t.Fatal(args...) }
func (f failer) Fatalf(format string, a ...any) { f.t.Fatalf(format, a...) }
