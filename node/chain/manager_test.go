package chain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

func TestAddBlock(t *testing.T) {
	n := newMemNode(t)
	genesis := n.net.GenesisState()
	changed := n.m.Changed()
	blocks, top := branch(genesis, 6, 0)
	n.refused(blocks[1], chain.ErrUnknownParent)
	n.add(chain.Connected, blocks[0])
	select {
	case <-changed:
	default:
		t.Error("the tip changed and the bell did not ring")
	}
	changed = n.m.Changed()
	n.add(chain.Known, blocks[0], n.net.Genesis())
	side, sideState := recipe{tag: 9}.make(genesis)
	n.add(chain.SideChain, side)
	select {
	case <-changed:
		t.Error("the bell rang for a side chain")
	default:
	}
	n.add(chain.Connected, blocks[1:]...)
	n.add(chain.Known, side, blocks[3])
	n.tip(top)
	n.restart()

	if h, ok, err := n.m.Header(side.Header.ID()); err != nil || !ok || !cmp.Equal(h, side.SignedHeader) {
		t.Errorf("header of a side block: %v, %v, %v", h, ok, err)
	}
	if s, ok, err := n.m.State(side.Header.ID()); err != nil || !ok || !s.Equal(&sideState) {
		t.Errorf("state after a side block: %v, %v, %v", s, ok, err)
	}
	if _, ok, err := n.m.Block(types.Hash{1}); err != nil || ok {
		t.Errorf("block nobody has: %v, %v", ok, err)
	}
	outs := []types.OutPoint{output(blocks[0], 0, 0), output(side, 0, 0)}
	state, coins, err := n.m.View(outs)
	if err != nil || !state.Equal(&top) || len(coins) != 1 || coins[outs[0]].Height != 1 {
		t.Errorf("view: %v, %v, %v", state, coins, err)
	}
	if _, _, err := n.m.UpdatesSince(side.Header.ID(), 10); !errors.Is(err, chain.ErrUnknownBlock) {
		t.Errorf("updates since a block that was never connected: %v", err)
	}
	want := []chain.TipInfo{
		{Height: 1, ID: side.Header.ID(), BranchLength: 1, Status: chain.TipValidHeaders},
		{Height: 6, ID: top.ID, Status: chain.TipActive},
	}
	if tips, err := n.m.Tips(); err != nil || !cmp.Equal(tips, want) {
		t.Errorf("tips: %v, %v", tips, err)
	}
	if r := verify(t, n.net, n.store); r.Blocks != 7 || r.SideBlocks != 1 || r.Coins != 6 || r.Supply != 5*testSubsidy {
		t.Errorf("report: %+v", r)
	}
}

