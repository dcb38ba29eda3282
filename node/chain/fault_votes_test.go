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

// step is a block, a vote or a certificate that a node is given.
type step struct {
	block *types.Block
	vote  *consensus.Attestation
	cert  *consensus.Certificate
}

func (s *step) give(m *chain.Manager) (err error) {
	switch {
	case s.block != nil:
		_, err = m.AddBlock(s.block)
	case s.vote != nil:
		_, err = m.AddAttestation(*s.vote)
	default:
		_, err = m.AddCertificate(*s.cert)
	}
	return err
}

// votingHistory is a chain's life with votes: one by one they move the tip to
// another branch, make slots final, are carried, certify an invalid block, and make
// old certificates superfluous.
func votingHistory(tb testing.TB) (net *consensus.Network, steps []step) {
	g := rigGenerator(tb, chaingen.Params())
	blocks := func(names ...string) {
		for _, name := range names {
			steps = append(steps, step{block: g.Node(name).Block})
		}
	}
	votes := func(source, target string, indexes ...uint8) {
		for _, i := range indexes {
			v := g.Vote(source, target, i)
			steps = append(steps, step{vote: &v})
		}
	}
	cert := func(source, target string, indexes ...uint8) {
		steps = append(steps, step{cert: g.Certificate(source, target, indexes...)})
	}
	g.Fill("a", testN+2)
	blocks("a1", "a2", "a3", "a4", "a5", "a6")
	g.SetTip("a3")
	g.Fill("b", testN) // b1 is the slot
	blocks("b1", "b2", "b3", "b4")
	votes("genesis", "b1", 0, 1, 2) // moves the tip
	g.SetTip("b4")
	g.Next("s8", chaingen.Records(g.Certificate("genesis", "b1", 0, 1, 2)))
	g.Fill("c", testN-1)
	blocks("s8", "c1", "c2", "c3")
	cert("b1", "s8", 0, 1, 2)
	votes("b1", "s8", 3) // b1 is final
	g.Next("s12", chaingen.Records(g.Certificate("b1", "s8", 0, 1, 2, 3)))
	blocks("s12")
	g.SetTip("c3")
	g.NextSigned("bad", g.Tip().State.ValidatorOfRank(1), payTooMuch)
	blocks("bad")
	cert("s8", "bad", 0, 1, 4) // proves to be invalid
	g.SetTip("s12")
	g.Fill("d", testN-1)
	blocks("d1", "d2", "d3")
	g.Next("s16", chaingen.Records(g.Certificate("s8", "s12", 0, 1, 2, 3))) // makes s8 final
	blocks("s16")
	cert("s12", "s16", 0, 1, 2, 3) // makes s12 final
	g.Fill("e", testN)
	blocks("e1", "e2", "e3", "e4")
	cert("s16", "e4", 0, 1, 2, 3) // s16 has carried past the first certificate, which is forgotten
	return g.Network(), steps
}

// TestVoteFaults lets every Commit fail once in a history with votes, before or
// after it did its work, and every seventh other call to the store. The manager is used on or made anew, and given
// again what it was given; in either case the end is the same, in memory and in
// the store, to the last byte.
func TestVoteFaults(t *testing.T) {
	net, steps := votingHistory(t)
	want := newNode(t, net, chaintest.NewStore())
	for _, s := range steps {
		_ = s.give(want.m)
	}
	standing := want.m.Standing()
	if standing.Tip.Height != 20 || standing.Certified.Height != 20 || standing.Final.Height != 16 || len(want.m.Certificates()) != 5 {
		t.Fatalf("the history ends at height %d, certified %d, final %d, with %d certificates",
			standing.Tip.Height, standing.Certified.Height, standing.Final.Height, len(want.m.Certificates()))
	}
	slow := 1
	if race {
		slow = 5
	}
	for _, c := range []struct {
		name            string
		commits, after  bool
		stride, atLeast int
	}{
		{"commits", true, false, slow, 30 / slow},
		{"commits that did their work", true, true, slow, 30 / slow},
		{"reads", false, false, 7 * slow, 50 / slow},
	} {
		for _, reopen := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/reopen %v", c.name, reopen), func(t *testing.T) {
				faults := 0
				for voteFaultAt(t, want, steps, fault{c.stride * faults, c.commits, c.after, reopen}) {
					faults++
				}
				if faults < c.atLeast {
					t.Errorf("only %d calls failed", faults)
				}
			})
		}
	}
}

// fault says which call fails, of the Commits or of all others, and how.
type fault struct {
	at                     int
	commits, after, reopen bool
}

