package syncer

import (
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// couple connects two relays and carries their messages to and fro until they
// have nothing more to say. It returns how many were carried.
func couple(a, b *rig) (carried int) {
	atA, atB := &fakePeer{}, &fakePeer{} // a's peer is b
	a.Connect(atA)
	b.Connect(atB)
	return carry(a, b, atA, atB)
}

func carry(a, b *rig, atA, atB *fakePeer) (carried int) {
	for {
		fromA, fromB := atA.take(), atB.take()
		if len(fromA)+len(fromB) == 0 {
			return carried
		}
		carried += len(fromA) + len(fromB)
		for _, m := range fromA {
			b.Handle(atB, m)
		}
		for _, m := range fromB {
			a.Handle(atA, m)
		}
	}
}

// TestCatchesUpFromGenesis has a new node fetch a chain of several answers'
// length, its newest certificates and votes.
func TestCatchesUpFromGenesis(t *testing.T) {
	g := generator(t)
	g.Fill("a", 700)
	full, empty := newRig(t, g), newRig(t, g)
	full.load(g.Path("a700")...)
	full.chain.certificates = append(full.chain.certificates, *g.Certificate("genesis", "a690", 0, 1, 2))
	full.Publish(g.Vote("a690", "a700", 4))
	couple(full, empty)
	if got := empty.chain.Tip(); got.ID != g.Tip().State.ID {
		t.Errorf("the new node is at height %d, want 700", got.Height)
	}
	if len(empty.chain.certificates) != 1 || empty.chain.voted() != 1 {
		t.Errorf("it has %d certificates and %d votes", len(empty.chain.certificates), empty.chain.voted())
	}
	// 6 answers of at most 128 blocks; each costs an ask and a tip.
	if full.chain.added != 700 {
		t.Errorf("the full node was sent blocks: %d added", full.chain.added)
	}
	if empty.chain.added > 700 {
		t.Errorf("%d blocks were sent for 700", empty.chain.added)
	}
}

// TestLongBranchIsFollowedToItsEnd has the asking node not take up the branch it
// is fetching before it has all of it, as when only its last certificate makes
// it the better one.
func TestLongBranchIsFollowedToItsEnd(t *testing.T) {
	g := generator(t)
	g.Fill("a", 400)
	g.SetTip("a5")
	g.Fill("b", 400)
	x, y := newRig(t, g), newRig(t, g)
	x.load(g.Path("a400")...)
	y.load(g.Path("b400")...)
	x.chain.stays, y.chain.stays = true, true
	couple(x, y)
	for name, r := range map[string]*rig{"b400": x, "a400": y} {
		if _, ok, _ := r.chain.State(g.Node(name).State.ID); !ok {
			t.Errorf("the end of the other branch, %s, did not arrive", name)
		}
	}
}

func TestUnknownParentIsAskedFor(t *testing.T) {
	g := generator(t)
	g.Fill("a", 3)
	r := newRig(t, g)
	p := r.join()
	r.Handle(p, Block{Block: g.Node("a3").Block})
	list := p.take()
	if v := only[Verdict](list); len(v) != 1 || v[0].Rule != UnknownParent {
		t.Errorf("verdicts %v", v)
	}
	if len(only[Ask](list)) != 1 {
		t.Fatal("nothing was asked for")
	}
	for _, b := range g.Path("a3") {
		r.Handle(p, Block{b, true})
	}
	if r.chain.Tip().Height != 3 {
		t.Errorf("height %d after the answer", r.chain.Tip().Height)
	}
}

// TestAsksThatLeadNowhere counts how often a peer that claims to know more, and
// never gives it, is asked in an hour, and that a good one is asked at once.
func TestAsksThatLeadNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := generator(t)
		r := newRig(t, g)
		p := r.join()
		asks := 0
		for range 3600 {
			r.Handle(p, Tip{Checkpoint: consensus.Checkpoint{Height: 1000, ID: types.Hash{1}}, Ends: true})
			asks += len(only[Ask](p.take()))
			time.Sleep(time.Second)
		}
		if asks > 66 {
			t.Errorf("asked %d times in an hour", asks)
		}
		if asks < 50 {
			t.Errorf("asked %d times in an hour: a peer that comes back would wait too long", asks)
		}
		other := r.join()
		r.Handle(other, Tip{Checkpoint: consensus.Checkpoint{Height: 1000, ID: types.Hash{1}}, Ends: true})
		if len(only[Ask](other.take())) != 1 {
			t.Error("another peer was not asked at once")
		}
	})
}

