package node

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestSlotAlone: who has heard of fewer than a majority, its own keys included,
// signs only when the last rank would have (S4).
func TestSlotAlone(t *testing.T) {
	const second = time.Second
	last := 80 * second // of rank 4; a fifth of a step more for each rank
	for _, c := range []struct {
		name string
		own  []uint32 // ranks of this box's keys
		ago  time.Duration
		hear []uint32
		rank uint32
		at   time.Duration
	}{
		{"nobody", []uint32{0}, 0, nil, 0, last},
		{"nobody, with the last key", []uint32{4}, 0, nil, 4, last + 16*second},
		{"nobody, with two keys", []uint32{1, 3}, 0, nil, 1, last + 4*second},
		{"one other", []uint32{0}, 0, []uint32{1}, 0, last},
		{"itself does not count twice", []uint32{0}, 0, []uint32{0, 1}, 0, last},
		{"two others", []uint32{0}, 0, []uint32{1, 4}, 0, 0},
		{"two others, not in turn", []uint32{2}, 0, []uint32{1, 4}, 2, 40 * second},
		{"two keys and one other", []uint32{2, 3}, 0, []uint32{4}, 2, 40 * second},
		{"three keys are a majority", []uint32{1, 2, 3}, 0, nil, 1, 20 * second},
		{"all keys in one box", []uint32{4, 3, 2, 1, 0}, 0, nil, 0, 0},
		{"two slots ago", []uint32{0}, 20 * time.Minute, []uint32{1, 4}, 0, 0},
		{"longer ago than two slots", []uint32{0}, 20*time.Minute + second, []uint32{1, 2, 3, 4}, 0, last},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.signer.keys = nil
				for _, rank := range c.own {
					r.signer.keys = append(r.signer.keys, r.index(rank))
				}
				r.hear(r.now().Add(-c.ago), c.hear...)
				r.launch()
				r.pass(200 * second)
				r.stop()
				r.wantSigned(c.rank, c.at)
			})
		})
	}
}

// TestSlotNotAloneAnyMore: a majority shows itself while one waits.
func TestSlotNotAloneAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.signer.keys = []uint8{r.index(1)}
		r.hear(r.now(), 2)
		r.launch()
		r.pass(40500 * time.Millisecond)
		r.none()
		r.hear(r.now(), 3)
		r.pass(keyCheck)
		r.stop()
		r.wantSigned(1, 41*time.Second)
	})
}

// TestSlotAloneOneAfterTheOther: validators who have not heard of each other do
// not sign at once, and each signs before the slot opens to miners.
func TestSlotAloneOneAfterTheOther(t *testing.T) {
	before := time.Duration(0)
	for rank := range uint32(5) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.signer.keys = []uint8{r.index(rank)}
			r.hear(r.now()) // nobody
			r.launch()
			r.pass(200 * time.Second)
			r.stop()
			at := r.one().at
			if open := time.Duration(r.parent.Network.SlotOpenSeconds) * time.Second; at <= before || at >= open {
				t.Errorf("rank %d signs after %v, the one before it after %v, miners after %v", rank, at, before, open)
			}
			before = at
		})
	}
}

// TestSlotStartupWait: the first open slot after a start is left to others (S5).
func TestSlotStartupWait(t *testing.T) {
	// next is the parent of the slot after the rig's.
	next := func(r *rig, prefix string) *chaingen.Node {
		if r.g.Tip().State.ChildIsSlot() {
			r.g.NextFallback(prefix)
		}
		return r.g.Fill(prefix, 9)
	}
	t.Run("started at the slot", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.wait = true
			r.hear(r.now().Add(-time.Minute), 0, 1, 2, 3, 4)
			r.launch()
			r.pass(60 * time.Second)
			r.ring()
			if asked, _ := r.signer.seen(); asked != 0 {
				t.Error("the signer was asked in the first slot")
			}
			r.moveTo(next(r, "b"))
			r.pass(0)
			r.stop()
			r.wantSigned(0, 0)
			if h := r.one().block.Transactions[0].Inputs[0].SignatureScript; string(h[:2]) != string(types.HeightScript(20)[:2]) {
				t.Errorf("signed at another height than 20: %x", h)
			}
		})
	})
	t.Run("started before it, and its parent is replaced", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.wait = true
			r.hear(r.now().Add(-time.Minute), 0, 1, 2, 3, 4)
			parent := r.tip
			r.tip = r.g.Node("a7")
			r.launch()
			r.moveTo(parent)
			r.pass(time.Second)
			r.g.SetTip("a8")
			r.moveTo(r.g.Next("b9"))
			r.pass(time.Hour)
			r.none()
			r.moveTo(next(r, "c"))
			r.pass(0)
			r.stop()
			r.wantSigned(0, 0)
		})
	})
	t.Run("a key of this box shows itself meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.wait = true
			r.hear(r.now().Add(-time.Minute), 0, 1, 2, 3, 4)
			r.launch()
			r.pass(time.Second)
			r.hear(r.now(), 3)
			r.moveTo(next(r, "b"))
			r.pass(time.Hour)
			r.stop()
			r.none()
			if n := r.log.with("another signer is at work"); n != 1 || r.freed != 0 {
				t.Errorf("said %d times, voter let go %d times", n, r.freed)
			}
		})
	})
	t.Run("slots passed while catching up are not it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.wait, r.skew = true, 30*time.Minute
			r.hear(r.now().Add(-time.Minute), 0, 1, 2, 3, 4)
			r.launch()
			r.pass(time.Second)
			r.moveTo(next(r, "b")) // the first that is open
			r.pass(10 * time.Minute)
			r.none()
			r.moveTo(next(r, "c"))
			r.pass(0)
			r.stop()
			r.wantSigned(0, 0)
		})
	})
}