// voteFaultAt runs the history with a fault, and reports whether there was such a
// call.
func voteFaultAt(t *testing.T, want *node, steps []step, f fault) bool {
	t.Helper()
	at := f.at
	s := chaintest.NewStore()
	n := newNode(t, want.net, s)
	calls, happened := 0, false
	fail := func(call string) (bool, bool) {
		if f.commits != (call == "Commit") {
			return false, false
		}
		calls++
		happened = happened || calls == at+1
		return calls == at+1, f.after
	}
	for i := range steps {
		s.Fail = fail
		failed := calls
		err := steps[i].give(n.m)
		s.Fail = nil
		if failed > at || calls <= at {
			mustBlame(t, err)
			continue
		}
		if _, blamed := consensus.RuleOf(err); errors.Is(err, chaintest.ErrFault) && blamed {
			t.Fatalf("call %d, step %d: a failing store is held against what was given: %v", at, i, err)
		}
		if f.reopen {
			n.m = open(t, n.net, s)
			for j := range i {
				if steps[j].block == nil { // others still have the votes
					mustBlame(t, steps[j].give(n.m))
				}
			}
		}
		mustBlame(t, steps[i].give(n.m))
		n.checkChain()
	}
	// One more call finds nothing left to do that the fault may have left.
	if _, err := n.m.AddBlock(steps[0].block); err != nil {
		t.Fatal(err)
	}
	n.checkChain()
	n.standing(want.m.Standing())
	if n.snapshot() != want.snapshot() {
		t.Fatalf("call %d: the store ends up with something else", at)
	}
	if got, want := len(n.m.Certificates()), len(want.m.Certificates()); got != want {
		t.Fatalf("call %d: %d certificates are kept, want %d", at, got, want)
	}
	n.m = open(t, n.net, s)
	n.standing(want.m.Standing())
	return happened
}

// mustBlame fails if err is neither nil nor a rule's.
func mustBlame(t *testing.T, err error) {
	t.Helper()
	if _, blamed := consensus.RuleOf(err); err != nil && !blamed {
		t.Fatal(err)
	}
}

// TestDamagedCertified: a stored block that does not read back as it was is
// nobody's fault and keeps nothing else out, though votes ask for it.
func TestDamagedCertified(t *testing.T) {
	for _, end := range []bool{false, true} {
		r := newMemRig(t)
		r.grow(chain.Connected, "genesis", "a", 2*testN)
		r.g.SetTip("a3")
		r.g.Fill("b", 3)
		r.feed(chain.SideChain, "b1", "b2", "b3")
		bad := r.g.Node("b2")
		if end {
			bad = r.g.Node("b3")
		}
		damaged := *bad.Block
		damaged.Transactions = r.g.Node("a1").Block.Transactions
		s := r.store.(*chaintest.Store)
		s.Damage(bad.State.ID, &damaged)
		c := r.g.Certificate("genesis", "b1", 0, 1, 2)
		added, err := r.m.AddCertificate(*c)
		if _, blamed := consensus.RuleOf(err); !added || err == nil || blamed {
			t.Fatalf("certificate for a branch with a damaged block: %v, %v", added, err)
		}
		r.tip(r.g.Node("a8").State)
		r.parked = true
		r.votes = append(r.votes, c.Attestations()...)
		r.grow(chain.Connected, "a8", "c", testN+1)
		if _, err := chain.New(r.net, s, farFuture, r.log()); err == nil {
			t.Error("a node starts that cannot follow the best chain it knows of")
		}
		s.Damage(bad.State.ID, bad.Block) // repaired
		r.parked = false
		if got, err := r.m.AddBlock(bad.Block); err != nil || got != chain.Known {
			t.Fatalf("a block again: %v, %v", got, err)
		}
		r.check()
		r.on("b3", "b1", "genesis")
	}
}

// TestStaleVotes: while it is not known what the store holds, nothing is counted.
func TestStaleVotes(t *testing.T) {
	r := newMemRig(t)
	r.grow(chain.Connected, "genesis", "a", testN)
	r.g.Next("a5")
	s := r.store.(*chaintest.Store)
	broken := false
	s.Fail = func(call string) (bool, bool) {
		broken = broken || call == "Commit"
		return broken, true
	}
	if _, err := r.m.AddBlock(r.g.Node("a5").Block); !errors.Is(err, chaintest.ErrFault) {
		t.Fatalf("adding a block: %v", err)
	}
	vote, cert := r.g.Vote("genesis", "a4", 0), r.g.Certificate("genesis", "a4", 1, 2, 3)
	if added, err := r.m.AddAttestation(vote); added || !errors.Is(err, chaintest.ErrFault) {
		t.Errorf("vote: %v, %v", added, err)
	}
	if added, err := r.m.AddCertificate(*cert); added || !errors.Is(err, chaintest.ErrFault) {
		t.Errorf("certificate: %v, %v", added, err)
	}
	if err := r.m.AddSetChange(&consensus.SetChange{}); !errors.Is(err, chaintest.ErrFault) {
		t.Errorf("change of the set: %v", err)
	}
	s.Fail = nil
	r.certify("genesis", "a4", 1, 2, 3)
	r.on("a5", "a4", "genesis")
}
