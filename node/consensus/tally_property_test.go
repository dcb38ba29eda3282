package consensus_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
)

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
				if _, err := tally.AddCertificate(c, f.voters); err != nil {
					t.Fatal(err)
				}
			} else {
				f.add(t, tally, v)
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
			f.add(t, whole, v)
			if _, err := part.Add(v, f.voters); err != nil {
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
