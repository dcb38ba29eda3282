// Package simulate answers how likely an attacker without validators' keys is
// to undo a payment after some confirmations: by exact calculation and by Monte
// Carlo, under plain proof of work, under Proof of Online as its source text has
// it, and under the rules of this chain. docs/simulate.md has the model, the
// formulas and their sources. The package knows nothing of blocks.
package simulate

import (
	"fmt"
	"math"
	"slices"
)

// Rules names the rules by which two branches compete.
type Rules string

// The rule sets.
const (
	// PoW: every block is mined, the branch with more work wins.
	PoW Rules = "pow"
	// Literal: Proof of Online taken at its word. Every nth block is signed for
	// nothing on the honest branch; a secret branch forges the slot's expiry with
	// its timestamps and mines that block; the branch with more work wins.
	Literal Rules = "literal"
	// PoOF: the rules of this chain. A branch that drops a signed block never beats
	// one that keeps it.
	PoOF Rules = "poof"
)

// All lists the rule sets.
func All() []Rules { return []Rules{PoW, Literal, PoOF} }

// OpenIntervals is how long a missed slot stays closed to miners, in mean block
// intervals: 120 s of 60 s. The attacker mines meanwhile.
const OpenIntervals = 2

// Limits of a model and of a question about it.
const (
	MaxN             = 1000
	MaxPremined      = 1000
	MaxConfirmations = 10_000
)

// Model is one attack: an attacker with part of the hash power mines a secret
// branch from before the payment, and releases it when the payment has its
// confirmations and the branch wins. The difficulty is constant.
type Model struct {
	Rules Rules
	// Q is the attacker's share of the hash power, between 0 and 1.
	Q float64
	// N: every Nth height is a slot. It and the rest below Premined do not matter
	// to plain proof of work.
	N int
	// Missed is the probability that the validators miss a slot.
	Missed float64
	// Premined blocks are on the secret branch when the race begins.
	Premined int
	// Fork is how many blocks the fork lies above the last slot, 0 to N-2. At 0
	// the attacker has the whole interval for himself, which is the worst case.
	Fork int
	// NoGate takes away PoOF's rule that a mined slot block counts only when its
	// parent was seen long enough ago.
	NoGate bool
}

// Check says what is wrong with a model, nil if nothing.
func (m Model) Check() error {
	switch {
	case m.Rules != PoW && m.Rules != Literal && m.Rules != PoOF:
		return fmt.Errorf("unknown rules %q: choose pow, literal or poof", m.Rules)
	case !(m.Q > 0 && m.Q < 1):
		return fmt.Errorf("q is %v: the attacker's share of the hash power lies between 0 and 1, as 0.3 does", m.Q)
	case m.N < 2 || m.N > MaxN:
		return fmt.Errorf("n is %d: a slot comes every 2 to %d blocks", m.N, MaxN)
	case !(m.Missed >= 0 && m.Missed <= 1):
		return fmt.Errorf("missed is %v: a probability lies from 0 to 1", m.Missed)
	case m.Premined < 0 || m.Premined > MaxPremined:
		return fmt.Errorf("premined is %d: the attacker has 0 to %d blocks ahead", m.Premined, MaxPremined)
	case m.Fork < 0 || m.Fork > m.N-2:
		return fmt.Errorf("fork is %d: with a slot every %d blocks a branch forks 0 to %d blocks above a slot", m.Fork, m.N, m.N-2)
	case m.NoGate && m.Rules != PoOF:
		return fmt.Errorf("the arrival gate is a rule of poof: rules %s have none to take away", m.Rules)
	}
	return nil
}

// CheckConfirmations says whether a number of confirmations can be asked for.
func CheckConfirmations(z int) error {
	if z < 1 || z > MaxConfirmations {
		return fmt.Errorf("confirmations is %d: ask for 1 to %d", z, MaxConfirmations)
	}
	return nil
}

