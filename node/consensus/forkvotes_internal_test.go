package consensus

import (
	"fmt"
	"slices"
	"testing"
)

// highest returns the highest certified slot of each branch of the model.
func (m *voteModel) highest(t *Tally) (j [2]int) {
	for branch := range 2 {
		for s := m.slots; s > 0 && j[branch] == 0; s-- {
			if t.Certified(m.checkpoint(branch, s)) {
				j[branch] = s
			}
		}
	}
	return j
}

// TestVoteModelFewKeys: three honest validators that are connected vote on
// branch A, each in every way its rule allows; one or two stolen keys vote for
// everything and sign every slot of branch B, on which there is any work. As
// soon as a slot of A above the fork is certified, A is the better chain. Three
// keys are a majority and break this.
func TestVoteModelFewKeys(t *testing.T) {
	t.Parallel()
	for bad := range 4 {
		for fork := range 3 {
			fewKeys(t, 3, fork, bad)
		}
	}
	fewKeys(t, 4, 1, 2)
}

// TestVoteModelFewKeysLong takes branches of four slots.
func TestVoteModelFewKeysLong(t *testing.T) {
	longModel(t)
	for bad := range 4 {
		for fork := range 3 {
			fewKeys(t, 4, fork, bad)
		}
	}
}

func fewKeys(t *testing.T, slots, fork, bad int) {
	t.Helper()
	c := row{slots, fork, "strict", strict, max(5, 3+bad), 3, 4, bad, 0}
	m := c.model()
	certified, beaten := m.exploreFewKeys()
	t.Logf("%d slots, fork %d, %d bad: %d sums of votes certify something on A, B beats A in %d", slots, fork, bad, certified, beaten)
	if certified == 0 || (beaten > 0) != (bad == 3) {
		t.Errorf("%d slots, fork %d, %d bad: B beats A in %d of %d cases", slots, fork, bad, beaten, certified)
	}
}

// exploreFewKeys lets three honest validators vote on branch A only and counts
// the sums of votes that certify a slot of it above the fork, and those of them
// where B with all slots signed and more work is the better chain nevertheless.
func (m *voteModel) exploreFewKeys() (certified, beaten int) {
	var onA []history
	for _, h := range m.histories() {
		if !slices.ContainsFunc(h.links, func(l Link) bool { return l.Target.ID[1] == 2 }) {
			onA = append(onA, h)
		}
	}
	kept, stolen := forkChain{slots: "aaaa"[:m.fork] + "llll"[m.fork:]}, forkChain{slots: "aaaa"[:m.fork] + "bbbb"[m.fork:], extra: 1 << 40}
	seen := make(map[tallies]bool)
	for i := range onA {
		for j := range onA[:i+1] {
			for k := range onA[:j+1] {
				sum := onA[i].votes
				sum.add(onA[j].votes)
				sum.add(onA[k].votes)
				if seen[sum] {
					continue
				}
				seen[sum] = true
				tally := m.tallyOf([][]Link{onA[i].links, onA[j].links, onA[k].links}, m.universe())
				highest := m.highest(tally)
				if highest[0] <= m.fork {
					continue
				}
				certified++
				// On A only what is certified has to be signed: the fewest slots there can be.
				if kept.weight(highest[0]).Compare(stolen.weight(highest[1])) <= 0 {
					beaten++
				}
			}
		}
	}
	return certified, beaten
}

// universe is every link of the model.
func (m *voteModel) universe() (all []Link) {
	for s := 1; s <= m.slots; s++ {
		all = append(all, m.linksTo(s)...)
	}
	return all
}

// tallyOf counts the votes of honest validators and those of the bad ones for
// all the given links.
func (m *voteModel) tallyOf(votes [][]Link, bad []Link) *Tally {
	t := m.tally(votes)
	for _, l := range bad {
		for _, index := range m.badOnes() {
			if a := (Attestation{Link: l, Index: index}); !t.Has(a) {
				t.insert(a, m.voters)
			}
		}
	}
	return t
}

// belowFinal reports whether some slot above the fork is final and a slot of
// the other branch that is higher is certified: then fork choice, which looks at
// the highest certified slot first, may ask to leave a final slot. No further
// vote undoes that, so maximal histories show whether it can come to this.
func (m *voteModel) belowFinal(t *Tally) bool {
	highest := m.highest(t)
	for branch := range 2 {
		for s := m.fork + 1; s < m.slots; s++ {
			if t.Final(m.checkpoint(branch, s)) && highest[1-branch] > s {
				return true
			}
		}
	}
	return false
}

