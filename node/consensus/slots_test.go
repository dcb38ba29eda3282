package consensus_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// parentOf returns the state before a height, one minute per block.
func parentOf(n *consensus.Network, height uint32) consensus.State {
	s := n.GenesisState()
	s.Height = height - 1
	s.Time += 60 * (height - 1)
	return s
}

func TestTurns(t *testing.T) {
	n := chaingen.New(t, chaingen.Params()).Network()
	cases := []struct {
		height uint32
		ranks  [5]uint32 // of validators 0 … 4
	}{
		{10, [5]uint32{4, 0, 1, 2, 3}},
		{20, [5]uint32{3, 4, 0, 1, 2}},
		{30, [5]uint32{2, 3, 4, 0, 1}},
		{40, [5]uint32{1, 2, 3, 4, 0}},
		{50, [5]uint32{0, 1, 2, 3, 4}},
		{60, [5]uint32{4, 0, 1, 2, 3}},
		{4_294_967_290, [5]uint32{1, 2, 3, 4, 0}}, // slot 429,496,729
	}
	for _, c := range cases {
		s := parentOf(n, c.height)
		if !s.ChildIsSlot() {
			t.Errorf("height %d is no slot", c.height)
		}
		for i, want := range c.ranks {
			if got := s.Rank(uint8(i)); got != want {
				t.Errorf("height %d: validator %d has rank %d, want %d", c.height, i, got, want)
			}
			if got := s.ValidatorOfRank(want); got != uint8(i) {
				t.Errorf("height %d: rank %d is validator %d, want %d", c.height, want, got, i)
			}
		}
	}
}

func TestSlotsAreMultiplesOfTen(t *testing.T) {
	n := chaingen.New(t, chaingen.Params()).Network()
	for height, want := range map[uint32]bool{0: false, 1: false, 9: false, 10: true, 11: false, 19: false, 20: true, 100: true, 4_294_967_290: true, 4_294_967_295: false} {
		if n.IsSlot(height) != want {
			t.Errorf("IsSlot(%d) is %t", height, !want)
		}
	}
}

func TestWindows(t *testing.T) {
	n := chaingen.New(t, chaingen.Params()).Network()
	s := parentOf(n, 10)
	at := func(time uint32) int64 { return int64(time) - int64(s.Time) }
	for rank, want := range []int64{1, 20, 40, 60, 80} {
		from, to := s.SignedWindow(s.ValidatorOfRank(uint32(rank)))
		if at(from) != want || at(to) != 600 {
			t.Errorf("rank %d: %d to %d s, want %d to 600", rank, at(from), at(to), want)
		}
	}
	if got := at(s.FallbackTime()); got != 121 {
		t.Errorf("fallback from %d s", got)
	}
	if s.MinedTime() != s.FallbackTime() {
		t.Error("a slot is mined at another time than its fallback")
	}
	next := parentOf(n, 11)
	if next.MinedTime() != next.Time+1 || next.MinTime() != next.Time+1 {
		t.Error("a mined block may not come one second after its parent")
	}
	s.Time = math.MaxUint32 - 5 // the last seconds of 32-bit time do not wrap
	if from, to := s.SignedWindow(s.ValidatorOfRank(1)); from != math.MaxUint32 || to != math.MaxUint32 || s.FallbackTime() != math.MaxUint32 {
		t.Errorf("windows wrap: %d %d %d", from, to, s.FallbackTime())
	}
}

func TestSubsidy(t *testing.T) {
	p := chaingen.Params()
	p.HalvingInterval = 1000
	n := chaingen.New(t, p).Network()
	for height, want := range map[uint32]int64{
		1: 5_000_000_000, 999: 5_000_000_000, 1000: 2_500_000_000, 1999: 2_500_000_000, 2000: 1_250_000_000,
		32_999: 1, 33_000: 0, 62_999: 0, 63_000: 0, 64_000: 0, 65_000: 0, math.MaxUint32: 0,
	} {
		s := parentOf(n, height)
		if got := s.Subsidy(); got != want {
			t.Errorf("height %d: %d, want %d", height, got, want)
		}
	}
	if got := p.Subsidy; got != testSubsidy {
		t.Errorf("subsidy of the test network is %d", got)
	}
}

// TestMoneyIsBounded adds up all a network can ever create.
func TestMoneyIsBounded(t *testing.T) {
	p := chaingen.Params()
	p.HalvingInterval = 500
	p.Subsidy = testMaxMoney / 2 / 500 // the most Check accepts
	n := chaingen.New(t, p).Network()
	var sum int64
	for height := uint32(1); height < 500*64; height++ {
		s := parentOf(n, height)
		sum += s.Subsidy()
	}
	if sum > testMaxMoney || sum < testMaxMoney*99/100 {
		t.Errorf("the network creates %d, at most %d may be", sum, int64(testMaxMoney))
	}
	p.Subsidy++
	if _, err := consensus.NewNetwork(p); err == nil {
		t.Error("one base unit more is accepted")
	}
}

