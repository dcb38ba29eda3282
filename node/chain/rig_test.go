package chain_test

import (
	"errors"
	"fmt"
	"testing"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// algorithms are the networks that tests of votes run on: five validators, three
// of which certify and four finalise.
var algorithms = map[string]func() consensus.Params{"secp256k1": chaingen.Params, "P-256": chaingen.P256Params}

// rig is a node with a generator of its blocks and votes, and a slot at every
// fourth height.
type rig struct {
	*node
	g *chaingen.Generator
}

func newRig(tb testing.TB, p consensus.Params, s chain.Store) *rig {
	tb.Helper()
	g := rigGenerator(tb, p)
	return &rig{node: newNode(tb, g.Network(), s), g: g}
}

func rigGenerator(tb testing.TB, p consensus.Params) *chaingen.Generator {
	p.N = testN
	return chaingen.New(tb, p)
}

func newMemRig(tb testing.TB) *rig {
	tb.Helper()
	return newRig(tb, chaingen.Params(), chaintest.NewStore())
}

// forAlgorithms runs a test with the keys of either algorithm.
func forAlgorithms(t *testing.T, test func(t *testing.T, r *rig)) {
	for name, params := range algorithms {
		t.Run(name, func(t *testing.T) { test(t, newRig(t, params(), chaintest.NewStore())) })
	}
}

// feed adds named blocks, each with the result wanted.
func (r *rig) feed(want chain.Result, names ...string) {
	r.tb.Helper()
	for _, name := range names {
		r.add(want, r.g.Node(name).Block)
	}
}

// feedAny adds named blocks that must be valid, wherever they belong.
func (r *rig) feedAny(names ...string) {
	r.tb.Helper()
	for _, name := range names {
		if _, err := r.m.AddBlock(r.g.Node(name).Block); err != nil {
			r.tb.Fatalf("adding block %s: %v", name, err)
		}
		r.noteCarried(r.g.Node(name).Block)
		r.check()
	}
}

// grow makes blocks after a named one and feeds them, and returns the last.
func (r *rig) grow(want chain.Result, after, prefix string, count int) *chaingen.Node {
	r.tb.Helper()
	r.g.SetTip(after)
	for i := range count {
		name := fmt.Sprintf("%s%d", prefix, i+1)
		r.g.Next(name)
		r.feed(want, name)
	}
	return r.g.Tip()
}

// attest adds votes for the link between two named blocks. All must be new.
func (r *rig) attest(source, target string, indexes ...uint8) {
	r.tb.Helper()
	for _, i := range indexes {
		r.attestation(r.g.Vote(source, target, i))
	}
}

// attestation adds a vote, which must be new.
func (n *node) attestation(a consensus.Attestation) {
	n.tb.Helper()
	if added, err := n.m.AddAttestation(a); err != nil || !added {
		n.tb.Fatalf("vote of %d for slot %d: %v, %v", a.Index, a.Target.Height, added, err)
	}
	n.votes = append(n.votes, a)
	n.check()
}

// certify adds a certificate, some votes of which must be new.
func (r *rig) certify(source, target string, indexes ...uint8) {
	r.tb.Helper()
	c := r.g.Certificate(source, target, indexes...)
	if added, err := r.m.AddCertificate(*c); err != nil || !added {
		r.tb.Fatalf("certificate of %v for %s: %v, %v", indexes, target, added, err)
	}
	r.votes = append(r.votes, c.Attestations()...)
	r.check()
}

// on asserts the tip and what is proven, by name.
func (r *rig) on(tip, certified, final string) {
	r.tb.Helper()
	r.standing(consensus.Standing{
		Tip:       r.g.Node(tip).State,
		Certified: r.g.Node(certified).State.Checkpoint(),
		Final:     r.g.Node(final).State.Checkpoint(),
	})
}

// snapshot is all that a store in memory holds, to be compared.
func (n *node) snapshot() string {
	n.tb.Helper()
	s, ok := n.store.(*chaintest.Store)
	if !ok {
		n.tb.Fatal("not a store in memory")
	}
	return s.Dump()
}

// refusedBlock adds a block that must be refused for a rule and leave nothing
// behind.
func (n *node) refusedBlock(b *types.Block, want consensus.Rule) {
	n.tb.Helper()
	before, standing := n.snapshot(), n.m.Standing()
	if _, err := n.m.AddBlock(b); !errors.Is(err, want) {
		n.tb.Fatalf("block %s: %v, want %s", b.Header.ID(), err, want)
	}
	n.standing(standing)
	if n.snapshot() != before {
		n.tb.Fatalf("refused block %s left something behind", b.Header.ID())
	}
}

// payTooMuch is a munger that breaks a rule which only connecting shows.
func payTooMuch(b *types.Block) {
	outs := b.Transactions[0].Outputs
	if b.IsSigned() {
		outs = outs[1:]
	}
	outs[0].Value++
}

func isRule(err error, want consensus.Rule) bool {
	got, ok := consensus.RuleOf(err)
	return ok && got == want
}