// exploreBelowFinal returns how many sums of votes it tallied and in how many of
// them this is so. It looks where it can be: at each link that can make a slot
// final together with each that can certify a higher one of the other branch, and
// at the multisets of maximal histories with honest votes enough for both.
func (m *voteModel) exploreBelowFinal() (tallied, found int) {
	m.maximal = true
	universe := m.universe()
	judged := make(map[tallies]bool)
	for branch := range 2 {
		for s := m.fork + 1; s < m.slots; s++ {
			final := slices.Index(universe, Link{Set: m.voters.id, Source: m.checkpoint(branch, s), Target: m.checkpoint(branch, s+1)})
			for i, l := range universe {
				if l.Target.Height > uint32(s)*modelStep && int(l.Target.ID[1]) == 2-branch {
					m.exploreLinks(map[int]int{final: m.final - m.bad, i: m.certify - m.bad}, judged)
				}
			}
		}
	}
	for _, bad := range judged {
		if bad {
			found++
		}
	}
	return len(judged), found
}

// exploreLinks judges the multisets of histories with so many honest votes for
// each of two links.
func (m *voteModel) exploreLinks(need map[int]int, judged map[tallies]bool) {
	all := m.histories()
	honest := m.size - m.bad
	var links, short []int
	for l, n := range need {
		links, short = append(links, l), append(short, n)
	}
	has := func(i, link int) bool { return all[i].votes[link/21]>>(link%21*3)&7 > 0 }
	lastBoth := none
	for i := range all {
		if has(i, links[0]) && has(i, links[1]) {
			lastBoth = i
		}
	}
	chosen := make([][]Link, honest)
	var choose func(k, first int, votes tallies, short [2]int)
	choose = func(k, first int, votes tallies, short [2]int) {
		left := honest - k
		if max(short[0], short[1]) > left || (max(0, short[0])+max(0, short[1]) > left && first > lastBoth) {
			return
		}
		if left == 0 {
			if _, known := judged[votes]; !known {
				judged[votes] = m.belowFinal(m.tally(chosen))
			}
			return
		}
		for i := first; i < len(all); i++ {
			next, sum := short, votes
			for j, l := range links {
				if has(i, l) {
					next[j]--
				}
			}
			sum.add(all[i].votes)
			chosen[k] = all[i].links
			choose(k+1, i, sum, next)
		}
	}
	choose(0, 0, tallies{}, [2]int(short))
}

// A belowRow is a case of TestVoteModelBelowFinal.
type belowRow struct {
	slots, fork, size, bad int
	found                  bool
}

func (r *belowRow) run(t *testing.T) {
	t.Helper()
	m := voteModel{slots: r.slots, fork: r.fork, allows: strict, size: r.size, certify: CertifyQuorum(r.size), final: FinalQuorum(r.size), bad: r.bad}
	m.voters = m.electorate()
	tallied, found := m.exploreBelowFinal()
	t.Logf("%+v: %d sums of votes tallied, %d with a certified slot beside and above a final one", *r, tallied, found)
	if tallied == 0 || (found > 0) != r.found {
		t.Errorf("%+v: %d of %d sums of votes", *r, found, tallied)
	}
}

// TestVoteModelBelowFinal: with at most one bad key, no slot is ever certified
// above a final one but on the same branch. So the best chain holds every final
// slot, whichever votes a node knows and in whatever order it came to know them;
// with two bad keys it need not.
func TestVoteModelBelowFinal(t *testing.T) {
	for _, r := range []belowRow{
		{3, 0, 5, 0, false},
		{3, 0, 5, 1, false},
		{3, 0, 5, 2, true},
		{4, 0, 5, 1, false},
		{4, 1, 5, 0, false},
		{4, 1, 5, 1, false},
		{4, 1, 5, 2, true},
		{4, 0, 3, 1, false},
	} {
		t.Run(fmt.Sprintf("%d slots, fork %d, %d of %d bad", r.slots, r.fork, r.bad, r.size), func(t *testing.T) {
			t.Parallel()
			r.run(t)
		})
	}
}

// TestVoteModelBelowFinalLong goes further.
func TestVoteModelBelowFinalLong(t *testing.T) {
	longModel(t)
	for _, r := range []belowRow{
		{4, 0, 5, 0, false},
		{4, 0, 5, 2, true},
		{5, 0, 5, 1, false},
		{5, 1, 5, 1, false},
		{5, 2, 5, 0, false},
		{5, 2, 5, 1, false},
		{5, 0, 3, 1, false},
		{3, 0, 7, 1, false},
	} {
		r.run(t)
	}
}
