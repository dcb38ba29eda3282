package consensus_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
)

// accused returns a story up to s3 with evidence of each kind against the
// validator at index 2: two blocks, s2 and twin2, and two votes.
func accused(t *testing.T, s *story) (blocks *consensus.SlotEvidence, votes *consensus.Evidence) {
	t.Helper()
	s.slot()
	s.approach()
	before := s.Tip().Name
	s.NextSigned("twin2", 2)
	s.SetTip(before)
	s.slot() // slot 2: index 2 is in turn
	s.slot(s.Certificate("genesis", "s1", 0, 1, 2))
	blocks, votes = s.SlotEvidence("s2", "twin2"), s.Evidence(s.Vote("s1", "s2", 2), s.Vote("genesis", "twin2", 2))
	return blocks, votes
}

// TestEvidenceDisables: from the slot after the one that carries the evidence
// the key neither signs nor votes. What it did before counts for ever.
func TestEvidenceDisables(t *testing.T) {
	kinds := map[string]func(*consensus.SlotEvidence, *consensus.Evidence) consensus.Record{
		"two blocks": func(b *consensus.SlotEvidence, _ *consensus.Evidence) consensus.Record { return b },
		"two votes":  func(_ *consensus.SlotEvidence, v *consensus.Evidence) consensus.Record { return v },
		"two votes, the later first": func(_ *consensus.SlotEvidence, v *consensus.Evidence) consensus.Record {
			return &consensus.Evidence{A: v.B, B: v.A}
		},
		"two blocks, the other first": func(b *consensus.SlotEvidence, _ *consensus.Evidence) consensus.Record {
			b.Blocks[0], b.Blocks[1] = b.Blocks[1], b.Blocks[0]
			b.Signatures[0], b.Signatures[1] = b.Signatures[1], b.Signatures[0]
			return b
		},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			bothAlgorithms(t, func(t *testing.T, s *story) {
				record := kind(accused(t, s))
				s.approach()
				// The offender's own block may carry it: it says what holds afterwards.
				if node := s.NextSigned("s4", 2, chaingen.Records(record)); node.Err != nil {
					t.Fatal(node.Err)
				}
				s.expect("set 0: 0 1 2 3 4; disabled: 2; final genesis; slots genesis* s1* s2 s3 s4")
				s.approach()
				before := s.Tip()
				if node := s.NextSigned("by the offender", 2); ruleOf(node.Err) != "validator-disabled" {
					t.Errorf("the offender signs: %v", node.Err)
				}
				s.SetTip(before.Name)
				s.slot()
				// It could vote for the slot that carries the evidence, but not for the next.
				s.refused("attest-disabled", s.Certificate("s1", "s5", 0, 1, 2))
				s.refused("attest-disabled", s.Certificate("s1", "s5", 0, 1, 2, 3))
				s.slot(s.Certificate("s1", "s2", 0, 2, 3), s.Certificate("s2", "s4", 0, 1, 2))
				s.expect("set 0: 0 1 2 3 4; disabled: 2; final genesis; slots genesis* s1* s2* s3 s4* s5 s6")
				// Quorums stay: three of five certify, four of five make final.
				s.refused("certificate-quorum", s.Certificate("s4", "s5", 0, 1))
				s.slot(s.Certificate("s4", "s5", 0, 1, 3), s.Certificate("s5", "s6", 0, 1, 3))
				s.expect("set 0: 0 1 2 3 4; disabled: 2; final genesis; slots genesis* s1* s2* s3 s4* s5* s6* s7")
				s.slot(s.Certificate("s5", "s6", 0, 1, 3, 4))
				s.expect("set 0: 0 1 2 3 4; disabled: 2; final s5; slots s5* s6* s7 s8")
				// It counts in no set that follows, and in none it is asked to join.
				s.refused("set-change-keys", s.SetChange(s.keys(1, 2, 3), 0, 1, 3))
				s.refused("set-change-quorum", s.SetChange(s.keys(1, 3, 4), 0, 1, 2))
				s.slot(s.SetChange(s.keys(1, 3, 4), 0, 1, 2, 3))
				s.expect("set 0: 0 1 2 3 4; next 1: 1 3 4 since s9, 0 deep; disabled: 2; final s5; slots s5* s6* s7 s8 s9")
			})
		})
	}
}

