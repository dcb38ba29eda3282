package consensus

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"
)

// An arrival model is a node that comes to know the blocks of two branches and
// votes for them, one by one and in every order. Every combination of blocks
// and votes that honest validators may have made is a place of a graph, and
// reach says which tips a node may have there, over all ways to it.
type arrivalModel struct {
	voteModel
	chains    [2]forkChain // of branches A and B, with what they have in common
	links     []Link       // that end in signed slots
	votes     []tallies    // sums of honest votes, those with fewer first
	index     map[tallies]int
	certified []uint32 // by votes: bit slot + 8 · branch
	final     []uint32
	reach     [][]uint8 // by votes and blocks: bit t for tip t
}

// blocks is how many blocks stand above the fork on both branches. Block i is
// slot fork + 1 + i mod (slots − fork) of branch i / (slots − fork); tip i + 1 is
// the chain that ends there, tip 0 the one that ends at the fork.
func (m *arrivalModel) blocks() int { return 2 * (m.slots - m.fork) }

func (m *arrivalModel) place(tip int) (branch, slot int) {
	if tip == 0 {
		return 0, m.fork
	}
	n := m.slots - m.fork
	return (tip - 1) / n, m.fork + 1 + (tip-1)%n
}

// block returns the bit of slot s of a branch, 0 for common ones.
func (m *arrivalModel) block(branch, s int) int {
	if s <= m.fork {
		return 0
	}
	return 1 << (branch*(m.slots-m.fork) + s - m.fork - 1)
}

func (m *arrivalModel) chain(tip int) forkChain {
	branch, s := m.place(tip)
	c := forkChain{slots: m.chains[branch].slots[:s]}
	if tip > 0 {
		c.extra = m.chains[branch].extra
	}
	return c
}

// where returns branch and slot of a checkpoint of the model.
func (m *arrivalModel) where(c Checkpoint) (branch, s int) {
	return max(0, int(c.ID[1])-1), int(c.Height / modelStep)
}

// prepare lists the sums of votes and what they certify and make final.
func (m *arrivalModel) prepare() {
	m.voters = m.electorate()
	universe := m.universe()
	signed := func(c Checkpoint) bool {
		branch, s := m.where(c)
		return s == 0 || isSigned(m.chains[branch].slots[s-1])
	}
	var some []history // whose votes are for signed slots only
	for _, h := range m.histories() {
		if !slices.ContainsFunc(h.links, func(l Link) bool { return !signed(l.Source) || !signed(l.Target) }) {
			some = append(some, h)
		}
	}
	sums := map[tallies]bool{{}: true}
	for range m.size - m.bad {
		next := make(map[tallies]bool)
		for sum := range sums {
			for _, h := range some {
				total := sum
				total.add(h.votes)
				next[total] = true
			}
		}
		sums = next
	}
	m.index = make(map[tallies]int)
	for sum := range sums {
		m.votes = append(m.votes, sum)
	}
	weight := func(v tallies) (n int) {
		for i := range universe {
			n += m.count(v, i)
		}
		return n
	}
	slices.SortFunc(m.votes, func(a, b tallies) int { return weight(a) - weight(b) })
	for i, v := range m.votes {
		m.index[v] = i
		certified, final := m.ask(universe, v)
		m.certified, m.final = append(m.certified, certified), append(m.final, final)
	}
	m.links = universe
}

func (m *arrivalModel) count(v tallies, link int) int { return int(v[link/21]>>(link%21*3)) & 7 }

// ask lets a Tally judge a sum of votes. Which validators they are of does not
// matter; the bad ones vote for whatever an honest one votes for.
func (m *arrivalModel) ask(universe []Link, v tallies) (certified, final uint32) {
	t := newTally(modelStep, m.checkpoint(0, 0))
	for i, l := range universe {
		n := m.count(v, i)
		if n > 0 {
			n += m.bad
		}
		for index := range n {
			t.insert(Attestation{Link: l, Index: uint8(index)}, m.voters)
		}
	}
	for branch := range 2 {
		for s := range m.slots + 1 {
			if c := m.checkpoint(branch, s); t.Certified(c) {
				certified |= 1 << (s + 8*branch)
				if t.Final(c) {
					final |= 1 << (s + 8*branch)
				}
			}
		}
	}
	return certified, final
}

