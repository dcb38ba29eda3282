package literal_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// A1: forged expiry, long secret branch. The attacker forks below a signed slot
// and mines. Where a slot is due he stamps his block prev + 121 s, so that it
// seems to have expired, and mines that as well. He releases the branch when
// the payment has its confirmations and his branch is longer.

// secret is the attacker's branch.
type secret struct {
	w     *world
	end   consensus.State // of what was released
	fork  uint32
	found []uint32             // when he found the blocks that he holds back
	rival []*types.Transaction // goes into the first block
	sent  []*types.Block
	// What the victim said of the last block of the first release, or of the first
	// that it refused.
	result chain.Result
	err    error
}

// length counts released blocks and those held back.
func (s *secret) length() uint32 { return s.end.Height - s.fork + uint32(len(s.found)) }

// release sends blocks until there are so many on the branch, if he has them and
// no time stamp is further ahead of the clock than the victim allows.
func (s *secret) release(length uint32) {
	if s.length() < length {
		return
	}
	var blocks []*types.Block
	end, limit := s.end, unixNow()+uint32(s.w.v.futureLimit()/time.Second)
	for _, found := range s.found[:length-(s.end.Height-s.fork)] {
		at := max(found, end.Time+1)
		if end.ChildIsSlot() {
			at = max(found, end.FallbackTime()) // the forged expiry
		}
		if at > limit {
			return
		}
		var txs []*types.Transaction
		if end.Height == s.fork {
			txs = s.rival
		}
		b := s.w.mined(end, at, txs...)
		blocks, end = append(blocks, b), s.w.v.child(end, b)
	}
	first := len(s.sent) == 0
	s.found, s.end, s.sent = s.found[len(blocks):], end, append(s.sent, blocks...)
	for _, b := range blocks {
		if result, err := s.w.send(b); first && s.err == nil {
			s.result, s.err = result, err
		}
	}
}

// gaveUp is how far behind the attacker stops.
const gaveUp = 20

// race lets honest miners and an attacker with a share q of all hash power mine
// from the tip on, until the payment in the first honest block is undone after z
// or more confirmations, or has "most", or the attacker has given up. It is the
// model of docs/simulate.md: one block mined before, slots signed at once. The
// honest branch grows by a block a minute, the attacker's hash power comes on top.
func (w *world) race(q float64, z, most uint32, payment, rival []*types.Transaction) (s *secret, paid *types.Block) {
	w.t.Helper()
	fork := w.v.tip()
	s = &secret{w: w, end: fork, fork: fork.Height, found: []uint32{unixNow()}, rival: rival}
	mean := time.Duration((1 - q) * float64(time.Minute))
	for {
		h := w.v.tip().Height - fork.Height
		if h >= z {
			s.release(h + 1)
			if !w.confirmed(paid) {
				return s, paid
			}
		}
		if h >= most || h > s.length()+gaveUp {
			return s, paid
		}
		w.sleep(w.chance(mean))
		if w.rng.Float64() < q {
			s.found = append(s.found, unixNow())
			continue
		}
		if paid == nil {
			paid = w.extend(payment...)
		} else {
			w.extend()
		}
		if tip := w.v.tip(); tip.ChildIsSlot() {
			w.extend()
		}
	}
}

// doubleSpend grows the chain to slot 10 and races for a payment above it.
func (w *world) doubleSpend(q float64, z, most uint32) (s *secret, paid *types.Block) {
	w.t.Helper()
	w.grow(1)
	coin := w.v.block(w.v.tip().ID)
	w.grow(10)
	return w.race(q, z, most, []*types.Transaction{w.pay(coin, 1, 1)}, []*types.Transaction{w.pay(coin, 1, 2)})
}

// newcomer is a node that joins a day later and is given the attacker's branch
// first. It reports whether that counts the payment as confirmed.
func (w *world) newcomer(s *secret, paid *types.Block) bool {
	w.t.Helper()
	w.sleep(24 * time.Hour)
	late := *w
	late.v = w.make(w.t, w.net)
	defer late.v.stop()
	isHis := func(b *types.Block) bool { return slices.Contains(s.sent, b) }
	honest := slices.DeleteFunc(slices.Clone(w.sent), isHis)
	for _, b := range slices.Concat(honest[:s.fork], s.sent, honest[s.fork:]) {
		if _, err := late.v.add(b); err != nil {
			w.fatalf("newcomer: %v", err)
		}
	}
	return late.confirmed(paid)
}

var a1Cases = []struct {
	q float64
	z uint32
}{{.6, 10}, {.6, 20}, {.6, 40}, {.9, 10}, {.9, 20}, {.9, 40}}

const (
	a1Seeds   = 50
	newcomers = 5 // in one of so many worlds another node joins afterwards
)

func TestA1Literal(t *testing.T) {
	for _, c := range a1Cases {
		t.Run(fmt.Sprintf("q=%v,z=%d", c.q, c.z), func(t *testing.T) {
			var depths []uint32
			forSeeds(t, byTheText, a1Seeds, func(w *world) {
				s, paid := w.doubleSpend(c.q, c.z, 1000)
				if w.confirmed(paid) || !w.confirmed(s.sent[0]) {
					w.fatalf("the payment stands: the attack failed")
				}
				if w.deepest < c.z {
					w.fatalf("depth %d, want %d or more", w.deepest, c.z)
				}
				if w.seed%newcomers == 0 && w.newcomer(s, paid) {
					w.fatalf("a newcomer follows the honest branch")
				}
				depths = append(depths, w.deepest)
			})
			t.Logf("undone in %d of %d attacks, %d to %d blocks deep", len(depths), a1Seeds, slices.Min(depths), slices.Max(depths))
		})
	}
}

func TestA1PoOF(t *testing.T) {
	for _, c := range a1Cases {
		for _, votes := range []bool{false, true} {
			t.Run(fmt.Sprintf("q=%v,z=%d,votes=%v", c.q, c.z, votes), func(t *testing.T) {
				// By fork choice: the branch has fewer signed slots. With votes slot 20 is
				// certified with 10 confirmations and final with 20, which is a rule.
				want, rule := chain.SideChain, consensus.Rule("")
				if votes && c.z >= 20 {
					want, rule = 0, consensus.RuleBelowFinal
				}
				released, seeds := 0, a1Seeds
				if votes {
					seeds = 20 // signatures take long
				}
				forSeeds(t, byPoOF, seeds, func(w *world) {
					w.votes = votes
					s, paid := w.doubleSpend(c.q, c.z, c.z+9)
					if !w.confirmed(paid) || w.deepest > 0 {
						w.fatalf("%d blocks undone", w.deepest)
					}
					if len(s.sent) == 0 {
						return // he never had a longer branch
					}
					released++
					if s.result != want || ruleOf(s.err) != rule {
						w.fatalf("released branch: %v, %v", s.result, s.err)
					}
					if w.seed%newcomers == 0 && !w.newcomer(s, paid) {
						w.fatalf("a newcomer follows the attacker")
					}
				})
				if released < seeds*8/10 {
					t.Errorf("only %d of %d attackers had a longer branch to release", released, seeds)
				}
				t.Logf("undone in 0 of %d attacks, 0 blocks deep; what %d of them released: %v %s", seeds, released, want, rule)
			})
		}
	}
}
