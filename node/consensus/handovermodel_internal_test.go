package consensus

import (
	"fmt"
	"math/bits"
	"slices"
)

// A schedule says which validator sets vote on the slots of a branch: the old
// set up to the carrier of a change, then both, and from the slot after takeover
// on the new set alone. 0 stands for never. next is the set that the change is to.
type schedule struct{ carrier, takeover, next int }

// A handoverModel is all that the validators of an old set, set 0, and of those
// that may follow it can do with their votes on two branches that part after
// the first fork slots. Keys are numbers; one of them may be bad and votes for
// everything. As in a voteModel, honest ones vote in every way S1 and S2 allow.
type handoverModel struct {
	slots, fork int
	sets        [][]int
	branches    [2]schedule
	bad         int // key, or none
	// newOnly drops the joint electorate: after the carrier only the new set is asked.
	newOnly bool
	// depth replaces finality as what a takeover waits for: so many certified
	// slots above the carrier.
	depth int

	voters   [2][]*Electorate // by branch and slot
	universe []Link
	targets  []target // of the links in universe
	indexes  [][]int8 // by link and key, none where the key has no vote
	needs    [][]need // by link, for finality
}

// need is how many of some keys, bit k for key k, must vote for a link.
type need struct {
	keys  uint32
	count int
}

const none = -1

type target struct{ branch, slot int }

func (m *handoverModel) checkpoint(branch, s int) Checkpoint {
	v := voteModel{fork: m.fork}
	return v.checkpoint(branch, s)
}

func (m *handoverModel) set(i int) ValidatorSet {
	set := ValidatorSet{Number: uint32(min(i, 1))}
	for _, k := range m.sets[i] {
		set.Keys = append(set.Keys, modelKeys(k, 1)...)
	}
	return set
}

// electorate is who votes on slot s of a branch.
func (m *handoverModel) electorate(branch, s int) *Electorate {
	b := m.branches[branch]
	old := m.set(0)
	switch {
	case b.carrier == 0 || s <= b.carrier:
		return NewElectorate(old, nil, nil)
	case m.newOnly || (b.takeover > 0 && s > b.takeover):
		return NewElectorate(m.set(b.next), nil, nil)
	}
	next := m.set(b.next)
	return NewElectorate(old, &next, nil)
}

func (m *handoverModel) prepare() {
	for branch := range 2 {
		m.voters[branch] = make([]*Electorate, m.slots+1)
		for s := 1; s <= m.slots; s++ {
			m.voters[branch][s] = m.electorate(branch, s)
			for source := range s {
				l := Link{Set: m.voters[branch][s].id, Source: m.checkpoint(branch, source), Target: m.checkpoint(branch, s)}
				if !slices.Contains(m.universe, l) {
					m.universe, m.targets = append(m.universe, l), append(m.targets, target{branch, s})
					m.indexes, m.needs = append(m.indexes, voterIndexes(m.voters[branch][s])), append(m.needs, finalNeeds(m.voters[branch][s]))
				}
			}
		}
	}
}

func voterIndexes(e *Electorate) []int8 {
	list := make([]int8, 9)
	for k := range list {
		list[k] = none
		if i, ok := e.Index(modelKeys(k, 1)[0]); ok {
			list[k] = int8(i)
		}
	}
	return list
}

func finalNeeds(e *Electorate) (list []need) {
	for _, set := range e.Sets() {
		n := need{count: FinalQuorum(len(set.Keys))}
		for _, k := range set.Keys {
			n.keys |= 1 << k.Point[0]
		}
		list = append(list, n)
	}
	return list
}

// histories returns the maximal ways of a key to vote, as sets of links.
func (m *handoverModel) histories(key int) (list []uint64) {
	var all []history
	var vote func(s int, v VoteRecord, h history)
	vote = func(s int, v VoteRecord, h history) {
		if s > m.slots {
			all = append(all, h)
			return
		}
		vote(s+1, v, h)
		for i, l := range m.universe {
			if m.indexes[i][key] == none || m.targets[i].slot != s || v.Allows(l) != nil {
				continue
			}
			next := h
			next.votes.add(oneVote(i))
			next.finals |= 1 << i // here: the links voted for
			vote(s+1, v.Next(l), next)
		}
	}
	vote(1, VoteRecord{}, history{})
	for _, h := range maximal(all) {
		list = append(list, h.finals)
	}
	return list
}

// finalising returns the links that can make a slot of a branch above the fork final.
func (m *handoverModel) finalising(branch int) (list []int) {
	for s := m.fork + 1; s < m.slots; s++ {
		list = append(list, m.step(branch, s))
	}
	return list
}

