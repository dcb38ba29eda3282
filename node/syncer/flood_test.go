package syncer

import (
	"encoding/binary"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// orphan returns a block that builds on nothing, a different one for each i.
func orphan(g interface{ Network() *consensus.Network }, i int) *types.Block {
	b := &types.Block{Transactions: g.Network().Genesis().Transactions}
	binary.LittleEndian.PutUint64(b.PrevBlock[:], uint64(i)+1)
	return b
}

func vote(i int) consensus.Attestation {
	var a consensus.Attestation
	a.Target.Height = 10
	binary.LittleEndian.PutUint64(a.Target.ID[:], uint64(i)+1)
	return a
}

// grown returns how many bytes of live memory f leaves behind.
func grown(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

const floodSize = 100_000

// TestFloods has one peer send each kind of message as fast as it can. What
// reaches the chain, what is said in return and what stays in memory is bounded,
// and where it sends what no honest node would, it is dropped.
func TestFloods(t *testing.T) {
	g := generator(t)
	g.Fill("a", 10)
	mile := make([]types.Hash, 10_000)
	for name, c := range map[string]struct {
		message    func(i int) Message
		most       int // that get as far as the chain
		mostReturn int // that are said in return
		dropped    bool
	}{
		"orphan blocks":      {func(i int) Message { return Block{Block: orphan(g, i)} }, 65, 65 + 1, true},
		"one block again":    {func(int) Message { return Block{Block: g.Node("a1").Block} }, 64, 64, true},
		"votes for nothing":  {func(i int) Message { return Attestation{vote(i)} }, 200, 1, true},
		"certificates":       {func(i int) Message { return Certificate{consensus.Certificate{Link: vote(i).Link}} }, 200, 1, true},
		"asks":               {func(int) Message { return Ask{} }, 0, 16 * 129, true},
		"tips":               {func(i int) Message { return Tip{Checkpoint: consensus.Checkpoint{ID: vote(i).Target.ID}} }, 0, 1, false},
		"verdicts":           {func(i int) Message { return Verdict{Block: vote(i).Target.ID, Rule: "bits"} }, 0, 0, false},
		"locators of a mile": {func(int) Message { return Ask{mile} }, 0, 0, true},
		"blocks, work missing": {func(i int) Message {
			b := orphan(g, i)
			b.PrevBlock, b.Nonce = g.Node("a10").State.ID, uint32(i)
			return Block{Block: b}
		}, 64, 64, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, g)
				r.load(g.Path("a10")...)
				r.chain.added = 0
				if name == "blocks, work missing" {
					r.chain.fails = broken(consensus.RuleWork)
				}
				p := r.join()
				bytes := grown(func() {
					for i := range floodSize {
						r.Handle(p, c.message(i))
					}
				})
				said := p.take()
				if got := r.chain.added + r.chain.asked; got > c.most {
					t.Errorf("%d reached the chain, want at most %d", got, c.most)
				}
				if len(said) > c.mostReturn {
					t.Errorf("%d messages in return, want at most %d", len(said), c.mostReturn)
				}
				// The peer's own record of what it was sent counts in here, and the test's noise.
				if bytes > 1<<20 {
					t.Errorf("%d bytes stay in memory", bytes)
				}
				if p.isClosed() != c.dropped {
					t.Errorf("dropped: %t, want %t", p.isClosed(), c.dropped)
				}
				t.Logf("of %d: %d reached the chain, %d said in return, %d kB stay in memory, dropped: %t",
					floodSize, r.chain.added+r.chain.asked, len(said), bytes>>10, p.isClosed())
			})
		})
	}
}

// TestPatientFlood fills everything that is kept for a peer, at rates that are
// let through: it must not grow for ever.
func TestPatientFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := generator(t)
		r := newRig(t, g)
		p := r.join()
		flood := func(from, to int) {
			for i := from; i < to; i++ {
				c := consensus.Certificate{Link: vote(i).Link, Signatures: make([][64]byte, consensus.MaxVoters)}
				r.Handle(p, Certificate{c})
				r.Handle(p, Block{Block: orphan(g, i)})
				p.take()
				time.Sleep(300 * time.Millisecond)
			}
		}
		first := grown(func() { flood(0, 1000) })
		then := grown(func() { flood(1000, 11_000) })
		if s := r.Stats(); s.Waiting != r.limits.Waiting || s.Limited != 0 || p.isClosed() {
			t.Errorf("%d votes wait, %d refused, dropped: %t", s.Waiting, s.Limited, p.isClosed())
		}
		if first > 512<<10 || then > 64<<10 {
			t.Errorf("%d bytes stay after 1,000 messages of each kind, %d more after 10,000", first, then)
		}
		t.Logf("%d kB stay after 1,000 messages of each kind, %d kB more after 10,000", first>>10, then>>10)
	})
}