// TestRefused: what is refused before it is stored is not remembered either.
func TestRefused(t *testing.T) {
	type change struct {
		name string
		rule consensus.Rule
		edit func(parent consensus.State, b *types.Block)
	}
	redo := func(parent consensus.State, b *types.Block) { solve(&parent, b) }
	for _, c := range []change{
		{"time", consensus.RuleTimeOrder, func(p consensus.State, b *types.Block) { b.Time = p.Time; redo(p, b) }},
		{"bits", consensus.RuleBits, func(p consensus.State, b *types.Block) { b.Bits--; redo(p, b) }},
		{"other transactions", consensus.RuleMerkleRoot, func(_ consensus.State, b *types.Block) { b.Transactions[0].LockTime++ }},
		{"repeated transaction", consensus.RuleMerkleMutated, func(_ consensus.State, b *types.Block) {
			b.Transactions = append(b.Transactions, b.Transactions[len(b.Transactions)-1])
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newMemNode(t)
			blocks, top := branch(n.net.GenesisState(), 2, 0)
			n.add(chain.Connected, blocks...)
			txs := []*types.Transaction{
				{Version: 1, Inputs: []types.TxIn{{}}, Outputs: []types.TxOut{{}}},
				{Version: 2, Inputs: []types.TxIn{{}}, Outputs: []types.TxOut{{}}},
			}
			if c.rule != consensus.RuleMerkleMutated {
				txs = nil
			}
			good, _ := recipe{txs: txs}.make(top)
			bad, err := types.DecodeBlock(good.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			c.edit(top, bad)
			n.refused(bad, c.rule)
			if _, known, err := n.m.InvalidReason(bad.Header.ID()); known || err != nil {
				t.Errorf("remembered: %v, %v", known, err)
			}
			if txs == nil {
				n.add(chain.Connected, good)
			} else {
				n.refused(good, consensus.RuleTxTemplate) // judged anew
			}
		})
	}
}

// TestForeignSignature: VchBlockSig is not part of a block's id. A validator
// that signs another's block must not make nodes refuse the true one.
func TestForeignSignature(t *testing.T) {
	n := newMemNode(t)
	blocks, top := branch(n.net.GenesisState(), testN-1, 0)
	n.add(chain.Connected, blocks...)
	first := top.ValidatorOfRank(0)
	good, _ := recipe{signed: true, index: first}.make(top)
	for _, rule := range []consensus.Rule{consensus.RuleValidator, consensus.RuleBlockSig, consensus.RuleSigFormat, consensus.RuleFallback} {
		bad := *good
		switch rule {
		case consensus.RuleValidator:
			sign(&top, &bad, top.ValidatorOfRank(1))
		case consensus.RuleBlockSig:
			sign(&top, &bad, top.ValidatorOfRank(1))
			bad.VchBlockSig[0] = first
		case consensus.RuleSigFormat:
			bad.VchBlockSig = bad.VchBlockSig[1:]
		case consensus.RuleFallback:
			bad.VchBlockSig = nil
		}
		n.refused(&bad, rule)
	}
	n.add(chain.Connected, good)
}

// TestStrippedSignature: the same for a signed block that has proof of work.
func TestStrippedSignature(t *testing.T) {
	n := newMemNode(t)
	blocks, top := branch(n.net.GenesisState(), testN-1, 0)
	n.add(chain.Connected, blocks...)
	target := top.NextTarget()
	for tag := uint32(0); ; tag++ {
		good, _ := recipe{tag: tag, signed: true, index: top.ValidatorOfRank(0), delay: testOpen + 1}.make(top)
		if !types.HashMeets(good.Header.ID(), &target) {
			continue
		}
		bad := *good
		bad.VchBlockSig = nil
		n.refused(&bad, consensus.RuleCoinOnline)
		n.add(chain.Connected, good)
		return
	}
}

// TestReorganise goes back and forth between branches of several depths, over
// slots and with payments on either side.
func TestReorganise(t *testing.T) {
	for _, depth := range []int{1, 2, 3, 4, 5, 9, 13} {
		t.Run(fmt.Sprint(depth), func(t *testing.T) {
			n := newMemNode(t)
			base, fork := branch(n.net.GenesisState(), 3, 0)
			n.add(chain.Connected, base...)
			coin := output(base[0], 0, 0)
			a, aTop := spendingBranch(fork, depth, 1, coin)
			n.add(chain.Connected, a...)
			b, bTop := spendingBranch(fork, depth+1, 2, coin)
			n.add(chain.SideChain, b[:depth]...)
			n.add(chain.Connected, b[depth])
			n.tip(bTop)
			n.restart()
			a2, aTop := spendingBranch(aTop, 2, 3, output(a[depth-1], 0, 0))
			n.add(chain.SideChain, a2[0])
			n.add(chain.Connected, a2[1])
			n.tip(aTop)
			n.restart()
			verify(t, n.net, n.store)
		})
	}
}

// spendingBranch builds blocks of which the first spends coin, worth a subsidy,
// twice over within the block. At slots validators sign.
func spendingBranch(parent consensus.State, count int, tag uint32, coin types.OutPoint) ([]*types.Block, consensus.State) {
	var blocks []*types.Block
	for i := range count {
		r := recipe{tag: tag, signed: parent.ChildIsSlot()}
		if r.signed {
			r.index = parent.ValidatorOfRank(0)
		}
		if i == 0 && tag < 3 { // a's own coinbase is not mature
			one := pay([]types.OutPoint{coin}, testSubsidy-1000-int64(tag), 2)
			two := pay([]types.OutPoint{{TxID: one.ID(), Index: 1}}, one.Outputs[1].Value, 1)
			r.txs = []*types.Transaction{one, two}
			r.fees = testSubsidy - one.Outputs[0].Value - one.Outputs[1].Value
		}
		var b *types.Block
		b, parent = r.make(parent)
		blocks = append(blocks, b)
	}
	return blocks, parent
}

// TestSignedBeatsWork: one signed slot outweighs any work (C8).
func TestSignedBeatsWork(t *testing.T) {
	n := newMemNode(t)
	base, fork := branch(n.net.GenesisState(), testN-1, 0)
	n.add(chain.Connected, base...)
	at := fork
	for i := range 5 {
		b, next := recipe{tag: uint32(i), delay: testOpen + 1}.make(at)
		if next.Height%testN == 0 && i > 0 {
			break
		}
		n.add(chain.Connected, b)
		at = next
	}
	signed, top := recipe{signed: true, index: fork.ValidatorOfRank(2)}.make(fork)
	n.add(chain.Connected, signed)
	n.tip(top)
	if id, ok, err := n.m.BestID(top.Height + 1); ok || err != nil {
		t.Errorf("height above the shorter chain: %v, %v, %v", id, ok, err)
	}
	n.restart()
}

func TestTies(t *testing.T) {
	pow := func(tag uint32) recipe { return recipe{tag: tag} }
	signed := func(tag uint32, rank uint32) recipe { return recipe{tag: tag, signed: true, index: uint8(rank)} }
	for _, c := range []struct {
		name string
		base int // blocks before the fork
		a, b recipe
		// more blocks on both sides before the tie is looked at
		more int
		// want: 'a' or 'b' whatever comes first; 'f' whatever comes first; 'i' the lower id
		want byte
	}{
		{"no slot yet", 1, pow(1), pow(2), 0, 'f'},
		{"slot after the fork", 1, pow(1), pow(2), 1, 'f'},
		{"lower rank", 3, signed(1, 0), signed(2, 2), 0, 'a'},
		{"lower rank, later blocks", 3, signed(1, 2), signed(2, 1), 2, 'b'},
		{"lower rank, next slot", 3, signed(1, 1), signed(2, 0), 4, 'b'},
		{"same validator twice", 3, signed(1, 1), signed(2, 1), 0, 'f'},
		{"two fallback blocks", 3, pow(1), pow(2), 0, 'i'},
		{"two fallback blocks, later", 3, pow(3), pow(4), 1, 'i'},
	} {
		for _, swap := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", c.name, swap), func(t *testing.T) {
				n := newMemNode(t)
				base, fork := branch(n.net.GenesisState(), c.base, 0)
				n.add(chain.Connected, base...)
				a, aTop := tieBranch(fork, c.a, c.more)
				b, bTop := tieBranch(fork, c.b, c.more)
				if aTop.Weight(0).Compare(bTop.Weight(0)) != 0 {
					t.Fatal("the test's chains are no tie")
				}
				aWins := c.want == 'a' || (c.want == 'f' && !swap) || (c.want == 'i' && a[0].Header.ID().Compare(b[0].Header.ID()) < 0)
				first, second := a, b
				if swap {
					first, second = b, a
				}
				n.add(chain.Connected, first...)
				for _, block := range second {
					if _, err := n.m.AddBlock(block); err != nil {
						t.Fatal(err)
					}
					n.check()
				}
				want := bTop
				if aWins {
					want = aTop
				}
				n.tip(want)
				n.restart()
			})
		}
	}
}

