package consensus_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// passing is a change of the set from keys 0 to 4 to keys 7 to 3 on branch 0: the
// old set votes on slots 1 and 2, both on 3 and 4, the new one from 5 on, and
// key 6 is disabled from slot 6 on. Branch 1 never hears of the change.
type passing struct {
	*voteFixture
	keys            []types.PublicKey
	old, both       *consensus.Electorate
	alone, disabled *consensus.Electorate // the new set, without and with key 6 disabled
}

func newPassing(tb testing.TB) *passing {
	tb.Helper()
	a, b, all := handoverSets(5, 5, 2)
	return &passing{
		voteFixture: newVoteFixture(tb), keys: all,
		old: consensus.NewElectorate(a, nil, nil), both: consensus.NewElectorate(a, &b, nil),
		alone: consensus.NewElectorate(b, nil, nil), disabled: consensus.NewElectorate(b, nil, all[6:7]),
	}
}

// votersOn returns the electorate of slot s of a branch.
func (p *passing) votersOn(branch byte, s uint32) *consensus.Electorate {
	switch {
	case branch == 1 || s <= 2:
		return p.old
	case s <= 4:
		return p.both
	case s <= 5:
		return p.alone
	}
	return p.disabled
}

// linkTo is the link between two slots of a branch, made under the target's electorate.
func (p *passing) linkTo(branch byte, source, target uint32) consensus.Link {
	l := p.link(branch, source, target)
	l.Set = p.votersOn(branch, target).ID()
	return l
}

// ballot is the vote of a key for slot s of a branch, if it has one there.
func (p *passing) ballot(key int, branch byte, source, target uint32) (consensus.Attestation, bool) {
	index, ok := p.votersOn(branch, target).Index(p.keys[key])
	return vote(p.linkTo(branch, source, target), index), ok
}

