package consensus_test

import (
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
)

// split is the worst that one bad key can do to four honest validators that
// cannot reach each other, two by two: validators 0 and 1 see branch 0,
// validators 2 and 3 branch 1, and validator 4 votes for the first slot of both.
func (f *voteFixture) split(t *testing.T) (*consensus.Tally, [4]consensus.VoteRecord) {
	t.Helper()
	tally := f.tally()
	var records [4]consensus.VoteRecord
	for s := range uint32(2) {
		for i := range records {
			l := f.link(byte(i/2), s, s+1)
			if err := records[i].Allows(l); err != nil {
				t.Fatal(err)
			}
			records[i] = records[i].Next(l)
			f.add(t, tally, vote(l, uint8(i)))
		}
		if s == 0 {
			f.add(t, tally, vote(f.link(0, 0, 1), 4), vote(f.link(1, 0, 1), 4))
		}
	}
	return tally, records
}

// TestSplitCertifiesTwiceButFinalisesNothing: what a merchant on either side is
// shown as certified may be undone, what it is shown as final may not.
func TestSplitCertifiesTwiceButFinalisesNothing(t *testing.T) {
	f := newVoteFixture(t)
	tally, _ := f.split(t)
	for branch := range byte(2) {
		f.add(t, tally, vote(f.link(branch, 1, 2), 4))
		for s := uint32(1); s <= 2; s++ {
			if c := f.slot(branch, s); !tally.Certified(c) || tally.Final(c) {
				t.Errorf("slot %d of branch %d: certified %t, final %t", s, branch, tally.Certified(c), tally.Final(c))
			}
		}
	}
	if e := tally.Evidence(); len(e) != 1 || e[0].A.Index != 4 {
		t.Errorf("evidence %+v, want it against validator 4", e)
	}
}

// TestSplitCanStall: if the bad key falls silent after such a split, the honest
// four can never certify anything again, though they are connected: two are
// bound to one source, two to the other. It shows the price of the strict
// source rule, and that a single vote of validator 4 for either side ends it.
func TestSplitCanStall(t *testing.T) {
	f := newVoteFixture(t)
	stalled := func() (*consensus.Tally, [4]consensus.VoteRecord) {
		tally, records := f.split(t)
		// More than they could ever do: every vote that each one's record
		// allows, also where one would rule out another.
		for i, record := range records {
			for branch := range byte(2) {
				for target := uint32(3); target <= 12; target++ {
					for source := range target {
						l := f.link(branch, source, target)
						if record.Allows(l) == nil {
							if _, err := tally.AddCertificate(consensus.Certificate{Link: l, Signers: 1 << i, Signatures: make([][64]byte, 1)}, f.voters); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
			}
		}
		return tally, records
	}
	tally, records := stalled()
	for branch := range byte(2) {
		for s := uint32(1); s <= 12; s++ {
			if certified := tally.Certified(f.slot(branch, s)); certified != (s == 1) {
				t.Errorf("slot %d of branch %d: certified %t", s, branch, certified)
			}
		}
	}
	tally, _ = f.split(t)
	way, on := f.link(0, 1, 3), f.link(0, 3, 4)
	f.add(t, tally, all(way, 0, 1, 4)...)
	for i := range records {
		if i < 2 {
			records[i] = records[i].Next(way)
		}
		if err := records[i].Allows(on); err != nil {
			t.Errorf("validator %d is still bound: %v", i, err)
		}
		f.add(t, tally, vote(on, uint8(i)))
	}
	if !tally.Certified(f.slot(0, 4)) || !tally.Final(f.slot(0, 3)) {
		t.Error("one vote does not end it")
	}
}

// TestHonestVotersNeverStall: without a bad key, whatever was delayed, lost or
// split before, all validators can vote for a link from the highest certified
// slot, of which there is only one, to the next slot.
func TestHonestVotersNeverStall(t *testing.T) {
	f := newVoteFixture(t)
	highest := 0
	rapid.Check(t, func(t *rapid.T) {
		tally := f.tally()
		var records [5]consensus.VoteRecord
		for target := uint32(1); target <= 6; target++ {
			for i := range records {
				// Each sees what it sees: some certified slot of some branch, or nothing.
				source := rapid.Uint32Range(0, target-1).Draw(t, "source")
				l := f.link(rapid.SampledFrom([]byte{0, 0, 1}).Draw(t, "branch"), source, target)
				if !tally.Certified(l.Source) || records[i].Allows(l) != nil {
					continue
				}
				records[i] = records[i].Next(l)
				f.add(t, tally, vote(l, uint8(i)))
			}
		}
		top, rivals := f.genesis, 0
		for s := uint32(1); s <= 6; s++ {
			for branch := range byte(2) {
				if c := f.slot(branch, s); !tally.Certified(c) {
					continue
				} else if c.Height > top.Height {
					top, rivals = c, 0
				} else {
					rivals++
				}
			}
		}
		if rivals > 0 {
			t.Fatalf("two certified slots at height %d without a bad key", top.Height)
		}
		if top != f.genesis {
			highest++
		}
		next := consensus.Link{Set: f.set.ID(), Source: top, Target: f.slot(0, 7)}
		for i, record := range records {
			if err := record.Allows(next); err != nil {
				t.Fatalf("validator %d cannot go on: %v", i, err)
			}
			f.add(t, tally, vote(next, uint8(i)))
		}
		if !tally.Certified(next.Target) {
			t.Fatal("five votes do not certify")
		}
	})
	if highest == 0 {
		t.Error("nothing was ever certified: the generator is no good")
	}
}