func tieBranch(fork consensus.State, first recipe, more int) ([]*types.Block, consensus.State) {
	if first.signed { // these recipes name ranks
		first.index = fork.ValidatorOfRank(uint32(first.index))
	}
	b, state := first.make(fork)
	blocks, top := branch(state, more, first.tag)
	return append([]*types.Block{b}, blocks...), top
}

// TestInvalid: a better branch with an invalid block in it changes nothing, and
// is remembered.
func TestInvalid(t *testing.T) {
	for _, c := range []struct {
		name string
		at   int // index of the invalid block in a branch of 4, of which the last makes it better
	}{{"first", 0}, {"middle", 1}, {"before the last", 2}, {"last", 3}} {
		t.Run(c.name, func(t *testing.T) {
			n := newMemNode(t)
			best, top := branch(n.net.GenesisState(), 3, 0)
			n.add(chain.Connected, best...)
			var bad []*types.Block
			state := n.net.GenesisState()
			for i := range 5 {
				r := recipe{tag: 7, signed: state.ChildIsSlot()}
				if r.signed {
					r.index = state.ValidatorOfRank(0)
				}
				if i == c.at {
					r.over = 1
				}
				var b *types.Block
				b, state = r.make(state)
				bad = append(bad, b)
			}
			n.add(chain.SideChain, bad[:3]...)
			genesis := n.net.GenesisState()
			other, _ := recipe{tag: 8}.make(genesis.Child(&bad[0].SignedHeader, bad[0].Transactions[0]))
			n.add(chain.SideChain, other)

			rule := consensus.RuleCoinbaseValue
			if c.at == 3 {
				rule = consensus.RuleCoinOnlinePay
				n.refused(bad[3], rule)
				if _, err := n.m.AddBlock(bad[3]); errors.Is(err, chain.ErrInvalidAncestor) {
					t.Errorf("the invalid block itself: %v", err)
				}
			} else {
				n.refused(bad[3], rule, chain.ErrInvalidAncestor)
			}
			n.tip(top)
			n.restart()
			_, err := n.m.AddBlock(bad[4])
			if !errors.Is(err, chain.ErrInvalidAncestor) || !errors.Is(err, rule) || !strings.Contains(err.Error(), bad[c.at].Header.ID().String()) {
				t.Errorf("a descendant after a restart: %v", err)
			}
			for i, b := range bad[:4] {
				why, marked, err := n.m.InvalidReason(b.Header.ID())
				if err != nil || marked != (i >= c.at) || (marked && !strings.Contains(why, string(rule))) {
					t.Errorf("block %d: %q, %v, %v", i, why, marked, err)
				}
			}
			if _, marked, err := n.m.InvalidReason(other.Header.ID()); err != nil || marked != (c.at == 0) {
				t.Errorf("block beside: %v, %v", marked, err)
			}
			if got, err := n.m.AddBlock(bad[c.at]); err == nil {
				t.Errorf("the invalid block again: %v", got)
			}
			more, _ := branch(top, 6, 0)
			n.add(chain.Connected, more...)
			verify(t, n.net, n.store)
			tips, err := n.m.Tips()
			if err != nil || len(tips) != 3 {
				t.Fatalf("tips: %v, %v", tips, err)
			}
			for _, tip := range tips {
				if tip.ID == bad[4].Header.ID() && (tip.Status != chain.TipInvalid || tip.BranchLength != 5) {
					t.Errorf("tip of the invalid branch: %+v", tip)
				}
			}
		})
	}
}

