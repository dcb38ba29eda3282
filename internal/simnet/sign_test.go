package simnet_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/simnet"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/syncer"
	"qcitycoin.org/qcity/signer"
)

// TestA06HeaderSpam floods nodes with blocks of slots, which cost no work:
// without a key, and with a stolen one.
func TestA06HeaderSpam(t *testing.T) {
	simnet.Run(t, still(), func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes...)
		lead(n, a, 29)
		n.Sleep(30 * time.Second)
		slot := signedAt(n, 30)
		parent := slot.PrevBlock
		stored := n.Nodes[0].Stored()

		// No key: every signature is another block's.
		for i := range 1000 {
			b := chaingen.Clone(a.Block(a.Sign(parent, uint8(i%5), now())))
			b.VchBlockSig = append([]byte{uint8(i % 5)}, slot.VchBlockSig[1:]...)
			a.Send(n.Nodes[0], syncer.Block{Block: b})
		}
		n.Sleep(10 * time.Second)
		if got := n.Nodes[0].Stored(); got != stored {
			t.Errorf("%d blocks were stored", got-stored)
		}
		if !a.Dropped(n.Nodes[0]) {
			t.Error("the sender is still connected")
		}

		// A stolen key: every signature is good.
		thief := uint8(4)
		stored = n.Nodes[1].Stored()
		for range 1000 {
			a.Send(n.Nodes[1], syncer.Block{Block: a.Block(a.Sign(parent, thief, now()))})
		}
		n.Sleep(10 * time.Second)
		for i, node := range n.Nodes {
			if got := node.Stored(); got <= stored || got > stored+3 {
				t.Errorf("node %d stored %d of 1,000 twins", i, got-stored)
			}
		}
		n.Calmly(n.Nodes[0], n.Nodes[2], n.Nodes[3], n.Nodes[4])
		a.Attach(n.Nodes[0])
		lead(n, a, 49)
		n.Finalise(n.Nodes[0], 40)
		n.Agree(time.Minute)
	})
}

// TestA07Grinding holds that nothing a miner can choose decides who may sign.
func TestA07Grinding(t *testing.T) {
	simnet.Run(t, still(), func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes...)
		tip := lead(n, a, 8)
		for range 50 {
			s := a.State(a.Mine(tip, now()))
			for rank := range uint32(5) {
				if got, want := s.ValidatorOfRank(rank), uint8((1+rank)%5); got != want {
					t.Fatalf("rank %d is validator %d, want %d", rank, got, want)
				}
			}
		}
		lead(n, a, 61)
		for height, by := range n.Nodes[0].Signers() {
			if height > 10 && by != uint8(height/10%5) {
				t.Errorf("slot %d was signed by %d", height, by)
			}
		}
	})
}

// TestA08TwinSlots: a copy of the key in turn signs a second block at its slot,
// and shows the two to one half of the network each.
func TestA08TwinSlots(t *testing.T) {
	simnet.Run(t, still(), func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes...)
		lead(n, a, 38)
		cloned := uint8(4) // in turn at slot 40
		key := n.Network.Validators[cloned]
		parent := a.Mine(n.Nodes[0].Standing().Tip.ID, now())
		twin := a.Sign(parent, cloned, now()+1)
		for _, node := range n.Nodes[:3] {
			a.Send(node, syncer.Block{Block: a.Block(parent)}, syncer.Block{Block: a.Block(twin)})
		}
		for _, node := range n.Nodes[3:] {
			a.Send(node, syncer.Block{Block: a.Block(parent)})
		}
		n.Certify(n.Nodes[0], 40)
		n.Agree(time.Minute)
		signedAt(n, 40)
		lead(n, a, 69)
		n.Finalise(n.Nodes[0], 50)
		n.Agree(time.Minute)
		for i, node := range n.Nodes {
			s := node.Standing()
			if d := s.Tip.Proven().Disabled; len(d) != 1 || d[0] != key {
				t.Errorf("node %d: disabled are %v, want validator %d", i, d, cloned)
			}
		}
		// It is in turn at slot 90 again; the next in rank signs.
		lead(n, a, 91)
		if by := n.Nodes[0].Signers()[90]; by != 0 {
			t.Errorf("slot 90 was signed by %d", by)
		}
		n.Finalise(n.Nodes[0], 80)
	})
}