// step returns the link from slot s of a branch to the next.
func (m *handoverModel) step(branch, s int) int {
	return slices.Index(m.universe, Link{Set: m.voters[branch][s+1].id, Source: m.checkpoint(branch, s), Target: m.checkpoint(branch, s+1)})
}

// mayFinalise reports whether these keys, bit k for key k, can make the source of
// a link final. It only spares judge what cannot come to anything.
func (m *handoverModel) mayFinalise(keys uint32, link int) bool {
	return !slices.ContainsFunc(m.needs[link], func(n need) bool { return bits.OnesCount32(keys&n.keys) < n.count })
}

// judge tallies the votes of all keys and reports whether both branches have a
// final slot above the fork, each branch having come to its electorates.
func (m *handoverModel) judge(votes map[int]uint64) bool {
	t := newTally(modelStep, m.checkpoint(0, 0))
	for key, links := range votes {
		for ; links != 0; links &= links - 1 {
			i := bits.TrailingZeros64(links)
			if index := m.indexes[i][key]; index != none {
				at := m.targets[i]
				t.insert(Attestation{Link: m.universe[i], Index: uint8(index)}, m.voters[at.branch][at.slot])
			}
		}
	}
	for branch := range 2 {
		if !m.mayTakeOver(t, branch) || !slices.ContainsFunc(m.finalising(branch), func(i int) bool { return m.isFinal(t, i) }) {
			return false
		}
	}
	return true
}

// isFinal reports whether the source of a link is final by its votes.
func (m *handoverModel) isFinal(t *Tally, link int) bool {
	l := m.universe[link]
	b := t.links[l]
	return b != nil && t.Certified(l.Source) && b.voters.Finalises(b.Signers)
}

// mayTakeOver reports whether the slot of a branch at which the new set takes
// over can carry the certificates that this takes.
func (m *handoverModel) mayTakeOver(t *Tally, branch int) bool {
	b := m.branches[branch]
	if b.takeover == 0 {
		return true
	}
	deep := 0
	for s := b.carrier; s < b.takeover; s++ {
		if m.depth == 0 && s+1 < b.takeover && m.isFinal(t, m.step(branch, s)) {
			return true
		}
		if s > b.carrier && t.Certified(m.checkpoint(branch, s)) {
			deep++
		}
	}
	return m.depth > 0 && deep >= m.depth
}

// explore counts the ways to vote that make slots of both branches final. Keys
// that are members of the same sets differ in nothing and are not told apart.
func (m *handoverModel) explore() (judged, conflicts int) {
	m.prepare()
	kinds := make(map[string][]int)
	var order []string
	for k := range 32 {
		kind := ""
		for _, set := range m.sets {
			kind += fmt.Sprint(slices.Contains(set, k), " ")
		}
		if slices.ContainsFunc(m.sets, func(set []int) bool { return slices.Contains(set, k) }) && k != m.bad {
			if kinds[kind] == nil {
				order = append(order, kind)
			}
			kinds[kind] = append(kinds[kind], k)
		}
	}
	var keys, same []int // honest keys, and where the run of those alike starts
	var ways [][]uint64
	for _, kind := range order {
		list := m.histories(kinds[kind][0])
		for i, k := range kinds[kind] {
			keys, ways, same = append(keys, k), append(ways, list), append(same, i)
		}
	}
	votes := make(map[int]uint64)
	if m.bad != none {
		votes[m.bad] = 1<<len(m.universe) - 1
	}
	// possible reports whether one of some links may still make something final
	// when the first k honest keys have chosen.
	possible := func(links []int, k int) bool {
		return slices.ContainsFunc(links, func(link int) bool {
			var who uint32
			if m.bad != none {
				who = 1 << m.bad
			}
			for i, key := range keys {
				if i >= k || votes[key]>>link&1 == 1 {
					who |= 1 << key
				}
			}
			return m.mayFinalise(who, link)
		})
	}
	var wanted [][]int // of each, one link must make something final
	for branch, b := range m.branches {
		wanted = append(wanted, m.finalising(branch))
		if b.takeover > 0 && m.depth == 0 {
			var steps []int
			for s := b.carrier; s+1 < b.takeover; s++ {
				steps = append(steps, m.step(branch, s))
			}
			wanted = append(wanted, steps)
		}
	}
	var choose func(k, first int)
	choose = func(k, first int) {
		if slices.ContainsFunc(wanted, func(links []int) bool { return !possible(links, k) }) {
			return
		}
		if k == len(keys) {
			judged++
			if m.judge(votes) {
				conflicts++
			}
			return
		}
		if same[k] == 0 {
			first = 0
		}
		for i := first; i < len(ways[k]); i++ {
			votes[keys[k]] = ways[k][i]
			choose(k+1, i)
		}
	}
	choose(0, 0)
	return judged, conflicts
}
