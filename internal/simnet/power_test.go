package simnet_test

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/simnet"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestA12TimeWarp: half of the hash power dates its blocks as late as nodes take
// them, or as early. Neither makes the chain run away.
func TestA12TimeWarp(t *testing.T) {
	for name, date := range map[string]func(s *consensus.State, now uint32) uint32{
		"late":  func(_ *consensus.State, now uint32) uint32 { return now + 60 },
		"early": func(s *consensus.State, _ uint32) uint32 { return s.MinTime() },
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Run(t, simnet.Config{}, func(n *simnet.Net) {
				a := n.Adversary()
				a.Attach(n.Nodes...)
				for _, v := range n.Nodes {
					v.SetShare(0.1)
				}
				start := n.Nodes[0].Standing().Tip
				mined := 0
				for n.Elapsed() < 4*time.Hour {
					tip := n.Nodes[0].Standing().Tip
					b := &simnet.Branch{Tip: tip.ID, Share: 0.5, Time: date}
					if tip.ChildIsSlot() {
						n.Sleep(10 * time.Second)
						continue
					}
					a.Grow(b, func(s *consensus.State) bool {
						return len(b.IDs) == 0
					})
					a.Publish(b.IDs...)
					n.Sleep(time.Second)
					if n.Nodes[0].Holds(b.Tip) {
						mined++
					}
				}
				tip := n.Nodes[0].Standing().Tip
				if mined < 20 {
					t.Fatalf("only %d blocks of the adversary's were taken", mined)
				}
				if ahead := int64(tip.Time) - int64(now()); ahead > 60 {
					t.Errorf("the chain is %d s ahead of the clock", ahead)
				}
				// 240 intervals; mining is random, and the two share it badly.
				if blocks := tip.Height - start.Height; blocks < 140 || blocks > 340 {
					t.Errorf("%d blocks in 240 intervals", blocks)
				}
				n.Agree(10 * time.Minute)
				if final := n.Nodes[0].Standing().Final.Height; final+30 < tip.Height {
					t.Errorf("final is %d at height %d", final, tip.Height)
				}
				// Before its parent and past the limit: not at all, and not yet.
				wrong := a.Mine(tip.ID, 0, func(b *types.Block) { b.Time = tip.Time })
				tip = n.Nodes[0].Standing().Tip
				far := a.Mine(tip.ID, now()+3600)
				a.Publish(wrong, far)
				n.Sleep(2 * time.Second)
				if got := a.Verdicts(wrong); len(got) == 0 || got[0] != string(consensus.RuleTimeOrder) {
					t.Errorf("verdicts on a block as old as its parent: %q", got)
				}
				if got := a.Verdicts(far); len(got) == 0 || got[0] != string(consensus.RuleTimeFuture) {
					t.Errorf("verdicts on a block of the next hour: %q", got)
				}
			})
		})
	}
}

// TestA14Eclipse: a node that hears the attacker only is shown a chain of the
// attacker's own, faster than the real one. It has no signed slot.
func TestA14Eclipse(t *testing.T) {
	cfg := simnet.Config{Nodes: append(simnet.Validators(), simnet.NodeConfig{Name: "shop"})}
	simnet.Run(t, cfg, func(n *simnet.Net) {
		a := n.Adversary()
		shop := n.Nodes[5]
		n.Finalise(shop, 10)
		n.Agree(10 * time.Minute)
		n.Split([]int{5}, []int{0, 1, 2, 3, 4})
		a.Attach(shop)
		n.Sleep(time.Second)
		before := shop.Standing()
		b := &simnet.Branch{Tip: before.Tip.ID, Share: 3}
		press(n, a, b, 90*time.Minute)
		s := shop.Standing()
		if s.Tip.Height < before.Tip.Height+60 || !shop.Holds(b.IDs[50]) {
			t.Fatalf("the node did not follow: height %d", s.Tip.Height)
		}
		if s.Tip.LastSigned != before.Tip.LastSigned || s.Certified != before.Certified || s.Final != before.Final {
			t.Errorf("signed %d, certified %d, final %d", s.Tip.LastSigned, s.Certified.Height, s.Final.Height)
		}
		for h := s.Tip.LastSigned + 1; h <= s.Tip.Height; h++ {
			if got := s.Of(h); got != consensus.ByWork {
				t.Fatalf("block %d counts as %s", h, got)
			}
		}
		if d, bad := s.Degraded(); !bad || d.Missing != consensus.BySignature {
			t.Errorf("degraded: %t, %v", bad, d)
		}
		n.Heal()
		n.Agree(20 * time.Minute)
		if shop.Holds(b.IDs[50]) {
			t.Error("the forged chain is still there")
		}
	})
}

