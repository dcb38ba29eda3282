package reward

import (
	"math"
	"math/big"
	"testing"

	"github.com/holiman/uint256"
	"pgregory.net/rapid"
)

func TestWeight(t *testing.T) {
	for _, c := range []struct {
		difficulty float64
		want       uint64
	}{
		{1, 4295032833}, // ⌊2^48 / 65535⌋
		{2, 8590065666},
		{0.5, 2147516416},
		{65535, 1 << 48},
		{1.0 / (1 << 24), 256},
		{1.0 / (1 << 33), 1},
		{math.SmallestNonzeroFloat64, 1},
		{0, 1},
		{-3, 1},
		{math.NaN(), 1},
		{1<<31 - 1, 9223512767649513471},
		{1 << 31, MaxWeight},
		{math.MaxFloat64, MaxWeight},
		{math.Inf(1), MaxWeight},
	} {
		want := min(c.want, MaxWeight)
		if got := Weight(c.difficulty); got != want {
			t.Errorf("difficulty %g: %d, want %d", c.difficulty, got, want)
		}
	}
}

// TestWeightAgainstBig: the arithmetic in machine words is that of whole numbers.
func TestWeightAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := math.Ldexp(rapid.Float64Range(1, 2).Draw(t, "fraction"), rapid.IntRange(-80, 40).Draw(t, "exponent"))
		r := new(big.Rat).SetFloat64(d)
		r.Mul(r, new(big.Rat).SetFrac(new(big.Int).Lsh(big.NewInt(1), 48), big.NewInt(65535)))
		want := new(big.Int).Quo(r.Num(), r.Denom())
		switch limit := new(big.Int).SetUint64(MaxWeight); {
		case want.Sign() == 0:
			want.SetInt64(1)
		case want.Cmp(limit) > 0:
			want = limit
		}
		if got := Weight(d); got != want.Uint64() {
			t.Fatalf("difficulty %g: %d, want %v", d, got, want)
		}
	})
}

func TestWorkOfTarget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var target [32]byte
		copy(target[rapid.IntRange(0, 31).Draw(t, "zeros"):], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "bytes"))
		n := new(big.Int).SetBytes(target[:])
		n.Add(n, big.NewInt(1))
		want := new(big.Int).Quo(new(big.Int).Lsh(big.NewInt(1), 256), n)
		got := WorkOfTarget(target)
		if n.IsInt64() && n.Int64() == 1 {
			want.Sub(want, big.NewInt(1)) // does not fit
		}
		if got.ToBig().Cmp(want) != 0 {
			t.Fatalf("target %x: %v, want %v", target, &got, want)
		}
	})
	var all [32]byte
	for i := range all {
		all[i] = 0xff
	}
	if got := WorkOfTarget(all); got.Uint64() != 1 {
		t.Errorf("the easiest target takes %v hashes", &got)
	}
}

func part(name string, weight uint64) Part {
	return Part{Account: name, Weight: *uint256.NewInt(weight)}
}

func TestSplit(t *testing.T) {
	for name, c := range map[string]struct {
		amount int64
		parts  []Part
		want   []int64
	}{
		"even":                        {100, []Part{part("a", 1), part("b", 1)}, []int64{50, 50}},
		"the tie goes by name":        {101, []Part{part("b", 1), part("a", 1)}, []int64{50, 51}},
		"two left, three equal":       {5, []Part{part("c", 7), part("a", 7), part("b", 7)}, []int64{1, 2, 2}},
		"the largest remainder first": {10, []Part{part("a", 1), part("b", 2), part("c", 4)}, []int64{1, 3, 6}}, // 1.43, 2.86, 5.71
		"no weight gets nothing":      {3, []Part{part("a", 0), part("b", 1), part("c", 1)}, []int64{0, 2, 1}},
		"less than accounts":          {1, []Part{part("c", 5), part("b", 5), part("a", 4)}, []int64{0, 1, 0}},
		"nothing to divide":           {0, []Part{part("a", 5)}, []int64{0}},
		"all of it":                   {math.MaxInt64, []Part{part("a", math.MaxUint64)}, []int64{math.MaxInt64}},
	} {
		if !Split(c.amount, c.parts) {
			t.Errorf("%s: not divided", name)
		}
		for i, want := range c.want {
			if got := c.parts[i].Amount; got != want {
				t.Errorf("%s: %q gets %d, want %d", name, c.parts[i].Account, got, want)
			}
		}
	}
	if Split(5, []Part{part("a", 0)}) || Split(5, nil) {
		t.Error("divided by nothing")
	}
}

func drawParts(t *rapid.T) []Part {
	var parts []Part
	for _, name := range rapid.SliceOfNDistinct(rapid.StringN(1, 5, 20), 1, 12, rapid.ID[string]).Draw(t, "names") {
		w := uint256.NewInt(rapid.Uint64().Draw(t, "weight"))
		w.Lsh(w, uint(rapid.IntRange(0, 120).Draw(t, "shift")))
		parts = append(parts, Part{Account: name, Weight: *w})
	}
	return parts
}

// TestSplitProperties: nothing is lost, everybody is within one unit of the
// exact part, more work never gets less, and the order of the input is nothing.
func TestSplitProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts, amount := drawParts(t), rapid.Int64Range(0, math.MaxInt64).Draw(t, "amount")
		if !Split(amount, parts) {
			for _, p := range parts {
				if !p.Weight.IsZero() {
					t.Fatal("not divided")
				}
			}
			return
		}
		sum, total := new(big.Int), new(big.Int)
		for _, p := range parts {
			sum.Add(sum, big.NewInt(p.Amount))
			total.Add(total, p.Weight.ToBig())
		}
		if !sum.IsInt64() || sum.Int64() != amount {
			t.Fatalf("%v of %d", sum, amount)
		}
		for _, p := range parts {
			exact := new(big.Int).Mul(big.NewInt(amount), p.Weight.ToBig())
			off := exact.Sub(exact, new(big.Int).Mul(big.NewInt(p.Amount), total))
			if off.CmpAbs(total) >= 0 {
				t.Fatalf("%q is a unit or more off", p.Account)
			}
			for _, q := range parts {
				if p.Weight.Gt(&q.Weight) && p.Amount < q.Amount {
					t.Fatalf("%q did more than %q and gets less", p.Account, q.Account)
				}
			}
		}
		again := rapid.Permutation(parts).Draw(t, "permutation")
		for i := range again {
			again[i].Amount = 0
		}
		Split(amount, again)
		for _, p := range parts {
			for _, q := range again {
				if p.Account == q.Account && p.Amount != q.Amount {
					t.Fatalf("%q gets %d or %d, by order", p.Account, p.Amount, q.Amount)
				}
			}
		}
	})
}
