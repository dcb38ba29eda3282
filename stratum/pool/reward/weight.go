package reward

import (
	"math"
	"math/bits"

	"github.com/holiman/uint256"
)

// MaxWeight is what a share counts for at most.
const MaxWeight = 1 << 63

// Weight is what a share of a pool difficulty counts for: the hashes it stands
// for, ⌊difficulty × 2^48 / 65535⌋, exactly, at least 1 and at most MaxWeight.
// Difficulty 1 is a target of 0xffff · 2^208, so 2^256 / (0xffff · 2^208) hashes.
func Weight(difficulty float64) uint64 {
	if !(difficulty > 0) {
		return 1
	}
	if difficulty >= 1<<31 {
		return MaxWeight // from 2^31 on it is beyond 2^63
	}
	fraction, exponent := math.Frexp(difficulty)
	mantissa := uint64(fraction * (1 << 53)) // exact: a float64 has 53 bits
	shift := 53 - exponent                   // difficulty = mantissa / 2^shift, shift > 0
	hi, lo := mantissa>>16, mantissa<<48     // × 2^48
	qhi, rest := hi/0xffff, hi%0xffff
	qlo, _ := bits.Div64(rest, lo, 0xffff)
	switch {
	case shift >= 128:
		return 1
	case shift >= 64:
		qlo = qhi >> (shift - 64)
	default:
		qlo = qlo>>shift | qhi<<(64-shift) // below 2^63, as difficulty < 2^31
	}
	return min(max(qlo, 1), MaxWeight)
}

// WorkOfTarget is the number of hashes that a target, big-endian, takes on
// average: ⌊2^256 / (target + 1)⌋, and 2^256 − 1 for a target of zero.
func WorkOfTarget(target [32]byte) (work uint256.Int) {
	var t uint256.Int
	t.SetBytes32(target[:])
	t.AddUint64(&t, 1)
	switch {
	case t.IsZero(): // 2^256
		work.SetOne()
	case t.IsUint64() && t.Uint64() == 1:
		work.SetAllOne()
	default: // ⌊2^256 / t⌋ = ⌊(2^256 − t) / t⌋ + 1
		work.Neg(&t)
		work.Div(&work, &t)
		work.AddUint64(&work, 1)
	}
	return work
}
