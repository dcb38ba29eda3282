package consensus_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

func (f *voteFixture) tally() *consensus.Tally {
	return consensus.NewTally(f.network, f.genesis)
}

// vote makes an attestation without a signature, as a Tally does not look at it.
func vote(l consensus.Link, index uint8) consensus.Attestation {
	return consensus.Attestation{Link: l, Index: index, Signature: [64]byte{index}}
}

func (f *voteFixture) add(tb rapid.TB, t *consensus.Tally, votes ...consensus.Attestation) {
	tb.Helper()
	for _, a := range votes {
		if _, err := t.Add(a, f.voters); err != nil {
			tb.Fatal(err)
		}
	}
}

// all makes the votes of several validators for one link.
func all(l consensus.Link, indexes ...uint8) (list []consensus.Attestation) {
	for _, i := range indexes {
		list = append(list, vote(l, i))
	}
	return list
}

func TestTallyStepByStep(t *testing.T) {
	f := newVoteFixture(t)
	tally := f.tally()
	second, third := f.slot(1, 2), f.slot(1, 3)
	expect := func(when string, certified, final string) {
		t.Helper()
		var c, fin string
		for s := range uint32(4) {
			if tally.Certified(f.slot(1, s)) {
				c += string(rune('0' + s))
			}
			if tally.Final(f.slot(1, s)) {
				fin += string(rune('0' + s))
			}
		}
		if c != certified || fin != final {
			t.Errorf("%s: certified %q, final %q; want %q, %q", when, c, fin, certified, final)
		}
	}
	expect("no votes", "0", "")
	f.add(t, tally, all(f.link(1, 0, 1), 0, 1)...)
	expect("two votes", "0", "")
	f.add(t, tally, vote(f.link(1, 0, 1), 1))
	expect("two votes, one of them twice", "0", "")
	f.add(t, tally, vote(f.link(2, 0, 1), 2))
	expect("a third vote for a twin", "0", "")
	f.add(t, tally, all(f.link(1, 2, 3), 0, 1, 2, 3, 4)...)
	expect("five votes from a source that is not certified", "0", "")
	f.add(t, tally, vote(f.link(1, 0, 1), 4))
	expect("a third vote", "01", "")
	f.add(t, tally, all(f.link(1, 1, 2), 0, 1)...)
	f.add(t, tally, vote(f.link(1, 0, 2), 3), vote(f.link(1, 0, 2), 4))
	expect("four votes for one target from two sources", "01", "")
	f.add(t, tally, vote(f.link(1, 1, 2), 2))
	expect("a certificate in between: what hung on it is certified, and final, as well", "0123", "2")
	f.add(t, tally, vote(f.link(1, 1, 2), 3))
	expect("a fourth vote for the link to the next slot", "0123", "12")
	if err := tally.Prune(third); err == nil {
		t.Error("pruned below a slot that is not final")
	}
	if err := tally.Prune(second); err != nil {
		t.Fatal(err)
	}
	if tally.Root() != second {
		t.Errorf("root is %+v", tally.Root())
	}
	expect("pruned below the second slot", "23", "2")
	if list := tally.Certificates(); len(list) != 1 || list[0].Link != f.link(1, 2, 3) || list[0].Signers != 0x1f {
		t.Errorf("certificates %+v", list)
	}
	// Validator 3 voted twice for one height; nobody else broke a rule.
	var offenders []uint8
	for _, e := range tally.Evidence() {
		if e.A.Index != e.B.Index || consensus.Conflict(e.A.Link, e.B.Link) == nil {
			t.Errorf("no evidence: %+v", e)
		}
		offenders = append(offenders, e.A.Index)
	}
	if diff := cmp.Diff([]uint8{3}, offenders); diff != "" {
		t.Errorf("offenders:\n%s", diff)
	}
}