// pay has a node's miner spend a reward with a fee, and gives the transaction to
// some pools.
func pay(n *simnet.Net, from *simnet.Node, key int, fee int64, pools ...*simnet.Node) types.Hash {
	n.T.Helper()
	var coin consensus.UTXO
	n.Until(3*time.Hour, "a reward to spend", func() (ok bool) { coin, ok = from.Reward(); return ok })
	g := chaingen.New(n.T, n.Network.Params)
	tx := g.Spend([]consensus.UTXO{coin}, chaingen.Pay(coin.Coin.Output.Value-fee, chaingen.PayToHash(key)))
	for _, p := range pools {
		if _, err := p.Pool().Add(tx); err != nil {
			n.T.Fatal(err)
		}
	}
	return tx.ID()
}

// find returns the height of the block of a node's best chain with a transaction.
func find(n *simnet.Net, a *simnet.Adversary, node *simnet.Node, tx types.Hash) (*types.Block, bool) {
	for h := uint32(1); ; h++ {
		head, ok := node.At(h)
		if !ok {
			return nil, false
		}
		b := a.Block(head.Header.ID())
		for _, id := range b.TxIDs() {
			if id == tx {
				return b, true
			}
		}
	}
}

// TestA17Censorship: validators may leave a transaction out of their slots, or
// refuse to vote. The first delays it to the next mined block, the second shows.
func TestA17Censorship(t *testing.T) {
	simnet.Run(t, simnet.Config{}, func(n *simnet.Net) {
		a := n.Adversary()
		n.Finalise(n.Nodes[0], 10)
		// Only one node's miner has heard of it.
		tx := pay(n, n.Nodes[1], 3, types.Coin, n.Nodes[1])
		n.Until(3*time.Hour, "the transaction is mined", func() bool { b, ok := find(n, a, n.Nodes[0], tx); return ok && b != nil })

		for _, v := range n.Nodes[2:] {
			v.Stop() // three of five refuse
		}
		n.Nodes = n.Nodes[:2]
		before := n.Nodes[0].Standing()
		n.Reach(n.Nodes[0], before.Tip.Height+40)
		s := n.Nodes[0].Standing()
		if s.Tip.SignedSlots < before.Tip.SignedSlots+2 {
			t.Errorf("two validators signed %d slots of four", s.Tip.SignedSlots-before.Tip.SignedSlots)
		}
		if d, bad := s.Degraded(); !bad || d.Missing != consensus.Certified {
			t.Errorf("degraded: %t, %v", bad, d)
		}
	})
}

func share(n *simnet.Net, each float64) {
	for _, v := range n.Nodes {
		v.SetShare(each)
	}
}

