package syncer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

func TestNewBlockIsPassedOnOnce(t *testing.T) {
	g := generator(t)
	b := g.Next("a1").Block
	r := newRig(t, g)
	from, x, y := r.join(), r.join(), r.join()
	r.Handle(from, Block{Block: b})
	r.Handle(x, Block{Block: b})
	for _, p := range []*fakePeer{x, y} {
		got := only[Block](p.take())
		if len(got) != 1 || got[0].Block != b {
			t.Errorf("another peer was sent %d blocks, want the new one once", len(got))
		}
	}
	list := from.take()
	if v := only[Verdict](list); len(v) != 1 || v[0] != (Verdict{Block: b.Header.ID()}) {
		t.Errorf("the sender was told %v, want accepted", v)
	}
	if len(only[Block](list)) != 0 {
		t.Error("the sender got its block back")
	}
}

func TestWhatIsNotNewOrNotGoodIsNotPassedOn(t *testing.T) {
	for name, c := range map[string]struct {
		fails func(*types.Block) error
		want  []Verdict
	}{
		"invalid":        {broken(consensus.RuleWork), []Verdict{{Rule: "proof-of-work"}}},
		"too early":      {broken(consensus.RuleTimeFuture), []Verdict{{Rule: "time-future"}}},
		"disk is full":   {func(*types.Block) error { return errDisk }, nil},
		"known, too old": {nil, []Verdict{{}}},
	} {
		t.Run(name, func(t *testing.T) {
			g := generator(t)
			b := g.Next("a1").Block
			r := newRig(t, g)
			if c.fails == nil {
				g.Fill("b", 30) // the clock is far past the block
			}
			r.chain.fails = c.fails
			from, other := r.join(), r.join()
			r.Handle(from, Block{Block: b})
			if got := only[Block](other.take()); len(got) != 0 {
				t.Errorf("%d blocks were passed on", len(got))
			}
			got := only[Verdict](from.take())
			for i := range c.want {
				c.want[i].Block = b.Header.ID()
			}
			if len(got) != len(c.want) || (len(got) == 1 && got[0] != c.want[0]) {
				t.Errorf("verdicts %v, want %v", got, c.want)
			}
		})
	}
}

// TestRunAnnounces holds that what the chain connects by itself, and what it
// comes to know as proven, reaches peers that joined before.
func TestRunAnnounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := generator(t)
		g.Fill("a", 10)
		r := newRig(t, g)
		p := r.join()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		synctest.Wait()
		r.load(g.Path("a10")...)
		synctest.Wait()
		got := only[Block](p.take())
		if len(got) != 10 || got[9].Block != g.Node("a10").Block {
			t.Fatalf("%d blocks were announced, want 10 in order", len(got))
		}
		c := *g.Certificate("genesis", "a10", 0, 1, 2)
		if _, err := r.chain.AddCertificate(c); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := only[Certificate](p.take()); len(got) != 1 || got[0].Certificate.Link != c.Link {
			t.Errorf("%d certificates were offered, want the new one", len(got))
		}
		time.Sleep(tipEvery)
		synctest.Wait()
		if got := only[Tip](p.take()); len(got) != 1 || got[0].Checkpoint.ID != g.Tip().State.ID {
			t.Errorf("tips %v, want one", got)
		}
	})
}

func TestOwnVoteReachesPeersNowAndLater(t *testing.T) {
	g := generator(t)
	g.Fill("a", 10)
	r := newRig(t, g)
	r.load(g.Path("a10")...)
	a := g.Vote("genesis", "a10", 2)
	p := r.join()
	r.Publish(a)
	if got := only[Attestation](p.take()); len(got) != 1 || got[0].Vote != a {
		t.Errorf("the peer was sent %d votes", len(got))
	}
	late := r.join()
	r.Handle(late, Ask{})
	if got := only[Attestation](late.take()); len(got) != 1 || got[0].Vote != a {
		t.Errorf("a peer that came later was sent %d votes", len(got))
	}
}

func TestVotesArePassedOnOnce(t *testing.T) {
	g := generator(t)
	g.Fill("a", 10)
	r := newRig(t, g)
	r.load(g.Path("a10")...)
	from, other := r.join(), r.join()
	for range 2 {
		r.Handle(from, Attestation{g.Vote("genesis", "a10", 2)})
		r.Handle(from, Certificate{*g.Certificate("genesis", "a10", 0, 1, 2)})
	}
	list := other.take()
	if a, c := only[Attestation](list), only[Certificate](list); len(a) != 1 || len(c) != 1 {
		t.Errorf("%d votes and %d certificates were passed on, want one of each", len(a), len(c))
	}
	if list := from.take(); len(list) != 0 {
		t.Errorf("the sender was told %v", list)
	}
}

// TestVotesWaitForTheirBlock sends votes before what they are for.
func TestVotesWaitForTheirBlock(t *testing.T) {
	g := generator(t)
	g.Fill("a", 10)
	r := newRig(t, g)
	path := g.Path("a10")
	r.load(path[:9]...)
	early, other := r.join(), r.join()
	r.Handle(early, Attestation{g.Vote("genesis", "a10", 2)})
	r.Handle(early, Certificate{*g.Certificate("genesis", "a10", 0, 1, 3)})
	if s := r.Stats(); s.Waiting != 2 || r.chain.voted() != 0 {
		t.Fatalf("%d votes wait", s.Waiting)
	}
	if got := only[Ask](early.take()); len(got) != 1 {
		t.Errorf("the peer was asked %d times for the block its vote is for, want once", len(got))
	}
	r.Handle(other, Block{Block: path[9]})
	if s := r.Stats(); s.Waiting != 0 || r.chain.voted() != 1 || len(r.chain.Certificates()) != 1 {
		t.Errorf("%d votes still wait, %d counted", s.Waiting, r.chain.voted())
	}
}

// TestVotesWaitForAReleasedBlock is the same where the chain adds the block
// without telling: the relay looks again by itself.
func TestVotesWaitForAReleasedBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := generator(t)
		g.Fill("a", 10)
		r := newRig(t, g)
		path := g.Path("a10")
		r.load(path[:9]...)
		p := r.join()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		r.Handle(p, Attestation{g.Vote("genesis", "a10", 2)})
		r.chain.mu.Lock()
		r.chain.stays = true
		r.chain.mu.Unlock()
		r.load(path[9])
		time.Sleep(tipEvery + time.Second)
		if r.chain.voted() != 1 {
			t.Error("the vote was not counted")
		}
	})
}

func TestSlowPeerIsDropped(t *testing.T) {
	g := generator(t)
	r := newRig(t, g)
	from, slow := r.join(), r.join()
	slow.full = true
	r.Handle(from, Block{Block: g.Next("a1").Block})
	if s := r.Stats(); !slow.isClosed() || s.Peers != 1 || s.Dropped != 1 {
		t.Errorf("slow peer closed: %t, %+v", slow.isClosed(), s)
	}
	// What it still says is not heard.
	b := g.Next("a2").Block
	r.Handle(slow, Block{Block: b})
	if _, ok, _ := r.chain.State(b.Header.ID()); ok {
		t.Error("a block of a dropped peer was taken")
	}
}

func TestDisconnectedPeerIsForgotten(t *testing.T) {
	g := generator(t)
	r := newRig(t, g)
	from, gone := r.join(), r.join()
	r.Disconnect(gone)
	r.Handle(from, Block{Block: g.Next("a1").Block})
	if len(gone.take()) != 0 || r.Stats().Peers != 1 {
		t.Error("a peer that left was sent a block")
	}
}