// TestA08CloneInASplit: a stolen key helps each half of the other four to
// certificates for blocks of its own. Both are certified, none of them final while
// it lasts, and when they meet again the key is found out and disabled.
//
// After that the four go on as before. Unless each half has voted from its own
// slot for one more, which the thief has no part in: then S2 keeps them from
// meeting, and with the fifth key disabled nothing is certified any more, which
// nodes say and the chain does not wait for (docs/votes.md, "What the strict rule
// costs").
func TestA08CloneInASplit(t *testing.T) {
	for name, c := range map[string]struct {
		slots  int
		stalls bool
	}{"one slot": {1, false}, "two slots": {2, false}, "one slot and votes from it": {1, true}} {
		t.Run(name, func(t *testing.T) {
			simnet.Run(t, still(), func(n *simnet.Net) {
				a := n.Adversary()
				a.Attach(n.Nodes...)
				lead(n, a, 28)
				thief := uint8(3) // in turn at slot 30
				n.Nodes[thief].Stop()
				n.Nodes = keep(n.Nodes, []int{0, 1, 2, 4})
				n.Split([]int{0, 1}, []int{2, 4})
				final := n.Nodes[0].Standing().Final
				for range c.slots {
					for _, half := range [][]*simnet.Node{n.Nodes[:2], n.Nodes[2:]} {
						helpHalf(n, a, half, thief)
					}
				}
				if n.Nodes[0].Standing().Certified == n.Nodes[3].Standing().Certified {
					t.Fatal("the halves certified the same")
				}
				if a, b := n.Nodes[0].Standing().Final, n.Nodes[3].Standing().Final; a != final || b != final {
					t.Errorf("final rose from %d to %d and %d", final.Height, a.Height, b.Height)
				}
				if c.stalls {
					for _, half := range [][]*simnet.Node{n.Nodes[:2], n.Nodes[2:]} {
						signHalf(n, a, half)
					}
				}
				n.Heal()
				for _, node := range n.Nodes {
					node.ResetDeepest()
				}
				lead(n, a, 91)
				for _, node := range n.Nodes {
					s := node.Standing()
					if !slices.Contains(s.Tip.Proven().Disabled, n.Network.Validators[thief]) {
						t.Error("the thief's key is not disabled")
					}
					if node.Deepest() >= 30 {
						t.Errorf("a reorganisation of %d blocks", node.Deepest())
					}
					if s.Tip.LastSigned != 90 {
						t.Errorf("the last signed slot is %d at height %d", s.Tip.LastSigned, s.Tip.Height)
					}
					d, bad := s.Degraded()
					if c.stalls != (bad && d.Missing == consensus.Certified) || c.stalls == (s.Final.Height >= 50) {
						t.Errorf("degraded: %t, %v; certified %d, final %d", bad, d, s.Certified.Height, s.Final.Height)
					}
				}
			})
		})
	}
}

// helpHalf brings half of the network to its next slot, signs that with a stolen
// key and votes for it.
func helpHalf(n *simnet.Net, a *simnet.Adversary, half []*simnet.Node, thief uint8) {
	n.T.Helper()
	send := func(list ...syncer.Message) {
		for _, node := range half {
			a.Send(node, list...)
		}
	}
	source := half[0].Standing().Certified
	for half[0].Standing().Tip.Height%10 != 8 {
		send(syncer.Block{Block: a.Block(a.Mine(half[0].Standing().Tip.ID, now()))})
		n.Sleep(time.Minute)
	}
	parent := a.Mine(half[0].Standing().Tip.ID, now()+1)
	s := a.State(parent)
	slot := a.Sign(parent, thief, s.Time+s.Rank(thief)*n.Network.RankStepSeconds)
	send(syncer.Block{Block: a.Block(parent)})
	n.Sleep(time.Duration(s.Rank(thief)*n.Network.RankStepSeconds)*time.Second + time.Second)
	target := slot
	if tip := half[0].Standing().Tip; tip.Height == s.Height+1 {
		target = tip.ID // an honest validator came first
	}
	send(syncer.Block{Block: a.Block(target)}, syncer.Attestation{Vote: a.Vote(source.ID, target, thief)})
	n.Until(10*time.Minute, "certified in one half", func() bool {
		return half[0].Standing().Certified.Height > source.Height && half[1].Standing().Certified == half[0].Standing().Certified
	})
}

// signHalf brings half of the network to its next slot, which it signs itself.
func signHalf(n *simnet.Net, a *simnet.Adversary, half []*simnet.Node) {
	n.T.Helper()
	slot := half[0].Standing().Tip.Height/10*10 + 10
	n.Until(time.Hour, "signed in one half", func() bool {
		if tip := half[0].Standing().Tip; tip.Height < slot-1 {
			id := a.Mine(tip.ID, now())
			for _, node := range half {
				a.Send(node, syncer.Block{Block: a.Block(id)})
			}
			n.Sleep(time.Minute)
		}
		return half[0].Standing().Tip.LastSigned == slot && half[1].Standing().Tip.LastSigned == slot
	})
	n.Sleep(time.Minute)
}

// TestA09SeveralSign delays messages by more than a rank's step, so that several
// validators sign the same slot in good faith.
func TestA09SeveralSign(t *testing.T) {
	simnet.Run(t, simnet.Config{Delay: 25 * time.Second, Seed: 9}, func(n *simnet.Net) {
		n.Sleep(3 * time.Hour)
		twins := 0
		for height, count := range n.Nodes[0].SignedBlocks() {
			if count > 1 && height > 10 {
				twins++
			}
		}
		if twins == 0 {
			t.Fatal("no slot was signed twice: nothing was tried")
		}
		t.Logf("%d slots were signed by several", twins)
		final := n.Nodes[0].Standing().Final.Height
		if final < 30 {
			t.Errorf("final is %d after three hours", final)
		}
		n.Finalise(n.Nodes[0], final+20)
		n.Agree(time.Hour)
		for _, node := range n.Nodes {
			s := node.Standing()
			if d := s.Tip.Proven().Disabled; len(d) > 0 {
				t.Errorf("honest validators are disabled: %v", d)
			}
			if node.Deepest() >= 20 {
				t.Errorf("a reorganisation of %d blocks", node.Deepest())
			}
		}
	})
}

