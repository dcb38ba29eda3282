package literal_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/simulate"
)

// TestA1PoOFWithinTheInterval: above the last signed slot hash power decides, as
// it does everywhere. However many confirmations the attacker waits for, he
// undoes at most n − 1 blocks, and none once he waits for the signature.
func TestA1PoOFWithinTheInterval(t *testing.T) {
	const seeds = 20
	for _, c := range []struct {
		q     float64
		votes bool
	}{{.6, false}, {.9, false}, {.9, true}} {
		deepest, undone := uint32(0), make(map[uint32]int)
		for z := uint32(1); z <= 10; z++ {
			forSeeds(t, byPoOF, seeds, func(w *world) {
				w.votes = c.votes
				if _, paid := w.doubleSpend(c.q, z, 10); !w.confirmed(paid) {
					undone[z]++
				}
				deepest = max(deepest, w.deepest)
			})
		}
		t.Logf("q %v, votes %v: attacks of %d that succeed, by confirmations: %v; deepest %d", c.q, c.votes, seeds, undone, deepest)
		if undone[1] < seeds/2 {
			t.Errorf("only %d attacks on one confirmation succeed: this attacker proves nothing", undone[1])
		}
		if undone[9]+undone[10] > 0 || deepest > 9 {
			t.Errorf("undone %v, deepest %d: want none from 9 confirmations on", undone, deepest)
		}
	}
}

// TestA1PoOFMissedSlot: the worst case. The validators are late for the slot, the
// attacker releases a branch that passes it, and after 120 s it is followed:
// nine blocks are undone. The late signature, on the honest branch, undoes the
// attack.
func TestA1PoOFMissedSlot(t *testing.T) {
	forSeeds(t, byPoOF, 10, func(w *world) {
		fork := w.grow(10)
		honest := w.grow(19)
		s := secret{w: w, end: fork, fork: fork.Height}
		for range 10 {
			s.found = append(s.found, fork.Time)
		}
		s.release(10)
		if len(s.sent) != 10 || w.v.tip().ID != honest.ID {
			w.fatalf("%d blocks released, tip %d", len(s.sent), w.v.tip().Height)
		}
		w.sleep(119 * time.Second)
		if w.v.tip().ID != honest.ID {
			w.fatalf("the forged slot block was followed before it was due")
		}
		w.sleep(2 * time.Second)
		if !w.confirmed(s.sent[9]) || w.deepest != 9 {
			w.fatalf("tip at height %d, deepest %d: want the attacker's slot block and 9", w.v.tip().Height, w.deepest)
		}
		if b := w.slot(honest); !w.confirmed(b) {
			w.fatalf("the late signature did not bring the honest branch back")
		}
	})
}

// TestA1Rate holds both chains to the model of node/simulate, which knows nothing
// of blocks: the share of attacks that undo a payment must be what the exact
// calculation says.
func TestA1Rate(t *testing.T) {
	for _, c := range []struct {
		rules simulate.Rules
		by    rules
		q     float64
		z     uint32
		most  uint32
		seeds int
	}{
		{simulate.Literal, byTheText, .1, 1, math.MaxUint32, 1000},
		{simulate.Literal, byTheText, .3, 6, math.MaxUint32, 1000},
		{simulate.Literal, byTheText, .4, 10, math.MaxUint32, 1000},
		{simulate.PoOF, byPoOF, .3, 6, 10, 1000},
		{simulate.PoOF, byPoOF, .6, 8, 10, 1000},
	} {
		t.Run(fmt.Sprintf("%s,q=%v,z=%d", c.rules, c.q, c.z), func(t *testing.T) {
			exact, err := simulate.Model{Rules: c.rules, Q: c.q, N: int(chaingen.Params().N), Premined: 1}.Exact(int(c.z))
			if err != nil {
				t.Fatal(err)
			}
			won := 0
			forSeeds(t, c.by, c.seeds, func(w *world) {
				// The genesis block is as good as a signed slot to fork at.
				if _, paid := w.race(c.q, c.z, c.most, nil, nil); !w.confirmed(paid) {
					won++
				}
			})
			rate, sigma := float64(won)/float64(c.seeds), math.Sqrt(exact*(1-exact)/float64(c.seeds))
			t.Logf("undone in %d of %d attacks: %.4f, exact %.4f, %+.1f σ", won, c.seeds, rate, exact, (rate-exact)/sigma)
			if math.Abs(rate-exact) > 4*sigma {
				t.Errorf("rate %.4f, exact %.4f, σ %.4f", rate, exact, sigma)
			}
		})
	}
}