// count adds the votes of keys for a link and fails if one of them may not vote.
func (p *passing) count(t *testing.T, tally *consensus.Tally, branch byte, source, target uint32, keys ...int) {
	t.Helper()
	for _, k := range keys {
		v, ok := p.ballot(k, branch, source, target)
		if !ok {
			t.Fatalf("key %d has no vote on slot %d", k, target)
		}
		if _, err := tally.Add(v, p.votersOn(branch, target)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTallyDuringHandover(t *testing.T) {
	p := newPassing(t)
	tally := p.tally()
	expect := func(s uint32, certified, final bool) {
		t.Helper()
		if c := p.slot(0, s); tally.Certified(c) != certified || tally.Final(c) != final {
			t.Errorf("slot %d: certified %t, final %t", s, tally.Certified(c), tally.Final(c))
		}
	}
	p.count(t, tally, 0, 0, 1, 0, 1, 2)
	p.count(t, tally, 0, 1, 2, 0, 1, 2, 3)
	expect(1, true, true)
	// Slot 3: three of the old set, of which 3 is in the new one as well.
	p.count(t, tally, 0, 2, 3, 0, 1, 3)
	expect(3, false, false)
	p.count(t, tally, 0, 2, 3, 5)
	expect(3, false, false) // two of five of the new set
	p.count(t, tally, 0, 2, 3, 6)
	expect(3, true, false)
	expect(2, true, false) // three of each
	p.count(t, tally, 0, 2, 3, 7)
	expect(2, true, false) // four of the new, three of the old
	p.count(t, tally, 0, 2, 3, 2)
	expect(2, true, true)
	// Slot 4 without the old set: all of the new one are not enough.
	p.count(t, tally, 0, 3, 4, 3, 4, 5, 6, 7)
	expect(4, false, false)
	p.count(t, tally, 0, 3, 4, 0)
	expect(4, true, false) // three of the old set: 0, 3, 4
	expect(3, true, false)
	// Slot 5: the new set alone, and the old keys have no vote any more.
	if v, ok := p.ballot(0, 0, 4, 5); ok {
		t.Errorf("key 0 votes as %d", v.Index)
	}
	p.count(t, tally, 0, 4, 5, 5, 6, 7)
	expect(5, true, false)
	expect(4, true, false)
	p.count(t, tally, 0, 4, 5, 3)
	expect(4, true, true)
	// Slot 6: key 6 is disabled. Four others are left, enough for either.
	p.count(t, tally, 0, 5, 6, 3, 4, 5)
	expect(6, true, false)
	p.count(t, tally, 0, 5, 6, 7)
	expect(5, true, true)
	if got := len(tally.Certificates()); got != 6 {
		t.Errorf("%d certificates", got)
	}
	if e := tally.Evidence(); len(e) != 0 {
		t.Errorf("evidence %+v", e)
	}
	if err := tally.Prune(p.slot(0, 4)); err != nil {
		t.Fatal(err)
	}
	expect(6, true, false)
}

// TestTallyKnowsKeysNotIndexes: key 4 has the index 4 of the old set and 3 of
// the new one. Its two votes convict it, and nobody else that has one of these.
func TestTallyKnowsKeysNotIndexes(t *testing.T) {
	p := newPassing(t)
	tally := p.tally()
	p.count(t, tally, 1, 1, 5, 3, 4) // under the old set, on branch 1
	p.count(t, tally, 0, 1, 5, 7, 4) // the new one, on branch 0: index 3 and 4 again
	list := tally.Evidence()
	if len(list) != 1 {
		t.Fatalf("evidence %+v", list)
	}
	if e := list[0]; e.A.Index != 4 || e.A.Set != p.old.ID() || e.B.Index != 3 || e.B.Set != p.alone.ID() {
		t.Errorf("evidence %+v", e)
	}
	// Two votes for one height are all that is kept of a key, under whatever sets.
	v, _ := p.ballot(4, 0, 2, 5)
	if _, err := tally.Add(v, p.alone); ruleOf(err) != "vote-limit" {
		t.Errorf("a third vote of the key: %v", err)
	}
	v, _ = p.ballot(3, 0, 2, 5)
	if _, err := tally.Add(v, p.alone); err != nil {
		t.Errorf("a second vote of another key: %v", err)
	}
}

// define answers by the text of docs/votes.md and counts heads of each set.
func (p *passing) define(votes map[consensus.Link]map[int]bool) (certified, final []consensus.Checkpoint) {
	reaches := func(branch byte, s uint32, who map[int]bool, need int) bool {
		for _, set := range p.votersOn(branch, s).Sets() {
			count := 0
			for k := range who {
				if slices.Contains(set.Keys, p.keys[k]) {
					count++
				}
			}
			if count < need {
				return false
			}
		}
		return true
	}
	is := map[consensus.Checkpoint]bool{p.genesis: true}
	for range 12 { // as often as there are slots
		for l, who := range votes {
			branch, s := l.Target.ID[1], l.Target.Height/10
			if is[l.Source] && reaches(branch, s, who, 3) {
				is[l.Target] = true
			}
		}
	}
	for s := uint32(1); s <= 6; s++ {
		for branch := range byte(2) {
			c := p.slot(branch, s)
			if !is[c] {
				continue
			}
			certified = append(certified, c)
			for next := range byte(2) {
				l := p.linkTo(next, s+1, s+1)
				l.Source = c
				if reaches(next, s+1, votes[l], 4) {
					final = append(final, c)
					break
				}
			}
		}
	}
	return certified, final
}

// TestTallyAgainstDefinitionDuringHandover: votes of all keys on all slots of
// both branches, each under the electorate of its target, in any order.
func TestTallyAgainstDefinitionDuringHandover(t *testing.T) {
	p := newPassing(t)
	finals, across := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var votes []consensus.Attestation
		byKey := make(map[consensus.Link]map[int]bool)
		offends := make(map[int]bool)
		for k := range p.keys {
			var made []consensus.Link
			for s := uint32(1); s <= 7; s++ {
				for range rapid.SampledFrom([]int{1, 1, 1, 1, 1, 0, 2}).Draw(t, "votes") {
					branch := rapid.SampledFrom([]byte{0, 0, 0, 0, 0, 1}).Draw(t, "branch")
					v, ok := p.ballot(k, branch, s-min(s, rapid.SampledFrom([]uint32{1, 1, 1, 1, 1, 2}).Draw(t, "span")), s)
					if !ok || slices.Contains(made, v.Link) {
						continue
					}
					for _, l := range made {
						offends[k] = offends[k] || consensus.Conflict(l, v.Link) != nil
					}
					made, votes = append(made, v.Link), append(votes, v)
					if byKey[v.Link] == nil {
						byKey[v.Link] = make(map[int]bool)
					}
					byKey[v.Link][k] = true
				}
			}
		}
		certified, final := p.define(byKey)
		tally := p.tally()
		for _, v := range rapid.Permutation(votes).Draw(t, "order") {
			voters := p.votersOn(v.Target.ID[1], v.Target.Height/10)
			if rapid.Bool().Draw(t, "in a certificate") {
				c, err := consensus.NewCertificate([]consensus.Attestation{v})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tally.AddCertificate(c, voters); err != nil {
					t.Fatal(err)
				}
			} else if _, err := tally.Add(v, voters); err != nil {
				t.Fatal(err)
			}
		}
		var gotCertified, gotFinal []consensus.Checkpoint
		for s := uint32(1); s <= 6; s++ {
			for branch := range byte(2) {
				if c := p.slot(branch, s); tally.Certified(c) {
					gotCertified = append(gotCertified, c)
				}
				if c := p.slot(branch, s); tally.Final(c) {
					gotFinal = append(gotFinal, c)
				}
			}
		}
		if diff := cmp.Diff([][]consensus.Checkpoint{certified, final}, [][]consensus.Checkpoint{gotCertified, gotFinal}); diff != "" {
			t.Fatalf("definition (-) and tally (+) differ:\n%s", diff)
		}
		p.compareOffenders(t, tally, offends)
		if len(final) > 0 {
			finals++
		}
		if slices.ContainsFunc(certified, func(c consensus.Checkpoint) bool { return c == p.slot(0, 5) }) {
			across++
		}
	})
	if finals == 0 || across == 0 {
		t.Errorf("final in %d runs, certified past the handover in %d: the generator is no good", finals, across)
	}
}

// compareOffenders checks that the tally has evidence against exactly these
// keys, in the order of their bytes.
func (p *passing) compareOffenders(t *rapid.T, tally *consensus.Tally, offends map[int]bool) {
	var want, got []types.PublicKey
	for k := range offends {
		if offends[k] {
			want = append(want, p.keys[k])
		}
	}
	slices.SortFunc(want, func(a, b types.PublicKey) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
	keyOf := func(a consensus.Attestation) types.PublicKey {
		return p.votersOn(a.Target.ID[1], a.Target.Height/10).Keys()[a.Index]
	}
	for _, e := range tally.Evidence() {
		if keyOf(e.A) != keyOf(e.B) || consensus.Conflict(e.A.Link, e.B.Link) == nil {
			t.Fatalf("no evidence: %+v", e)
		}
		got = append(got, keyOf(e.A))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("offenders (-) and evidence (+) differ:\n%s", diff)
	}
}
