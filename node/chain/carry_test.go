package chain_test

import (
	"slices"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// carryAll makes the next block, a slot, carry whatever the manager has to be
// carried, and returns that.
func (r *rig) carryAll(name string) []consensus.Record {
	r.tb.Helper()
	parent := r.g.Tip().State
	records := r.m.Records(&parent, 50_000)
	carry(r, name, records...)
	return records
}

// TestTwins: a validator that signs two blocks at one slot is accused by the
// next one, and its key is of no use from there on.
func TestTwins(t *testing.T) {
	for _, restart := range []bool{false, true} {
		forAlgorithms(t, func(t *testing.T, r *rig) {
			r.grow(chain.Connected, "genesis", "a", testN+2)
			guilty := r.g.Node("a3").State.ValidatorOfRank(0)
			if restart { // the best chain remembers
				r.restart()
			}
			r.g.SetTip("a3")
			r.g.NextSigned("twin", guilty)
			r.g.SetTip("a3")
			r.g.NextSigned("innocent", guilty+1)
			r.feed(chain.SideChain, "innocent")
			parent := r.g.Node("a3").State
			if got := r.m.Records(&parent, 1000); len(got) != 0 {
				t.Fatalf("two validators at one slot make evidence: %v", got)
			}
			r.feed(chain.SideChain, "twin")
			r.grow(chain.Connected, "a6", "c", 1)
			got := r.carryAll("s8")
			if len(got) != 1 {
				t.Fatalf("records %v, want evidence", got)
			}
			if e, ok := got[0].(*consensus.SlotEvidence); !ok || e.Height != testN || e.Index != guilty {
				t.Fatalf("evidence: %+v", got[0])
			}
			r.feed(chain.Connected, "s8")
			// Again and again, until the guilty validator would be in turn.
			for r.g.Tip().State.ValidatorOfRank(0) != guilty || !r.g.Tip().State.ChildIsSlot() {
				name := "d" + string('a'+rune(r.g.Tip().State.Height))
				r.g.Next(name)
				r.feed(chain.Connected, name)
			}
			last := r.g.Tip().Name
			r.refusedBlock(r.g.Next("refused").Block, consensus.RuleDisabled)
			r.g.SetTip(last)
			r.g.NextSigned("other", (guilty+1)%5)
			r.feed(chain.Connected, "other")
			c := r.g.Certificate("s8", "other", 0, 1, 2)
			r.refusedVote(t, consensus.RuleAttestDisabled, func() (bool, error) { return r.m.AddCertificate(*c) })
			if got := r.m.Records(tipOf(r), 10_000); len(got) != 0 {
				t.Errorf("evidence is to be carried again: %v", got)
			}
			verify(t, r.net, r.store)
		})
	}
}

// TestTwinLimit: of the blocks that one key signs at one slot two are stored,
// then one a minute, valid or not.
func TestTwinLimit(t *testing.T) {
	clock := time.Unix(4_000_000_000, 0)
	r := newMemRig(t)
	r.m = openAt(t, r.net, r.store, func() time.Time { return clock })
	r.grow(chain.Connected, "genesis", "a", testN-1)
	guilty := r.g.Tip().State.ValidatorOfRank(0)
	names := 0
	next := func(mungers ...chaingen.Munger) *chaingen.Node {
		names++
		r.g.SetTip("a3")
		return r.g.NextSigned("twin"+string('a'+rune(names)), guilty, mungers...)
	}
	// A spoiled copy of a block of which nothing is kept is not held against its maker.
	for range 5 {
		spoiled := *next().Block
		spoiled.Transactions = r.g.Node("a1").Block.Transactions
		r.refusedBlock(&spoiled, consensus.RuleMerkleRoot)
	}
	r.add(chain.Connected, next().Block)
	r.add(chain.SideChain, next().Block)
	for range 3 {
		r.refusedBlock(next().Block, consensus.RuleTwinLimit)
	}
	clock = clock.Add(time.Minute)
	late := next()
	r.add(chain.SideChain, late.Block)
	r.refusedBlock(next().Block, consensus.RuleTwinLimit)
	clock = clock.Add(time.Minute)
	bad := next(func(b *types.Block) { b.Transactions = append(b.Transactions, r.g.Node("a1").Block.Transactions...) }).Block
	r.refused(bad, consensus.RuleExtraCoinbase)
	if _, marked, err := r.m.InvalidReason(bad.Header.ID()); !marked || err != nil {
		t.Errorf("one of the few invalid ones is not remembered: %v", err)
	}
	r.refusedBlock(next().Block, consensus.RuleTwinLimit)
	// No minute has to pass for another validator, and votes for one of them count.
	r.g.SetTip("a3")
	r.g.NextSigned("innocent", (guilty+1)%5)
	r.feed(chain.SideChain, "innocent")
	r.certify("genesis", late.Name, 0, 1, 2)
	r.tip(late.State)
}

// TestSetChange: a change of the set that the node was given is carried by the
// next slot and takes effect once that is final, by what the chain carries. Undone by
// a reorganisation, it is carried and takes effect anew.
func TestSetChange(t *testing.T) {
	forAlgorithms(t, func(t *testing.T, r *rig) { r.changeSet(t) })
}

func (r *rig) changeSet(t *testing.T) {
	t.Helper()
	r.grow(chain.Connected, "genesis", "a", 2*testN-1)
	keys := chaingen.PublicKeys(r.net.Validators[0].Algorithm, 0, 1, 2, 5, 6)
	if err := r.m.AddSetChange(r.g.SetChange(keys, 0, 1)); !isRule(err, consensus.RuleSetQuorum) {
		t.Errorf("change signed by two of five: %v", err)
	}
	if err := r.m.AddSetChange(r.g.SetChange(keys, 0, 1, 3)); err != nil {
		t.Fatal(err)
	}
	old := tipOf(r).Validators()
	r.certify("genesis", "a4", 0, 1, 2)
	if got := r.carryAll("s8"); len(got) != 2 {
		t.Fatalf("records %v, want a certificate and the change", got)
	}
	r.feed(chain.Connected, "s8")
	if err := r.m.AddSetChange(r.g.SetChange(keys, 0, 1, 3)); !isRule(err, consensus.RuleSetOpen) {
		t.Errorf("a second change: %v", err)
	}
	// Another branch has not carried it, and would, until a certificate undoes that.
	r.g.SetTip("a7")
	r.g.NextSigned("x", r.g.Tip().State.ValidatorOfRank(1))
	r.g.Fill("y", 7)
	r.feedAny("x", "y1", "y2", "y3", "y4", "y5", "y6", "y7")
	if tip := tipOf(r); tip.ID != r.g.Node("y7").State.ID || tip.Proven().Next != nil {
		t.Fatalf("at height %d, set under way: %v", tip.Height, tip.Proven().Next)
	}
	if got := r.m.Records(tipOf(r), 50_000); len(got) != 2 {
		t.Fatalf("records %v, want a certificate and the change again", got)
	}
	r.certify("a4", "s8", 0, 1, 2, 3)
	r.on("s8", "s8", "a4")
	if tipOf(r).Proven().Next == nil {
		t.Fatal("no change is under way on the branch that carried it")
	}
	r.grow(chain.Connected, "s8", "b", 3)
	r.carryAll("s12")
	r.feed(chain.Connected, "s12")
	// From here on both sets vote: 0, 1, 2, 3, 4 and 5, 6 of the new keys.
	r.grow(chain.Connected, "s12", "c", 3)
	r.certify("s8", "s12", 0, 1, 2)
	r.on("c3", "s12", "a4")
	r.attest("s8", "s12", 3)
	r.on("c3", "s12", "a4") // four of the old set, three of the new one
	r.attest("s8", "s12", 5)
	r.on("c3", "s12", "s8")
	r.carryAll("s16")
	r.feed(chain.Connected, "s16")
	r.changed(old, keys, true)
	r.grow(chain.Connected, "s16", "d", 4)
	r.changed(old, keys, true)
	r.restart()

	// Another branch does not carry the last certificate, and the old set signs on.
	r.g.SetTip("c3")
	r.g.Fill("e", 2*testN+1)
	r.feedAny("e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "e9")
	r.tip(r.g.Node("e9").State)
	r.changed(old, keys, false)
	// One key, in different sets, signed both blocks of height 20, which is no
	// evidence that either set takes; of height 16 there are twins.
	if d, e := r.g.Node("d4"), r.g.Node("e5"); d.Block.VchBlockSig[0] != 0 || e.Block.VchBlockSig[0] != 0 || d.State.Height != e.State.Height || chain.Sizes(r.m)["accused"] != 1 {
		t.Errorf("want the twins of height 16 accused and nobody else: %v", chain.Sizes(r.m))
	}
	r.restart()
	r.grow(chain.Connected, "e9", "f", 3)
	if got := r.carryAll("s28"); len(got) != 1 {
		t.Fatalf("records %v, want the certificate again", got)
	}
	r.feed(chain.Connected, "s28")
	r.changed(old, keys, true)
	verify(t, r.net, r.store)
}

// changed asserts which set signs after the tip.
func (r *rig) changed(old consensus.ValidatorSet, keys []types.PublicKey, want bool) {
	r.tb.Helper()
	tip := r.m.Tip()
	set := tip.Validators()
	if got := set.Number == old.Number+1 && slices.Equal(set.Keys, keys); got != want || (!want && !slices.Equal(set.Keys, old.Keys)) {
		r.tb.Fatalf("after height %d set %d signs, %v", tip.Height, set.Number, set.Keys)
	}
}
