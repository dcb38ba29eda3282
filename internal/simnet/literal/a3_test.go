package literal_test

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/types"
)

// A3: pre-emption. The attacker makes the block before a slot and a fallback
// block on it, stamped prev + 121 s, and hands out both at once, before any
// validator can sign.

// preempt runs to the next slot and attacks it. The validators sign all the same.
func (w *world) preempt() (result chain.Result, fallback *types.Block) {
	w.t.Helper()
	parent := w.grow(w.v.tip().Height + w.net.N - 2 - w.v.tip().Height%w.net.N)
	w.sleep(w.interval())
	parent = w.give(w.mined(parent, unixNow()))
	fallback = w.mined(parent, parent.FallbackTime())
	result, err := w.send(fallback)
	if err != nil {
		w.fatalf("fallback block: %v", err)
	}
	return result, fallback
}

const (
	a3Seeds = 50
	a3Slots = 4
)

func TestA3Literal(t *testing.T) {
	forSeeds(t, byTheText, a3Seeds, func(w *world) {
		for range a3Slots {
			result, fallback := w.preempt()
			if result != chain.Connected {
				w.fatalf("fallback block: %v", result)
			}
			// A validator whose signature was under way publishes it; who has the
			// other block stays with it (P18, P27), and so does the next miner.
			w.sleep(w.late)
			parent, _ := w.v.state(fallback.PrevBlock)
			signed := w.slot(parent)
			w.grow(w.v.tip().Height + 2)
			if signed == nil || w.confirmed(signed) || !w.confirmed(fallback) {
				w.fatalf("the slot was signed: the attack failed")
			}
		}
	})
	t.Logf("the attacker took all of %d slots", a3Seeds*a3Slots)
}

func TestA3PoOF(t *testing.T) {
	forSeeds(t, byPoOF, a3Seeds, func(w *world) {
		for range a3Slots {
			result, fallback := w.preempt()
			if result != chain.Held {
				w.fatalf("fallback block: %v", result)
			}
			w.sleep(w.late)
			parent, _ := w.v.state(fallback.PrevBlock)
			signed := w.slot(parent)
			if !w.confirmed(signed) {
				w.fatalf("the signed block is not the tip")
			}
			w.sleep(200 * time.Second) // the fallback block falls due
			if !w.confirmed(signed) {
				w.fatalf("the fallback block replaced the signed one")
			}
		}
		if w.deepest > 0 {
			w.fatalf("%d blocks undone", w.deepest)
		}
	})
	t.Logf("the validators signed all of %d slots, at once", a3Seeds*a3Slots)
}

// TestA3PoOFLateValidators: the fallback block waits for the slot to open, 120 s
// after its parent arrived, and a signed block replaces it even then.
func TestA3PoOFLateValidators(t *testing.T) {
	forSeeds(t, byPoOF, a3Seeds, func(w *world) {
		_, fallback := w.preempt()
		parent, _ := w.v.state(fallback.PrevBlock)
		w.sleep(61 * time.Second) // the future limit has let it in
		if _, in := w.v.state(fallback.Header.ID()); !in || w.confirmed(fallback) {
			w.fatalf("after 61 s: stored %v, followed %v", in, w.confirmed(fallback))
		}
		w.sleep(58 * time.Second)
		if w.confirmed(fallback) {
			w.fatalf("followed before the slot opened")
		}
		w.sleep(2 * time.Second)
		if !w.confirmed(fallback) {
			w.fatalf("not followed when the slot had opened: nobody has signed")
		}
		w.sleep(w.interval())
		w.give(w.mined(w.v.tip(), unixNow()))
		if signed := w.slot(parent); !w.confirmed(signed) || w.deepest != 2 {
			w.fatalf("the late signature did not replace the fallback block; deepest %d", w.deepest)
		}
	})
}