// TestForkChoiceIsATotalOrder: by the certified slot, then the number of signed
// slots, then work (C8).
func TestForkChoiceIsATotalOrder(t *testing.T) {
	n := chaingen.New(t, chaingen.Params()).Network()
	draw := func(t *rapid.T, name string) consensus.Weight {
		s := n.GenesisState()
		s.SignedSlots = rapid.Uint32Range(0, 2).Draw(t, name+" slots")
		s.Work.SetUint64(rapid.Uint64Range(0, 2).Draw(t, name+" low"))
		if rapid.Bool().Draw(t, name+" high") {
			s.Work[3] = 1
		}
		return s.Weight(rapid.Uint32Range(0, 2).Draw(t, name+" certified"))
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw(t, "a"), draw(t, "b"), draw(t, "c")
		if a.Compare(a) != 0 {
			t.Fatal("a chain differs from itself")
		}
		if a.Compare(b) != -b.Compare(a) {
			t.Fatal("the order depends on who asks")
		}
		if a.Compare(b) >= 0 && b.Compare(c) >= 0 && a.Compare(c) < 0 {
			t.Fatal("the order is not transitive")
		}
		if a.Compare(b) == 0 && a != b {
			t.Fatal("different weights compare equal")
		}
		want := 0
		switch {
		case a.Certified != b.Certified:
			want = int(a.Certified) - int(b.Certified)
		case a.SignedSlots != b.SignedSlots:
			want = int(a.SignedSlots) - int(b.SignedSlots)
		default:
			want = a.Work.Cmp(&b.Work)
		}
		if got := a.Compare(b); (got > 0) != (want > 0) || (got < 0) != (want < 0) {
			t.Fatalf("%+v against %+v is %d", a, b, got)
		}
	})
}

// TestSignedSlotBeatsWork is the promise of the chain (C8): however long a branch
// without signatures grows, it does not replace one that has a signed slot more.
func TestSignedSlotBeatsWork(t *testing.T) {
	g := chaingen.New(t, chaingen.Params())
	g.Fill("a", 9)
	honest := g.Next("signed")
	g.SetTip("a9")
	g.NextFallback("secret")
	g.Fill("s", 9)                     // up to the next slot
	attacker := g.NextFallback("more") // which is mined as well
	if attacker.Err != nil || honest.Err != nil {
		t.Fatal(attacker.Err, honest.Err)
	}
	if !attacker.State.Work.Gt(&honest.State.Work) {
		t.Fatal("the attacker's branch has no more work: the test shows nothing")
	}
	if honest.State.Weight(0).Compare(attacker.State.Weight(0)) <= 0 {
		t.Error("ten blocks of work replaced a signed slot")
	}
	g.SetTip("signed")
	longer := g.Next("longer")
	if longer.State.Weight(0).Compare(honest.State.Weight(0)) <= 0 {
		t.Error("a child is not better than its parent")
	}
}

func TestBreakTie(t *testing.T) {
	n := chaingen.New(t, chaingen.Params()).Network()
	s := parentOf(n, 10) // ranks of validators 0 … 4: 4 0 1 2 3
	signedBy := func(index uint8, nonce uint32) *types.SignedHeader {
		return &types.SignedHeader{Header: types.Header{Nonce: nonce}, VchBlockSig: types.BlockSig{Index: index}.Bytes()}
	}
	minedWith := func(nonce uint32) *types.SignedHeader {
		return &types.SignedHeader{Header: types.Header{Nonce: nonce}}
	}
	low, high := minedWith(1), minedWith(2)
	if low.Header.ID().String() > high.Header.ID().String() {
		low, high = high, low
	}
	cases := []struct {
		name string
		a, b *types.SignedHeader
		want int
	}{
		{"lower rank", signedBy(1, 0), signedBy(0, 0), 1},
		{"one rank lower", signedBy(3, 0), signedBy(4, 0), 1},
		{"same validator twice: first seen", signedBy(2, 1), signedBy(2, 2), 0},
		{"signed before fallback", signedBy(0, 0), low, 1},
		{"lower id of two fallbacks", low, high, 1},
		{"the same block", low, low, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := s.BreakTie(c.a, c.b); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
			if got := s.BreakTie(c.b, c.a); got != -c.want {
				t.Errorf("the other way round %d, want %d", got, -c.want)
			}
		})
	}
}