// TestInvalidBody: a body that no coins can save is remembered, too.
func TestInvalidBody(t *testing.T) {
	n := newMemNode(t)
	extra := &types.Transaction{Version: 1, Inputs: []types.TxIn{{Previous: types.NullOutPoint}}, Outputs: []types.TxOut{{}}}
	bad, state := recipe{txs: []*types.Transaction{extra}}.make(n.net.GenesisState())
	n.refused(bad, consensus.RuleExtraCoinbase)
	n.restart()
	n.refused(bad, consensus.RuleExtraCoinbase)
	child, _ := recipe{}.make(state)
	grandchild, _ := recipe{}.make(state.Child(&child.SignedHeader, child.Transactions[0]))
	n.refused(child, chain.ErrInvalidAncestor, consensus.RuleExtraCoinbase)
	n.refused(grandchild, chain.ErrInvalidAncestor, consensus.RuleExtraCoinbase)
	if _, ok, err := n.m.Block(bad.Header.ID()); ok || err != nil {
		t.Errorf("body of an invalid block: %v, %v", ok, err)
	}
	verify(t, n.net, n.store)
}

func TestWrongNetwork(t *testing.T) {
	n := newMemNode(t)
	other := testNetwork(t, func(p *consensus.Params) { p.Magic++ })
	if _, err := chain.New(other, n.store, farFuture, n.log()); err == nil || !strings.Contains(err.Error(), "data directory") {
		t.Errorf("opening another network's chain: %v", err)
	}
}
