package consensus_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

func (f *voteFixture) tally() *consensus.Tally {
	return consensus.NewTally(f.network, f.set, f.genesis)
}

// vote makes an attestation without a signature, as a Tally does not look at it.
func vote(l consensus.Link, index uint8) consensus.Attestation {
	return consensus.Attestation{Link: l, Index: index, Signature: [64]byte{index}}
}

func add(tb rapid.TB, t *consensus.Tally, votes ...consensus.Attestation) {
	tb.Helper()
	for _, a := range votes {
		if _, err := t.Add(a); err != nil {
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
	add(t, tally, all(f.link(1, 0, 1), 0, 1)...)
	expect("two votes", "0", "")
	add(t, tally, vote(f.link(1, 0, 1), 1))
	expect("two votes, one of them twice", "0", "")
	add(t, tally, vote(f.link(2, 0, 1), 2))
	expect("a third vote for a twin", "0", "")
	add(t, tally, all(f.link(1, 2, 3), 0, 1, 2, 3, 4)...)
	expect("five votes from a source that is not certified", "0", "")
	add(t, tally, vote(f.link(1, 0, 1), 4))
	expect("a third vote", "01", "")
	add(t, tally, all(f.link(1, 1, 2), 0, 1)...)
	add(t, tally, vote(f.link(1, 0, 2), 3), vote(f.link(1, 0, 2), 4))
	expect("four votes for one target from two sources", "01", "")
	add(t, tally, vote(f.link(1, 1, 2), 2))
	expect("a certificate in between: what hung on it is certified, and final, as well", "0123", "2")
	add(t, tally, vote(f.link(1, 1, 2), 3))
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
	add(t, tally, all(f.link(1, 0, 1), 0, 1, 2, 3, 4)...)
	add(t, tally, all(f.link(1, 1, 3), 0, 1, 2, 3, 4)...)
	if !tally.Certified(f.slot(1, 3)) || tally.Final(f.slot(1, 1)) {
		t.Errorf("certified %t, final %t", tally.Certified(f.slot(1, 3)), tally.Final(f.slot(1, 1)))
	}
}

// TestPruneForgetsRivals: a twin of the new root that was certified too, by
// means of a bad key, is no longer.
func TestPruneForgetsRivals(t *testing.T) {
	f := newVoteFixture(t)
	tally := f.tally()
	add(t, tally, all(f.link(1, 0, 1), 0, 1, 4)...)
	add(t, tally, all(f.link(2, 0, 1), 2, 3, 4)...)
	add(t, tally, all(f.link(1, 1, 2), 0, 1, 2, 3)...)
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
			add(t, tally, all(f.link(1, 0, 1), 0, 1, 2, 3)...)
			add(t, tally, all(f.link(1, 1, 2), 0, 1, 2, 3)...)
			if err := tally.Prune(f.slot(1, 1)); err != nil {
				t.Fatal(err)
			}
			l := link(f)
			_, one := tally.Add(vote(l, 4))
			_, many := tally.AddCertificate(consensus.Certificate{Link: l, Signers: 0x1c, Signatures: make([][64]byte, 3)})
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
		{"vote of nobody", "attest-index", func(f *voteFixture, _ *testing.T) error {
			_, err := f.tally().Add(vote(f.link(1, 0, 1), 5))
			return err
		}},
		{"certificate of nobody", "attest-index", func(f *voteFixture, t *testing.T) error {
			tally := f.tally()
			_, err := tally.AddCertificate(consensus.Certificate{Link: f.link(1, 0, 1), Signers: 0x27, Signatures: make([][64]byte, 4)})
			if added, _ := tally.Add(vote(f.link(1, 0, 1), 0)); !added {
				t.Error("part of a refused certificate was counted")
			}
			return err
		}},
		{"third vote for one height", "vote-limit", func(f *voteFixture, t *testing.T) error {
			tally := f.tally()
			add(t, tally, vote(f.link(1, 0, 3), 2), vote(f.link(1, 1, 3), 2))
			if added, err := tally.Add(vote(f.link(1, 1, 3), 2)); added || err != nil {
				t.Errorf("a vote it has: %t, %v", added, err)
			}
			_, err := tally.Add(vote(f.link(1, 2, 3), 2))
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
		added, err := tally.Add(vote(l, 4))
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
	add(t, tally, all(l, 0, 1)...)
	if _, err := tally.Add(vote(l, 4)); err == nil || tally.Certified(l.Target) {
		t.Fatal("the flood did not reach the limit: this test shows nothing")
	}
	if added, err := tally.AddCertificate(f.certificate(t, l, 0, 1, 4)); !added || err != nil || !tally.Certified(l.Target) {
		t.Errorf("a certificate with the offender: %t, %v, certified %t", added, err, tally.Certified(l.Target))
	}
}

// answers is everything a tally says about slots 1 to 5 of two branches.
type answers struct {
	Certified, Final []consensus.Checkpoint
	Certificates     [][]byte
	Offenders        []uint8
}

func (f *voteFixture) ask(t *consensus.Tally, from uint32) (a answers) {
	for s := from; s <= 5; s++ {
		for branch := range byte(2) {
			c := f.slot(branch, s)
			if t.Certified(c) {
				a.Certified = append(a.Certified, c)
			}
			if t.Final(c) {
				a.Final = append(a.Final, c)
			}
		}
	}
	for _, c := range t.Certificates() {
		if c.Target.Height >= 10*from {
			a.Certificates = append(a.Certificates, c.AppendTo(nil))
		}
	}
	for _, e := range t.Evidence() {
		a.Offenders = append(a.Offenders, e.A.Index)
	}
	return a
}

// byDefinition answers from the text of docs/votes.md, without any cleverness:
// all votes at once, certified until nothing more is.
func (f *voteFixture) byDefinition(votes []consensus.Attestation) (a answers) {
	voters := make(map[consensus.Link]map[uint8]bool)
	offenders := make(map[uint8]bool)
	for i, v := range votes {
		if voters[v.Link] == nil {
			voters[v.Link] = make(map[uint8]bool)
		}
		voters[v.Link][v.Index] = true
		for _, w := range votes[:i] {
			if v.Index == w.Index && consensus.Conflict(v.Link, w.Link) != nil {
				offenders[v.Index] = true
			}
		}
	}
	certified := map[consensus.Checkpoint]bool{f.genesis: true}
	for again := true; again; {
		again = false
		for l, who := range voters {
			if certified[l.Source] && len(who) >= 3 && !certified[l.Target] {
				certified[l.Target], again = true, true
			}
		}
	}
	for s := uint32(1); s <= 5; s++ {
		for branch := range byte(2) {
			c := f.slot(branch, s)
			if !certified[c] {
				continue
			}
			a.Certified = append(a.Certified, c)
			for next := range byte(2) {
				l := consensus.Link{Set: f.set.ID(), Source: c, Target: f.slot(next, s+1)}
				if len(voters[l]) >= 4 {
					a.Final = append(a.Final, c)
					break
				}
			}
		}
	}
	for l, who := range voters {
		if certified[l.Source] && len(who) >= 3 {
			var list []consensus.Attestation
			for i := range who {
				list = append(list, vote(l, i))
			}
			c, err := consensus.NewCertificate(list)
			if err != nil {
				panic(err)
			}
			a.Certificates = append(a.Certificates, c.AppendTo(nil))
		}
	}
	height := func(raw []byte) int { return int(raw[68]) + int(raw[69])<<8 } // of the target
	slices.SortFunc(a.Certificates, func(x, y []byte) int {
		if d := height(x) - height(y); d != 0 {
			return d
		}
		return bytes.Compare(x, y)
	})
	a.Offenders = slices.Sorted(maps.Keys(offenders))
	return a
}

// drawVotes draws votes of the five validators on two branches: those below
// bad keep their record, the others do not. Most follow branch 0, so that
// something is certified and final often enough.
func (f *voteFixture) drawVotes(t *rapid.T, bad int) (votes []consensus.Attestation) {
	for i := range uint8(5) {
		var record consensus.VoteRecord
		for s := uint32(1); s <= 6; s++ {
			for range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "votes") {
				l := f.link(rapid.SampledFrom([]byte{0, 0, 0, 1}).Draw(t, "branch"), s-min(s, rapid.SampledFrom([]uint32{1, 1, 1, 1, 2, 3}).Draw(t, "span")), s)
				honest := int(i) >= bad
				if honest && record.Allows(l) != nil {
					continue
				}
				record = record.Next(l)
				votes = append(votes, vote(l, i))
			}
		}
	}
	return votes
}

// TestTallyAgainstDefinition: in whatever order votes come, one by one or in
// certificates, some of them twice, the tally says what the definition says;
// and no vote takes back what was certified or final before it.
func TestTallyAgainstDefinition(t *testing.T) {
	f := newVoteFixture(t)
	finals, offended := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		votes := f.drawVotes(t, 2)
		want := f.byDefinition(votes)
		if len(want.Final) > 0 {
			finals++
		}
		if len(want.Offenders) > 0 {
			offended++
		}
		tally := f.tally()
		var before answers
		order := rapid.Permutation(append(slices.Clone(votes), votes[:len(votes)/3]...)).Draw(t, "order")
		for _, v := range order {
			if rapid.Bool().Draw(t, "in a certificate") {
				c, err := consensus.NewCertificate([]consensus.Attestation{v})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tally.AddCertificate(c); err != nil {
					t.Fatal(err)
				}
			} else {
				add(t, tally, v)
			}
			now := f.ask(tally, 1)
			if !includes(now.Certified, before.Certified) || !includes(now.Final, before.Final) {
				t.Fatalf("a vote took something back: %+v, then %+v", before, now)
			}
			before = now
		}
		if diff := cmp.Diff(want, before); diff != "" {
			t.Fatalf("definition (-) and tally (+) differ:\n%s", diff)
		}
	})
	if finals == 0 || offended == 0 {
		t.Errorf("final in %d runs, offenders in %d: the generator is no good", finals, offended)
	}
}

func includes(list, all []consensus.Checkpoint) bool {
	for _, c := range all {
		if !slices.Contains(list, c) {
			return false
		}
	}
	return true
}

// TestPruneForgetsNothingThatMatters: with at most one bad key, a tally that
// prunes whenever it can says the same about all above as one that never does.
func TestPruneForgetsNothingThatMatters(t *testing.T) {
	f := newVoteFixture(t)
	pruned := 0
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.Permutation(f.drawVotes(t, 1)).Draw(t, "order")
		whole, part := f.tally(), f.tally()
		for _, v := range order {
			add(t, whole, v)
			if _, err := part.Add(v); err != nil {
				if rule, _ := consensus.RuleOf(err); rule != consensus.RuleVoteFloor {
					t.Fatal(err)
				}
			}
			for _, c := range f.ask(part, part.Root().Height/10+1).Final {
				if err := part.Prune(c); err != nil {
					t.Fatal(err)
				}
				pruned++
			}
		}
		root := part.Root()
		from := root.Height / 10
		want, got := f.ask(whole, from+1), f.ask(part, from+1)
		want.Offenders, got.Offenders = nil, nil // evidence may need a vote that was refused
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("whole (-) and pruned (+) differ above %d:\n%s", root.Height, diff)
		}
		if from > 0 && (!part.Certified(root) || !part.Final(root)) {
			t.Fatal("the root is not final any more")
		}
	})
	if pruned == 0 {
		t.Error("nothing was ever pruned: the generator is no good")
	}
}

// TestTallyHandsOutCopies: what a caller does with a certificate changes no count.
func TestTallyHandsOutCopies(t *testing.T) {
	f := newVoteFixture(t)
	tally := f.tally()
	add(t, tally, all(f.link(1, 0, 1), 0, 1, 2)...)
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
	tally := consensus.NewTally(f.network, set, f.genesis)
	for s := range uint32(5) {
		l := f.link(1, s, s+1)
		l.Set = set.ID()
		add(t, tally, vote(l, 0))
		if !tally.Certified(l.Target) {
			t.Errorf("slot %d is not certified by a majority of one", s+1)
		}
		if tally.Final(l.Source) {
			t.Errorf("slot %d is final: nobody but one key says so", s)
		}
	}
}