// known leaves out the votes whose blocks are not there yet, and the blocks
// whose parents are not.
func (m *arrivalModel) known(v tallies, mask int) (tallies, int) {
	there := 0
	for tip := 1; tip <= m.blocks(); tip++ {
		branch, s := m.place(tip)
		if bit := m.block(branch, s); mask&bit != 0 && there|m.block(branch, s-1) == there {
			there |= bit
		}
	}
	for i, l := range m.links {
		branch, s := m.where(l.Target)
		if b := m.block(branch, s); there&b != b {
			v[i/21] &^= 7 << (i % 21 * 3)
		}
	}
	return v, there
}

// A view is what a node sees at a place of the graph.
type view struct {
	m         *arrivalModel
	blocks    int
	certified uint32
	branch, s int // of the highest final slot
}

func (m *arrivalModel) view(votes, mask int) view {
	v, there := m.known(m.votes[votes], mask)
	i := m.index[v]
	w := view{m: m, blocks: there, certified: m.certified[i]}
	for branch := range 2 {
		for s := range m.slots + 1 {
			if m.final[i]>>(s+8*branch)&1 == 1 && s > w.s {
				w.branch, w.s = branch, s
			}
		}
	}
	return w
}

// contains reports whether a tip stands on the highest final slot.
func (w *view) contains(tip int) bool {
	branch, s := w.m.place(tip)
	return w.s <= w.m.fork || (branch == w.branch && s >= w.s)
}

func (w *view) better(a, b int) bool {
	x, y := w.m.chain(a), w.m.chain(b)
	highest := func(tip int) int {
		branch, s := w.m.place(tip)
		return bits.Len32(w.certified>>(8*branch)&(1<<(s+1)-1)) - 1
	}
	if c := x.weight(highest(a)).Compare(y.weight(highest(b))); c != 0 {
		return c > 0
	}
	return x.breakTie(&y) > 0
}

// follow returns where a node whose tip was this one goes. bound forbids it to
// leave the highest final slot.
func (w *view) follow(tip int, bound bool) int {
	for next := range w.m.blocks() + 1 {
		if next > 0 && w.blocks>>(next-1)&1 == 0 {
			continue
		}
		if bound && !w.contains(next) {
			continue
		}
		if w.better(next, tip) || (bound && !w.contains(tip)) {
			tip = next
		}
	}
	return tip
}

// A walk is what explore saw.
type walk struct {
	votes, places int
	finals        int    // places with a final slot above the fork
	ties          int    // places where what was seen first decides
	broken        string // the first place where nodes part or are asked to leave a final slot
}

// explore walks the whole graph, or up to where something is broken.
func (m *arrivalModel) explore() (w walk) {
	m.prepare()
	w.votes = len(m.votes)
	masks := 1 << m.blocks()
	for i, v := range m.votes {
		m.reach = append(m.reach, make([]uint8, masks))
		for mask := range masks {
			var from uint8
			if i == 0 && mask == 0 {
				from = 1
			}
			for b := range m.blocks() {
				if mask>>b&1 == 1 {
					from |= m.reach[i][mask&^(1<<b)]
				}
			}
			for l := range m.links {
				if less := v; m.count(v, l) > 0 {
					less[l/21] -= 1 << (l % 21 * 3)
					from |= m.reach[m.index[less]][mask]
				}
			}
			to, broken := m.arrive(i, mask, from)
			if broken != "" {
				w.broken = fmt.Sprintf("%v with votes %v and blocks %b: %s", m.chains, v, mask, broken)
				return w
			}
			w.places++
			if bits.OnesCount8(to) > 1 {
				w.ties++
			}
			if m.view(i, mask).s > m.fork {
				w.finals++
			}
			m.reach[i][mask] = to
		}
	}
	return w
}

