package consensus_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// A tree is a random tree of blocks whose slots carry random records.
type tree struct {
	*chaingen.Generator
	carried map[string][]consensus.Record // by the slots that carry them
	valid   []*chaingen.Node              // in the order they were made
	seen    *seen
}

// seen counts what happened over all trees, lest a generator shows nothing.
type seen struct{ final, takeover, disabled, refused, forks int }

func newTree(tb chaingen.TB, s *seen) *tree {
	g := chaingen.New(tb, quick())
	return &tree{Generator: g, carried: make(map[string][]consensus.Record), valid: []*chaingen.Node{g.Tip()}, seen: s}
}

// grow adds n blocks; those that turn out invalid are left without children.
func (tr *tree) grow(t *rapid.T, n int) {
	for i := range n {
		if rare(t, "fork") {
			tr.SetTip(rapid.SampledFrom(tr.valid).Draw(t, "parent").Name)
			tr.seen.forks++
		}
		parent := tr.Tip()
		before := encoded(&parent.State)
		name := fmt.Sprint("n", i)
		var node *chaingen.Node
		switch {
		case !parent.State.ChildIsSlot():
			node = tr.Next(name)
		case rare(t, "fallback"):
			node = tr.NextFallback(name)
		default:
			records := tr.records(t)
			index := rapid.IntRange(0, len(parent.State.Validators().Keys)-1).Draw(t, "index")
			node = tr.NextSigned(name, uint8(index), chaingen.Records(records...))
			tr.carried[name] = records
		}
		if !bytes.Equal(encoded(&parent.State), before) {
			t.Fatalf("%s changed its parent's state", name)
		}
		if node.Err == nil {
			tr.valid = append(tr.valid, node)
			continue
		}
		if _, ok := consensus.RuleOf(node.Err); !ok {
			t.Fatalf("an error that names no rule: %v", node.Err)
		}
		tr.seen.refused++
		tr.SetTip(parent.Name)
	}
}

// rare is true once in a while. Generators prefer low numbers, so it is a high one.
func rare(t *rapid.T, what string) bool { return rapid.IntRange(0, 9).Draw(t, what) == 9 }

func encoded(s *consensus.State) []byte { return append(s.AppendTo(nil), s.Proven().Bytes()...) }

// records draws what the next slot carries, most of it by itself good.
func (tr *tree) records(t *rapid.T) (list []consensus.Record) {
	state := &tr.Tip().State
	for range rapid.SampledFrom([]int{2, 3, 1, 0, 4}).Draw(t, "records") {
		var r consensus.Record
		switch rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 1, 2, 3}).Draw(t, "kind") {
		case 0:
			r = tr.certificate(t)
		case 1:
			r = tr.change(t)
		case 2:
			r = tr.votes(t)
		case 3:
			r = tr.blocks(t)
		}
		if r != nil && (state.CheckRecord(r) == nil || rare(t, "bad")) {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b consensus.Record) int { return kindOf(a) - kindOf(b) })
	return list
}

func kindOf(r consensus.Record) int {
	return int(consensus.EncodeRecords([]consensus.Record{r})[0])
}

// slotsBelow are the signed slots of the branch of the tip, newest first.
func (tr *tree) slotsBelow() (list []*chaingen.Node) {
	for n := tr.Tip(); n.Parent != nil; n = n.Parent {
		if n.Block.IsSigned() {
			list = append(list, n)
		}
	}
	return list
}

func (tr *tree) certificate(t *rapid.T) consensus.Record {
	below := tr.slotsBelow()
	if len(below) == 0 {
		return nil
	}
	target := below[min(len(below)-1, rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3}).Draw(t, "target"))]
	var sources []string
	for _, s := range target.State.Proven().Slots {
		for n := target.Parent; n != nil; n = n.Parent {
			if n.State.Checkpoint() == s.Checkpoint {
				sources = append(sources, n.Name)
			}
		}
	}
	slices.Reverse(sources)
	if len(sources) == 0 {
		return nil
	}
	source := sources[min(len(sources)-1, rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3}).Draw(t, "source"))]
	var signers []uint8
	voters := tr.Voters(target.Name)
	for i, k := range voters.Keys() {
		if _, ok := voters.Index(k); ok && !rare(t, "is silent") {
			signers = append(signers, uint8(i))
		}
	}
	return tr.Certificate(source, target.Name, signers...)
}

func (tr *tree) change(t *rapid.T) consensus.Record {
	numbers := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7}).Draw(t, "keys")[:rapid.SampledFrom([]int{3, 3, 5, 1, 4}).Draw(t, "size")]
	var signers []uint8
	for i := range tr.Tip().State.Validators().Keys {
		if !rare(t, "does not sign") {
			signers = append(signers, uint8(i))
		}
	}
	return tr.SetChange(chaingen.PublicKeys(types.Secp256k1, numbers...), signers...)
}