// TestOnlyTheNextSlotMakesFinal: validators that skip a slot leave it open
// which block there is certified, so their votes certify but finalise nothing.
func TestOnlyTheNextSlotMakesFinal(t *testing.T) {
	f := newVoteFixture(t)
	tally := f.tally()
	f.add(t, tally, all(f.link(1, 0, 1), 0, 1, 2, 3, 4)...)
	f.add(t, tally, all(f.link(1, 1, 3), 0, 1, 2, 3, 4)...)
	if !tally.Certified(f.slot(1, 3)) || tally.Final(f.slot(1, 1)) {
		t.Errorf("certified %t, final %t", tally.Certified(f.slot(1, 3)), tally.Final(f.slot(1, 1)))
	}
}

// TestPruneForgetsRivals: a twin of the new root that was certified too, by
// means of a bad key, is no longer.
func TestPruneForgetsRivals(t *testing.T) {
	f := newVoteFixture(t)
	tally := f.tally()
	f.add(t, tally, all(f.link(1, 0, 1), 0, 1, 4)...)
	f.add(t, tally, all(f.link(2, 0, 1), 2, 3, 4)...)
	f.add(t, tally, all(f.link(1, 1, 2), 0, 1, 2, 3)...)
	rival := f.slot(2, 1)
	if !tally.Certified(rival) || tally.Final(rival) {
		t.Fatal("the rival is not certified, or final: this test shows nothing")
	}
	if err := tally.Prune(f.slot(1, 1)); err != nil {
		t.Fatal(err)
	}
	if tally.Certified(rival) || !tally.Certified(f.slot(1, 1)) || !tally.Certified(f.slot(1, 2)) {
		t.Errorf("rival certified %t", tally.Certified(rival))
	}
	if e := tally.Evidence(); len(e) != 1 || e[0].A.Index != 4 {
		t.Errorf("evidence was forgotten: %+v", e)
	}
}

func tallyViolations() []voteViolation {
	refused := func(name string, rule consensus.Rule, link func(*voteFixture) consensus.Link) voteViolation {
		return voteViolation{name, rule, func(f *voteFixture, t *testing.T) error {
			tally := f.tally()
			f.add(t, tally, all(f.link(1, 0, 1), 0, 1, 2, 3)...)
			f.add(t, tally, all(f.link(1, 1, 2), 0, 1, 2, 3)...)
			if err := tally.Prune(f.slot(1, 1)); err != nil {
				t.Fatal(err)
			}
			l := link(f)
			_, one := tally.Add(vote(l, 4), f.voters)
			_, many := tally.AddCertificate(consensus.Certificate{Link: l, Signers: 0x1c, Signatures: make([][64]byte, 3)}, f.voters)
			if one == nil || many == nil || one.Error() != many.Error() {
				t.Errorf("an attestation gives %v, a certificate %v", one, many)
			}
			return one
		}}
	}
	return []voteViolation{
		refused("vote below the root", "vote-floor", func(f *voteFixture) consensus.Link { return f.link(1, 0, 1) }),
		refused("vote past the root", "vote-floor", func(f *voteFixture) consensus.Link { return f.link(1, 0, 3) }),
		refused("vote from a rival of the root", "vote-floor", func(f *voteFixture) consensus.Link { return f.link(2, 1, 2) }),
		refused("vote of another set", "attest-set", func(f *voteFixture) consensus.Link {
			l := f.link(1, 1, 2)
			l.Set[0] ^= 1
			return l
		}),
		refused("vote that goes nowhere", "attest-source", func(f *voteFixture) consensus.Link {
			return consensus.Link{Set: f.set.ID(), Source: f.slot(1, 2), Target: f.slot(1, 2)}
		}),
		{"vote of a disabled key", "attest-disabled", func(f *voteFixture, t *testing.T) error {
			tally := f.tally()
			f.voters = consensus.NewElectorate(f.set, nil, f.set.Keys[1:2])
			_, one := tally.Add(vote(f.link(1, 0, 1), 1), f.voters)
			_, many := tally.AddCertificate(consensus.Certificate{Link: f.link(1, 0, 1), Signers: 0x1f, Signatures: make([][64]byte, 5)}, f.voters)
			if one == nil || many == nil || one.Error() != many.Error() {
				t.Errorf("an attestation gives %v, a certificate %v", one, many)
			}
			if tally.Has(vote(f.link(1, 0, 1), 0)) {
				t.Error("part of a refused certificate was counted")
			}
			return one
		}},
		{"vote of nobody", "attest-index", func(f *voteFixture, _ *testing.T) error {
			_, err := f.tally().Add(vote(f.link(1, 0, 1), 5), f.voters)
			return err
		}},
		{"certificate of nobody", "attest-index", func(f *voteFixture, t *testing.T) error {
			tally := f.tally()
			_, err := tally.AddCertificate(consensus.Certificate{Link: f.link(1, 0, 1), Signers: 0x27, Signatures: make([][64]byte, 4)}, f.voters)
			if added, _ := tally.Add(vote(f.link(1, 0, 1), 0), f.voters); !added {
				t.Error("part of a refused certificate was counted")
			}
			return err
		}},
		{"third vote for one height", "vote-limit", func(f *voteFixture, t *testing.T) error {
			tally := f.tally()
			f.add(t, tally, vote(f.link(1, 0, 3), 2), vote(f.link(1, 1, 3), 2))
			if added, err := tally.Add(vote(f.link(1, 1, 3), 2), f.voters); added || err != nil {
				t.Errorf("a vote it has: %t, %v", added, err)
			}
			_, err := tally.Add(vote(f.link(1, 2, 3), 2), f.voters)
			return err
		}},
	}
}