// TestEvidenceTakesNothingBack: weight, certified and final slots that the
// offender helped to make are what they were.
func TestEvidenceTakesNothingBack(t *testing.T) {
	s := newStory(t, chaingen.Params())
	blocks, votes := accused(t, s)
	s.slot(s.Certificate("s1", "s2", 0, 1, 2, 3)) // with its vote s1 is final
	s.approach()
	before := s.Tip()
	plain := s.slot()
	s.SetTip(before.Name)
	s.branch = "with "
	for _, record := range []consensus.Record{blocks, votes} {
		node := s.slot(record)
		if node.State.SignedSlots != plain.State.SignedSlots || node.State.Work != plain.State.Work || node.State.LastSigned != plain.State.LastSigned {
			t.Errorf("evidence changed the weight: %+v", node.State)
		}
		a, b := node.State.Proven(), plain.State.Proven()
		if a.Final != b.Final || a.Final.Height != 10 || a.Certified() != b.Certified() || a.Certified().Height != 20 {
			t.Errorf("evidence changed what is certified: %s", s.describe(node))
		}
		if got, want := node.State.Weight(20).Compare(plain.State.Weight(20)), 0; got != want {
			t.Errorf("the branch with evidence compares %d", got)
		}
		s.SetTip(before.Name)
		s.branch += "more "
	}
}

// TestEvidenceAcrossSets: a key is one key in whatever set it votes, so two
// votes under different electorates convict it; a key that has left the set is
// convicted as well, as it may be asked back.
func TestEvidenceAcrossSets(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		handover(t, s) // key 4 has index 4 during it and index 0 afterwards
		s.slot(s.Certificate("s2", "s3", 0, 1, 2, 4, 5, 6))
		s.slots(2)
		inOld, inBoth, inNew := s.Vote("s1", "s2", 4), s.Vote("s2", "s3", 4), s.Vote("genesis", "s5", 0)
		s.refused("evidence-innocent", s.Evidence(inOld, inBoth))
		s.refused("evidence-set", s.Evidence(inNew, s.Vote("s2", "s3", 0))) // index 0 was another key
		s.refused("evidence-set", s.Evidence(s.Vote("s1", "s2", 4), s.Vote("genesis", "s5", 1)))
		before := s.Tip().Name
		for _, e := range []*consensus.Evidence{s.Evidence(inOld, inNew), s.Evidence(inNew, inBoth)} {
			s.branch += "try "
			s.slot(e)
			s.expect("set 1: 4 5 6; disabled: 4; final s2; slots s2* s3* s4 s5 s6 " + s.Tip().Name)
			s.SetTip(before)
		}
		s.branch = ""
		// Key 1 left with the handover.
		s.slot(s.Evidence(s.Vote("genesis", "s3", 1), s.Vote("s1", "s2", 1)))
		s.refused("set-change-keys", s.SetChange(s.keys(1, 5, 6), 0, 1, 2))
	})
}

// TestEvidenceOfBlocksAcrossSets: which set signed a slot is looked up as well.
func TestEvidenceOfBlocksAcrossSets(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		handover(t, s)
		s.approach()
		before := s.Tip().Name
		s.NextSigned("twin4", 4)
		s.SetTip(before)
		s.slot(s.Certificate("s2", "s3", 0, 1, 2, 4, 5, 6)) // slot 4: index 4 is in turn
		s.slot(s.SlotEvidence("s4", "twin4"))
		s.expect("set 1: 4 5 6; disabled: 4; final s2; slots s2* s3* s4 s5")
	})
}

// TestOldEvidence: sets are known as far back as slots are. Evidence made under
// one that no slot of the window had is refused.
func TestOldEvidence(t *testing.T) {
	s := newStory(t, quick())
	s.approach()
	before := s.Tip().Name
	s.NextSigned("twin1", 1)
	s.SetTip(before)
	s.slot(s.SetChange(s.keys(3, 2, 1, 0, 4), 0, 1, 2)) // slot 1: index 1
	s.slot()
	old := s.Evidence(s.Vote("genesis", "s1", 1), s.Vote("genesis", "twin1", 1))
	s.refused("evidence-known", old, s.SlotEvidence("s1", "twin1")) // one of them is enough
	s.slot(s.Certificate("genesis", "s1", 0, 1, 2), s.Certificate("s1", "s2", 0, 1, 2, 3, 4))
	s.expect("set 1: 3 2 1 0 4; final s1; slots s1* s2* s3")
	s.slots(1)
	before = s.Tip().Name
	s.branch = "while s1 is known: "
	s.slot(old)
	s.SetTip(before)
	s.branch = ""
	s.slot(s.Certificate("s2", "s3", 0, 1, 2, 3, 4), s.Certificate("s3", "s4", 0, 1, 2, 3))
	s.expect("set 1: 3 2 1 0 4; final s3; slots s3* s4* s5")
	s.refused("evidence-set", old)
	// s3 was still voted on by both sets and signed by the old one.
	s.slot(s.SlotEvidence("s1", "twin1"))
	s.expect("set 1: 3 2 1 0 4; disabled: 1; final s3; slots s3* s4* s5 s6")
}

