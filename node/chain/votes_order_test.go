package chain_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// world draws a tree of blocks and what three validators vote, of which the last
// is dishonest: it votes for anything, at most twice for a height.
type world struct {
	t      *rapid.T
	net    *consensus.Network
	places []place
	votes  []consensus.Attestation

	records [2]consensus.VoteRecord
	cast    [3]map[consensus.Link]bool
}

// place is a block of the tree.
type place struct {
	block *types.Block
	state consensus.State
	// slots are the signed blocks of its chain, genesis first.
	slots []consensus.Checkpoint
	bad   bool // it or an ancestor breaks a rule
}

func drawWorld(t *rapid.T, net *consensus.Network) *world {
	w := &world{t: t, net: net, places: []place{{state: net.GenesisState(), slots: []consensus.Checkpoint{{ID: net.ID}}}}}
	for i := range w.cast {
		w.cast[i] = make(map[consensus.Link]bool)
	}
	for tag := range uint32(rapid.IntRange(24, 40).Draw(t, "blocks")) {
		w.grow(tag)
	}
	return w
}

// grow adds a block, mostly near the end, so that branches get long enough for
// some slots.
func (w *world) grow(tag uint32) {
	back := rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1, 2, 5, 9}).Draw(w.t, "back")
	parent := w.places[max(0, len(w.places)-1-back)]
	r := recipe{tag: tag}
	if parent.state.ChildIsSlot() && rapid.IntRange(0, 5).Draw(w.t, "fallback") < 5 {
		r.signed, r.index = true, uint8(rapid.IntRange(0, 2).Draw(w.t, "validator"))
	}
	p := place{slots: parent.slots, bad: parent.bad}
	switch {
	case rapid.IntRange(0, 24).Draw(w.t, "bad") == 24:
		r.over, p.bad = 1, true
	case r.signed && !p.bad && len(parent.slots) > 1:
		r.carry = w.certificate(&parent)
	}
	p.block, p.state = r.make(parent.state)
	if r.signed {
		p.slots = append(p.slots[:len(p.slots):len(p.slots)], p.state.Checkpoint())
		if !p.bad {
			w.vote(&parent, &p)
		}
	}
	w.places = append(w.places, p)
}

// certificate may draw a certificate for the newest slot of a chain, to be
// carried by the next.
func (w *world) certificate(parent *place) []consensus.Record {
	target := parent.slots[len(parent.slots)-1]
	l := consensus.Link{Set: parent.state.Voters().ID(), Source: parent.state.Proven().Certified(), Target: target}
	if l.Source == l.Target || rapid.Bool().Draw(w.t, "carry nothing") {
		return nil
	}
	var votes []consensus.Attestation
	for i := range uint8(3) {
		if w.may(i, l) {
			votes = append(votes, attest(w.net, l, i))
		}
	}
	c, err := consensus.NewCertificate(votes)
	if err != nil || parent.state.CheckRecord(&c) != nil {
		return nil
	}
	return []consensus.Record{&c}
}

// vote draws who votes for a new slot.
func (w *world) vote(parent, p *place) {
	for i := range uint8(3) {
		if rapid.IntRange(0, 11).Draw(w.t, "abstains") == 11 {
			continue
		}
		source := len(parent.slots) - 1 - rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2}).Draw(w.t, "source")
		l := consensus.Link{Set: parent.state.Voters().ID(), Source: parent.slots[max(0, source)], Target: p.state.Checkpoint()}
		if w.may(i, l) {
			w.votes = append(w.votes, attest(w.net, l, i))
		}
	}
}

// may casts a vote if the validator's honesty allows it.
func (w *world) may(i uint8, l consensus.Link) bool {
	if w.cast[i][l] {
		return true
	}
	if int(i) < len(w.records) {
		if w.records[i].Allows(l) != nil {
			return false
		}
		w.records[i] = w.records[i].Next(l)
	} else {
		same := 0
		for other := range w.cast[i] {
			if other.Target.Height == l.Target.Height {
				same++
			}
		}
		if same >= 2 {
			return false
		}
	}
	w.cast[i][l] = true
	return true
}