// votes draws two votes of one key, often for slots of different branches.
func (tr *tree) votes(t *rapid.T) consensus.Record {
	key := chaingen.PublicKeys(types.Secp256k1, rapid.IntRange(0, 7).Draw(t, "offender"))[0]
	var votes []consensus.Attestation
	for _, node := range rapid.Permutation(tr.valid).Draw(t, "targets") {
		if node.Parent == nil || !node.Block.IsSigned() {
			continue
		}
		if i := slices.Index(tr.Voters(node.Name).Keys(), key); i >= 0 {
			votes = append(votes, tr.Vote("genesis", node.Name, uint8(i)))
		}
		if len(votes) == 2 {
			return tr.Evidence(votes[0], votes[1])
		}
	}
	return nil
}

// blocks looks for two blocks that one validator signed at one height.
func (tr *tree) blocks(t *rapid.T) consensus.Record {
	for _, a := range rapid.Permutation(tr.valid).Draw(t, "first") {
		for _, b := range tr.valid {
			if a != b && a.Block.IsSigned() && b.Block.IsSigned() && a.State.Height == b.State.Height && a.Block.VchBlockSig[0] == b.Block.VchBlockSig[0] {
				return tr.SlotEvidence(a.Name, b.Name)
			}
		}
	}
	return nil
}

// TestRandomRecords: what a chain says of its validators is what the records it
// carries say by the book; connecting its blocks again, after others, or from
// states that were in the database, gives the same bytes.
func TestRandomRecords(t *testing.T) {
	var s seen
	all := func() bool { return s.final > 0 && s.takeover > 0 && s.disabled > 0 && s.refused > 0 && s.forks > 0 }
	// One round in a hundred sees no takeover.
	for round := 0; round < 5 && !t.Failed() && !all(); round++ {
		rapid.Check(t, func(t *rapid.T) { randomRecords(t, &s) })
	}
	t.Logf("%+v", s)
	if !all() {
		t.Errorf("%+v: the generator is no good", s)
	}
}

func randomRecords(t *rapid.T, s *seen) {
	tr := newTree(t, s)
	tr.grow(t, rapid.SampledFrom([]int{30, 45, 15, 8}).Draw(t, "blocks"))
	for _, node := range tr.valid {
		if node.Parent != nil && node.Block.IsSigned() {
			tr.compare(t, node)
		}
	}
	for _, node := range rapid.Permutation(tr.valid[1:]).Draw(t, "order") {
		tr.connectAgain(t, node)
	}
	a := tr.Tip().State.Proven()
	s.final += min(1, int(a.Final.Height))
	s.takeover += min(1, int(a.Signers.Number))
	s.disabled += len(a.Disabled)
}

