package types

import (
	"errors"
	"math/bits"

	"github.com/holiman/uint256"
)

// ErrCompact means that a compact target is negative, zero, too large for 256
// bits, or not the encoding its value has.
var ErrCompact = errors.New("compact target is not canonical")

// CompactToTarget expands Bitcoin's compact form (8-bit exponent, 23-bit
// mantissa). Only the encoding that TargetToCompact writes is accepted.
func CompactToTarget(compact uint32) (uint256.Int, error) {
	mantissa, exponent := compact&0x7fffff, compact>>24
	var t uint256.Int
	if exponent <= 3 {
		t.SetUint64(uint64(mantissa >> (8 * (3 - exponent))))
	} else {
		if mantissa != 0 && int(8*(exponent-3))+bits.Len32(mantissa) > 256 {
			return uint256.Int{}, ErrCompact
		}
		t.Lsh(uint256.NewInt(uint64(mantissa)), uint(8*(exponent-3)))
	}
	if t.IsZero() || TargetToCompact(&t) != compact {
		return uint256.Int{}, ErrCompact
	}
	return t, nil
}

// TargetToCompact returns the compact form of t, rounded down.
func TargetToCompact(t *uint256.Int) uint32 {
	size := (t.BitLen() + 7) / 8
	var mantissa uint32
	if size <= 3 {
		mantissa = uint32(t.Uint64()) << (8 * (3 - size))
	} else {
		var m uint256.Int
		mantissa = uint32(m.Rsh(t, uint(8*(size-3))).Uint64())
	}
	if mantissa&0x800000 != 0 {
		mantissa >>= 8
		size++
	}
	return uint32(size)<<24 | mantissa
}

// Work returns the expected number of hashes a target stands for:
// 2^256 / (target + 1).
func Work(target *uint256.Int) uint256.Int {
	// 2^256 does not fit, but 2^256/(t+1) = (2^256 − t − 1)/(t+1) + 1 = ^t/(t+1) + 1.
	var w, d uint256.Int
	d.AddUint64(target, 1)
	if d.IsZero() {
		return *uint256.NewInt(1)
	}
	w.Not(target)
	w.Div(&w, &d)
	w.AddUint64(&w, 1)
	return w
}

// HashMeets reports whether h, read as a little-endian number, is at most target.
func HashMeets(h Hash, target *uint256.Int) bool {
	var n uint256.Int
	for i, j := 0, len(h)-1; i < j; i, j = i+1, j-1 {
		h[i], h[j] = h[j], h[i]
	}
	n.SetBytes(h[:])
	return !n.Gt(target)
}
