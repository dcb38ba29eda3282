package consensus_test

import (
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
)

// recordViolations break S1 and S2: each votes for a link after 10 → 30 on branch 1.
func recordViolations() []voteViolation {
	after := func(name string, rule consensus.Rule, link func(*voteFixture) consensus.Link) voteViolation {
		return voteViolation{name, rule, func(f *voteFixture, _ *testing.T) error {
			return consensus.VoteRecord{}.Next(f.link(1, 1, 3)).Allows(link(f))
		}}
	}
	return []voteViolation{
		after("the same vote again", "vote-target", func(f *voteFixture) consensus.Link { return f.link(1, 1, 3) }),
		after("another block at that height", "vote-target", func(f *voteFixture) consensus.Link { return f.link(2, 2, 3) }),
		after("another source for that target", "vote-target", func(f *voteFixture) consensus.Link { return f.link(1, 2, 3) }),
		after("the same under another set", "vote-target", func(f *voteFixture) consensus.Link {
			l := f.link(1, 1, 3)
			l.Set[0] ^= 1
			return l
		}),
		after("a height below", "vote-target", func(f *voteFixture) consensus.Link { return f.link(1, 1, 2) }),
		after("a lower source, which surrounds", "vote-source", func(f *voteFixture) consensus.Link { return f.link(1, 0, 4) }),
		after("a rival source of the same height", "vote-source", func(f *voteFixture) consensus.Link { return f.link(2, 1, 4) }),
		after("no way up", "attest-source", func(f *voteFixture) consensus.Link {
			l := f.link(1, 4, 5)
			l.Target.Height = l.Source.Height
			return l
		}),
		{"a first vote that goes nowhere", "attest-source", func(f *voteFixture, _ *testing.T) error {
			return consensus.VoteRecord{}.Allows(consensus.Link{Source: f.slot(1, 2), Target: f.slot(1, 2)})
		}},
		{"conflict of two votes for one height", "vote-target", func(f *voteFixture, _ *testing.T) error {
			return consensus.Conflict(f.link(1, 0, 2), f.link(2, 0, 2))
		}},
		{"conflict of two rival sources", "vote-source", func(f *voteFixture, _ *testing.T) error {
			return consensus.Conflict(f.link(2, 1, 3), f.link(1, 1, 2))
		}},
		{"conflict of surrounding votes", "vote-source", func(f *voteFixture, _ *testing.T) error {
			return consensus.Conflict(f.link(1, 0, 4), f.link(1, 2, 3))
		}},
	}
}

func TestVoteRecordAllows(t *testing.T) {
	f := newVoteFixture(t)
	last := f.link(1, 1, 3)
	for name, c := range map[string]struct {
		record consensus.VoteRecord
		link   consensus.Link
	}{
		"first vote":                          {consensus.VoteRecord{}, f.link(1, 0, 1)},
		"first vote, late":                    {consensus.VoteRecord{}, f.link(1, 5, 9)},
		"same source":                         {consensus.VoteRecord{}.Next(last), f.link(1, 1, 4)},
		"last target as source":               {consensus.VoteRecord{}.Next(last), f.link(1, 3, 4)},
		"higher source on another branch":     {consensus.VoteRecord{}.Next(last), f.link(2, 2, 4)},
		"genesis as source again":             {consensus.VoteRecord{}.Next(f.link(1, 0, 1)), f.link(2, 0, 2)},
		"slots left out":                      {consensus.VoteRecord{}.Next(last), f.link(1, 3, 40)},
		"higher source than the last target ": {consensus.VoteRecord{}.Next(last), f.link(2, 6, 8)},
	} {
		if err := c.record.Allows(c.link); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if next := c.record.Next(c.link); next.Source != c.link.Source || next.Target != c.link.Target {
			t.Errorf("%s: remembers %+v", name, next)
		}
	}
}

// TestRecordAgreesWithConflict: a history that Allows allows, vote by vote,
// has no two votes that conflict, and one that it refuses has, given that
// targets increase. So a validator that keeps its record never makes evidence
// against itself, and remembering the last vote is enough.
func TestRecordAgreesWithConflict(t *testing.T) {
	f := newVoteFixture(t)
	rapid.Check(t, func(t *rapid.T) {
		var record consensus.VoteRecord
		var votes []consensus.Link
		target := uint32(0)
		for target < 12 {
			target += uint32(rapid.IntRange(1, 2).Draw(t, "step"))
			l := f.link(rapid.Byte().Draw(t, "branch")%2, uint32(rapid.IntRange(0, int(target)-1).Draw(t, "source")), target)
			conflict := false
			for _, v := range votes {
				err := consensus.Conflict(v, l)
				if back := consensus.Conflict(l, v); (err == nil) != (back == nil) {
					t.Fatalf("%v one way, %v the other", err, back)
				}
				conflict = conflict || err != nil
			}
			if err := record.Allows(l); (err != nil) != conflict {
				t.Fatalf("record says %v, conflict with an earlier vote: %t", err, conflict)
			}
			if !conflict {
				record = record.Next(l)
				votes = append(votes, l)
			}
			if consensus.Conflict(l, l) != nil {
				t.Fatal("a vote conflicts with itself")
			}
		}
	})
}
