package chain_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// waitFor asserts that the tip becomes want after exactly this time.
func (n *node) waitFor(want consensus.State, wait time.Duration) {
	n.tb.Helper()
	if wait > 0 {
		before := n.m.Tip()
		time.Sleep(wait - time.Nanosecond)
		synctest.Wait()
		n.tip(before)
		time.Sleep(time.Nanosecond)
	}
	synctest.Wait()
	n.tip(want)
	n.parked = false
	n.check()
}

// park adds blocks of which the last is stored, and better, but has to wait.
func (n *node) park(blocks ...*types.Block) {
	n.tb.Helper()
	n.parked = true
	for i, b := range blocks {
		got, err := n.m.AddBlock(b)
		if err != nil || (i == len(blocks)-1 && got != chain.Parked) {
			n.tb.Fatalf("block %d of a branch that has to wait: %v, %v", i, got, err)
		}
		n.check()
	}
}

// TestParkRank: a signed block waits for its rank's delay after its parent came,
// one that came late does not (L1).
func TestParkRank(t *testing.T) {
	for rank := range uint32(3) {
		for _, late := range []time.Duration{0, 19 * time.Second, 20 * time.Second, 41 * time.Second} {
			heldTest(t, func(_ *testing.T, n *node, tip consensus.State, _ *lockedBuffer) {
				time.Sleep(late)
				b, state := recipe{signed: true, index: tip.ValidatorOfRank(rank), delay: max(1, rank*testStep)}.make(tip)
				wait := time.Duration(rank)*testStep*time.Second - late
				if wait <= 0 {
					n.add(chain.Connected, b)
					return
				}
				n.park(b)
				n.waitFor(state, wait)
			})
		}
	}
}

// secret makes a branch from a state that was kept secret: times in the past,
// fallback blocks as early as the rules allow.
func secret(from consensus.State, count int) (blocks []*types.Block, states []consensus.State) {
	for range count {
		r := recipe{tag: 66, delay: 1}
		if from.ChildIsSlot() {
			r.delay = testOpen + 1
		}
		var b *types.Block
		b, from = r.make(from)
		blocks, states = append(blocks, b), append(states, from)
	}
	return blocks, states
}

// TestParkSecret: a branch that comes all at once, with a fallback block in it,
// waits for as long as the slot would have been open after its parent came; a
// restart makes that longer, never shorter.
func TestParkSecret(t *testing.T) {
	for _, restart := range []bool{false, true} {
		heldTest(t, func(t *testing.T, n *node, tip consensus.State, _ *lockedBuffer) {
			blocks, states := secret(n.before(tip, 1), 5)
			time.Sleep(200 * time.Second)
			n.add(chain.SideChain, blocks[0])
			n.park(blocks[1:]...) // a slot and more
			if restart {
				time.Sleep(50 * time.Second)
				n.reopen()
			}
			n.waitFor(states[4], testOpen*time.Second)
		})
	}
}

// TestParkTwoGates: each slot of a branch waits, and what is below it is followed
// meanwhile.
func TestParkTwoGates(t *testing.T) {
	heldTest(t, func(_ *testing.T, n *node, tip consensus.State, _ *lockedBuffer) {
		blocks, states := secret(tip, 6) // slots at 4 and 8
		time.Sleep(250 * time.Second)    // the first one has been open for long
		n.add(chain.Connected, blocks[:3]...)
		time.Sleep(30 * time.Second)
		n.add(chain.Connected, blocks[3])
		n.park(blocks[4:]...)
		n.waitFor(states[5], testOpen*time.Second)
	})
}

// TestParkCertified: a certificate ends the waiting up to the block it is for. A
// majority has seen that in time.
func TestParkCertified(t *testing.T) {
	heldTest(t, func(t *testing.T, n *node, tip consensus.State, _ *lockedBuffer) {
		from := n.before(tip, 1)
		first, state := recipe{tag: 66, delay: 1}.make(from)
		slot, slotState := recipe{tag: 66, delay: 2 * testStep, signed: true, index: state.ValidatorOfRank(2)}.make(state)
		rest, states := secret(slotState, 4)
		time.Sleep(250 * time.Second)
		n.park(append([]*types.Block{first, slot}, rest...)...)
		l := consensus.Link{Set: tip.Voters().ID(), Source: consensus.Checkpoint{ID: n.net.ID}, Target: slotState.Checkpoint()}
		for i := range uint8(2) {
			n.attestation(attest(n.net, l, i))
		}
		n.tip(states[2]) // up to the next slot
		n.waitFor(states[3], testOpen*time.Second)
	})
}

