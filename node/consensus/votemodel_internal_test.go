package consensus

import (
	"slices"

	"qcitycoin.org/qcity/node/types"
)

// A voteModel is all that a few validators can do with their votes on two
// branches, A and B, that part after the first fork slots (0: at genesis). The
// honest ones vote for whatever their rule allows, in every way it can be done,
// so that every order of messages, partition and outage is among the ways. The
// bad ones vote for everything. What the votes certify and make final is
// answered by a Tally.
//
// Honest validators differ in nothing, so a case is a multiset of histories.
type voteModel struct {
	slots, fork    int
	allows         func(VoteRecord, Link) error
	size           int // validators
	certify, final int // quorums
	bad            int // validators whose keys are in bad hands
	// maximal leaves out histories that are part of a longer one. More votes
	// never take back an answer (TestTallyAgainstDefinition), so this finds a
	// conflict whenever there is one, but does not count them all.
	maximal bool

	voters *Electorate
}

const modelStep = 10 // heights between slots

// strict is the production rule. noSurround is the rule of Casper FFG: targets
// increase, and no vote may surround an earlier one.
func strict(v VoteRecord, l Link) error { return v.Allows(l) }

func noSurround(v VoteRecord, l Link) error {
	if l.Target.Height <= v.Target.Height || l.Source.Height < v.Source.Height {
		return RuleVoteSource
	}
	return nil
}

// checkpoint names slot s of a branch; slots up to the fork are common.
func (m *voteModel) checkpoint(branch, s int) Checkpoint {
	c := Checkpoint{Height: uint32(s) * modelStep}
	if c.ID[0] = byte(s); s > m.fork {
		c.ID[1] = byte(1 + branch)
	}
	return c
}

// linksTo returns the links to slot s from any slot below it, on either branch.
func (m *voteModel) linksTo(s int) (list []Link) {
	for branch := range 2 {
		for source := range s {
			l := Link{Set: m.voters.id, Source: m.checkpoint(branch, source), Target: m.checkpoint(branch, s)}
			if !slices.Contains(list, l) { // common to both
				list = append(list, l)
			}
		}
	}
	return list
}

// modelKeys makes up keys of n validators from the first on: no point of any
// curve, as the model's votes carry no signatures.
func modelKeys(first, n int) []types.PublicKey {
	keys := make([]types.PublicKey, n)
	for i := range keys {
		keys[i].Point[0] = byte(first + i)
	}
	return keys
}

// electorate returns a set of the model's validators with its own quorums.
func (m *voteModel) electorate() *Electorate {
	number := func(q int) func(int) int { return func(int) int { return q } }
	return newElectorate([]ValidatorSet{{Keys: modelKeys(0, m.size)}}, nil, number(m.certify), number(m.final))
}

// A tallies counts votes by link, three bits each.
type tallies [2]uint64

func (t *tallies) add(o tallies) { t[0] += o[0]; t[1] += o[1] }

func oneVote(link int) (t tallies) {
	t[link/21] = 1 << (link % 21 * 3)
	return t
}

// A history is the votes of one honest validator in their order.
type history struct {
	links []Link
	votes tallies
	// finals counts the votes for links that can make a slot above the fork
	// final: four bits per slot and branch, B in the upper half.
	finals uint64
}

// histories returns every way to vote that the rule allows, those alike in
// finals next to each other.
func (m *voteModel) histories() []history {
	var universe []Link
	for s := 1; s <= m.slots; s++ {
		universe = append(universe, m.linksTo(s)...)
	}
	if len(universe) > 42 {
		panic("the model has more links than a tallies holds")
	}
	var all []history
	var vote func(s int, v VoteRecord, h history)
	vote = func(s int, v VoteRecord, h history) {
		if s > m.slots {
			all = append(all, h)
			return
		}
		vote(s+1, v, h)
		for _, l := range m.linksTo(s) {
			if m.allows(v, l) != nil {
				continue
			}
			next := h
			next.links = append(slices.Clone(h.links), l)
			next.votes.add(oneVote(slices.Index(universe, l)))
			next.finals += m.finalising(l)
			vote(s+1, v.Next(l), next)
		}
	}
	vote(1, VoteRecord{}, history{})
	if m.maximal {
		all = maximal(all)
	}
	slices.SortStableFunc(all, func(a, b history) int { return int(int64(a.finals) - int64(b.finals)) })
	return all
}

