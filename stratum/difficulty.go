package stratum

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"

	"qcitycoin.org/qcity/miner/work"
)

// AppendDifficulty adds a difficulty as a plain decimal: older Antminer and
// Avalon firmware cannot read an exponent.
func AppendDifficulty(dst []byte, d float64) []byte {
	return strconv.AppendFloat(dst, d, 'f', -1, 64)
}

// CleanDifficulty makes a requested difficulty fit to be announced: from 1 up
// it is cut to an integer (older firmware reads no fraction). ok is false if d
// is not a positive finite number.
func CleanDifficulty(d float64) (clean float64, ok bool) {
	if !(d > 0) || math.IsInf(d, 0) {
		return 0, false
	}
	if d >= 1 {
		d = math.Floor(d)
	}
	return d, true
}

// PowerOfTwoBelow returns the largest power of two not above d (d > 0, finite).
// Such difficulties give targets every firmware computes exactly.
func PowerOfTwoBelow(d float64) float64 {
	_, exp := math.Frexp(d)
	return math.Ldexp(1, exp-1)
}

// niceDifficulty returns the difficulty nearest to d (d > 0, finite) in steps of
// a quarter of a power of two, and from 1 up an integer: at most 12 % away (41 %
// between 1 and 2, 22 % between 2 and 3), and a float64 or a 32-bit integer
// divides the difficulty-1 target by it without a surprise.
func niceDifficulty(d float64) float64 {
	frac, exp := math.Frexp(d) // d = frac·2^exp, ½ ≤ frac < 1
	low := math.Ldexp(math.Floor(frac*8)/8, exp)
	high := math.Ldexp(math.Floor(frac*8)/8+0.125, exp)
	if low >= 1 {
		low, high = math.Floor(low), math.Ceil(high)
	}
	if d*d > low*high {
		return high
	}
	return low
}

// ShareDifficulty returns the difficulty to announce to a client that should
// work at want when a block needs network: never harder than a block. It rounds
// down to a power of two then, so that a slowly drifting network difficulty
// does not mean a new announcement with every block.
func ShareDifficulty(want, network float64) float64 {
	if network >= want || !(network > 0) {
		return want
	}
	return PowerOfTwoBelow(network)
}

// ShareTarget returns the target of a difficulty, but never one harder than
// the block target.
func ShareTarget(difficulty float64, block work.Target) work.Target {
	t := work.TargetFromDifficulty(difficulty)
	if block.Easier(t) {
		return block
	}
	return t
}

// HashDifficulty returns the difficulty a hash (internal order) would meet. It
// is work.DifficultyOfHash within float64 precision, without allocating.
func HashDifficulty(hash [32]byte) float64 {
	n := 0.0
	for i := 24; i >= 0; i -= 8 {
		n = n*(1<<64) + float64(binary.LittleEndian.Uint64(hash[i:]))
	}
	return math.Ldexp(0xffff, 208) / n
}

// PasswordDifficulty finds what a worker's password asks for: "d=1024" or
// "diff=1024" fixes the difficulty, "md=1024" sets the least one; alone or among
// parts separated by commas, semicolons or blanks. Zero: not asked for.
func PasswordDifficulty(password []byte) (fixed, least float64) {
	for part := range bytes.FieldsFuncSeq(password, func(r rune) bool { return r == ',' || r == ';' || r == ' ' }) {
		name, value, _ := bytes.Cut(part, []byte("="))
		wish := &fixed
		switch {
		case bytes.EqualFold(name, []byte("d")), bytes.EqualFold(name, []byte("diff")):
		case bytes.EqualFold(name, []byte("md")):
			wish = &least
		default:
			continue
		}
		d, err := strconv.ParseFloat(string(value), 64)
		if d, ok := CleanDifficulty(d); ok && err == nil && *wish == 0 {
			*wish = d
		}
	}
	return fixed, least
}
