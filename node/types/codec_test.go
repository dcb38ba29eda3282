package types_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/types"
)

func TestVarInt(t *testing.T) {
	cases := []struct {
		n    uint64
		want []byte
	}{
		{0, []byte{0}},
		{0xfc, []byte{0xfc}},
		{0xfd, []byte{0xfd, 0xfd, 0}},
		{0xffff, []byte{0xfd, 0xff, 0xff}},
		{0x10000, []byte{0xfe, 0, 0, 1, 0}},
		{0xffffffff, []byte{0xfe, 0xff, 0xff, 0xff, 0xff}},
		{0x100000000, []byte{0xff, 0, 0, 0, 0, 1, 0, 0, 0}},
		{math.MaxUint64, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
	}
	for _, c := range cases {
		if got := types.AppendVarInt(nil, c.n); !bytes.Equal(got, c.want) {
			t.Errorf("%d: %x, want %x", c.n, got, c.want)
		}
		d := types.NewDecoder(c.want)
		if got := d.VarInt(); got != c.n || d.Finish() != nil {
			t.Errorf("%x: %d, %v", c.want, got, d.Err())
		}
	}
	for _, b := range [][]byte{{0xfd, 0xfc, 0}, {0xfe, 0xff, 0xff, 0, 0}, {0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}} {
		d := types.NewDecoder(b)
		if n := d.VarInt(); n != 0 || !errors.Is(d.Finish(), types.ErrNonCanonical) {
			t.Errorf("%x is read as %d, %v", b, n, d.Err())
		}
	}
}

func TestDecoderFailureSticks(t *testing.T) {
	d := types.NewDecoder([]byte{1, 2, 3})
	if d.Uint32() != 0 || d.Uint8() != 0 || d.Hash() != (types.Hash{}) || d.VarBytes() != nil || d.Uint64() != 0 || d.Uint16() != 0 {
		t.Error("a failed decoder returns values")
	}
	if !errors.Is(d.Finish(), types.ErrTruncated) {
		t.Errorf("it says %v", d.Err())
	}
	d = types.NewDecoder([]byte{1, 2})
	if d.Uint8() != 1 || d.Remaining() != 1 || !errors.Is(d.Finish(), types.ErrTrailing) {
		t.Errorf("left over: %v", d.Err())
	}
}

// TestMerkle checks against a recursive definition, and CVE-2012-2459.
func TestMerkle(t *testing.T) {
	var root func([]types.Hash) types.Hash
	root = func(ids []types.Hash) types.Hash {
		if len(ids) == 1 {
			return ids[0]
		}
		size := 1 // the largest power of two below the number of leaves
		for size*2 < len(ids) {
			size *= 2
		}
		left, rest := root(ids[:size]), ids[size:]
		for len(rest) < size { // the last leaf or subtree is repeated, level by level
			width := len(rest) & -len(rest)
			rest = append(rest[:len(rest):len(rest)], rest[len(rest)-width:]...)
		}
		right := root(rest)
		return types.DoubleHash(append(left[:], right[:]...))
	}
	for n := 1; n <= 40; n++ {
		ids := make([]types.Hash, n)
		for i := range ids {
			ids[i] = sha256.Sum256([]byte{byte(i)})
		}
		got, mutated := types.MerkleRoot(ids)
		if got != root(ids) || mutated {
			t.Errorf("%d leaves: %s, mutated %t, want %s", n, got, mutated, root(ids))
		}
		if fold := types.FoldBranch(ids[0], types.MerkleBranch(ids)); fold != got {
			t.Errorf("%d leaves: the branch of leaf 0 leads to %s", n, fold)
		}
		if width := n & -n; n > 1 && width < n {
			twin, mutated := types.MerkleRoot(append(ids[:n:n], ids[n-width:]...))
			if twin != got || !mutated {
				t.Errorf("%d leaves and the last %d again: same root %t, seen as mutated %t", n, width, twin == got, mutated)
			}
		}
	}
	if r, mutated := types.MerkleRoot(nil); !r.IsZero() || mutated {
		t.Errorf("no leaves: %s, %t", r, mutated)
	}
}

func TestHashText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h, o types.Hash
		copy(h[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "h"))
		copy(o[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "o"))
		back, err := types.ParseHash(h.String())
		if err != nil || back != h {
			t.Fatalf("%s comes back as %s, %v", h, back, err)
		}
		if c := h.Compare(o); c != bytes.Compare([]byte(h.String()), []byte(o.String())) {
			t.Fatalf("Compare(%s, %s) is %d", h, o, c)
		}
	})
	for _, s := range []string{"", "00", string(make([]byte, 64)), "g" + string(bytes.Repeat([]byte{'0'}, 63))} {
		if h, err := types.ParseHash(s); err == nil {
			t.Errorf("%q is read as %s", s, h)
		}
	}
}

// TestTaggedHash uses BIP 340's definition, written out.
func TestTaggedHash(t *testing.T) {
	tag := sha256.Sum256([]byte("qcity/test"))
	want := sha256.Sum256(bytes.Join([][]byte{tag[:], tag[:], []byte("ab")}, nil))
	if got := types.TaggedHash("qcity/test", []byte("a"), []byte("b")); got != want {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestAmounts(t *testing.T) {
	for v, want := range map[int64]string{
		0: "0.00000000", 1: "0.00000001", types.Coin: "1.00000000", -1: "-0.00000001",
		123_456_789_012: "1234.56789012", math.MinInt64: "-92233720368.54775808", math.MaxInt64: "92233720368.54775807",
	} {
		if got := types.FormatAmount(v); got != want {
			t.Errorf("%d: %s, want %s", v, got, want)
		}
	}
	for v, want := range map[int64]bool{-1: false, 0: true, types.MaxMoney: true, types.MaxMoney + 1: false, math.MinInt64: false} {
		if types.ValidAmount(v) != want {
			t.Errorf("ValidAmount(%d) is %t", v, !want)
		}
	}
}

func TestKeyText(t *testing.T) {
	k := public(7)
	text, err := k.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back types.PublicKey
	if err := back.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(k, back); diff != "" {
		t.Error(diff)
	}
	for name, s := range map[string]string{
		"no algorithm":      string(text[10:]),
		"unknown algorithm": "ed25519:" + string(text[10:]),
		"odd digits":        string(text[:len(text)-1]),
		"not on the curve":  "secp256k1:020000000000000000000000000000000000000000000000000000000000000005",
		"uncompressed":      "secp256k1:04" + string(text[12:]),
		"x of the field":    "p256:02ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
	} {
		if err := back.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}
