package chain_test

import (
	"maps"
	"slices"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// noteCarried notes the votes that a block of a chain makes known.
func (n *node) noteCarried(b *types.Block) {
	n.tb.Helper()
	if !b.IsSigned() {
		return
	}
	records, err := consensus.Records(b.Transactions[0])
	if err != nil {
		n.tb.Fatal(err)
	}
	for _, r := range records {
		if c, ok := r.(*consensus.Certificate); ok {
			n.votes = append(n.votes, c.Attestations()...)
		}
	}
}

// loseVotes notes that only what is proven is known after a restart.
func (n *node) loseVotes() {
	n.tb.Helper()
	list, err := n.store.Certificates()
	if err != nil {
		n.tb.Fatal(err)
	}
	if n.root, err = n.store.Final(); err != nil {
		n.tb.Fatal(err)
	}
	n.votes = nil
	for _, c := range list {
		n.votes = append(n.votes, c.Attestations()...)
	}
}

// proven is what votes prove, by the definitions and nothing else.
type proven struct{ certified, final map[consensus.Checkpoint]bool }

// model counts all votes the slow way, from genesis on, or from the slot that
// was final at the last restart, as the votes from below it may be gone, and from
// what the release vouches for.
func (n *node) model() proven {
	n.tb.Helper()
	votes := make(map[consensus.Link]map[types.PublicKey]bool)
	voters := make(map[consensus.Link]*consensus.Electorate)
	for _, a := range n.votes {
		if votes[a.Link] == nil {
			votes[a.Link] = make(map[types.PublicKey]bool)
			parent := n.entry(n.entry(a.Target.ID).Header.PrevBlock).State
			voters[a.Link] = parent.Voters()
		}
		votes[a.Link][voters[a.Link].Keys()[a.Index]] = true
	}
	reached := func(l consensus.Link, quorum func(int) int) bool {
		for _, set := range voters[l].Sets() {
			have := 0
			for _, k := range set.Keys {
				if _, may := voters[l].Index(k); may && votes[l][k] {
					have++
				}
			}
			if have < quorum(len(set.Keys)) {
				return false
			}
		}
		return true
	}
	p := proven{
		certified: map[consensus.Checkpoint]bool{{ID: n.net.ID}: true},
		final:     map[consensus.Checkpoint]bool{{ID: n.net.ID}: true},
	}
	if n.root.Height > 0 {
		p.certified[n.root], p.final[n.root] = true, true
	}
	if r := n.net.Release; r != nil {
		p.certified[r.Checkpoint()], p.final[r.Checkpoint()] = true, true
	}
	links := slices.Collect(maps.Keys(votes))
	for range links {
		for _, l := range links {
			if p.certified[l.Source] && reached(l, consensus.CertifyQuorum) {
				p.certified[l.Target] = true
			}
		}
	}
	for _, l := range links {
		if p.certified[l.Source] && l.Target.Height == l.Source.Height+n.net.N && reached(l, consensus.FinalQuorum) {
			p.final[l.Source] = true
		}
	}
	// Of two histories up to the release's checkpoint only the release can tell
	// which is to stay.
	maps.DeleteFunc(p.final, func(c consensus.Checkpoint, _ bool) bool {
		return n.net.Release != nil && c.Height > 0 && c.Height < n.net.Release.Height
	})
	return p
}

func (n *node) entry(id types.Hash) chain.Entry {
	n.tb.Helper()
	e, ok, err := n.store.Entry(id)
	if err != nil || !ok {
		n.tb.Fatalf("entry %s: %v, %v", id, ok, err)
	}
	return e
}

// highestOf returns the highest checkpoint of a set that is on a whole chain.
func highestOf(set map[consensus.Checkpoint]bool, c []chain.Entry) (h consensus.Checkpoint) {
	for x := range set {
		if x.Height >= h.Height && int(x.Height) < len(c) && c[x.Height].State.ID == x.ID {
			h = x
		}
	}
	return h
}

// checkBest holds the promise of the package: what is said to be certified and
// final is, nothing more is, and no stored block that is not known to be invalid
// and has the final slot below it is better than the tip.
func (n *node) checkBest() {
	n.tb.Helper()
	p, tip := n.model(), n.m.Tip()
	best := modelChain(n, tip.ID)
	want := consensus.Standing{Tip: tip, Certified: highestOf(p.certified, best), Final: highestOf(p.final, best)}
	n.standing(want)
	for e, err := range n.store.Entries() {
		if err != nil {
			n.tb.Fatal(err)
		}
		if e.Invalid != "" || n.parked {
			continue
		}
		c := modelChain(n, e.State.ID)
		if int(want.Final.Height) < len(c) && c[want.Final.Height].State.ID == want.Final.ID && modelCompare(n, p, c, best) > 0 {
			n.tb.Fatalf("block %s is better than the tip %s", e.State.ID, tip.ID)
		}
	}
}

func (n *node) standing(want consensus.Standing) {
	n.tb.Helper()
	got := n.m.Standing()
	if !got.Tip.Equal(&want.Tip) || got.Certified != want.Certified || got.Final != want.Final {
		n.tb.Fatalf("tip %s at height %d, certified %v, final %v;\nwant tip %s at height %d, certified %v, final %v",
			got.Tip.ID, got.Tip.Height, got.Certified, got.Final, want.Tip.ID, want.Tip.Height, want.Certified, want.Final)
	}
}

// modelCompare is the fork choice written the slow way: whole chains as lists.
func modelCompare(n *node, p proven, a, b []chain.Entry) int {
	if c := modelWeight(p, a).Compare(modelWeight(p, b)); c != 0 {
		return c
	}
	for h := int(n.net.N); h < min(len(a), len(b)); h += int(n.net.N) {
		if a[h].State.ID != b[h].State.ID {
			return a[h-1].State.BreakTie(&a[h].Header, &b[h].Header)
		}
	}
	return 0
}

func modelWeight(p proven, c []chain.Entry) consensus.Weight {
	return c[len(c)-1].State.Weight(highestOf(p.certified, c).Height)
}

// modelChain returns all blocks of a chain, the one of height h at index h. Of
// what is stored of them, headers and states, nothing changes.
func modelChain(n *node, id types.Hash) []chain.Entry {
	if c, ok := n.chains[id]; ok {
		return c
	}
	e := n.entry(id)
	c := []chain.Entry{e}
	if id != n.net.ID {
		below := modelChain(n, e.Header.PrevBlock)
		c = append(below[:len(below):len(below)], e)
	}
	if n.chains == nil {
		n.chains = make(map[types.Hash][]chain.Entry)
	}
	n.chains[id] = c
	return c
}