// TestMajorityDisabled: should evidence disable three of five, the chain goes on
// with the signatures of the others, and by work, but nothing is certified.
func TestMajorityDisabled(t *testing.T) {
	s := newStory(t, chaingen.Params())
	s.slots(1)
	s.approach()
	before := s.Tip().Name
	s.branch = "twin "
	s.slot()
	s.SetTip(before)
	s.branch = ""
	s.slot()
	var list []consensus.Record
	for _, i := range []uint8{0, 1, 4} {
		list = append(list, s.Evidence(s.Vote("genesis", "s2", i), s.Vote("s1", "twin s2", i)))
	}
	s.slot(list...)
	disabled := s.Tip().State.Proven().Disabled
	for i := range disabled[1:] {
		if bytes.Compare(disabled[i].Bytes(), disabled[i+1].Bytes()) >= 0 {
			t.Error("disabled keys are not in the order of their bytes")
		}
	}
	s.slot()
	s.refused("attest-disabled", s.Certificate("genesis", "s4", 0, 2, 3))
	s.refused("certificate-quorum", s.Certificate("genesis", "s4", 2, 3))
	s.slot(s.Certificate("genesis", "s3", 0, 1, 4)) // disabled only after s3
	s.refused("set-change-quorum", s.SetChange(s.keys(2, 3, 5), 0, 1, 2, 3, 4))
	if s.Tip().State.Voters().Certifies(^uint32(0)) {
		t.Error("two of five can certify")
	}
}

// TestDisabledKeysAreNotShared: branches that disable one key after another, the
// lowest last, leave what their parents say as it was.
func TestDisabledKeysAreNotShared(t *testing.T) {
	s := newStory(t, chaingen.Params())
	s.slots(1)
	s.approach()
	before := s.Tip().Name
	s.branch = "twin "
	s.slot()
	s.SetTip(before)
	s.branch = ""
	s.slot()
	order := []uint8{0, 1, 2, 3, 4}
	keys := s.Network().Validators
	slices.SortFunc(order, func(a, b uint8) int { return bytes.Compare(keys[b].Bytes(), keys[a].Bytes()) })
	for i, offender := range order[:4] {
		s.approach()
		parent := s.Tip()
		was := bytes.Clone(parent.State.Proven().Bytes())
		for _, other := range order[i:] {
			s.SetTip(parent.Name)
			s.branch = fmt.Sprint("beside ", i, other, " ")
			s.slot(s.Evidence(s.Vote("genesis", "s2", other), s.Vote("s1", "twin s2", other)))
			if !bytes.Equal(parent.State.Proven().Bytes(), was) {
				t.Fatalf("evidence against %d changed what is said before: %s", other, s.describe(parent))
			}
		}
		s.SetTip(parent.Name)
		s.branch = ""
		s.slot(s.Evidence(s.Vote("genesis", "s2", offender), s.Vote("s1", "twin s2", offender)))
	}
}

// TestEvidenceOfTheNextVoters: who votes on, or signs, the very next slot is
// known although no slot of this chain has had them yet: another branch had.
func TestEvidenceOfTheNextVoters(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		s.slot()
		s.slot(s.SetChange(s.keys(4, 5, 6), 0, 1, 2))
		s.approach()
		fork := s.Tip().Name
		s.branch = "other "
		s.slot()
		s.SetTip(fork)
		s.branch = ""
		// Two votes of key 5, which only the joint electorate has.
		s.slot(s.Evidence(s.Vote("s1", "other s3", 5), s.Vote("s2", "other s3", 5)))
		s.expect("set 0: 0 1 2 3 4; next 1: 4 5 6 since s2, 0 deep; disabled: 5; final genesis; slots genesis* s1 s2 s3")
		s.slot(s.Certificate("genesis", "s2", 0, 1, 2), s.Certificate("s2", "s3", 0, 1, 2, 3, 4, 5, 6))
		s.expect("set 1: 4 5 6; disabled: 5; final s2; slots s2* s3* s4")
		s.approach()
		fork = s.Tip().Name
		for _, name := range []string{"one", "two"} {
			s.NextSigned(name, 0)
			s.SetTip(fork)
		}
		s.NextSigned("s5", 2, chaingen.Records(s.SlotEvidence("one", "two")))
		s.expect("set 1: 4 5 6; disabled: " + s.numbers(s.Tip().State.Proven().Disabled) + "; final s2; slots s2* s3* s4 s5")
		if got := s.Tip().State.Proven(); s.Tip().Err != nil || len(got.Disabled) != 2 || !got.IsDisabled(s.keys(4)[0]) {
			t.Errorf("disabled %v, %v", got.Disabled, s.Tip().Err)
		}
	})
}