// connectAgain connects a block to its parent's state from the database.
func (tr *tree) connectAgain(t *rapid.T, node *chaingen.Node) {
	parent := node.Parent.State
	if parent.Authority != nil {
		var err error
		if parent.Authority, err = consensus.DecodeAuthority(parent.Authority.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	state, _, err := consensus.Connect(&parent, node.Block, nil)
	if err != nil {
		t.Fatalf("%s: connected again: %v", node.Name, err)
	}
	if !same(&state, &node.State) {
		t.Fatalf("%s: connected again %+v, was %+v", node.Name, state, node.State)
	}
	if !node.Block.IsSigned() || len(node.Block.Transactions[0].Outputs) < 3 {
		return
	}
	// Another byte in what it carries makes it another block, most often a bad
	// one; the parent's state must not feel it.
	spoiled := chaingen.Clone(node.Block)
	script := spoiled.Transactions[0].Outputs[2].PkScript
	script[rapid.IntRange(1, len(script)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	chaingen.FixMerkleRoot(spoiled)
	key := tr.Secret(parent.Validators().Keys[spoiled.VchBlockSig[0]])
	digest := consensus.SlotDigest(parent.Network.ID, parent.ValidatorSetID(), node.State.Height, spoiled.Header.ID())
	spoiled.VchBlockSig = types.BlockSig{Index: spoiled.VchBlockSig[0], Signature: key.Sign(digest)}.Bytes()
	before := encoded(&parent)
	state, _, err = consensus.Connect(&parent, spoiled, nil)
	if !bytes.Equal(encoded(&parent), before) {
		t.Fatalf("%s: %v, but the parent's state changed", node.Name, err)
	}
	if _, ok := consensus.RuleOf(err); err != nil && (!ok || state != (consensus.State{})) {
		t.Fatalf("%s spoiled: %v, state %+v", node.Name, err, state)
	}
}

// compare holds the authority as of a slot to the records of its chain.
func (tr *tree) compare(t *rapid.T, node *chaingen.Node) {
	want, got := tr.byTheBook(node), tr.summary(node.State.Proven())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s: by the book (-) and authority (+) differ:\n%s", node.Name, diff)
	}
}

// summary is what an authority says, in a form that can be worked out by hand.
type summary struct {
	Keys, Next, Voters []types.PublicKey
	Number             uint32
	Carrier, Final     uint32
	Depth              int
	Disabled           []types.PublicKey
	Slots, Certified   []uint32
}

func (tr *tree) summary(a *consensus.Authority) summary {
	s := summary{
		Keys: a.Signers.Keys, Number: a.Signers.Number, Carrier: a.Carrier.Height, Final: a.Final.Height,
		Depth: int(a.Depth), Disabled: a.Disabled, Voters: a.Voters().Keys(),
	}
	if a.Next != nil {
		s.Next = a.Next.Keys
	}
	for _, slot := range a.Slots {
		s.Slots = append(s.Slots, slot.Height)
		if slot.Certified {
			s.Certified = append(s.Certified, slot.Height)
		}
	}
	return s
}

// byTheBook works the summary out anew from all records of a chain, by the text
// of docs/votes.md.
func (tr *tree) byTheBook(tip *chaingen.Node) summary {
	var chain []*chaingen.Node
	for n := tip; n.Parent != nil; n = n.Parent {
		if n.Block.IsSigned() {
			chain = append([]*chaingen.Node{n}, chain...)
		}
	}
	s := summary{Keys: tr.Network().Validators}
	voters := make(map[uint32][2][]types.PublicKey) // by target: the sets that vote on it
	certified, disabled := map[uint32]bool{0: true}, map[types.PublicKey]bool{}
	for _, n := range chain {
		height := n.State.Height
		voters[height] = [2][]types.PublicKey{s.Keys, s.Next}
		takeover := s.Next != nil // a change never takes effect in the slot that carries it
		for _, r := range tr.carried[n.Name] {
			switch r := r.(type) {
			case *consensus.Certificate:
				certified[r.Target.Height] = true
				if r.Target.Height-r.Source.Height == 2 && bothReach(voters[r.Target.Height], r.Signers, map[int]int{1: 2, 3: 3, 5: 4}) {
					s.Final = max(s.Final, r.Source.Height)
				}
			case *consensus.SetChange:
				s.Next, s.Carrier = r.Keys, height
			case *consensus.Evidence:
				sets := tr.electorates(r.A.Set)
				disabled[union(sets)[r.A.Index]] = true
			case *consensus.SlotEvidence:
				disabled[tr.electorates(r.Set)[0][r.Index]] = true
			}
		}
		s.Depth = 0
		for h := range certified {
			if s.Next != nil && h > s.Carrier {
				s.Depth++
			}
		}
		if takeover && (s.Final >= s.Carrier || s.Depth >= testTakeover) {
			s.Keys, s.Next, s.Carrier, s.Depth = s.Next, nil, 0, 0
			s.Number++
		}
	}
	s.Voters = union([2][]types.PublicKey{s.Keys, s.Next})
	s.Disabled = slices.SortedFunc(maps.Keys(disabled), func(a, b types.PublicKey) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
	for _, h := range append([]uint32{0}, slices.Sorted(maps.Keys(voters))...) {
		if h >= s.Final {
			s.Slots = append(s.Slots, h)
			if certified[h] {
				s.Certified = append(s.Certified, h)
			}
		}
	}
	return s
}

// electorates returns the sets behind an id, which may be that of one or of two.
func (tr *tree) electorates(id types.Hash) (sets [2][]types.PublicKey) {
	for _, n := range tr.valid {
		if e := n.State.Voters(); e.ID() == id || n.State.ValidatorSetID() == id {
			for i, set := range e.Sets() {
				sets[i] = set.Keys
			}
			if e.ID() == id {
				return sets
			}
		}
	}
	return sets
}

func union(sets [2][]types.PublicKey) (all []types.PublicKey) {
	for _, k := range append(slices.Clone(sets[0]), sets[1]...) {
		if !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	return all
}

// bothReach counts the heads of each set; an empty set asks for nobody.
func bothReach(sets [2][]types.PublicKey, signers uint32, need map[int]int) bool {
	for _, set := range sets {
		count := 0
		for i, k := range union(sets) {
			if signers>>i&1 == 1 && slices.Contains(set, k) {
				count++
			}
		}
		if count < need[len(set)] {
			return false
		}
	}
	return true
}
