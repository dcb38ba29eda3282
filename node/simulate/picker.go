package simulate

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// picker draws numbers from a fixed distribution with one random word each:
// A. J. Walker's alias method, with M. Vose's construction. Probabilities are
// kept to 2^-50 or better.
type picker struct {
	bits  int
	cut   []uint64
	other []int
}

// newPicker takes the probabilities of 0, 1, …; they sum up to 1.
func newPicker(chances []float64) *picker {
	width := bits.Len(uint(len(chances) - 1))
	size := 1 << width
	p := &picker{bits: width, cut: make([]uint64, size), other: make([]int, size)}
	left := make([]float64, size)
	var small, large []int
	for i := range left {
		if i < len(chances) {
			left[i] = chances[i] * float64(size)
		}
		if left[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	whole := math.Ldexp(1, 64-width)
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		p.cut[s], p.other[s] = uint64(left[s]*whole), l
		if left[l] -= 1 - left[s]; left[l] < 1 {
			large, small = large[:len(large)-1], append(small, l)
		}
	}
	for _, i := range append(small, large...) { // what remains is 1 but for rounding
		p.other[i] = i
	}
	return p
}

//go:norace
func (p *picker) draw(r *rand.PCG) int {
	u := r.Uint64()
	i := int(u & (1<<p.bits - 1))
	if u>>p.bits < p.cut[i] {
		return i
	}
	return p.other[i]
}

// binomial lists the chances of 0 to n successes in n tries.
func binomial(n int, q float64) []float64 {
	all := make([]float64, n+1)
	ln, _ := math.Lgamma(float64(n + 1))
	for k := range all {
		a, _ := math.Lgamma(float64(k + 1))
		b, _ := math.Lgamma(float64(n - k + 1))
		all[k] = math.Exp(ln - a - b + float64(k)*math.Log(q) + float64(n-k)*math.Log1p(-q))
	}
	return all
}