// TestParkBehind: nothing waits while this node is catching up: its tip is old,
// and blocks come in faster than they were made. An old tip alone says nothing, as
// miners may date blocks back.
func TestParkBehind(t *testing.T) {
	for _, behind := range []bool{false, true} {
		heldTest(t, func(t *testing.T, n *node, tip consensus.State, _ *lockedBuffer) {
			blocks, states := secret(n.before(tip, 1), 5)
			time.Sleep((2*testClose + 1) * time.Second)
			if !behind {
				n.add(chain.SideChain, blocks[0])
				n.park(blocks[1:]...)
				n.waitFor(states[4], testOpen*time.Second)
				return
			}
			n.reopen() // as after an outage: all blocks since then come at once
			n.add(chain.SideChain, blocks[0])
			n.add(chain.Connected, blocks[1:]...)
			n.tip(states[4])
		})
	}
}

// deepTest has a best chain of three slots and a better branch that undoes the
// newest blocks of it, from the first slot on or from the block before.
func deepTest(t *testing.T, deep bool, test func(n *node, best, top consensus.State, onBest, onBranch consensus.Link)) {
	heldTest(t, func(t *testing.T, n *node, tip consensus.State, _ *lockedBuffer) {
		best := []consensus.State{tip}
		for range 2 * testN { // from height 4 on
			r := recipe{signed: best[len(best)-1].ChildIsSlot()}
			if r.signed {
				r.index = best[len(best)-1].ValidatorOfRank(0)
			}
			b, state := r.make(best[len(best)-1])
			time.Sleep(testInterval * time.Second)
			n.add(chain.Connected, b)
			best = append(best, state)
		}
		fork := best[1]
		if deep {
			fork = best[0]
		}
		blocks, top := branch(fork, 3*testN, 66)
		time.Sleep(4 * testInterval * time.Second)
		n.parked = true
		for _, b := range blocks {
			if _, err := n.m.AddBlock(b); err != nil {
				t.Fatal(err)
			}
			n.check()
		}
		slot := fork.Child(&blocks[0].SignedHeader, blocks[0].Transactions[0])
		link := func(target consensus.State) consensus.Link {
			return consensus.Link{Set: tip.Voters().ID(), Source: consensus.Checkpoint{ID: n.net.ID}, Target: target.Checkpoint()}
		}
		test(n, best[len(best)-1], top, link(best[1]), link(slot))
	})
}

// deepWait is how long a deep branch waits for a certificate: two slots' time.
const deepWait = 2 * testN * testInterval * time.Second

