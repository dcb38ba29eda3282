package consensus_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// A story is a chain told slot by slot: slot i is called "s<i>", after a letter
// that tells branches apart.
type story struct {
	*chaingen.Generator
	t      *testing.T
	branch string
	alg    types.KeyAlgorithm
	tries  int // blocks that refused made
}

// bothAlgorithms tells a story on the test network of each key algorithm.
func bothAlgorithms(t *testing.T, tell func(*testing.T, *story)) {
	t.Helper()
	for _, p := range []consensus.Params{chaingen.Params(), chaingen.P256Params()} {
		t.Run(p.Name, func(t *testing.T) { tell(t, newStory(t, p)) })
	}
}

func newStory(t *testing.T, p consensus.Params) *story {
	t.Helper()
	return &story{Generator: chaingen.New(t, p), t: t, alg: p.Validators[0].Algorithm}
}

// quick is a network where every second block is a slot, for long stories.
func quick() consensus.Params {
	p := chaingen.Params()
	p.N = 2
	return p
}

// keys are validator keys by number; those of the network are 0 to 4.
func (s *story) keys(numbers ...int) []types.PublicKey { return chaingen.PublicKeys(s.alg, numbers...) }

// approach goes on to the block before the next slot.
func (s *story) approach() {
	s.t.Helper()
	for !s.Tip().State.ChildIsSlot() {
		s.Next(fmt.Sprintf("%sb%d", s.branch, s.Tip().State.ChildHeight()))
	}
}

func (s *story) name() string {
	return fmt.Sprintf("%ss%d", s.branch, s.Tip().State.ChildHeight()/s.Network().N)
}

// try adds the next slot, signed by the first in turn that is not disabled.
func (s *story) try(records ...consensus.Record) *chaingen.Node {
	s.t.Helper()
	s.approach()
	state := &s.Tip().State
	for rank := uint32(0); ; rank++ {
		index := state.ValidatorOfRank(rank)
		if !state.Proven().IsDisabled(state.Validators().Keys[index]) {
			return s.NextSigned(s.name(), index, chaingen.Records(records...))
		}
	}
}

// slot adds the next slot, which must be valid.
func (s *story) slot(records ...consensus.Record) *chaingen.Node {
	s.t.Helper()
	node := s.try(records...)
	if node.Err != nil {
		s.t.Fatalf("%s: %v", node.Name, node.Err)
	}
	return node
}

// slots adds n slots without records.
func (s *story) slots(n int) {
	s.t.Helper()
	for range n {
		s.slot()
	}
}

// refused tries the next slot with these records, expects the rule and stays
// where it is.
func (s *story) refused(rule consensus.Rule, records ...consensus.Record) {
	s.t.Helper()
	s.approach()
	before, branch := s.Tip().Name, s.branch
	s.tries++
	s.branch = fmt.Sprintf("try %d: ", s.tries)
	node := s.try(records...)
	s.branch = branch
	if got, _ := consensus.RuleOf(node.Err); got != rule {
		s.t.Errorf("after %s: got %v, want rule %s", before, node.Err, rule)
	}
	s.SetTip(before)
}

// expect compares what the chain says of its validators as of the tip with a
// line like "set 0: 0 1 2 3 4; next 1: 0 1 5 since s2, 3 deep; disabled: 3;
// final s1; slots s1* s2". A star marks slots that are certified.
func (s *story) expect(want string) {
	s.t.Helper()
	if got := s.describe(s.Tip()); got != want {
		s.t.Errorf("as of %s:\ngot  %s\nwant %s", s.Tip().Name, got, want)
	}
}

func (s *story) describe(node *chaingen.Node) string {
	names := make(map[consensus.Checkpoint]string)
	for n := node; n != nil; n = n.Parent {
		names[n.State.Checkpoint()] = n.Name
	}
	set := func(v consensus.ValidatorSet) string { return fmt.Sprintf("%d: %s", v.Number, s.numbers(v.Keys)) }
	a := node.State.Proven()
	parts := []string{"set " + set(a.Signers)}
	if a.Next != nil {
		parts = append(parts, fmt.Sprintf("next %s since %s, %d deep", set(*a.Next), names[a.Carrier], a.Depth))
	}
	if len(a.Disabled) > 0 {
		parts = append(parts, "disabled: "+s.numbers(a.Disabled))
	}
	var slots []string
	for _, c := range a.Slots {
		name := names[c.Checkpoint]
		if c.Certified {
			name += "*"
		}
		slots = append(slots, name)
	}
	parts = append(parts, "final "+names[a.Final], "slots "+strings.Join(slots, " "))
	return strings.Join(parts, "; ")
}

// numbers names keys as keys does; those of the other algorithm have a dash.
func (s *story) numbers(keys []types.PublicKey) string {
	other := types.Secp256k1 + types.P256 - s.alg
	var list []string
	for _, k := range keys {
		name := "?"
		for i := range 10 {
			if chaingen.PublicKeys(s.alg, i)[0] == k {
				name = fmt.Sprint(i)
			}
			if chaingen.PublicKeys(other, i)[0] == k {
				name = fmt.Sprint(i) + "'"
			}
		}
		list = append(list, name)
	}
	return strings.Join(list, " ")
}

// voters names who may vote on the next slot, in the order of their indexes.
func (s *story) voters() string { return s.numbers(s.Tip().State.Voters().Keys()) }

