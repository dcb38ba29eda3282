package simnet_test

import (
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"qcitycoin.org/qcity/internal/simnet"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/syncer"
	"qcitycoin.org/qcity/node/types"
)

// still is five validators whose own miners stand still: the adversary is the
// only miner, so that a test says when a block is found.
func still() simnet.Config {
	cfg := simnet.Config{Nodes: simnet.Validators()}
	for i := range cfg.Nodes {
		cfg.Nodes[i].Share = 0
	}
	return cfg
}

// lead mines honestly, one block an interval, until all nodes have a height. A
// slot that nobody signs gets its fallback block.
func lead(n *simnet.Net, a *simnet.Adversary, height uint32) types.Hash {
	n.T.Helper()
	for end := n.Elapsed() + 24*time.Hour; n.Elapsed() < end; {
		tip := n.Nodes[0].Standing().Tip
		if tip.Height >= height {
			n.Until(time.Minute, "all at one height", func() bool {
				for _, node := range n.Nodes {
					if node.Standing().Tip.ID != tip.ID {
						return false
					}
				}
				return true
			})
			return tip.ID
		}
		n.Sleep(minutes(n, 1))
		if tip := n.Nodes[0].Standing().Tip; tip.Height < height && tip.MinedTime() <= now() {
			a.Publish(a.Mine(tip.ID, now()))
		}
	}
	n.T.Fatalf("height %d is out of reach", height)
	return types.Hash{}
}

func now() uint32 { return uint32(time.Now().Unix()) }

// signedAt fails the test unless all nodes have the same signed block at a slot.
func signedAt(n *simnet.Net, height uint32) types.SignedHeader {
	n.T.Helper()
	first, ok := n.Nodes[0].At(height)
	for _, node := range n.Nodes {
		b, there := node.At(height)
		if !ok || !there || !b.IsSigned() || b.Header.ID() != first.Header.ID() {
			n.T.Fatalf("slot %d is not the same signed block everywhere", height)
		}
	}
	return first
}

// press keeps offering a branch that grows, as one would who hopes to be followed.
func press(n *simnet.Net, a *simnet.Adversary, b *simnet.Branch, d time.Duration) {
	for end := n.Elapsed() + d; n.Elapsed() < end; {
		next := min(n.Elapsed()+time.Minute, end)
		a.Grow(b, func(s *consensus.State) bool { return n.Elapsed() < next && s.Time <= now() })
		if left := next - n.Elapsed(); left > 0 {
			n.Sleep(left)
		}
		a.Serve(b.Tip)
	}
}

// kept fails the test unless all nodes have a block on their best chain, and
// know of the branch that lost.
func kept(n *simnet.Net, a *simnet.Adversary, id types.Hash, lost *simnet.Branch) {
	n.T.Helper()
	for i, node := range n.Nodes {
		if !node.Holds(id) {
			n.T.Errorf("node %d gave the block up", i)
		}
		if _, ok := a.Stored(node, lost.IDs[0]); !ok {
			n.T.Errorf("node %d was never offered the branch", i)
		}
	}
}

// TestA01ForgedExpiry: a secret branch puts fallback blocks with forged times in
// the place of signed slots, with nine times the hash power of all others.
func TestA01ForgedExpiry(t *testing.T) {
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
				for _, v := range n.Nodes {
					v.SetShare(1 / float64(validators))
				}
				slot := n.Nodes[0].Standing().Tip.Height/10*10 + 20
				n.Reach(n.Nodes[0], slot)
				n.Sleep(10 * time.Second)
				head := signedAt(n, slot)
				b := &simnet.Branch{Tip: head.PrevBlock, Share: 9}
				a.Grow(b, func(s *consensus.State) bool { return s.Height < slot+25 })
				n.Sleep(2 * time.Minute)
				mine, theirs := a.State(b.Tip), n.Nodes[0].Standing().Tip
				if !mine.Work.Gt(&theirs.Work) || mine.Height <= theirs.Height {
					t.Fatalf("the branch is no threat: height %d to %d", mine.Height, theirs.Height)
				}
				press(n, a, b, 30*time.Minute)
				kept(n, a, head.Header.ID(), b)
				for _, node := range n.Nodes {
					if node.Deepest() >= 10 {
						t.Errorf("a reorganisation of %d blocks", node.Deepest())
					}
				}
				n.Agree(10 * time.Minute)
			})
		})
	}
}

