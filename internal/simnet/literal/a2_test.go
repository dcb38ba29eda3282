package literal_test

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/simnet/literal"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// A2: backdated parent. The attacker makes the block before a slot and stamps it
// as early as the rules let him, so that the slot has expired when the block
// arrives and no validator may sign. A fallback block follows.

// backdate runs slots times through an interval whose last block before the slot
// is the attacker's with probability q. It returns how many of the slots after
// his blocks, and how many of the others, got no signed block.
func (w *world) backdate(q float64, slots int) (won, stolen, missed int) {
	w.t.Helper()
	for range slots {
		parent := w.grow(w.v.tip().Height + w.net.N - 2 - w.v.tip().Height%w.net.N)
		w.sleep(w.interval())
		at, his := unixNow(), w.rng.Float64() < q
		if his {
			at = w.v.minTime(parent)
			won++
		}
		parent = w.give(w.mined(parent, at))
		// The fallback block comes when it is found, the signature when it is made.
		// Neither waits for the other.
		var signed, fallback *types.Block
		mine := func() {
			fallback = w.mined(parent, max(unixNow(), parent.FallbackTime()))
			if his {
				_, _ = w.send(fallback)
			}
		}
		sign := func() { signed = w.slot(parent) }
		if found := w.interval(); found < w.late {
			w.sleep(found)
			mine()
			w.sleep(w.late - found)
			sign()
		} else {
			w.sleep(w.late)
			sign()
			w.sleep(found - w.late)
			mine()
		}
		switch {
		case w.confirmed(signed):
		case his && w.confirmed(fallback):
			stolen++
		default:
			missed++
		}
	}
	return won, stolen, missed
}

const (
	a2Seeds = 50
	a2Slots = 8
)

func TestA2Literal(t *testing.T) {
	for _, q := range []float64{.3, .9, 1} {
		won, stolen := 0, 0
		forSeeds(t, byTheText, a2Seeds, func(w *world) {
			a, b, missed := w.backdate(q, a2Slots)
			if missed > 0 {
				w.fatalf("%d slots went without a signature though their parents were honest", missed)
			}
			won, stolen = won+a, stolen+b
		})
		if stolen != won || won == 0 {
			t.Errorf("q %v: %d slots stolen of %d whose parent the attacker made: want all", q, stolen, won)
		}
		t.Logf("q %v: of %d slots the attacker made the parent of %d and took %d", q, a2Seeds*a2Slots, won, stolen)
	}
}

func TestA2PoOF(t *testing.T) {
	for _, late := range []time.Duration{onTime, 200 * time.Second} {
		for _, q := range []float64{.3, .9, 1} {
			won, undone := 0, 0
			forSeeds(t, byPoOF, a2Seeds, func(w *world) {
				w.late = late
				a, stolen, missed := w.backdate(q, a2Slots)
				if stolen+missed > 0 {
					w.fatalf("%d slots stolen, %d missed", stolen, missed)
				}
				won, undone = won+a, undone+int(w.deepest)
			})
			if won == 0 {
				t.Errorf("q %v: the attacker never made the parent of a slot", q)
			}
			// Late signatures find the fallback block connected and replace it.
			if overtaken := late > onTime; overtaken != (undone > 0) || undone > a2Seeds {
				t.Errorf("signatures after %v, q %v: %d worlds saw a block undone", late, q, undone)
			}
			t.Logf("signatures after %v, q %v: of %d slots the attacker made the parent of %d and took none", late, q, a2Seeds*a2Slots, won)
		}
	}
}

// TestA2BackdatedByMore: a time at or before the parent's is the same attack for
// the text and against a rule here.
func TestA2BackdatedByMore(t *testing.T) {
	script := func(w *world) (chain.Result, error) {
		parent := w.grow(8)
		w.sleep(w.interval())
		return w.send(w.mined(parent, parent.Time-1))
	}
	t.Run("Literal", func(t *testing.T) {
		forSeeds(t, byTheText, 1, func(w *world) {
			if result, err := script(w); err != nil || result != chain.Connected {
				w.fatalf("%v, %v", result, err)
			}
		})
	})
	t.Run("PoOF", func(t *testing.T) {
		forSeeds(t, byPoOF, 1, func(w *world) {
			if _, err := script(w); ruleOf(err) != consensus.RuleTimeOrder {
				w.fatalf("%v", err)
			}
		})
	})
}

// TestA2WindowEnds: what makes the difference is for how long a signature is good:
// the text's "set time", or T_close.
func TestA2WindowEnds(t *testing.T) {
	script := func(t *testing.T, by rules, after uint32) (err error) {
		forSeeds(t, by, 1, func(w *world) {
			parent := w.grow(9)
			w.sleep(time.Duration(after) * time.Second)
			_, err = w.send(w.signed(parent, parent.ValidatorOfRank(0), unixNow()))
		})
		return err
	}
	for _, c := range []struct {
		name  string
		by    rules
		last  uint32
		after consensus.Rule
	}{
		{"Literal", byTheText, 120, literal.P9},
		{"PoOF", byPoOF, 600, consensus.RuleSlotLate},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := script(t, c.by, c.last); err != nil {
				t.Errorf("after %d s: %v", c.last, err)
			}
			if err := script(t, c.by, c.last+1); ruleOf(err) != c.after {
				t.Errorf("after %d s: %v, want rule %s", c.last+1, err, c.after)
			}
		})
	}
}

// backdateAll has the attacker date back every block of his, and returns how many
// slots he takes from validators.
func (w *world) backdateAll(q float64, slots int) (taken int) {
	w.t.Helper()
	for range slots {
		for tip := w.v.tip(); !tip.ChildIsSlot(); tip = w.v.tip() {
			w.sleep(w.chance(time.Minute))
			at := w.v.minTime(tip)
			if w.rng.Float64() >= q {
				at = max(at, unixNow())
			}
			w.give(w.mined(tip, at))
		}
		parent := w.v.tip()
		w.sleep(onTime)
		signed := w.slot(parent)
		fallback := w.mined(parent, parent.FallbackTime())
		if _, err := w.send(fallback); err != nil {
			w.fatalf("fallback block: %v", err)
		}
		w.sleep(time.Duration(w.net.SlotOpenSeconds) * time.Second)
		switch {
		case w.confirmed(fallback) && signed == nil:
			taken++
		case !w.confirmed(signed):
			w.fatalf("slot %d: neither block stands as it should", parent.Height+1)
		}
	}
	return taken
}

// TestA2PoOFBackdateAll: where one block is enough for the text, dating back all
// blocks of an interval, or of hours, is not here: validators go by when the
// parent of a slot arrived, not by its stamp.
func TestA2PoOFBackdateAll(t *testing.T) {
	for _, q := range []float64{.3, .6, .9, 1} {
		taken := 0
		forSeeds(t, byPoOF, a2Seeds, func(w *world) { taken += w.backdateAll(q, a2Slots) })
		t.Logf("q %v: of %d slots the attacker took %d", q, a2Seeds*a2Slots, taken)
		if taken > 0 {
			t.Errorf("q %v: taken %d", q, taken)
		}
	}
}

func ruleOf(err error) consensus.Rule {
	r, _ := consensus.RuleOf(err)
	return r
}