// TestLostAnswerIsAskedForAgain loses an ask's answer on the way.
func TestLostAnswerIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := generator(t)
		g.Fill("a", 3)
		r := newRig(t, g)
		p := r.join()
		r.Handle(p, Block{Block: g.Node("a3").Block})
		r.Handle(p, Block{Block: g.Node("a3").Block})
		if n := len(only[Ask](p.take())); n != 1 {
			t.Fatalf("%d asks while the answer is under way, want 1", n)
		}
		time.Sleep(askTimeout)
		r.Handle(p, Block{Block: g.Node("a3").Block})
		if len(only[Ask](p.take())) != 1 {
			t.Error("the lost answer was not asked for again")
		}
	})
}

// TestTalkInBetween has a peer say its tip and send other blocks while its
// answer is under way, and before: neither ends the answer or is part of it.
func TestTalkInBetween(t *testing.T) {
	g := generator(t)
	g.Fill("a", 100)
	tip := g.Tip().State
	g.SetTip("genesis")
	other := g.Next("b1").Block
	r := newRig(t, g)
	r.limits.Blocks = Rate{}
	p := &fakePeer{}
	r.Connect(p)
	for _, b := range g.Path("a100") {
		r.Handle(p, Tip{Checkpoint: tip.Checkpoint()})
		r.Handle(p, Block{Block: other})
		r.Handle(p, Block{b, true})
	}
	if n := len(only[Ask](p.take())); n != 1 || r.chain.Tip().Height != 100 {
		t.Errorf("%d asks, height %d", n, r.chain.Tip().Height)
	}
}

func TestLocator(t *testing.T) {
	g := generator(t)
	g.Fill("a", 300)
	r := newRig(t, g)
	r.load(g.Path("a300")...)
	tip := g.Tip().State.ID
	g.SetTip("a5")
	r.load(g.Next("b6").Block)
	for name, c := range map[string]struct{ last, first types.Hash }{
		"nothing followed":         {types.Hash{}, tip},
		"followed to a branch":     {g.Node("b6").State.ID, g.Node("b6").State.ID},
		"followed here":            {g.Node("a7").State.ID, tip},
		"what followed is missing": {types.Hash{7}, tip},
	} {
		list, err := r.locator(c.last)
		if err != nil || list[0] != c.first {
			t.Errorf("%s: %v, the first is %s", name, err, list[0])
		}
	}
	list, err := r.locator(g.Node("b6").State.ID)
	if err != nil {
		t.Fatal(err)
	}
	if list[1] != tip || len(list) > 20 {
		t.Errorf("%d ids, the second %s", len(list), list[1])
	}
	last := uint32(301)
	for _, id := range list[1:] {
		s, ok, _ := r.chain.State(id)
		if !ok || s.Height >= last {
			t.Errorf("height %d after %d", s.Height, last)
		}
		last = s.Height
	}
}

// TestAnswers asks from various places.
func TestAnswers(t *testing.T) {
	g := generator(t)
	g.Fill("a", 200)
	g.SetTip("a150")
	g.Fill("b", 3)
	r := newRig(t, g)
	r.load(g.Path("a200")...)
	r.load(g.Path("b3")[150:]...)
	id := func(name string) types.Hash { return g.Node(name).State.ID }
	for name, c := range map[string]struct {
		locator []types.Hash
		first   string
		count   int
	}{
		"nothing known":        {nil, "a1", 128},
		"strange blocks only":  {[]types.Hash{{1}, {2}}, "a1", 128},
		"in step":              {[]types.Hash{id("a200")}, "", 0},
		"behind":               {[]types.Hash{id("a190"), id("a100")}, "a191", 10},
		"on a side chain":      {[]types.Hash{id("b3"), id("b2"), id("b1"), id("a140")}, "a141", 60},
		"unknown, then behind": {[]types.Hash{{1}, id("a198")}, "a199", 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.join()
			r.Handle(p, Ask{c.locator})
			list := p.take()
			got := only[Block](list)
			if len(got) != c.count || (c.count > 0 && got[0].Block != g.Node(c.first).Block) {
				t.Errorf("%d blocks, want %d from %q on", len(got), c.count, c.first)
			}
			if end, ok := list[len(list)-1].(Tip); !ok || end.Checkpoint.ID != id("a200") {
				t.Error("the answer does not end with the tip")
			}
		})
	}
}

func TestAnswerIsBoundedInBytes(t *testing.T) {
	g := generator(t)
	g.Fill("a", 50)
	r := newRig(t, g)
	r.limits.AnswerBytes = 3 * len(g.Node("a1").Block.Bytes())
	r.load(g.Path("a50")...)
	p := r.join()
	r.Handle(p, Ask{})
	if n := len(only[Block](p.take())); n != 3 {
		t.Errorf("%d blocks, want 3", n)
	}
}
