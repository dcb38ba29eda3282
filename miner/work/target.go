package work

import (
	"bytes"
	"encoding/hex"
	"math"
	"math/big"
)

// Target is the largest hash that still counts, as a big-endian 256-bit number.
type Target [32]byte

// diff1 is the target of difficulty 1 (compact 1d00ffff), as pools count it.
var diff1 = new(big.Int).Lsh(big.NewInt(0xffff), 208)

// MaxTarget is met by every hash.
var MaxTarget = func() (t Target) {
	for i := range t {
		t[i] = 0xff
	}
	return t
}()

// Met reports whether a hash in internal (little-endian) order is at or below t.
func (t *Target) Met(hash [32]byte) bool {
	for i := range t {
		if h := hash[31-i]; h != t[i] {
			return h < t[i]
		}
	}
	return true
}

// Easier reports whether t admits more hashes than u.
func (t Target) Easier(u Target) bool { return bytes.Compare(t[:], u[:]) > 0 }

// Big returns the target as a number.
func (t Target) Big() *big.Int { return new(big.Int).SetBytes(t[:]) }

func (t Target) String() string { return hex.EncodeToString(t[:]) }

// TargetFromBig clamps n into 0 … 2^256−1.
func TargetFromBig(n *big.Int) Target {
	var t Target
	switch {
	case n.Sign() <= 0:
	case n.BitLen() > 256:
		t = MaxTarget
	default:
		n.FillBytes(t[:])
	}
	return t
}

// TargetFromDifficulty returns the target of a pool difficulty (1 = 1d00ffff).
// Difficulties that are not positive numbers give MaxTarget.
func TargetFromDifficulty(d float64) Target {
	if !(d > 0) || math.IsInf(d, 0) {
		return MaxTarget
	}
	q, _ := new(big.Float).Quo(new(big.Float).SetInt(diff1), big.NewFloat(d)).Int(nil)
	return TargetFromBig(q)
}

// Difficulty returns the pool difficulty of a target (1 = 1d00ffff).
func (t Target) Difficulty() float64 {
	n := t.Big()
	if n.Sign() == 0 {
		return math.Inf(1)
	}
	d, _ := new(big.Float).Quo(new(big.Float).SetInt(diff1), new(big.Float).SetInt(n)).Float64()
	return d
}

// DifficultyOfHash returns the pool difficulty a hash (internal order) would meet.
func DifficultyOfHash(hash [32]byte) float64 {
	var t Target
	for i := range t {
		t[i] = hash[31-i]
	}
	return t.Difficulty()
}

// HashesPerDifficulty is the expected number of hashes for a share of difficulty 1.
const HashesPerDifficulty = 4295032833.0 // 2^256 / (0xffff · 2^208)