func TestCertificatesOnTheChain(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		s.expect("set 0: 0 1 2 3 4; final genesis; slots genesis*")
		s.slot()
		s.slot(s.Certificate("genesis", "s1", 0, 2, 4))
		s.expect("set 0: 0 1 2 3 4; final genesis; slots genesis* s1* s2")
		s.slot()
		s.slot()
		// A slot and one between: late, and from an older source than it might be.
		s.slot(s.Certificate("s1", "s3", 1, 2, 3))
		s.expect("set 0: 0 1 2 3 4; final genesis; slots genesis* s1* s2 s3* s4 s5")
		s.slot(s.Certificate("genesis", "s2", 2, 3, 4), s.Certificate("s2", "s4", 0, 1, 2), s.Certificate("s4", "s5", 0, 1, 3))
		s.expect("set 0: 0 1 2 3 4; final genesis; slots genesis* s1* s2* s3* s4* s5* s6")
		// Certified once more, now by a final quorum and from the slot before.
		s.slot(s.Certificate("s4", "s5", 0, 1, 3, 4))
		s.expect("set 0: 0 1 2 3 4; final s4; slots s4* s5* s6 s7")
		// Five votes from further below make nothing final, three from the slot before neither.
		s.slot(s.Certificate("s4", "s6", 0, 1, 2, 3, 4), s.Certificate("s6", "s7", 0, 1, 2))
		s.expect("set 0: 0 1 2 3 4; final s4; slots s4* s5* s6* s7* s8")
		s.slot(s.Certificate("s7", "s8", 0, 1, 2, 4))
		s.expect("set 0: 0 1 2 3 4; final s7; slots s7* s8* s9")
		if got, want := s.Tip().State.Proven().Certified(), s.Node("s8").State.Checkpoint(); got != want {
			t.Errorf("the highest certified slot is %v, want %v", got, want)
		}
	})
}

// TestFallbackSlotIsNoCheckpoint: a slot that a miner made is skipped, and
// nothing is final across it.
func TestFallbackSlotIsNoCheckpoint(t *testing.T) {
	s := newStory(t, chaingen.Params())
	s.slot()
	s.approach()
	s.NextFallback("fallback")
	s.slot()
	s.refused("certificate-target", s.Certificate("genesis", "fallback", 0, 1, 2))
	s.slot(s.Certificate("genesis", "s1", 0, 1, 2, 3, 4), s.Certificate("s1", "s3", 0, 1, 2, 3, 4))
	s.expect("set 0: 0 1 2 3 4; final genesis; slots genesis* s1* s3* s4")
	if got := s.Tip().State; got.SignedSlots != 3 || got.LastSigned != 40 {
		t.Errorf("%d signed slots, the last at height %d", got.SignedSlots, got.LastSigned)
	}
}

// TestFullRecordList: sixteen records fit, whatever the limit of other data outputs.
func TestFullRecordList(t *testing.T) {
	s := newStory(t, quick())
	s.slots(testMaxRecords)
	var list []consensus.Record
	for i := range testMaxRecords {
		list = append(list, s.Certificate("genesis", fmt.Sprint("s", i+1), 0, 1, 2))
	}
	node := s.slot(list...)
	if n := len(node.Block.Transactions[0].Outputs[2].PkScript); n < 16*(104+4+3*64) {
		t.Errorf("the data output has %d bytes", n)
	}
	for _, c := range node.State.Proven().Slots[:testMaxRecords] {
		if !c.Certified {
			t.Errorf("slot at height %d is not certified", c.Height)
		}
	}
	s.refused("coinonline-record", append(slices.Clone(list), list[0])...)
}

// TestSlotWindow: certificates may name the newest 64 slots and genesis; of
// what is older only the highest certified one is kept, as votes start there.
func TestSlotWindow(t *testing.T) {
	const window = 64
	names := func(from, to int) (text string) {
		for i := from; i <= to; i++ {
			text += fmt.Sprint(" s", i)
		}
		return text
	}
	s := newStory(t, quick())
	s.slots(window - 1)
	s.expect("set 0: 0 1 2 3 4; final genesis; slots genesis*" + names(1, 63))
	s.slots(2)
	s.expect("set 0: 0 1 2 3 4; final genesis; slots genesis*" + names(3, 65))
	s.refused("certificate-target", s.Certificate("genesis", "s2", 0, 1, 2))
	s.slot(s.Certificate("genesis", "s4", 0, 1, 2))
	s.expect("set 0: 0 1 2 3 4; final genesis; slots s3 s4*" + names(5, 66))
	s.refused("certificate-source", s.Certificate("genesis", "s6", 0, 1, 2))
	s.slots(3)
	s.expect("set 0: 0 1 2 3 4; final genesis; slots s4*" + names(7, 69))
	// The new highest one lets the old go; finality from s8 to s9 as ever.
	s.slot(s.Certificate("s4", "s8", 0, 1, 2), s.Certificate("s8", "s9", 0, 1, 2))
	s.expect("set 0: 0 1 2 3 4; final genesis; slots s7 s8* s9*" + names(10, 70))
	s.slot(s.Certificate("s8", "s9", 0, 1, 2, 3))
	s.expect("set 0: 0 1 2 3 4; final s8; slots s8* s9*" + names(10, 71))
}