// TestSlotVotesDoNotDisturb: votes ring too. A request that is under way goes on,
// and a refusal stays the last word.
func TestSlotVotesDoNotDisturb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.signer.reply[r.index(0)] = always(fmt.Errorf("%w: policy", ErrRefused))
		release := make(chan struct{})
		r.signer.reply[r.index(1)] = func(ctx context.Context) error {
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r.launch()
		r.pass(10 * time.Second)
		r.ring()
		r.pass(15 * time.Second)
		r.ring()
		r.ring()
		close(release)
		r.pass(0)
		r.stop()
		r.wantSigned(1, 25*time.Second)
		for rank := range uint32(2) {
			if n := r.signer.callsOf(r.index(rank)); n != 1 {
				t.Errorf("rank %d was asked %d times, want once", rank, n)
			}
		}
	})
}

// disabledRig is a rig at slot 30, whose validator in turn is disabled: slot 20
// carries evidence that it signed two blocks at slot 10.
func disabledRig(t *testing.T) *rig {
	t.Helper()
	g := chaingen.New(t, chaingen.Params())
	g.Fill("a", 9)
	g.NextSigned("one", 3)
	g.SetTip("a9")
	g.NextSigned("two", 3)
	g.Fill("b", 9)
	g.Next("s20", chaingen.Records(g.SlotEvidence("one", "two")))
	g.Fill("c", 9)
	r := newRigOn(t, g)
	if r.index(0) != 3 || len(r.parent.Proven().Disabled) != 1 {
		t.Fatalf("validator %d is in turn, disabled: %v", r.index(0), r.parent.Proven().Disabled)
	}
	return r
}

// TestSlotDisabledKey: a key against which the chain carries evidence is not
// asked, and does not count towards a majority.
func TestSlotDisabledKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := disabledRig(t)
		r.launch()
		r.pass(60 * time.Second)
		r.stop()
		r.wantSigned(1, 20*time.Second)
		if r.signer.callsOf(3) != 0 {
			t.Error("the disabled key was asked")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := disabledRig(t)
		r.signer.keys = []uint8{3}
		r.launch()
		r.pass(200 * time.Second)
		r.none()
		r.stop()
		if r.log.with(errNoKey.Error()) != 1 {
			t.Errorf("warnings: %q", r.log.lines)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := disabledRig(t)
		r.signer.keys = []uint8{3, r.index(1), r.index(2)}
		r.hear(r.now(), 0)
		r.launch()
		r.pass(200 * time.Second)
		r.stop()
		r.wantSigned(1, 84*time.Second)
	})
}

// TestSlotKeyOfAnotherSet: a key signs under the index it has in the set in
// force, whatever it had before; one that was removed signs no more.
func TestSlotKeyOfAnotherSet(t *testing.T) {
	g := chaingen.New(t, chaingen.Params())
	slot := func(name string, mungers ...chaingen.Munger) {
		g.Fill(name+"-", int(g.Network().N-1-g.Tip().State.Height%g.Network().N))
		g.Next(name, mungers...)
	}
	slot("s10")
	keys := chaingen.PublicKeys(types.Secp256k1, 4, 7, 0)
	slot("s20", chaingen.Records(g.Certificate("genesis", "s10", 0, 1, 2, 3), g.SetChange(keys, 0, 1, 2)))
	slot("s30", chaingen.Records(g.Certificate("s10", "s20", 0, 1, 2, 3)))
	slot("s40", chaingen.Records(g.Certificate("s20", "s30", 0, 1, 2, 3, 4, 5)))
	g.Fill("x", 9)
	for _, c := range []struct {
		own   []uint8
		index uint8
	}{
		{[]uint8{1, 7}, 1}, {[]uint8{0, 2, 3}, 2}, {[]uint8{0, 1, 2, 3, 4}, 2}, {[]uint8{4}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRigOn(t, g)
			if set := r.parent.Validators(); set.Number != 1 {
				t.Fatalf("set %d is in force", set.Number)
			}
			r.signer.keys = c.own
			r.launch()
			r.pass(60 * time.Second)
			r.stop()
			if got := r.one().block.VchBlockSig[0]; got != c.index {
				t.Errorf("keys %v signed as validator %d, want %d", c.own, got, c.index)
			}
		})
	}
}