// arrive returns where nodes go that come to a place from these tips.
func (m *arrivalModel) arrive(votes, mask int, from uint8) (to uint8, broken string) {
	w := m.view(votes, mask)
	for tip := range m.blocks() + 1 {
		if from>>tip&1 == 0 {
			continue
		}
		next, free := w.follow(tip, true), w.follow(tip, false)
		if !w.contains(free) {
			return 0, fmt.Sprintf("tip %d is better than all that stand on the final slot", free)
		}
		if next != free {
			return 0, fmt.Sprintf("finality keeps a node on tip %d, others go to %d", next, free)
		}
		to |= 1 << next
	}
	for a := range m.blocks() + 1 {
		for b := range a {
			x, y := m.chain(a), m.chain(b)
			if to>>a&1 == 1 && to>>b&1 == 1 && (w.better(a, b) || w.better(b, a) || !mayTie(&x, &y)) {
				return 0, fmt.Sprintf("some nodes end on tip %d and some on %d", a, b)
			}
		}
	}
	return to, ""
}

// An arrivalRow is a case of TestVoteModelArrival: two branches above a common chain.
type arrivalRow struct {
	common, a, b string
	extra        uint64 // more work on B
	bad          int
	ties, broken bool
}

func (r *arrivalRow) run(t *testing.T) {
	t.Helper()
	m := &arrivalModel{voteModel: voteModel{
		slots: len(r.common) + len(r.a), fork: len(r.common), allows: strict,
		size: 5, certify: 3, final: 4, bad: r.bad,
	}}
	m.chains = [2]forkChain{{slots: r.common + r.a}, {slots: r.common + r.b, extra: r.extra}}
	w := m.explore()
	t.Logf("%+v: %+v", *r, w)
	if (w.broken != "") != r.broken || (w.broken == "" && (w.ties > 0) != r.ties) {
		t.Errorf("%+v: %+v", *r, w)
	}
}

// TestVoteModelArrival: nodes that know the same blocks and votes have the same
// tip, in whatever order they came to know them, unless one validator signed
// both branches and nothing else tells them apart; and with at most one bad key
// finality never keeps a node where fork choice would not. With two it may.
func TestVoteModelArrival(t *testing.T) {
	rows := []arrivalRow{
		{"", "aa", "bb", 50, 2, false, true},
		{"a", "aa", "bb", 0, 1, false, false},
	}
	for bad := range 2 {
		rows = append(rows,
			arrivalRow{"", "aa", "bb", 0, bad, false, false},
			arrivalRow{"", "aa", "bb", 50, bad, false, false},
			arrivalRow{"", "aa", "tt", 0, bad, true, false},
			arrivalRow{"", "aa", "tt", 50, bad, false, false},
			arrivalRow{"", "la", "bh", 0, bad, false, false},
			arrivalRow{"", "la", "bh", 1000, bad, false, false},
			arrivalRow{"", "al", "bb", 1000, bad, false, false},
			arrivalRow{"", "la", "hb", 0, bad, false, false},
			arrivalRow{"", "ll", "hb", 0, bad, false, false},
			arrivalRow{"a", "a", "b", 0, bad, false, false},
			arrivalRow{"aa", "a", "t", 0, bad, true, false},
			arrivalRow{"a", "l", "h", 0, bad, false, false},
		)
	}
	for _, r := range rows {
		t.Run(r.name(), func(t *testing.T) {
			t.Parallel()
			r.run(t)
		})
	}
}

func (r *arrivalRow) name() string {
	return fmt.Sprintf("%d common, then %s or %s and %d, %d bad", len(r.common), r.a, r.b, r.extra, r.bad)
}

// TestVoteModelArrivalLong takes branches that part later and grow longer.
func TestVoteModelArrivalLong(t *testing.T) {
	longModel(t)
	for _, r := range []arrivalRow{
		{"a", "aa", "bb", 0, 0, false, false},
		{"a", "aa", "tt", 0, 1, true, false},
		{"a", "la", "bh", 1000, 1, false, false},
		{"al", "aa", "bb", 0, 1, false, false},
		{"", "aaa", "bbb", 0, 1, false, false},
		{"", "aaa", "bhb", 1000, 0, false, false},
		{"", "aaa", "bhb", 1000, 1, false, false},
		{"", "lal", "hbb", 1000, 1, false, false},
	} {
		t.Run(r.name(), r.run)
	}
}
