package simulate

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// ErrNoExact is why Exact gives no value: the shares are so close to balance
// that the calculation would run for minutes.
var ErrNoExact = errors.New("no exact value")

// Exact is the probability that a payment with z confirmations, 1 to
// MaxConfirmations, is undone. It is precise to 1e-9 of itself or to 1e-15,
// whichever is coarser, and 0 only if that cannot happen. The error wraps
// ErrNoExact if there is no value. The model must pass Check.
func (m Model) Exact(z int) (p float64, err error) {
	switch {
	case m.Certain():
		return 1, nil
	case m.impossible(z):
		return 0, nil
	case m.Rules == PoW && m.Premined == 1:
		p = GrunspanPerezMarco(m.Q, z)
	case m.Rules == PoW:
		p = Rosenfeld(m.Q, z, m.Premined)
	default:
		if p, err = m.race(z); err != nil {
			return 0, err
		}
	}
	return max(p, math.SmallestNonzeroFloat64), nil
}

// impossible reports whether the first slot above the fork ends every attack
// before the payment has z confirmations. Without the gate a mined slot block may
// still come before the signature.
func (m Model) impossible(z int) bool {
	before := m.N - 1 - m.Fork // the honest branch's height below the slot
	return m.Rules == PoOF && m.Missed == 0 && (z > before || z == before && !m.NoGate)
}

// Rosenfeld is the chance of a double spend under plain proof of work after z
// confirmations, with any number of blocks mined before: while the honest miners
// find z blocks the attacker finds a negative binomial number, and what he then
// lacks he catches up with probability (q/p)^lack. With one block mined before
// it is the r of M. Rosenfeld, "Analysis of hashrate-based double-spending",
// arXiv:1402.2009; summed here so that nothing cancels.
func Rosenfeld(q float64, z, premined int) float64 {
	p := 1 - q
	if q >= p || premined > z {
		return 1
	}
	short := z - premined // he is not ahead with this many or fewer
	lz, _ := math.Lgamma(float64(z))
	term := func(k int) float64 { // log of the chance of k blocks
		a, _ := math.Lgamma(float64(k + z))
		b, _ := math.Lgamma(float64(k + 1))
		return a - b - lz + float64(z)*math.Log(p) + float64(k)*math.Log(q)
	}
	sum := 0.0
	for k := range short + 1 {
		sum += math.Exp(term(k) + float64(short+1-k)*math.Log(q/p))
	}
	for k := short + 1; ; k++ {
		t := math.Exp(term(k))
		sum += t
		// Beyond the mode the terms fall faster and faster.
		if float64(k) > float64(z)*q/p && t <= 1e-18*sum {
			return min(sum, 1)
		}
	}
}

// GrunspanPerezMarco is the same chance with one block mined before, in closed
// form: the regularised incomplete beta function I(4pq; z, 1/2) of C. Grunspan
// and R. Pérez-Marco, "Double spend races", arXiv:1702.02867.
func GrunspanPerezMarco(q float64, z int) float64 {
	p := 1 - q
	if q >= p {
		return 1
	}
	a, b := float64(z), 0.5
	x, rest := 4*p*q, (p-q)*(p-q)
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab - la - lb + a*math.Log(x) + b*math.Log(rest))
	// The continued fraction converges fast on its side of this point only.
	if x < (a+1)/(a+b+2) {
		return front * betaFraction(a, b, x) / a
	}
	return 1 - front*betaFraction(b, a, rest)/b
}

// betaFraction is the continued fraction of the incomplete beta function (DLMF
// 8.17.22), by Lentz's method.
func betaFraction(a, b, x float64) float64 {
	const tiny = 1e-300
	away := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/away(1-(a+b)*x/(a+1))
	f := d
	for i := 1; i < 100_000; i++ {
		m := float64(i)
		even := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		odd := -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		before := f
		for _, coefficient := range [...]float64{even, odd} {
			d = 1 / away(1+coefficient*d)
			c = away(1 + coefficient/c)
			f *= c * d
		}
		if math.Abs(f-before) <= 1e-16*math.Abs(f) {
			break
		}
	}
	return f
}

// Wait is the smallest number of confirmations after which the risk of being
// undone is below risk. ok is false if there is none up to MaxConfirmations; the
// error wraps ErrNoExact or is that of the context.
func (m Model) Wait(ctx context.Context, risk float64) (z int, ok bool, err error) {
	if m.Certain() {
		return 0, false, nil
	}
	safe := func(z int) bool {
		var r float64
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			r, err = m.Exact(z)
		}
		return err == nil && r < risk
	}
	// The risk falls with every confirmation: double, then halve.
	low, high := 0, 1
	for !safe(high) {
		if err != nil {
			return 0, false, fmt.Errorf("search for a risk below %v: %w", risk, err)
		}
		if high == MaxConfirmations {
			return 0, false, nil
		}
		low, high = high, min(2*high, MaxConfirmations)
	}
	for high-low > 1 {
		if mid := (low + high) / 2; safe(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	if err != nil {
		return 0, false, fmt.Errorf("search for a risk below %v: %w", risk, err)
	}
	return high, true, nil
}