// delivery is a node that is given a world.
type delivery struct {
	*node
	w *world
	// below are the blocks it refused because they fork off below the final slot,
	// and what builds on them.
	below map[types.Hash]bool
}

// deliver gives a node everything in some order, again and again what it cannot
// place yet, and restarts it now and then.
func (w *world) deliver(n *node, order []int) {
	d := delivery{n, w, make(map[types.Hash]bool)}
	done := make(map[int]bool)
	for len(done) < len(order) {
		before := len(done)
		for _, i := range order {
			if done[i] || !d.give(i) {
				continue
			}
			done[i] = true
			n.check()
			if rapid.IntRange(0, 19).Draw(w.t, "restart") == 19 {
				n.restart()
				for j := range done { // others still have the votes
					if j >= len(w.places)-1 {
						d.give(j)
					}
				}
			}
		}
		if len(done) == before {
			w.t.Fatalf("only %d of %d find their place", len(done), len(order))
		}
	}
}

// give gives the node one block or vote. It reports false when that has to wait
// for another block.
func (d *delivery) give(i int) bool {
	if i >= len(d.w.places)-1 {
		a := d.w.votes[i-len(d.w.places)+1]
		added, err := d.m.AddAttestation(a)
		if added {
			d.votes = append(d.votes, a)
		}
		return d.judge(err, chain.ErrUnknownTarget, a.Target.ID)
	}
	b := d.w.places[i+1].block
	_, err := d.m.AddBlock(b)
	if err == nil {
		d.noteCarried(b)
	}
	done := d.judge(err, chain.ErrUnknownParent, b.PrevBlock)
	if errors.Is(err, consensus.RuleBelowFinal) || (done && errors.Is(err, chain.ErrUnknownParent)) {
		d.below[b.Header.ID()] = true
	}
	return done
}

func (d *delivery) judge(err, wait error, on types.Hash) bool {
	if _, rule := consensus.RuleOf(err); err != nil && !rule && !errors.Is(err, wait) {
		d.w.t.Fatal(err)
	}
	return !errors.Is(err, wait) || d.below[on]
}

// TestVoteOrder: whatever the order in which blocks and votes come, and whenever
// a node is restarted in between, the same slots are certified and final and the
// same chain wins, unless it is for first seen to decide. check holds each step to
// the model.
func TestVoteOrder(t *testing.T) {
	net := testNetwork(t, nil)
	moved, final := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt, net)
		order := make([]int, len(w.places)-1+len(w.votes))
		for i := range order {
			order[i] = i
		}
		one := newNode(failer{t, rt}, net, chaintest.NewStore())
		w.deliver(one, order)
		two := newNode(failer{t, rt}, net, chaintest.NewStore())
		w.deliver(two, rapid.Permutation(order).Draw(rt, "order"))
		a, b := one.m.Standing(), two.m.Standing()
		if a.Final.Height > 0 {
			final++
		}
		if a.Certified.Height > 0 {
			moved++
		}
		if a.Final != b.Final || a.Certified.Height != b.Certified.Height {
			rt.Fatalf("certified %v and final %v, the other node %v and %v", a.Certified, a.Final, b.Certified, b.Final)
		}
		if a.Tip.ID == b.Tip.ID {
			return
		}
		for _, n := range []*node{one, two} {
			if modelCompare(n, n.model(), modelChain(n, a.Tip.ID), modelChain(n, b.Tip.ID)) != 0 {
				rt.Fatalf("tips %s and %s are no tie", a.Tip.ID, b.Tip.ID)
			}
		}
	})
	t.Logf("%d draws certify, %d finalise", moved, final)
	if moved < 10 || (final == 0 && !race) { // with few draws chance may have none
		t.Errorf("the draws certify %d times and finalise %d times: they show nothing", moved, final)
	}
}