// maximal returns the histories whose votes are not all part of another one.
func maximal(all []history) (list []history) {
	for _, h := range all {
		if !slices.ContainsFunc(all, func(o history) bool {
			// One bit in three: a history votes for a link once.
			return o.votes != h.votes && o.votes[0]&h.votes[0] == h.votes[0] && o.votes[1]&h.votes[1] == h.votes[1]
		}) {
			list = append(list, h)
		}
	}
	return list
}

// finalising returns the counter of history.finals that a link adds to.
func (m *voteModel) finalising(l Link) uint64 {
	for branch := range 2 {
		for s := m.fork + 1; s < m.slots; s++ {
			if l.Source == m.checkpoint(branch, s) && l.Target == m.checkpoint(branch, s+1) {
				return 1 << (4*(s-m.fork-1) + 32*branch)
			}
		}
	}
	return 0
}

// mayFinalise reports whether on each branch some link has at least need votes.
// Without that nothing is final there: Final asks for as many votes on one
// link to the next slot.
func mayFinalise(finals uint64, need int) bool {
	most := func(half uint32) (most int) {
		for ; half != 0; half >>= 4 {
			most = max(most, int(half&15))
		}
		return most
	}
	return most(uint32(finals)) >= need && most(uint32(finals>>32)) >= need
}

// count is what an exploration saw.
type count struct {
	histories int
	tallied   int // different sums of votes that a Tally judged
	conflicts int // multisets of histories that make two slots final, neither an ancestor of the other
}

// explore visits every multiset of histories of the honest validators that may
// make slots of both branches final, and lets judge say whether it does. Sums
// of votes that were judged before are not judged again.
func (m *voteModel) explore(judge func(votes [][]Link) bool) count {
	all := m.histories()
	honest := m.size - m.bad
	need := m.final - m.bad
	var groups []int // starts of the runs of equal finals
	for i := range all {
		if i == 0 || all[i].finals != all[i-1].finals {
			groups = append(groups, i)
		}
	}
	groups = append(groups, len(all))
	c := count{histories: len(all)}
	judged := make(map[tallies]bool)
	chosen := make([][]Link, honest)
	var choose func(k, first, group int, votes tallies, finals uint64)
	choose = func(k, first, group int, votes tallies, finals uint64) {
		for g := group; g < len(groups)-1; g++ {
			sum := finals + all[groups[g]].finals
			// The validators still to choose can each add one vote to any link.
			if !mayFinalise(sum, need-(honest-k-1)) {
				continue
			}
			for i := max(first, groups[g]); i < groups[g+1]; i++ {
				chosen[k] = all[i].links
				total := votes
				total.add(all[i].votes)
				if k+1 < honest {
					choose(k+1, i, g, total, sum)
					continue
				}
				conflict, known := judged[total]
				if !known {
					conflict = judge(chosen)
					judged[total] = conflict
				}
				if conflict {
					c.conflicts++
				}
			}
		}
	}
	choose(0, 0, 0, tallies{}, 0)
	c.tallied = len(judged)
	return c
}

// tally counts the votes of honest validators, and those of the bad ones for
// every link that an honest one voted for: alone they are too few for a quorum.
func (m *voteModel) tally(votes [][]Link) *Tally {
	t := newTally(modelStep, m.checkpoint(0, 0))
	for i, links := range votes {
		for _, l := range links {
			for _, index := range append(m.badOnes(), uint8(i)) {
				if a := (Attestation{Link: l, Index: index}); !t.Has(a) {
					t.insert(a, m.voters) // without the limit of Add, as if in a certificate
				}
			}
		}
	}
	return t
}

// badOnes returns the indexes behind those of the honest.
func (m *voteModel) badOnes() (list []uint8) {
	for i := m.size - m.bad; i < m.size; i++ {
		list = append(list, uint8(i))
	}
	return list
}

// conflicting reports whether both branches have a final slot above the fork.
func (m *voteModel) conflicting(t *Tally) bool {
	var final [2]bool
	for branch := range 2 {
		for s := m.fork + 1; s < m.slots; s++ {
			final[branch] = final[branch] || t.Final(m.checkpoint(branch, s))
		}
	}
	return final[0] && final[1]
}

// offenders returns the validators with evidence against them, as a bit set.
func offenders(t *Tally) (set uint32) {
	for _, e := range t.Evidence() {
		set |= 1 << e.A.Index
	}
	return set
}

func (m *voteModel) badSet() uint32 { return (1<<m.bad - 1) << (m.size - m.bad) }