// TestParkDeep: a branch that undoes more than 2n−1 blocks waits until a
// certificate is for it, whatever it weighs, or until there was time for one (L2).
func TestParkDeep(t *testing.T) {
	t.Run("not deep", func(t *testing.T) {
		deepTest(t, false, func(n *node, _, top consensus.State, _, _ consensus.Link) { n.waitFor(top, 0) })
	})
	t.Run("nobody certifies", func(t *testing.T) {
		deepTest(t, true, func(n *node, best, top consensus.State, _, _ consensus.Link) {
			n.tip(best)
			n.waitFor(top, deepWait)
		})
	})
	t.Run("restart", func(t *testing.T) {
		deepTest(t, true, func(n *node, best, top consensus.State, _, _ consensus.Link) {
			time.Sleep(deepWait - time.Second)
			n.reopen()
			n.tip(best)
			n.waitFor(top, deepWait)
		})
	})
	t.Run("the branch is certified", func(t *testing.T) {
		deepTest(t, true, func(n *node, best, top consensus.State, _, onBranch consensus.Link) {
			time.Sleep(time.Minute)
			n.attestation(attest(n.net, onBranch, 0))
			n.tip(best)
			n.parked = false
			n.attestation(attest(n.net, onBranch, 2))
			n.tip(top)
		})
	})
	t.Run("both are certified", func(t *testing.T) {
		deepTest(t, true, func(n *node, best, top consensus.State, onBest, onBranch consensus.Link) {
			for _, l := range []consensus.Link{onBest, onBranch} {
				time.Sleep(time.Minute)
				n.attestation(attest(n.net, l, 0))
				n.attestation(attest(n.net, l, 2))
				n.tip(best)
			}
			n.waitFor(top, deepWait) // anew, since something was certified
		})
	})
	t.Run("two branches", func(t *testing.T) {
		deepTest(t, true, func(n *node, best, top consensus.State, _, _ consensus.Link) {
			at := n.before(best, 2*testN)
			for range 3 * testN {
				r := recipe{tag: 67, signed: at.ChildIsSlot()}
				if r.signed {
					r.index, r.delay = at.ValidatorOfRank(1), testStep+testInterval
				}
				var b *types.Block
				b, at = r.make(at)
				if _, err := n.m.AddBlock(b); err != nil {
					n.tb.Fatal(err)
				}
			}
			n.tip(best)
			n.waitFor(top, deepWait)
		})
	})
	t.Run("the best chain is certified", func(t *testing.T) {
		deepTest(t, true, func(n *node, best, _ consensus.State, onBest, _ consensus.Link) {
			time.Sleep(time.Minute)
			n.attestation(attest(n.net, onBest, 0))
			n.attestation(attest(n.net, onBest, 2))
			time.Sleep(deepWait + time.Minute)
			synctest.Wait()
			n.parked = false
			n.check()
			n.tip(best)
		})
	})
}

// TestRunFollows: what a failing store keeps from being followed is followed once
// it works again, without another call.
func TestRunFollows(t *testing.T) {
	heldTest(t, func(t *testing.T, n *node, tip consensus.State, log *lockedBuffer) {
		first, state := recipe{signed: true, index: tip.ValidatorOfRank(0)}.make(tip)
		other, otherState := recipe{signed: true, index: tip.ValidatorOfRank(0), tag: 1}.make(tip)
		n.add(chain.Connected, first)
		n.add(chain.SideChain, other)
		l := consensus.Link{Set: tip.Voters().ID(), Source: consensus.Checkpoint{ID: n.net.ID}, Target: otherState.Checkpoint()}
		n.attestation(attest(n.net, l, 0))
		s := n.store.(*chaintest.Store)
		s.SetFail(func(call string) (bool, bool) { return call == "Commit", false })
		second := attest(n.net, l, 1)
		if added, err := n.m.AddAttestation(second); !added || !errors.Is(err, chaintest.ErrFault) {
			t.Fatalf("vote while the store fails: %v, %v", added, err)
		}
		n.votes = append(n.votes, second)
		n.tip(state)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		n.tip(state)
		if said := strings.Count(log.String(), "cannot be followed"); said != 1 {
			t.Errorf("said %d times:\n%s", said, log)
		}
		s.SetFail(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		n.tip(otherState)
		n.check()
		n.reopen()
		n.tip(otherState)
	})
}

// before returns the state some blocks before another one.
func (n *node) before(s consensus.State, blocks int) consensus.State {
	n.tb.Helper()
	for range blocks {
		s = n.entry(n.entry(s.ID).Header.PrevBlock).State
	}
	return s
}

// reopen forgets everything in memory and runs a new manager, by the clock of the
// bubble.
func (n *node) reopen() {
	n.tb.Helper()
	n.stop()
	m, err := chain.New(n.net, n.store, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		n.tb.Fatal(err)
	}
	n.m = m
	n.run()
	n.loseVotes()
	n.check()
}

// run starts Run, which stop ends.
func (n *node) run() {
	ctx, cancel := context.WithCancel(n.tb.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := n.m.Run(ctx); err != nil {
			n.tb.Error(err)
		}
	})
	n.stop = func() { cancel(); done.Wait() }
}
