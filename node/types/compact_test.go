package types_test

import (
	"errors"
	"math/big"
	"testing"

	"github.com/holiman/uint256"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/types"
)

// TestBitcoinCompactVectors are the cases of Bitcoin Core's bignum_SetCompact. Those
// Core reads as zero, negative or overflowing, or would write in another way,
// are no targets here.
func TestBitcoinCompactVectors(t *testing.T) {
	refused := []uint32{
		0, 0x00123456, 0x01003456, 0x02000056, 0x03000000, 0x04000000, 0x00923456, 0x01803456, 0x02800056,
		0x03800000, 0x04800000, 0x01123456, 0x01fedcba, 0x02123456, 0x04923456, 0xff123456,
	}
	for _, compact := range refused {
		if target, err := types.CompactToTarget(compact); !errors.Is(err, types.ErrCompact) {
			t.Errorf("%08x is read as %s", compact, target.Hex())
		}
	}
	for compact, want := range map[uint32]string{
		0x01120000: "0x12",
		0x02008000: "0x80",
		0x02123400: "0x1234",
		0x03123456: "0x123456",
		0x04123456: "0x12345600",
		0x05009234: "0x92340000",
		0x20123456: "0x1234560000000000000000000000000000000000000000000000000000000000",
		0x1d00ffff: "0xffff0000000000000000000000000000000000000000000000000000",
		0x207fffff: "0x7fffff0000000000000000000000000000000000000000000000000000000000",
		0x2100ffff: "0xffff000000000000000000000000000000000000000000000000000000000000",
	} {
		target, err := types.CompactToTarget(compact)
		if err != nil || target.Hex() != want {
			t.Errorf("%08x: %s, %v", compact, target.Hex(), err)
		}
		if got := types.TargetToCompact(&target); got != compact {
			t.Errorf("%08x comes back as %08x", compact, got)
		}
	}
	for _, compact := range []uint32{0x22000001, 0x2100ffff + 0x00010000, 0x207fffff + 0x01000000, 0x21008000 - 1} {
		if target, err := types.CompactToTarget(compact); err == nil {
			t.Errorf("%08x is read as %s", compact, target.Hex())
		}
	}
}

// TestCompactAgainstBig checks rounding against arithmetic with big integers.
func TestCompactAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawTarget(t)
		compact := types.TargetToCompact(n)
		back, err := types.CompactToTarget(compact)
		if err != nil {
			t.Fatalf("%s gives %08x, which is not read: %v", n, compact, err)
		}
		if back.Gt(n) {
			t.Fatalf("%s is rounded up to %s", n, &back)
		}
		// At least 15 bits of the mantissa are kept.
		lost := new(uint256.Int).Sub(n, &back)
		if lost.Lsh(lost, 15); n.BitLen() > 24 && n.BitLen() < 240 && lost.Gt(n) {
			t.Fatalf("%s loses too much: %s", n, &back)
		}
	})
}

func TestWorkAgainstBig(t *testing.T) {
	top := new(big.Int).Lsh(big.NewInt(1), 256)
	rapid.Check(t, func(t *rapid.T) {
		n := drawTarget(t)
		work := types.Work(n)
		want := new(big.Int).Div(top, new(big.Int).Add(n.ToBig(), big.NewInt(1)))
		if work.ToBig().Cmp(want) != 0 {
			t.Fatalf("target %s: work %s, want %s", n, &work, want)
		}
	})
	max := new(uint256.Int).SetAllOne()
	if work := types.Work(max); !work.Eq(uint256.NewInt(1)) {
		t.Errorf("the easiest target has work %s", &work)
	}
}

func TestHashMeetsAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawTarget(t)
		var h types.Hash
		n.WriteToSlice(h[:]) // big-endian; ids are little-endian
		for i, j := 0, 31; i < j; i, j = i+1, j-1 {
			h[i], h[j] = h[j], h[i]
		}
		if !types.HashMeets(h, n) {
			t.Fatal("a hash equal to the target does not meet it")
		}
		if less := new(uint256.Int).SubUint64(n, 1); types.HashMeets(h, less) {
			t.Fatal("a hash above the target meets it")
		}
	})
}

// drawTarget draws a number above zero of any length.
func drawTarget(t *rapid.T) *uint256.Int {
	var n uint256.Int
	for i := range n {
		n[i] = rapid.Uint64().Draw(t, "word")
	}
	n.Rsh(&n, uint(rapid.IntRange(0, 255).Draw(t, "shift")))
	if n.IsZero() {
		n.SetOne()
	}
	return &n
}
