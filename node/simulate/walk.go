package simulate

import (
	"math"
	"math/rand/v2"
)

const (
	// An attacker gives up when his chance has fallen to giveUpChance, or when he
	// lacks giveUpLack blocks: only where the shares are balanced to a part in a
	// thousand does that come first. Sample.Bias says what it may have cost.
	giveUpChance = 1e-8
	giveUpLack   = 1 << 13

	// Far from the point where something is decided many blocks are drawn at once.
	shortJump, longJump, hugeJump = 8, 64, 1024
)

// walker runs single attacks. It is read only: one serves all goroutines. Its loops
// write to their own random stream and nothing else; go:norace spares the tests the
// minutes it takes to watch that.
type walker struct {
	m       Model
	depth   int // confirmations beyond which nothing is asked
	perSlot int // mined blocks from one slot to the next
	lack    int // blocks behind at which the attacker gives up
	coin    uint64
	missed  uint64
	wait    *picker
	short   *picker
	long    *picker
	huge    *picker
}

func newWalker(m Model, depth int) *walker {
	w := &walker{
		m: m, depth: depth, perSlot: math.MaxInt,
		lack:   m.tail().below(giveUpChance, giveUpLack),
		coin:   threshold(m.Q),
		missed: threshold(m.Missed),
		wait:   newPicker(poisson(OpenIntervals * m.Q)),
		short:  newPicker(binomial(shortJump, m.Q)),
		long:   newPicker(binomial(longJump, m.Q)),
		huge:   newPicker(binomial(hugeJump, m.Q)),
	}
	if m.Rules == Literal {
		w.perSlot = m.N - 1
	}
	return w
}

// threshold is what a random word is below with this probability.
func threshold(chance float64) uint64 {
	if chance >= 1 {
		return math.MaxUint64
	}
	return uint64(math.Ldexp(chance, 64))
}

// attack runs one attack and returns the most confirmations, up to depth, that a
// payment right above the fork could have had and yet be undone; 0 if none. The
// attacker can undo it with z confirmations if and only if z is not more than
// that. lack is the distance at which he gave up, 0 if the attack came to an end.
func (w *walker) attack(r *rand.PCG) (deepest, lack int) {
	if w.m.Rules == PoOF || w.m.Rules == Literal && w.m.Missed > 0 {
		return w.slots(r)
	}
	return w.free(r)
}

// free is the attack where every mined block is worth the same at any time: the
// order of blocks does not matter while neither branch can overtake the other.
//
//go:norace
func (w *walker) free(r *rand.PCG) (deepest, lack int) {
	honest, attacker := 0, w.m.Premined
	toSlot := w.perSlot
	if w.perSlot < math.MaxInt {
		toSlot -= w.m.Fork
	}
	for {
		mined := 1
		switch behind := honest + 1 - attacker; {
		case honest < w.depth && attacker > w.depth+1: // ahead for certain when the last confirmation comes
			return w.depth, 0
		case behind > w.lack:
			return deepest, behind
		// Ahead he needs twice the distance: a slot may give the honest branch two
		// heights for a block.
		case behind > hugeJump || -behind > 2*hugeJump:
			won := w.huge.draw(r)
			attacker, mined = attacker+won, hugeJump-won
		case behind > longJump || -behind > 2*longJump:
			won := w.long.draw(r)
			attacker, mined = attacker+won, longJump-won
		case behind > shortJump || -behind > 2*shortJump:
			won := w.short.draw(r)
			attacker, mined = attacker+won, shortJump-won
		case r.Uint64() < w.coin:
			attacker, mined = attacker+1, 0
		}
		honest += mined
		for toSlot -= mined; toSlot <= 0; toSlot += w.perSlot {
			honest++
		}
		if attacker > honest && honest > deepest {
			if deepest = honest; deepest >= w.depth {
				return w.depth, 0
			}
		}
	}
}

// slots is the attack where validators sign or miss every slot.
//
//go:norace
func (w *walker) slots(r *rand.PCG) (deepest, lack int) {
	attacker, toSlot := w.m.Premined, w.m.N-1-w.m.Fork
	ahead := func(honest int) (enough bool) {
		if attacker > honest {
			deepest = min(honest, w.depth)
		}
		return deepest >= w.depth
	}
	for honest := 0; ; honest, toSlot = honest+1, toSlot-1 {
		if behind := honest + 1 - attacker; behind > w.lack {
			return deepest, behind
		}
		if toSlot == 0 {
			if w.m.NoGate && ahead(honest) {
				return deepest, 0
			}
			toSlot = w.m.N
			if w.signed(r) {
				if w.m.Rules == PoOF {
					return deepest, 0
				}
				continue
			}
			attacker += w.wait.draw(r)
		}
		// More blocks than this change nothing.
		for enough := max(honest, w.depth) + 1; attacker <= enough && r.Uint64() < w.coin; {
			attacker++
		}
		if ahead(honest) {
			return deepest, 0
		}
	}
}

// signed says whether the validators signed a slot.
//
//go:norace
func (w *walker) signed(r *rand.PCG) bool {
	if w.m.Missed == 0 || w.m.Missed == 1 {
		return w.m.Missed == 0
	}
	return r.Uint64() >= w.missed
}