// Certain reports whether the attacker overtakes sooner or later, however many
// confirmations there are: on average he gains at least a height for each one of
// the honest branch, and no signature stops him.
func (m Model) Certain() bool {
	p, n := 1-m.Q, float64(m.N)
	switch {
	case m.Rules == PoW:
		return m.Q >= p
	case m.Rules == PoOF && m.Missed < 1:
		return false
	}
	// Per N heights of the honest branch: N-1 mined blocks, and a missed slot's.
	mined := n - 1 + m.Missed
	return mined*m.Q/p+m.Missed*OpenIntervals*m.Q >= n*(1-1e-15) // 1e-15: rounding at the break-even itself
}

// BreakEven is the attacker's share from which on the literal rules, with no
// slot missed, no longer protect anything: he pays n blocks where the honest
// branch pays n-1.
func BreakEven(n int) float64 { return float64(n) / float64(2*n-1) }

// pending reports whether the honest branch, height blocks above the fork, waits
// for a slot to be signed.
func (m Model) pending(height int) bool {
	return m.Rules != PoW && (m.Fork+height+1)%m.N == 0
}

// tail bounds the chance of an attacker who lacks d blocks to be ahead by
// factor × ratio^d, and by 1. Both are held as logarithms.
type tail struct{ factor, ratio float64 }

// tail finds the bound by Lundberg's argument: with y > 1 such that y^-d times a
// factor for the place in the interval is a martingale, stopping it at success
// bounds the probability. Where there is none the bound is 1.
func (m Model) tail() tail {
	p := 1 - m.Q
	switch {
	case m.Certain() || m.Rules == PoOF && m.Missed == 0:
		return tail{}
	case m.Rules == PoW:
		return tail{0, math.Log(m.Q / p)}
	}
	y := m.lundberg()
	// The martingale's factor changes by this with each mined block; the interval
	// begins with 1, and the race after a missed slot ends with it.
	mined := math.Log(y * (1 - m.Q*y) / p)
	ends := []float64{0, float64(m.N-1) * mined}
	if m.Missed > 0 {
		ends = append(ends, -mined)
	}
	return tail{slices.Max(ends) - slices.Min(ends), -math.Log(y)}
}

// lundberg finds the largest y with E[y^(attacker's blocks − N)] = 1 over one
// interval of N heights. Its logarithm is convex in log y and infinite at 1/q.
func (m Model) lundberg() float64 {
	p := 1 - m.Q
	log := func(x float64) float64 {
		y := math.Exp(x)
		race := p / (1 - m.Q*y)
		slot := m.Missed * math.Exp(OpenIntervals*m.Q*(y-1)) * race
		if m.Rules == Literal {
			slot += 1 - m.Missed
		}
		return float64(m.N-1)*math.Log(race) + math.Log(slot) - float64(m.N)*x
	}
	const rounds = 200
	end := math.Log(1/m.Q) * (1 - 1e-12)
	left, right := 0.0, end
	for range rounds { // the minimum
		a, b := left+(right-left)/3, right-(right-left)/3
		if log(a) < log(b) {
			right = b
		} else {
			left = a
		}
	}
	left, right = (left+right)/2, end
	for range rounds { // the zero right of it
		if mid := (left + right) / 2; log(mid) < 0 {
			left = mid
		} else {
			right = mid
		}
	}
	return math.Exp(left)
}

// at is the bound for d lacking blocks.
func (t tail) at(d int) float64 {
	return math.Exp(min(0, t.factor+t.ratio*float64(d)))
}

// below is the smallest number of lacking blocks, 1 to most, for which the bound
// is at most chance; most if there is none.
func (t tail) below(chance float64, most int) int {
	if t.ratio >= 0 {
		return most
	}
	d := math.Ceil((math.Log(chance) - t.factor) / t.ratio)
	return int(min(max(d, 1), float64(most)))
}

// Shares and Confirmations are the rows and columns of the usual table.
func Shares(r Rules) []float64 {
	switch r {
	case PoW:
		return []float64{.02, .06, .10, .14, .20, .24, .30, .34, .40, .44, .48}
	case Literal:
		return []float64{.1, .2, .3, .4, .5, .55, .6}
	default:
		return []float64{.1, .2, .3, .4, .5, .6, .9}
	}
}

// Confirmations are the columns that go with Shares.
func Confirmations(r Rules) []int {
	if r == Literal {
		return []int{1, 2, 4, 6, 8, 10, 20}
	}
	return []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
}