// TestAFloodLeavesOthersAlone holds that another peer is served while one floods.
func TestAFloodLeavesOthersAlone(t *testing.T) {
	g := generator(t)
	r := newRig(t, g)
	bad, good := r.join(), r.join()
	for i := range 1000 {
		r.Handle(bad, Block{Block: orphan(g, i)})
	}
	b := g.Next("a1").Block
	r.Handle(good, Block{Block: b})
	if v := only[Verdict](good.take()); len(v) != 1 || v[0].Rule != "" || r.chain.Tip().Height != 1 {
		t.Errorf("verdicts %v, height %d", v, r.chain.Tip().Height)
	}
}

func TestVerdictsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := generator(t)
		r := newRig(t, g)
		r.limits.Blocks = Rate{1e6, 1e6}
		p := r.join()
		b := g.Next("a1").Block
		for range 1000 {
			r.Handle(p, Block{Block: b})
		}
		if n := len(only[Verdict](p.take())); n != r.limits.Verdicts.Burst {
			t.Errorf("%d verdicts at once, want %d", n, r.limits.Verdicts.Burst)
		}
		time.Sleep(time.Second)
		for range 1000 {
			r.Handle(p, Block{Block: b})
		}
		if n := len(only[Verdict](p.take())); n != int(r.limits.Verdicts.PerSecond) {
			t.Errorf("%d verdicts a second later, want %v", n, r.limits.Verdicts.PerSecond)
		}
	})
}

// TestScores has a peer send blocks that break one rule, one after the other.
func TestScores(t *testing.T) {
	for rule, c := range map[consensus.Rule]struct {
		every   time.Duration
		dropped int // after so many; 0: never
	}{
		consensus.RuleWork:       {time.Second, 3},
		consensus.RuleBlockSig:   {time.Second, 3},
		consensus.RuleTxScript:   {time.Second, 11},
		consensus.RuleTxMissing:  {20 * time.Minute, 0}, // an honest node's share of them
		consensus.RuleTimeFuture: {time.Second, 0},
		consensus.RuleBelowFinal: {time.Second, 0},
		consensus.RuleTwinLimit:  {time.Second, 0},
	} {
		t.Run(string(rule), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := generator(t)
				r := newRig(t, g)
				r.chain.fails = broken(rule)
				p := r.join()
				for i := 1; i <= 60; i++ {
					b := orphan(g, i)
					b.PrevBlock = g.Network().ID
					b.Nonce = uint32(i)
					r.Handle(p, Block{Block: b})
					if p.isClosed() {
						if i != c.dropped {
							t.Errorf("dropped after %d, want %d", i, c.dropped)
						}
						return
					}
					time.Sleep(c.every)
				}
				if c.dropped != 0 {
					t.Errorf("never dropped, want after %d", c.dropped)
				}
			})
		})
	}
}

// TestVoteScores is the same for votes.
func TestVoteScores(t *testing.T) {
	for rule, want := range map[consensus.Rule]bool{
		consensus.RuleAttestSig: true, consensus.RuleCertQuorum: true,
		consensus.RuleVoteLimit: false, consensus.RuleVoteFloor: false,
	} {
		t.Run(string(rule), func(t *testing.T) {
			g := generator(t)
			g.Fill("a", 10)
			r := newRig(t, g)
			r.load(g.Path("a10")...)
			r.chain.voteErr = &consensus.RuleError{Rule: rule}
			p := r.join()
			for i := range uint8(5) {
				r.Handle(p, Attestation{g.Vote("genesis", "a10", i)})
			}
			if p.isClosed() != want {
				t.Errorf("dropped: %t, want %t", p.isClosed(), want)
			}
		})
	}
}