// TestA10WithheldSlot: the validator in turn signs in secret and shows its block
// minutes after the one of the next in rank, with blocks on top of it.
func TestA10WithheldSlot(t *testing.T) {
	for name, validators := range map[string][]int{"certified": {0, 1, 2, 4}, "only signed": {0, 4}} {
		t.Run(name, func(t *testing.T) {
			cfg := simnet.Config{Nodes: simnet.Validators()}
			simnet.Run(t, cfg, func(n *simnet.Net) {
				a := n.Adversary()
				a.Attach(n.Nodes...)
				n.Certify(n.Nodes[0], 20)
				for i, v := range n.Nodes {
					if !slices.Contains(validators, i) {
						v.Stop()
					}
				}
				n.Nodes = keep(n.Nodes, validators)
				late := uint8(3) // in turn at 30
				n.Reach(n.Nodes[0], 30)
				n.Sleep(5 * time.Second)
				good := signedAt(n, 30)
				if good.VchBlockSig[0] == late {
					t.Fatal("the validator that is down has signed")
				}
				twin := a.Sign(good.PrevBlock, late, 0)
				secret := a.Mine(twin, now())
				n.Reach(n.Nodes[0], 34)
				n.Sleep(5 * time.Second)
				for _, node := range n.Nodes {
					node.ResetDeepest()
				}
				a.Publish(twin, secret)
				n.Reach(n.Nodes[0], 36)
				n.Agree(5 * time.Minute)
				if _, ok := a.Stored(n.Nodes[0], secret); !ok {
					t.Error("the late branch was not offered")
				}
				if got := signedAt(n, 30); got.Header.ID() != good.Header.ID() {
					t.Error("the late block replaced the slot")
				}
				for _, node := range n.Nodes {
					if node.Deepest() > 2 {
						t.Errorf("a reorganisation of %d blocks", node.Deepest())
					}
				}
			})
		})
	}
}

func keep(nodes []*simnet.Node, indexes []int) (list []*simnet.Node) {
	for _, i := range indexes {
		list = append(list, nodes[i])
	}
	return list
}

// TestA11StaleValidator brings a validator back, cut off and with the chain of
// two hours ago, whose next block is a slot that is its own.
func TestA11StaleValidator(t *testing.T) {
	cfg := still()
	cfg.Nodes = append(cfg.Nodes, simnet.NodeConfig{Name: "m"})
	simnet.Run(t, cfg, func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes[5])
		miner, stale := n.Nodes[5], n.Nodes[4]
		all := n.Nodes
		lead(n, a, 38)
		for _, v := range all[:5] {
			v.Stop()
		}
		n.Nodes = all[5:]
		parent := a.Mine(miner.Standing().Tip.ID, now())
		a.Publish(parent)
		n.Sleep(time.Second)
		// The validator in turn at slot 40 has seen the parent and nothing later.
		n.Split([]int{4}, []int{5})
		stale.Start()
		a.Attach(stale)
		a.Send(stale, syncer.Block{Block: a.Block(parent)})
		n.Sleep(time.Second)
		stale.Stop()
		for h := uint32(40); h < 75; h++ {
			tip := miner.Standing().Tip
			a.Send(miner, syncer.Block{Block: a.Block(a.Mine(tip.ID, now()))})
			n.Sleep(200 * time.Second)
		}
		high := miner.Standing()
		if high.Tip.Height < 70 {
			t.Fatalf("the miners are at %d", high.Tip.Height)
		}
		stale.Start()
		n.Sleep(30 * time.Minute)
		if s := stale.Standing(); s.Tip.ID != parent {
			t.Errorf("the stale validator went on to height %d, %d signed slots", s.Tip.Height, s.Tip.SignedSlots)
		}
		// Even when its node asks, the signer does not.
		if err := stale.AskSignature(4); !isRefused(err, signer.RuleStale) {
			t.Errorf("asked for a signature it said %v", err)
		}
		n.Heal()
		n.Sleep(5 * time.Minute)
		miner.ResetDeepest()
		for _, v := range all[:4] {
			v.Start()
		}
		n.Nodes = all
		lead(n, a, high.Tip.Height/10*10+21)
		n.Agree(10 * time.Minute)
		if !stale.Holds(high.Tip.ID) || miner.Deepest() > 0 {
			t.Errorf("what was mined meanwhile is kept: %t, reorganised %d", stale.Holds(high.Tip.ID), miner.Deepest())
		}
		if s := miner.Standing(); s.Of(high.Tip.Height) == consensus.ByWork {
			t.Error("nothing has been signed since")
		}
	})
}

func isRefused(err error, rule signer.Rule) bool { return errors.Is(err, rule) }