// TestA02BackdatedParent: the miner of the block before a slot dates it back as
// far as it can, and so has a valid fallback block at once.
func TestA02BackdatedParent(t *testing.T) {
	simnet.Run(t, still(), func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes...)
		tip := lead(n, a, 8)
		n.Sleep(400 * time.Second)
		before := a.State(tip)
		parent := a.Mine(tip, before.Time+1)
		fallback := a.Mine(parent, now())
		a.Publish(parent, fallback)
		n.Sleep(5 * time.Minute)
		if _, ok := a.Stored(n.Nodes[0], fallback); !ok {
			t.Error("the fallback block is not valid: nothing was tried")
		}
		b := signedAt(n, 10)
		if b.PrevBlock != parent {
			t.Error("the slot does not follow the backdated block")
		}
		if s := n.Nodes[0].Standing(); s.Certified.Height != 10 {
			t.Errorf("certified is %d", s.Certified.Height)
		}
	})
}

// TestA03PreEmption: a fallback block is sent with the parent, its time far
// enough ahead to be valid. The validators have the last turn only.
func TestA03PreEmption(t *testing.T) {
	simnet.Run(t, still(), func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes...)
		tip := lead(n, a, 8)
		for _, v := range n.Nodes[1:] { // 0 has rank 4 at slot 10
			v.Stop()
		}
		n.Nodes = n.Nodes[:1]
		parent := a.Mine(tip, now())
		fallback := a.Mine(parent, 0)
		a.Publish(parent, fallback)
		n.Sleep(75 * time.Second)
		if got := a.Verdicts(fallback); len(got) == 0 || got[0] != "" {
			t.Errorf("verdicts on the fallback block: %q", got)
		}
		if h := n.Nodes[0].Standing().Tip.Height; h != 9 {
			t.Errorf("height %d before the validator's turn", h)
		}
		n.Sleep(5 * time.Minute)
		signedAt(n, 10)
		if _, ok := a.Stored(n.Nodes[0], fallback); !ok {
			t.Error("the fallback block was not taken at all: nothing was tried")
		}
	})
}

// TestA04Replay hangs a validator's signature on everything but what it signed.
func TestA04Replay(t *testing.T) {
	simnet.Run(t, still(), func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes...)
		lead(n, a, 29)
		n.Sleep(10 * time.Second)
		old, slot := signedAt(n, 20), signedAt(n, 30)
		sibling := a.Mine(func() types.Hash { b, _ := n.Nodes[0].At(28); return b.Header.ID() }(), now())
		index := slot.VchBlockSig[0]
		replay := func(parent types.Hash, index uint8, sig []byte) *types.Block {
			b := chaingen.Clone(a.Block(a.Sign(parent, index, now())))
			b.VchBlockSig = sig
			return b
		}
		foreign := chaingen.Clone(a.Block(a.Sign(slot.PrevBlock, index, now())))
		foreign.VchBlockSig = types.BlockSig{Index: index, Signature: a.Key(n.Network.Validators[index]).Sign(
			consensus.SlotDigest(types.Hash{1}, consensus.ValidatorSet{Keys: n.Network.Validators}.ID(), 30, foreign.Header.ID()))}.Bytes()
		set := chaingen.Clone(a.Block(a.Sign(slot.PrevBlock, index, now())))
		set.VchBlockSig = types.BlockSig{Index: index, Signature: a.Key(n.Network.Validators[index]).Sign(
			consensus.SlotDigest(n.Network.ID, consensus.ValidatorSet{Number: 1, Keys: n.Network.Validators}.ID(), 30, set.Header.ID()))}.Bytes()
		for name, b := range map[string]*types.Block{
			"another block of the slot": replay(slot.PrevBlock, index, slot.VchBlockSig),
			"another parent":            replay(sibling, index, slot.VchBlockSig),
			"another height":            replay(slot.PrevBlock, old.VchBlockSig[0], old.VchBlockSig),
			"another network":           foreign,
			"another validator set":     set,
		} {
			victim := n.Nodes[0]
			stored := victim.Stored()
			a.Attach(victim)
			a.Send(victim, syncer.Block{Block: a.Block(sibling)}, syncer.Block{Block: b})
			n.Sleep(time.Second)
			if got := a.Verdicts(b.Header.ID()); len(got) != 1 || got[0] != string(consensus.RuleBlockSig) {
				t.Errorf("%s: verdicts %q", name, got)
			}
			if _, ok := a.Stored(victim, b.Header.ID()); ok || victim.Stored() > stored+1 {
				t.Errorf("%s: stored", name)
			}
		}
	})
}

