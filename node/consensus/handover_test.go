package consensus_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// testTakeover is after how many certified slots a change needs no finality.
const testTakeover = 36

// TestHandover takes every kind of change from the slot that carries it to the
// first slots of the new set. Votes are by all there are: the point is who may.
func TestHandover(t *testing.T) {
	cases := []struct {
		name   string
		keys   []int
		voters string // during the handover
		set    string // afterwards
	}{
		{"a key added and one removed", []int{0, 1, 2, 3, 5}, "0 1 2 3 4 5", "0 1 2 3 5"},
		{"two removed", []int{0, 1, 2}, "0 1 2 3 4", "0 1 2"},
		{"authority passes to others", []int{5, 6, 7}, "0 1 2 3 4 5 6 7", "5 6 7"},
		{"another order", []int{4, 3, 2, 1, 0}, "0 1 2 3 4", "4 3 2 1 0"},
		{"the same again", []int{0, 1, 2, 3, 4}, "0 1 2 3 4", "0 1 2 3 4"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bothAlgorithms(t, func(t *testing.T, s *story) {
				first := "set 0: 0 1 2 3 4; "
				s.slot()
				old := s.Tip().State.Voters()
				s.slot(s.SetChange(s.keys(c.keys...), 4, 0, 2), s.Certificate("genesis", "s1", 0, 1, 2))
				next := "next 1: " + c.set + " since s2, %d deep; "
				s.expect(first + fmt.Sprintf(next, 0) + "final genesis; slots genesis* s1* s2")
				if got := s.voters(); got != c.voters {
					t.Fatalf("voters are %s, want %s", got, c.voters)
				}
				if s.Voters("s2") != old && s.Voters("s2").ID() != old.ID() {
					t.Error("the slot that carries the change is not voted on by the set it was made under")
				}
				s.slot(s.Certificate("s1", "s2", 0, 1, 2))
				s.slot()
				all := everybody(s.Voters("s3"))
				s.slot(s.Certificate("s2", "s3", all...), s.Certificate("s3", "s4", all...))
				s.expect("set 1: " + c.set + "; final s3; slots s3* s4* s5")
				if got := s.voters(); got != c.set {
					t.Fatalf("voters are %s, want %s", got, c.set)
				}
				s.slot()
				all = everybody(s.Voters("s6"))
				if len(all) != len(c.keys) {
					t.Fatalf("%d voters for the first slot of the new set", len(all))
				}
				s.slot(s.Certificate("s4", "s6", all...))
				s.expect("set 1: " + c.set + "; final s3; slots s3* s4* s5 s6* s7")
				if got := s.Tip().State.SignedSlots; got != 7 {
					t.Errorf("%d signed slots", got)
				}
			})
		})
	}
}

func everybody(e *consensus.Electorate) (list []uint8) {
	for i := range e.Keys() {
		list = append(list, uint8(i))
	}
	return list
}

// handover returns a story in which s2 carries a change to keys 4, 5 and 6, and
// s3 is the newest slot. The voters on s3 are 0 to 6 by index.
func handover(t *testing.T, s *story) {
	t.Helper()
	s.slots(1)
	s.slot(s.Certificate("genesis", "s1", 0, 1, 2), s.SetChange(s.keys(4, 5, 6), 0, 1, 2))
	s.slot(s.Certificate("s1", "s2", 0, 1, 2, 3))
	s.expect("set 0: 0 1 2 3 4; next 1: 4 5 6 since s2, 0 deep; final s1; slots s1* s2* s3")
}

// TestJointElectorate: during a handover a certificate needs a majority of both
// sets, finality a final quorum of both, and a key of both counts for both.
func TestJointElectorate(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		handover(t, s)
		for _, few := range [][]uint8{
			{0, 1, 2, 3},    // all but one of the old set, nobody of the new
			{4, 5, 6},       // all of the new
			{0, 1, 2, 3, 5}, // one of the new
			{0, 4, 5, 6},    // two of the old
		} {
			s.refused("certificate-quorum", s.Certificate("s2", "s3", few...))
		}
		for _, c := range []struct {
			signers []uint8
			final   string
		}{
			{[]uint8{0, 1, 4, 5}, "s1"},
			{[]uint8{0, 1, 2, 5, 6}, "s1"},    // three of five, two of three
			{[]uint8{0, 1, 2, 3, 4, 5}, "s1"}, // all of the old, two of the new
			{[]uint8{0, 1, 4, 5, 6}, "s1"},    // three of the old, all of the new
			{[]uint8{0, 1, 2, 4, 5, 6}, "s2"},
		} {
			before := s.Tip().Name
			s.branch = fmt.Sprintf("with %v: ", c.signers)
			node := s.slot(s.Certificate("s2", "s3", c.signers...))
			if got := node.State.Proven().Final; got != s.Node(c.final).State.Checkpoint() {
				t.Errorf("by %v slot %v is final, want %s", c.signers, got, c.final)
			}
			s.SetTip(before)
		}
	})
}

