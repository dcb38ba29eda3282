package node

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestVoterVotesOnce: each key of the box votes, once, however often the chain
// rings; and again for the next slot.
func TestVoterVotesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.launch()
		for range 3 {
			r.set(func() {})
			r.pass(time.Minute)
		}
		r.want("s10", 5, 0, 1, 2, 3, 4)
		r.ask("s10", "s20")
		r.pass(time.Hour)
		r.stop()
		r.want("s10", 5, 0, 1, 2, 3, 4)
		r.want("s20", 5, 0, 1, 2, 3, 4)
		if n := r.log.with(""); n != 0 {
			t.Errorf("warnings: %q", r.log.lines)
		}
	})
}

// TestVoterNothingToVoteFor: the signer is left alone.
func TestVoterNothingToVoteFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.ballot, r.keysErr = nil, errAway
		r.launch()
		r.set(func() {})
		r.pass(time.Hour)
		r.stop()
		if n := r.log.with(""); n != 0 || len(r.asked) != 0 {
			t.Errorf("%d requests, warnings: %q", len(r.asked), r.log.lines)
		}
	})
}

// TestVoterRetries: whatever cannot be done now is done when it can be, for the
// keys that still have to vote, and is one warning.
func TestVoterRetries(t *testing.T) {
	for _, c := range []struct {
		name    string
		fail    func(r *voteRig)
		heal    func(r *voteRig)
		asked   int // in all, after 10 s and then the repair
		warning string
	}{
		{
			"signer away", func(r *voteRig) { r.keysErr = errAway }, func(r *voteRig) { r.keysErr = nil },
			5, errAway.Error(),
		},
		{
			"token of one key busy",
			func(r *voteRig) { r.reply[r.g.Network().Validators[2]] = errLost },
			func(r *voteRig) { clear(r.reply) },
			4 + 20 + 1 + 1, errLost.Error(), // at 0, every half second up to 10 s, and the last
		},
		{"chain cannot be read", func(r *voteRig) { r.err = errAway }, func(*voteRig) {}, 5, "tell what to vote for"},
		{"vote cannot be stored", func(r *voteRig) { r.addErr = errAway }, func(*voteRig) {}, 6, "count vote of voter 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newVoteRig(t)
				c.fail(r)
				r.launch()
				r.pass(10 * time.Second)
				r.mu.Lock()
				c.heal(r) // which does not ring
				r.mu.Unlock()
				r.pass(time.Minute)
				r.stop()
				r.want("s10", c.asked, 0, 1, 2, 3, 4)
				if all, n := r.log.with(""), r.log.with(c.warning); all != 1 || n != 1 {
					t.Errorf("warnings %q, want one with %q", r.log.lines, c.warning)
				}
			})
		})
	}
}

// TestVoterSignerLeaves: a signer that goes away when all have voted is missed
// only at the next slot.
func TestVoterSignerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.launch()
		r.set(func() { r.keysErr = errAway })
		r.pass(time.Minute)
		if n := r.log.with(""); n != 0 {
			t.Errorf("warnings: %q", r.log.lines)
		}
		r.ask("s10", "s20")
		r.pass(time.Minute)
		r.mu.Lock()
		r.keysErr = nil
		r.mu.Unlock()
		r.pass(retryDelay)
		r.stop()
		r.want("s20", 5, 0, 1, 2, 3, 4)
		if n := r.log.with(errAway.Error()); n != 1 {
			t.Errorf("warnings: %q", r.log.lines)
		}
	})
}

// TestVoterKeyReturns: a key that was not ready votes at the next change.
func TestVoterKeyReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		all := r.keys
		r.keys = all[:3]
		r.launch()
		r.want("s10", 3, 0, 1, 2)
		r.set(func() { r.keys = all })
		r.pass(0)
		r.stop()
		r.want("s10", 5, 0, 1, 2, 3, 4)
	})
}

// TestVoterRefusalIsFinal: a key that the signer refuses is not asked again for
// this slot, but for the next one.
func TestVoterRefusalIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.reply[r.keys[1]] = fmt.Errorf("%w: vote-source", ErrRefused)
		r.launch()
		r.set(func() {})
		r.pass(time.Hour)
		r.want("s10", 5, 0, 2, 3, 4)
		if n := r.log.with("vote-source"); n != 1 {
			t.Errorf("%d warnings, want 1", n)
		}
		r.set(func() { clear(r.reply) })
		r.ask("s10", "s20")
		r.pass(0)
		r.stop()
		r.want("s20", 5, 0, 1, 2, 3, 4)
	})
}

// TestVoterFollowsReorganisation: the slot is replaced by its twin. The signer is
// asked, and is the one to say no; back on the first it repeats itself.
func TestVoterFollowsReorganisation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.reply[r.keys[4]] = errLost
		r.ask("s10", "s20")
		r.launch()
		r.set(func() { clear(r.reply) })
		r.ask("s10", "twin")
		r.pass(0)
		r.want("s20", 5, 0, 1, 2, 3)
		r.want("twin", 5, 4) // who had no vote yet is free
		r.ask("s10", "s20")
		r.pass(time.Hour)
		r.stop()
		n := 0
		for a, times := range r.counted {
			if a.Target == r.g.Node("s20").State.Checkpoint() {
				n += times
			}
		}
		if n != 8 {
			t.Errorf("four voters of the first block were counted %d times, want each twice, the same both times", n)
		}
	})
}

// TestVoterOtherKeys: keys that have no vote, or none any more, are passed over.
func TestVoterOtherKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.keys = append(chaingen.PublicKeys(types.Secp256k1, 9), r.keys[3], r.keys[0])
		r.launch()
		r.stop()
		r.want("s10", 2, 0, 3)
	})
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.g.SetTip("s20")
		r.g.Fill("c", 9)
		r.g.Next("s30", chaingen.Records(r.g.SlotEvidence("s20", "twin")))
		r.g.Fill("d", 9)
		r.g.Next("s40")
		r.ask("genesis", "s40")
		r.launch()
		r.stop()
		r.want("s40", 4, 0, 1, 3, 4) // validator 2 signed both
	})
}

// TestVoterStops: at once, whatever it waits for.
func TestVoterStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.keysErr = errors.New("away for good")
		r.launch()
		start := time.Now()
		r.stop()
		if time.Since(start) != 0 {
			t.Errorf("it took %v to stop", time.Since(start))
		}
	})
}
