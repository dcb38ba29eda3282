package work_test

import (
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/miner/work"
)

func hashOf(n *big.Int) (h [32]byte) {
	n.FillBytes(h[:])
	slices.Reverse(h[:])
	return h
}

func drawNumber(t *rapid.T, name string) *big.Int {
	b := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name)
	n := new(big.Int).SetBytes(b)
	return n.Rsh(n, uint(rapid.IntRange(0, 256).Draw(t, name+" shift")))
}

func TestTargetMetAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, h := drawNumber(t, "target"), drawNumber(t, "hash")
		if rapid.Bool().Draw(t, "close") { // one below, equal or one above
			h.Add(n, big.NewInt(rapid.Int64Range(-1, 1).Draw(t, "off")))
			if h.Sign() < 0 || h.BitLen() > 256 {
				h.Set(n)
			}
		}
		target := work.TargetFromBig(n)
		if target.Big().Cmp(n) != 0 {
			t.Fatalf("%x comes back as %s", n, target)
		}
		if got, want := target.Met(hashOf(h)), h.Cmp(n) <= 0; got != want {
			t.Fatalf("target %x, hash %x: met %t", n, h, got)
		}
		if got, want := target.Easier(work.TargetFromBig(h)), n.Cmp(h) > 0; got != want {
			t.Fatalf("target %x easier than %x: %t", n, h, got)
		}
	})
}

func TestTargetFromBigClamps(t *testing.T) {
	if got := work.TargetFromBig(big.NewInt(-1)); got != (work.Target{}) {
		t.Errorf("−1: %s", got)
	}
	if got := work.TargetFromBig(new(big.Int).Lsh(big.NewInt(1), 256)); got != work.MaxTarget {
		t.Errorf("2^256: %s", got)
	}
	if !work.MaxTarget.Easier(work.Target{}) || work.MaxTarget.Easier(work.MaxTarget) {
		t.Error("MaxTarget is not the easiest")
	}
}

func TestDifficulty(t *testing.T) {
	const bitcoin32256 = 16307.420938523983 // bits 1b0404cb
	cases := []struct {
		d    float64
		want string
	}{
		{1, "00000000ffff0000000000000000000000000000000000000000000000000000"},
		{2, "000000007fff8000000000000000000000000000000000000000000000000000"},
		{0.5, "00000001fffe0000000000000000000000000000000000000000000000000000"},
		{65535, "0000000000010000000000000000000000000000000000000000000000000000"},
		{bitcoin32256, "00000000000404c"},
		{math.SmallestNonzeroFloat64, work.MaxTarget.String()},
		{0, work.MaxTarget.String()},
		{-1, work.MaxTarget.String()},
		{math.NaN(), work.MaxTarget.String()},
		{math.Inf(1), work.MaxTarget.String()},
		{math.MaxFloat64, work.Target{}.String()},
	}
	for _, c := range cases {
		got := work.TargetFromDifficulty(c.d).String()
		if c.d == bitcoin32256 {
			got = got[:len(c.want)] // 17 digits of difficulty fix 15 of the target
		}
		if got != c.want {
			t.Errorf("%g: %s, want %s", c.d, got, c.want)
		}
	}
	if d := (work.Target{}).Difficulty(); !math.IsInf(d, 1) {
		t.Errorf("an impossible target has difficulty %g", d)
	}
}

func TestDifficultyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// From 2^-31, just inside 256 bits, to what a target of 60 bits stands for.
		d := math.Exp2(rapid.Float64Range(-31, 160).Draw(t, "log2"))
		back := work.TargetFromDifficulty(d).Difficulty()
		if math.Abs(back-d) > d*1e-12 {
			t.Fatalf("%g comes back as %g", d, back)
		}
		target := work.TargetFromDifficulty(d)
		if got := work.DifficultyOfHash(hashOf(target.Big())); got != target.Difficulty() {
			t.Fatalf("a hash at the target has difficulty %g, the target %g", got, target.Difficulty())
		}
		if !target.Met(hashOf(target.Big())) {
			t.Fatal("a hash equal to the target does not meet it")
		}
	})
}

func TestHashesPerDifficulty(t *testing.T) {
	one := work.TargetFromDifficulty(1)
	hashes := new(big.Float).Quo(
		new(big.Float).SetInt(new(big.Int).Lsh(big.NewInt(1), 256)),
		new(big.Float).SetInt(one.Big()))
	if got, _ := hashes.Float64(); math.Abs(got-work.HashesPerDifficulty) > 1 {
		t.Errorf("%f hashes, constant %f", got, work.HashesPerDifficulty)
	}
}