// TestA18FeeSniping: a validator earns nothing but fees, and a miner who wants
// those of a slot, with all the hash power there is, does not get them. Slots that
// nobody cares to sign show, and the miners go on.
func TestA18FeeSniping(t *testing.T) {
	simnet.Run(t, simnet.Config{}, func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes...)
		n.Finalise(n.Nodes[0], 10)
		var tip consensus.State
		n.Until(24*time.Hour, "miners stopped two blocks before a slot", func() bool {
			if n.Nodes[0].Standing().Tip.Height%10 != 8 {
				return false
			}
			share(n, 0)
			n.Sleep(5 * time.Second)
			if tip = n.Nodes[0].Standing().Tip; tip.Height%10 == 8 {
				return true
			}
			share(n, 0.2)
			return false
		})
		fee := int64(10 * types.Coin)
		tx := pay(n, n.Nodes[0], 2, fee, n.Nodes...)
		parent := a.Mine(tip.ID, now())
		a.Publish(parent)
		n.Sleep(10 * time.Second)
		b, ok := find(n, a, n.Nodes[0], tx)
		if !ok || !b.IsSigned() || b.Transactions[0].Outputs[1].Value != fee {
			t.Fatal("the slot's signer did not get exactly the fees")
		}
		branch := &simnet.Branch{Tip: parent, Share: 20}
		press(n, a, branch, 20*time.Minute)
		kept(n, a, b.Header.ID(), branch)

		for _, v := range n.Nodes {
			v.Stop()
		}
		miner := n.Nodes[0]
		miner.Fire() // its keys are no longer used
		miner.SetShare(1)
		miner.Start()
		n.Nodes = n.Nodes[:1]
		slot := miner.Standing().Tip.Height/10*10 + 10
		n.Reach(miner, slot+12)
		if d, bad := degraded(miner); !bad || d.Missing != consensus.BySignature || d.Since != slot {
			t.Errorf("degraded: %t, %v; the first slot missed is %d", bad, d, slot)
		}
	})
}

// TestA19WorkIsNoSubstitute: work decides among blocks since the last signed
// slot, and nothing further down.
func TestA19WorkIsNoSubstitute(t *testing.T) {
	for name, validators := range map[string]int{"certified": 5, "only signed": 2} {
		t.Run(name, func(t *testing.T) {
			simnet.Run(t, simnet.Config{}, func(n *simnet.Net) {
				a := n.Adversary()
				a.Attach(n.Nodes...)
				n.Finalise(n.Nodes[0], 10)
				for _, v := range n.Nodes[validators:] {
					v.Stop()
				}
				n.Nodes = n.Nodes[:validators]
				share(n, 1/float64(validators))
				slot := n.Nodes[0].Standing().Tip.Height/10*10 + 20
				n.Reach(n.Nodes[0], slot+5)
				n.Agree(10 * time.Minute)
				head := signedAt(n, slot)
				below := &simnet.Branch{Tip: head.PrevBlock, Share: 20}
				a.Grow(below, func(s *consensus.State) bool { return s.Height < slot+30 })
				heavy, tip := a.State(below.Tip), n.Nodes[0].Standing().Tip
				if !heavy.Work.Gt(&tip.Work) {
					t.Fatal("the branch below the slot is not heavier")
				}
				a.Serve(below.Tip)
				n.Sleep(5 * time.Minute)
				for i, v := range n.Nodes {
					if !v.Holds(head.Header.ID()) {
						t.Errorf("node %d left a signed slot for work", i)
					}
				}
				// Had it been shown in time, the branch above the slot would have won.
				fresh := n.Nodes[0].Standing().Tip
				n.Until(6*time.Hour, "early after a slot", func() bool {
					fresh = n.Nodes[0].Standing().Tip
					return fresh.Height == fresh.LastSigned+1
				})
				last, _ := n.Nodes[0].At(fresh.LastSigned)
				quick := &simnet.Branch{Tip: last.Header.ID(), Share: 1e6, Time: func(s *consensus.State, now uint32) uint32 { return s.MinTime() }}
				a.Grow(quick, func(s *consensus.State) bool { return s.Height < fresh.LastSigned+5 })
				a.Publish(quick.IDs...)
				n.Sleep(2 * time.Second)
				if !n.Nodes[0].Holds(quick.IDs[3]) {
					t.Error("work does not decide above the last signed slot")
				}
				n.Agree(20 * time.Minute)
			})
		})
	}
}