// TestA05SignatureMalleability spoils a signed block in every way on its way to
// a node that is then given the good one.
func TestA05SignatureMalleability(t *testing.T) {
	simnet.Run(t, still(), func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes...)
		victim := n.Nodes[4]
		lead(n, a, 19)
		n.Sleep(10 * time.Second)
		lead(n, a, 28)
		n.Split([]int{0, 1, 2, 3}, []int{4})
		parent := a.Mine(n.Nodes[0].Standing().Tip.ID, now())
		a.Publish(parent)
		n.Sleep(10 * time.Second)
		good, ok := n.Nodes[0].At(30)
		if !ok || !good.IsSigned() {
			t.Fatal("slot 30 is not signed")
		}
		for name, c := range map[string]struct {
			rule  consensus.Rule
			spoil func(sig []byte) []byte
		}{
			"high S":        {consensus.RuleBlockSig, highS},
			"a bit flipped": {consensus.RuleBlockSig, func(s []byte) []byte { s[40] ^= 1; return s }},
			"another index": {consensus.RuleSlotEarly, func(s []byte) []byte { s[0] = (s[0] + 1) % 5; return s }},
			"stripped":      {consensus.RuleFallback, func([]byte) []byte { return nil }},
			"cut short":     {consensus.RuleSigFormat, func(s []byte) []byte { return s[:64] }},
			"lengthened":    {consensus.RuleSigFormat, func(s []byte) []byte { return append(s, 0) }},
		} {
			a.Attach(victim)
			b := chaingen.Clone(a.Block(good.Header.ID()))
			b.VchBlockSig = c.spoil(b.VchBlockSig)
			was := len(a.Verdicts(b.Header.ID()))
			a.Send(victim, syncer.Block{Block: b})
			n.Sleep(time.Second)
			if got := a.Verdicts(b.Header.ID()); len(got) != was+1 || got[was] != string(c.rule) {
				t.Errorf("%s: verdicts %q, want %s", name, got[was:], c.rule)
			}
		}
		if h := victim.Standing().Tip.Height; h != 29 {
			t.Fatalf("the victim is at height %d", h)
		}
		n.Heal()
		n.Agree(time.Minute)
		signedAt(n, 30)
		n.Sleep(time.Minute)
		lead(n, a, 39)
		n.Finalise(victim, 30)
	})
}

// highS turns s of a signature into its negative, which verifies as well where
// nobody looks.
func highS(sig []byte) []byte {
	var s secp256k1.ModNScalar
	s.SetByteSlice(sig[33:])
	s.Negate()
	b := s.Bytes()
	return append(sig[:33:33], b[:]...)
}
