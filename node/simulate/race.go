package simulate

import (
	"fmt"
	"math"
	"slices"
)

// maxRaceWork bounds the additions of one exact calculation, to about a second.
const maxRaceWork = 1 << 28

// race follows the probability of every number of attacker's blocks from one
// honest height to the next. It has no goroutines: go:norace spares the tests most
// of a minute.
type race struct {
	m Model
	z int
	p float64
	// mass[a] is the probability that the race goes on and the attacker has a
	// blocks; below low it is nothing. Until the payment has its confirmations the
	// last entry stands for all larger numbers: with those he has won unless a
	// signature comes.
	mass []float64
	low  int
	won  float64
	wait []float64 // chances of 0, 1, … attacker's blocks while a missed slot is closed
}

// race computes Exact for rules with slots. Nothing is lost but what the bound of
// tail proves too little to matter.
func (m Model) race(z int) (float64, error) {
	last := z + 2 // one more than any height at which the payment's last confirmation can come
	r := race{m: m, z: z, p: 1 - m.Q, mass: make([]float64, last+1), wait: poisson(OpenIntervals * m.Q)}
	r.mass[min(m.Premined, last)] = 1
	bound := m.tail()
	far := bound.below(1e-18, math.MaxInt32)
	for height, work := 0, 0; ; height++ {
		if height >= z {
			r.mass = growTo(r.mass, height+1)
		}
		if m.pending(height) {
			r.slot(height)
		} else {
			r.mine(height)
		}
		r.low = max(r.low, height+2-far)
		if height%m.N == 0 || m.pending(height) {
			if open := r.open(height, bound); open <= max(1e-10*r.won, 1e-16) {
				return min(r.won, 1), nil
			}
		}
		if work += len(r.mass) - r.low; work > maxRaceWork {
			return 0, fmt.Errorf("%w: with q %v the two branches are so evenly matched that too many blocks would have to be followed", ErrNoExact, m.Q)
		}
	}
}

// open bounds what the race may still add at the next height.
//
//go:norace
func (r *race) open(height int, bound tail) float64 {
	sum, above := 0.0, 0.0
	for a := len(r.mass) - 1; a >= r.low; a-- {
		if d := height + 2 - a; d <= 0 {
			above += r.mass[a]
		} else if mass := r.mass[a]; mass > 0 {
			sum += mass * bound.at(d)
		}
	}
	return sum + above
}

// mine lets the attacker mine until the honest miners find their next block. If
// he is ahead at any moment and the payment is confirmed, he has won: his blocks
// only grow in number before that moment, so the end of the stage tells.
//
//go:norace
func (r *race) mine(height int) {
	r.take(height)
	end := len(r.mass) - 1
	if height >= r.z {
		end = min(end, height)
	}
	flow := 0.0
	for a := r.low; a <= end; a++ {
		flow = flow*r.m.Q + r.mass[a]
		r.mass[a] = r.p * flow
	}
	if beyond := r.m.Q * flow; height >= r.z {
		r.won += beyond
	} else {
		r.mass[end] += beyond
	}
}

// take ends the races the attacker has won.
//
//go:norace
func (r *race) take(height int) {
	if height < r.z {
		return
	}
	for a := max(height+1, r.low); a < len(r.mass); a++ {
		r.won += r.mass[a]
		r.mass[a] = 0
	}
}

// slot passes a height that validators sign or miss.
func (r *race) slot(height int) {
	if r.m.NoGate {
		r.take(height) // a forged slot block, released before the signature
	}
	missed := r.mass[r.low:]
	signed := slices.Clone(missed)
	for i := range missed {
		signed[i] *= 1 - r.m.Missed
		missed[i] *= r.m.Missed
	}
	if r.m.Missed > 0 {
		r.sleep()
		r.mine(height)
	}
	if r.m.Rules == Literal { // under PoOF the signature has ended the attack
		for i, mass := range signed {
			missed[i] += mass
		}
	}
}

// sleep adds what the attacker mines while the missed slot is closed to others.
func (r *race) sleep() {
	open := r.mass[r.low:]
	after := make([]float64, len(open)+len(r.wait))
	for i, mass := range open {
		for k, chance := range r.wait {
			after[i+k] += mass * chance
		}
	}
	// Beyond the end he is ahead for certain: the end is above the height.
	end := copy(open, after) - 1
	for _, mass := range after[end+1:] {
		open[end] += mass
	}
}

func growTo(mass []float64, top int) []float64 {
	for len(mass) <= top {
		mass = append(mass, 0)
	}
	return mass
}

// poisson lists the chances of 0, 1, … events until they no longer count.
func poisson(mean float64) []float64 {
	var all []float64
	for k, chance := 0, math.Exp(-mean); k < 4 || chance > 1e-20; k++ {
		all = append(all, chance)
		chance *= mean / float64(k+1)
	}
	return all
}
