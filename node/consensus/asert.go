package consensus

import (
	"math/big"

	"qcitycoin.org/qcity/node/types"
)

// asertAnchor is the fixed point of the schedule: a block's target and height,
// and the time of that block's parent.
type asertAnchor struct {
	bits       uint32
	height     uint32
	parentTime int64
}

// asert returns the compact target of the block after one at height and time.
// It is aserti3-2d (bitcoincashorg/bitcoincash.org spec/2020-11-15-asert.md) with
// interval and half-life as parameters: target × 2^((time − ideal)/halfLife),
// the power of two by a cubic in 16-bit fixed point. It uses big integers, as
// a regtest target times the factor does not fit 256 bits.
func asert(a asertAnchor, height uint32, time int64, interval, halfLife int64, limit uint32) uint32 {
	ideal := interval * (int64(height) - int64(a.height) + 1)
	exponent := (time - a.parentTime - ideal) * 65536 / halfLife // Go truncates, as the specification does
	shifts := exponent >> 16
	frac := uint64(exponent - shifts*65536)
	// 0 ≤ frac < 65536: the polynomial stays below 2^64 (specification, note 2).
	factor := ((195766423245049*frac + 971821376*frac*frac + 5127*frac*frac*frac + 1<<47) >> 48) + 65536

	anchor, err := types.CompactToTarget(a.bits)
	if err != nil {
		panic("consensus: the anchor's target was checked with the parameters")
	}
	max, err := types.CompactToTarget(limit)
	if err != nil {
		panic("consensus: the limit was checked with the parameters")
	}
	next := anchor.ToBig()
	next.Mul(next, new(big.Int).SetUint64(factor))
	// 256 bits of target and 17 of factor: past these shifts the result is 0 or
	// above every limit, and a huge shift would only cost memory.
	switch shifts -= 16; {
	case shifts < -280:
		next.SetInt64(0)
	case shifts < 0:
		next.Rsh(next, uint(-shifts))
	case shifts > 280:
		return limit
	default:
		next.Lsh(next, uint(shifts))
	}
	if next.Sign() == 0 {
		next.SetInt64(1)
	}
	if next.Cmp(max.ToBig()) > 0 {
		return limit
	}
	t := max
	t.SetFromBig(next)
	return types.TargetToCompact(&t)
}