// TestJointElectorateID: the id that votes name during a handover, in full.
func TestJointElectorateID(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		handover(t, s)
		set := func(number byte, numbers ...int) []byte {
			all := []byte{number, 0, 0, 0}
			for _, k := range s.keys(numbers...) {
				all = cat(all, k.Bytes())
			}
			return tagged("qcity/validators", all)
		}
		want := tagged("qcity/validators/joint", set(0, 0, 1, 2, 3, 4), set(1, 4, 5, 6))
		if got := s.Voters("s3").ID(); !bytes.Equal(got[:], want) {
			t.Errorf("joint electorate %x, want %x", got, want)
		}
		for _, alone := range [][]byte{set(0, 0, 1, 2, 3, 4), set(1, 4, 5, 6)} {
			l := s.Link("s2", "s3")
			l.Set = types.Hash(alone)
			s.refused("attest-set", certify(s.Generator, l, s.Voters("s3"), 0, 1, 2, 3, 4, 5, 6))
		}
	})
}

// TestOldKeysAreRefused: from the takeover on the new set signs, in its own
// turns, and nobody else does.
func TestOldKeysAreRefused(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		handover(t, s)
		s.slot(s.Certificate("s2", "s3", 0, 1, 2, 4, 5, 6))
		s.expect("set 1: 4 5 6; final s2; slots s2* s3* s4")
		s.approach()
		parent := s.Tip()
		// Slot 5 of three validators: number 5 mod 3 = 2 has rank 0.
		for index, rank := range []uint32{1, 2, 0} {
			if got := parent.State.Rank(uint8(index)); got != rank {
				t.Errorf("validator %d has rank %d, want %d", index, got, rank)
			}
			if node := s.NextSigned(fmt.Sprint("by new ", index), uint8(index)); node.Err != nil {
				t.Errorf("validator %d of the new set: %v", index, node.Err)
			}
			s.SetTip(parent.Name)
		}
		if node := s.NextSigned("by nobody", 3); ruleOf(node.Err) != "validator" {
			t.Errorf("index 3: %v", node.Err)
		}
		s.SetTip(parent.Name)
		block := chaingen.Clone(s.NextSigned("to sign again", 0).Block)
		s.SetTip(parent.Name)
		id := block.Header.ID()
		now, before := parent.State.ValidatorSetID(), s.Node("s2").State.ValidatorSetID()
		for _, c := range []struct {
			name string
			set  types.Hash
			key  int
			want consensus.Rule
		}{
			{"its own key", now, 4, ""},
			{"the old set's key of that index", now, 0, "block-signature"},
			{"that, under the old set", before, 0, "block-signature"},
			{"its own key, under the old set", before, 4, "block-signature"},
		} {
			sig := chaingen.ValidatorKey(s.alg, c.key).Sign(consensus.SlotDigest(s.Network().ID, c.set, 50, id))
			block.VchBlockSig = types.BlockSig{Index: 0, Signature: sig}.Bytes()
			_, _, err := consensus.Connect(&parent.State, block, nil)
			if got := ruleOf(err); got != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%s: %v, want rule %q", c.name, err, c.want)
			}
		}
		// A vote for a slot of the new set counts only if the new set made it.
		s.slot()
		s.refused("attest-set", certify(s.Generator, consensus.Link{
			Set: before, Source: s.Node("s3").State.Checkpoint(), Target: s.Node("s5").State.Checkpoint(),
		}, s.Voters("s2"), 0, 1, 2, 3))
		s.slot(s.Certificate("s3", "s4", 0, 1, 4, 5), s.Certificate("s4", "s5", 0, 1, 2))
		s.expect("set 1: 4 5 6; final s4; slots s4* s5* s6")
	})
}

