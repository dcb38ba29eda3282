package consensus_test

import (
	"slices"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// handoverSets returns set 0 of the keys 0 to n − 1 and a set 1 of m keys that
// shares the last keys of it, in the opposite order.
func handoverSets(n, m, shared int) (a, b consensus.ValidatorSet, all []types.PublicKey) {
	for i := range n + m - shared {
		all = append(all, chaingen.ValidatorKey(types.Secp256k1, i).Public())
	}
	a, b = consensus.ValidatorSet{Keys: all[:n]}, consensus.ValidatorSet{Number: 1, Keys: slices.Clone(all[n-shared:])}
	slices.Reverse(b.Keys)
	return a, b, all
}

// TestElectorateQuorums counts heads for every set of voters of electorates of
// one and of two sets, sharing 0 to 3 keys, with and without disabled ones.
func TestElectorateQuorums(t *testing.T) {
	most := map[int][2]int{1: {1, 2}, 3: {2, 3}, 5: {3, 4}}
	for _, c := range []struct{ n, m, shared int }{{1, 3, 1}, {3, 1, 0}, {3, 3, 0}, {3, 3, 1}, {3, 3, 2}, {3, 3, 3}, {5, 3, 2}, {3, 5, 3}, {5, 5, 4}} {
		a, b, all := handoverSets(c.n, c.m, c.shared)
		for _, disabled := range [][]types.PublicKey{nil, all[:1], all[c.n-1:], {all[0], all[len(all)-1]}} {
			for _, sets := range [][]consensus.ValidatorSet{{a}, {b}, {a, b}} {
				var next *consensus.ValidatorSet
				if len(sets) == 2 {
					next = &sets[1]
				}
				e := consensus.NewElectorate(sets[0], next, disabled)
				for signers := range uint32(1) << len(e.Keys()) {
					certifies, finalises := true, true
					for _, set := range sets {
						count := 0
						for i, k := range e.Keys() {
							if signers>>i&1 == 1 && slices.Contains(set.Keys, k) && !slices.Contains(disabled, k) {
								count++
							}
						}
						need := most[len(set.Keys)]
						certifies = certifies && count >= need[0]
						finalises = finalises && count >= need[1]
					}
					if e.Certifies(signers) != certifies || e.Finalises(signers) != finalises {
						t.Fatalf("%+v, %d sets, %d disabled, voters %b: certifies %t, finalises %t", c, len(sets), len(disabled), signers, !certifies, !finalises)
					}
				}
				// Bits of nobody count for nothing.
				if n := len(e.Keys()); e.Certifies(^uint32(0)<<n) || e.Finalises(^uint32(0)<<n) {
					t.Errorf("%+v: voters that do not exist decide", c)
				}
			}
		}
	}
}

// TestElectorateKeys: the voters' indexes are those of the set in force, then
// the new keys in their order; a disabled key has one but may not use it.
func TestElectorateKeys(t *testing.T) {
	a, b, all := handoverSets(3, 5, 2) // 0 1 2, then 5 4 3 2 1
	e := consensus.NewElectorate(a, &b, all[1:2])
	want := []types.PublicKey{all[0], all[1], all[2], all[5], all[4], all[3]}
	if !slices.Equal(e.Keys(), want) {
		t.Fatalf("keys %v", e.Keys())
	}
	for i, k := range want {
		if index, ok := e.Index(k); int(index) != i || ok != (i != 1) {
			t.Errorf("key %d has index %d, %t", i, index, ok)
		}
	}
	if index, ok := e.Index(chaingen.ValidatorKey(types.P256, 0).Public()); ok {
		t.Errorf("a stranger has index %d", index)
	}
	if sets := e.Sets(); len(sets) != 2 || sets[0].ID() != a.ID() || sets[1].ID() != b.ID() {
		t.Errorf("sets %v", sets)
	}
	if alone := consensus.NewElectorate(a, nil, nil); alone.ID() != a.ID() || len(alone.Sets()) != 1 {
		t.Errorf("a set alone has the id %s", alone.ID())
	}
	if other := consensus.NewElectorate(b, &a, nil); other.ID() == e.ID() {
		t.Error("which set follows does not enter the id")
	}
}

// TestJointQuorumsIntersect is what the joint electorate is for: whatever one
// of the sets decides alone, before or after, shares with a finality of both as
// many voters of that set as two decisions of that set do: one with every
// certificate, and two, of which one may be bad, with every finality.
func TestJointQuorumsIntersect(t *testing.T) {
	for _, c := range []struct{ n, m, shared int }{{3, 3, 0}, {3, 3, 1}, {3, 3, 2}, {3, 3, 3}, {5, 3, 1}, {3, 5, 2}} {
		a, b, _ := handoverSets(c.n, c.m, c.shared)
		joint := consensus.NewElectorate(a, &b, nil)
		for _, set := range []consensus.ValidatorSet{a, b} {
			alone := consensus.NewElectorate(set, nil, nil)
			for x := range uint32(1) << len(joint.Keys()) {
				if !joint.Certifies(x) {
					continue
				}
				for y := range uint32(1) << len(set.Keys) {
					if !alone.Certifies(y) {
						continue
					}
					common := 0
					for i, k := range alone.Keys() {
						index, _ := joint.Index(k)
						common += int(y >> i & 1 & (x >> index))
					}
					need := 1
					if joint.Finalises(x) || alone.Finalises(y) {
						need = 2
					}
					if common < need {
						t.Fatalf("%+v: joint %b and set %d alone %b share %d, want %d", c, x, set.Number, y, common, need)
					}
				}
			}
		}
	}
}