// TestTallyFlood: a stolen key signs without end. The tally keeps two votes
// per height, knows the offender, and a certificate it helped to make still counts.
func TestTallyFlood(t *testing.T) {
	f := newVoteFixture(t)
	tally := f.tally()
	kept := 0
	for i := range 100_000 {
		l := f.link(1, 0, uint32(1+i%50))
		l.Target.ID = types.Hash{byte(i), byte(i >> 8), byte(i >> 16), 1}
		added, err := tally.Add(vote(l, 4), f.voters)
		if added != (err == nil) {
			t.Fatal(added, err)
		}
		if added {
			kept++
		}
	}
	if kept != 2*50 {
		t.Errorf("%d votes kept", kept)
	}
	if e := tally.Evidence(); len(e) != 1 || e[0].A.Index != 4 {
		t.Errorf("evidence %+v", e)
	}
	l := f.link(1, 0, 1)
	f.add(t, tally, all(l, 0, 1)...)
	if _, err := tally.Add(vote(l, 4), f.voters); err == nil || tally.Certified(l.Target) {
		t.Fatal("the flood did not reach the limit: this test shows nothing")
	}
	if added, err := tally.AddCertificate(f.certificate(t, l, 0, 1, 4), f.voters); !added || err != nil || !tally.Certified(l.Target) {
		t.Errorf("a certificate with the offender: %t, %v, certified %t", added, err, tally.Certified(l.Target))
	}
}

// TestTallyHandsOutCopies: what a caller does with a certificate changes no count.
func TestTallyHandsOutCopies(t *testing.T) {
	f := newVoteFixture(t)
	tally := f.tally()
	f.add(t, tally, all(f.link(1, 0, 1), 0, 1, 2)...)
	before := tally.Certificates()[0].AppendTo(nil)
	c := tally.Certificates()[0]
	c.Signatures[0][0] ^= 0xff
	after := tally.Certificates()[0]
	if !bytes.Equal(after.AppendTo(nil), before) {
		t.Error("the tally changed")
	}
}

func TestTallyOfOneValidator(t *testing.T) {
	f := newVoteFixture(t)
	set := consensus.ValidatorSet{Keys: f.set.Keys[:1]}
	f.voters = consensus.NewElectorate(set, nil, nil)
	tally := f.tally()
	for s := range uint32(5) {
		l := f.link(1, s, s+1)
		l.Set = set.ID()
		f.add(t, tally, vote(l, 0))
		if !tally.Certified(l.Target) {
			t.Errorf("slot %d is not certified by a majority of one", s+1)
		}
		if tally.Final(l.Source) {
			t.Errorf("slot %d is final: nobody but one key says so", s)
		}
	}
}