func ruleOf(err error) consensus.Rule {
	rule, _ := consensus.RuleOf(err)
	return rule
}

// TestTakeoverByDepth: two keys of five are dead, so that slots are certified
// but never final. A change takes effect with the certificate of the 36th slot
// above the one that carries it, and not before.
func TestTakeoverByDepth(t *testing.T) {
	s := newStory(t, quick())
	alive := []uint8{0, 1, 2}
	s.slots(3)
	s.slot(s.SetChange(s.keys(0, 1, 2, 5, 6), alive...))
	s.slot(s.Certificate("genesis", "s1", alive...), s.Certificate("s1", "s2", alive...)) // below the carrier: do not count
	s.slot(s.Certificate("s2", "s4", alive...))                                           // the carrier: does not count either
	s.expect("set 0: 0 1 2 3 4; next 1: 0 1 2 5 6 since s4, 0 deep; final genesis; slots genesis* s1* s2* s3 s4* s5 s6")
	last := "s4"
	for i := range testTakeover - 1 {
		last = s.certifyNewest(last, alive...)
		if a := s.Tip().State.Proven(); a.Next == nil || a.Depth != uint32(i+1) || a.Final.Height != 0 {
			t.Fatalf("after %d certified slots: %s", i+1, s.describe(s.Tip()))
		}
	}
	s.refused("set-change-open", s.SetChange(s.keys(0, 1, 2), alive...))
	last = s.certifyNewest(last, alive...)
	a := s.Tip().State.Proven()
	if a.Next != nil || a.Signers.Number != 1 || a.Depth != 0 || (a.Carrier != consensus.Checkpoint{}) || a.Final.Height != 0 {
		t.Fatalf("after 36 certified slots: %s", s.describe(s.Tip()))
	}
	if got := s.numbers(a.Signers.Keys); got != "0 1 2 5 6" {
		t.Errorf("keys %s are in force", got)
	}
	// The last slot of the handover still has both sets as voters; then the new set goes on, and to finality.
	if got := s.numbers(s.Voters(s.Tip().Name).Keys()); got != "0 1 2 3 4 5 6" {
		t.Errorf("voters on the slot that ends the handover: %s", got)
	}
	end := s.Tip().Name
	s.slot(s.Certificate(last, end, alive...))
	first := s.Tip().Name
	s.slot(s.Certificate(end, first, 0, 1, 3, 4))
	if got := s.Tip().State.Proven().Final; got != s.Node(end).State.Checkpoint() {
		t.Errorf("final is %v, want %s", got, end)
	}
}

// certifyNewest adds a slot that certifies the one before, by these voters or
// by all, and returns the name of the latter.
func (s *story) certifyNewest(source string, signers ...uint8) string {
	s.t.Helper()
	newest := s.Tip()
	for !newest.Block.IsSigned() {
		newest = newest.Parent
	}
	if len(signers) == 0 {
		signers = everybody(s.Voters(newest.Name))
	}
	s.slot(s.Certificate(source, newest.Name, signers...))
	return newest.Name
}

// TestSetOfOne: one key can certify but makes nothing final, so that authority
// passes to it, and from it, by depth only.
func TestSetOfOne(t *testing.T) {
	s := newStory(t, quick())
	s.slot()
	last := "genesis"
	pass := func(number uint32, to []int, then string, signers ...uint8) {
		t.Helper()
		last = s.certifyNewest(last)
		s.slot(s.SetChange(s.keys(to...), signers...))
		last = s.certifyNewest(last) // the carrier
		for range testTakeover {
			if got := s.Tip().State.Validators().Number; got != number {
				t.Fatalf("set %d is in force at height %d", got, s.Tip().State.Height)
			}
			last = s.certifyNewest(last)
		}
		if got := s.numbers(s.Tip().State.Validators().Keys); got != then {
			t.Fatalf("set %s is in force, want %s", got, then)
		}
	}
	pass(0, []int{3}, "3", 0, 1, 2)
	pass(1, []int{5, 6, 7}, "5 6 7", 0)
}

