package chain_test

import (
	"errors"
	"fmt"
	"testing"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// history is a chain's life: extension, side blocks, a reorganisation over a
// slot with payments, an invalid branch, another reorganisation.
func history(net *consensus.Network) []*types.Block {
	base, fork := branch(net.GenesisState(), 3, 0)
	coin := output(base[0], 0, 0)
	a, _ := spendingBranch(fork, 2, 1, coin)
	b, bTop := spendingBranch(fork, 3, 2, coin)
	wrong, wrongTop := recipe{tag: 5, over: 1}.make(fork.Child(&b[0].SignedHeader, b[0].Transactions[0]))
	wrong2, _ := branch(wrongTop, 3, 5)
	more, _ := branch(bTop, 2, 0)
	list := append(append(base, a...), b[0], wrong)
	list = append(append(list, b[1:]...), wrong2...)
	return append(list, more...)
}

// TestFaults lets every call to the store fail once, a Commit also after it did
// its work. The manager is used on or made anew; in either case nothing is
// ever half done, and adding the block again leads to the same end.
func TestFaults(t *testing.T) {
	net := testNetwork(t, nil)
	blocks := history(net)
	want := newNode(t, net, chaintest.NewStore())
	for _, b := range blocks {
		_, _ = want.m.AddBlock(b)
	}
	if want.m.Tip().Height != 8 {
		t.Fatalf("the history ends at height %d", want.m.Tip().Height)
	}
	for _, after := range []bool{false, true} {
		for _, reopen := range []bool{false, true} {
			t.Run(fmt.Sprintf("after %v/reopen %v", after, reopen), func(t *testing.T) {
				faults := 0
				stride := 1
				if race {
					stride = 7
				}
				for ; faultAt(t, want, blocks, stride*faults, after, reopen); faults++ {
				}
				if stride*faults < len(blocks) {
					t.Errorf("only %d calls failed", faults)
				}
			})
		}
	}
}

// faultAt runs the history with a fault at call number at, and reports whether
// there was such a call.
func faultAt(t *testing.T, want *node, blocks []*types.Block, at int, after, reopen bool) bool {
	t.Helper()
	s := chaintest.NewStore()
	n := newNode(t, want.net, s)
	calls, happened := 0, false
	fail := func(string) (bool, bool) {
		calls++
		happened = happened || calls == at+1
		return calls == at+1, after
	}
	for i, b := range blocks {
		s.Fail = fail
		_, err := n.m.AddBlock(b)
		s.Fail = nil
		if errors.Is(err, chaintest.ErrFault) {
			if _, blamed := consensus.RuleOf(err); blamed {
				t.Fatalf("call %d, block %d: a failing store is held against the block: %v", at, i, err)
			}
			if reopen {
				n.m = open(t, n.net, s)
				n.check()
			}
			_, err = n.m.AddBlock(b)
			n.check()
		}
		if _, blamed := consensus.RuleOf(err); err != nil && !blamed {
			t.Fatalf("call %d, block %d: %v", at, i, err)
		}
	}
	n.check()
	n.tip(want.m.Tip())
	verify(t, n.net, s)
	for _, b := range blocks {
		id := b.Header.ID()
		why, _, err := n.m.InvalidReason(id)
		wantWhy, _, wantErr := want.m.InvalidReason(id)
		if err != nil || wantErr != nil || why != wantWhy {
			t.Fatalf("call %d: block %s is invalid for %q (%v), want %q (%v)", at, id, why, err, wantWhy, wantErr)
		}
	}
	return happened
}

// TestStale: while it is not known what the store holds, no view is given out.
func TestStale(t *testing.T) {
	n := newMemNode(t)
	s := n.store.(*chaintest.Store)
	b, top := recipe{}.make(n.m.Tip())
	broken := false
	s.Fail = func(call string) (bool, bool) {
		broken = broken || call == "Commit"
		return broken, true
	}
	if _, err := n.m.AddBlock(b); !errors.Is(err, chaintest.ErrFault) {
		t.Fatalf("adding a block: %v", err)
	}
	if _, _, err := n.m.View(nil); !errors.Is(err, chaintest.ErrFault) {
		t.Errorf("view: %v", err)
	}
	if _, _, err := n.m.UpdatesSince(n.net.ID, 1); !errors.Is(err, chaintest.ErrFault) {
		t.Errorf("updates: %v", err)
	}
	if _, err := n.m.AddBlock(b); !errors.Is(err, chaintest.ErrFault) {
		t.Errorf("adding a block while the store is unreadable: %v", err)
	}
	s.Fail = nil
	n.add(chain.Known, b)
	n.tip(top)
}

// TestDamagedSideBlock: a stored body that does not read back as it was is not
// the fault of the block that made us read it.
func TestDamagedSideBlock(t *testing.T) {
	n := newMemNode(t)
	best, _ := branch(n.net.GenesisState(), 1, 0)
	n.add(chain.Connected, best...)
	side, _ := branch(n.net.GenesisState(), 2, 1)
	n.add(chain.SideChain, side[0])
	s := n.store.(*chaintest.Store)
	damaged := *side[0]
	damaged.Transactions = best[0].Transactions
	s.Damage(side[0].Header.ID(), &damaged)
	_, err := n.m.AddBlock(side[1])
	if _, blamed := consensus.RuleOf(err); err == nil || blamed {
		t.Errorf("adding a child of a damaged block: %v", err)
	}
	n.check()
	if _, err := chain.Verify(t.Context(), n.net, s, nil); !errors.Is(err, consensus.RuleMerkleRoot) {
		t.Errorf("verify: %v", err)
	}
}