// TestLateCertificatesEndAHandover: slots certified long after they were made
// count like any, all in one block, and so does a final slot above the carrier.
func TestLateCertificatesEndAHandover(t *testing.T) {
	s := newStory(t, quick())
	s.slot(s.SetChange(s.keys(5, 6, 7), 1, 2, 3))
	s.slots(9)
	s.expect("set 0: 0 1 2 3 4; next 1: 5 6 7 since s1, 0 deep; final genesis; slots genesis* s1 s2 s3 s4 s5 s6 s7 s8 s9 s10")
	s.slot(s.Certificate("genesis", "s4", 0, 1, 2, 5, 6), s.Certificate("s4", "s5", 0, 1, 2, 3, 5, 6, 7))
	s.expect("set 1: 5 6 7; final s4; slots s4* s5* s6 s7 s8 s9 s10 s11")
}

// TestNoSecondChangeMeanwhile: another change must wait for the takeover, also
// in the very block that brings it about; then the new set decides.
func TestNoSecondChangeMeanwhile(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		handover(t, s)
		again := s.SetChange(s.keys(0, 1, 2, 3, 4), 0, 1, 2, 3, 4)
		s.refused("set-change-open", again)
		proof := s.Certificate("s2", "s3", 0, 1, 2, 4, 5, 6)
		s.refused("set-change-open", proof, again)
		s.slot(proof)
		// Signed by the old set, which is not in force any more: index 3 and 4
		// do not exist, and the first three are other keys.
		s.refused("set-change-quorum", again)
		again.Signers, again.Signatures = 7, again.Signatures[:3]
		s.refused("set-change-signature", again)
		s.slot(s.SetChange(s.keys(0, 1, 2, 3, 4), 0, 2))
		s.expect("set 1: 4 5 6; next 2: 0 1 2 3 4 since s5, 0 deep; final s2; slots s2* s3* s4 s5")
		if got := s.voters(); got != "4 5 6 0 1 2 3" {
			t.Errorf("voters are %s", got)
		}
	})
}

// TestSetsOfBothAlgorithms: a set may mix them, and pass from one to the other.
func TestSetsOfBothAlgorithms(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		other := chaingen.PublicKeys(types.Secp256k1+types.P256-s.alg, 5, 0)
		s.slot(s.SetChange(append(other, s.keys(0)...), 0, 1, 2))
		s.slot()
		s.slot(s.Certificate("genesis", "s1", 0, 1, 2), s.Certificate("s1", "s2", 0, 1, 2, 3, 5, 6))
		s.expect("set 1: 5' 0' 0; final s1; slots s1* s2* s3")
		s.slots(3) // each of the three in turn
		s.slot(s.Certificate("s2", "s3", 0, 1, 2, 5), s.Certificate("s3", "s4", 0, 1, 2))
		s.expect("set 1: 5' 0' 0; final s3; slots s3* s4* s5 s6 s7")
	})
}

// TestVotersOfTwoSetsAreAtMost32: more cannot be named by a certificate.
func TestVotersOfTwoSetsAreAtMost32(t *testing.T) {
	p := chaingen.Params()
	p.RankStepSeconds = 5
	numbers := func(from, n int) (list []int) {
		for i := range n {
			list = append(list, from+i)
		}
		return list
	}
	p.Validators = chaingen.PublicKeys(types.Secp256k1, numbers(0, 21)...)
	s := newStory(t, p)
	majority := everybody(s.Tip().State.Voters())[:11]
	for kept, want := range map[int]consensus.Rule{10: "", 9: "set-change-keys"} { // 21 + 21 − kept
		keys := append(s.keys(numbers(0, kept)...), s.keys(numbers(21, 21-kept)...)...)
		s.approach()
		before := s.Tip().Name
		node := s.NextSigned(fmt.Sprint("keeps ", kept), 0, chaingen.Records(s.SetChange(keys, majority...)))
		if ruleOf(node.Err) != want {
			t.Errorf("%d keys in both sets: %v, want rule %q", 42-kept, node.Err, want)
		}
		if want == "" {
			if n := len(node.State.Voters().Keys()); n != testMaxKeys {
				t.Errorf("%d voters", n)
			}
			// The highest index votes too.
			s.slot()
			s.slot(s.Certificate("genesis", "s2", append(slices.Clone(majority), 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21)...))
		}
		s.SetTip(before)
	}
}
