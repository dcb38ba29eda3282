package chain_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/store"
)

// TestBelowFinal: no work, signature or certificate moves a node below the final
// slot, and what would is not stored, by a node that made the slot final as by
// one that was restarted.
func TestBelowFinal(t *testing.T) {
	forAlgorithms(t, func(t *testing.T, r *rig) {
		r.grow(chain.Connected, "genesis", "a", 2*testN)
		r.g.SetTip("a3")
		r.g.Fill("b", 3*testN)
		r.feed(chain.SideChain, "b1", "b2") // b1 is a slot; stored before it is too late
		r.certify("genesis", "a4", 0, 1, 2)
		r.attest("a4", "a8", 0, 1, 2)
		r.feed(chain.SideChain, "b3")
		r.attest("a4", "a8", 3)
		r.on("a8", "a8", "a4")
		for restarts := range 2 {
			for _, name := range []string{"b4", "b12"} {
				if name == "b4" {
					r.refusedBlock(r.g.Node(name).Block, consensus.RuleBelowFinal)
				} else if _, err := r.m.AddBlock(r.g.Node(name).Block); !errors.Is(err, chain.ErrUnknownParent) {
					t.Errorf("block above one that was refused: %v", err)
				}
			}
			for _, below := range []string{"genesis", "a3"} {
				r.g.SetTip(below)
				b := r.g.Next("late on " + below + strings.Repeat("'", restarts)).Block
				r.refusedBlock(b, consensus.RuleBelowFinal)
			}
			c := r.g.Certificate("genesis", "b1", 0, 1, 2, 3, 4)
			r.refusedVote(t, consensus.RuleVoteFloor, func() (bool, error) { return r.m.AddCertificate(*c) })
			r.restart()
			r.on("a8", "a8", "a4")
		}
		r.grow(chain.SideChain, "a4", "c", 1) // from the final slot on all is open
		verify(t, r.net, r.store)
	})
}

// TestBelowFinalDisk: the same on the real store, whose files stay as they are.
func TestBelowFinalDisk(t *testing.T) {
	dir := t.TempDir()
	p := chaingen.Params()
	s := openDisk(t, dir, rigGenerator(t, p).Network(), store.Options{})
	defer closeDisk(t, s)
	r := newRig(t, p, s)
	r.grow(chain.Connected, "genesis", "a", 2*testN)
	r.certify("genesis", "a4", 0, 1, 2)
	r.certify("a4", "a8", 0, 1, 2, 3)
	before := files(t, dir)
	for i, below := range []string{"genesis", "a1", "a2", "a3"} {
		r.g.SetTip(below)
		b := r.g.Next("late" + string('a'+rune(i))).Block
		if _, err := r.m.AddBlock(b); !isRule(err, consensus.RuleBelowFinal) {
			t.Errorf("on %s: %v", below, err)
		}
		if _, ok, err := s.Entry(b.Header.ID()); ok || err != nil {
			t.Errorf("on %s: stored, %v", below, err)
		}
	}
	if after := files(t, dir); after != before {
		t.Error("a refused block changed a file")
	}
}

// files returns the names and contents of all files of a store.
func files(tb testing.TB, dir string) string {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil || len(names) < 2 {
		tb.Fatalf("files of the store: %v, %v", names, err)
	}
	var all strings.Builder
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		all.WriteString(name)
		all.Write(content)
	}
	return all.String()
}

// TestFinalAfterReorganisation: a slot whose votes came while another chain was
// the best becomes final when its chain is the best.
func TestFinalAfterReorganisation(t *testing.T) {
	r := newMemRig(t)
	r.grow(chain.Connected, "genesis", "a", 4*testN)
	r.grow(chain.SideChain, "a3", "b", 6) // slots b1 and b5
	r.attest("b1", "b5", 0, 1, 2, 3)      // from a source that nobody has certified
	r.on("a16", "genesis", "genesis")
	r.certify("genesis", "b1", 0, 1, 2)
	r.on("b6", "b5", "b1")
	r.restart()
	r.on("b6", "b5", "b1")
}

// TestFinalAtStart: a node that was killed between storing the votes that make a
// slot final and storing that it is knows it when it starts.
func TestFinalAtStart(t *testing.T) {
	r := newMemRig(t)
	r.grow(chain.Connected, "genesis", "a", 2*testN)
	certificates := []consensus.Certificate{*r.g.Certificate("genesis", "a4", 0, 1, 2), *r.g.Certificate("a4", "a8", 0, 1, 2, 3)}
	if err := r.store.Commit(chain.Batch{Certificates: certificates}); err != nil {
		t.Fatal(err)
	}
	r.m = open(t, r.net, r.store)
	r.on("a8", "a8", "a4")
	if final, err := r.store.Final(); err != nil || final.Height != 4 {
		t.Errorf("stored final slot: %v, %v", final, err)
	}
}

// TestRivalFinal: three dishonest validators certify slots of two branches, and
// make one final on the branch that is not the best. The node says so, stays, and
// lets it be final when work makes that branch the best.
func TestRivalFinal(t *testing.T) {
	r := newMemRig(t)
	log := new(lockedBuffer)
	m, err := chain.New(r.net, r.store, farFuture, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	r.m = m
	r.grow(chain.Connected, "genesis", "a", 2*testN+2)
	r.g.SetTip("a3")
	r.g.Fill("b", testN+4)
	r.feed(chain.SideChain, "b1", "b2", "b3", "b4", "b5")
	r.certify("genesis", "a4", 0, 1, 2)
	r.certify("a4", "a8", 0, 1, 2)
	r.certify("genesis", "b1", 0, 1, 2)
	r.certify("b1", "b5", 0, 1, 2)
	r.on("a10", "a8", "genesis")
	r.attest("b1", "b5", 3)
	r.on("a10", "a8", "genesis")
	r.attest("b1", "b5", 4)
	if said := strings.Count(log.String(), "cannot follow is final"); said != 1 {
		t.Errorf("said %d times:\n%s", said, log)
	}
	r.feed(chain.SideChain, "b6", "b7")
	r.feed(chain.Connected, "b8")
	r.on("b8", "b5", "b1")
	r.g.SetTip("a10")
	r.refusedBlock(r.g.Next("late").Block, consensus.RuleBelowFinal)
	r.restart()
	r.on("b8", "b5", "b1")
	if got := r.m.Records(tipOf(r), 10_000); len(got) == 0 {
		t.Error("nobody is accused")
	}
}

// TestForget: certificates are kept until the chain itself has carried past them
// for good, so that any chain that may yet win can carry the next one.
func TestForget(t *testing.T) {
	r := newMemRig(t)
	r.grow(chain.Connected, "genesis", "a", 4*testN-1)
	r.certify("genesis", "a4", 0, 1, 2)
	r.certify("a4", "a8", 0, 1, 2, 3)
	r.certify("a8", "a12", 0, 1, 2, 3)
	r.on("a15", "a12", "a8")
	// Nothing is carried yet: all three are offered to the next slot.
	all := []consensus.Record{
		r.g.Certificate("genesis", "a4", 0, 1, 2), r.g.Certificate("a4", "a8", 0, 1, 2, 3), r.g.Certificate("a8", "a12", 0, 1, 2, 3),
	}
	if got := r.m.Records(tipOf(r), 10_000); len(got) != 3 {
		t.Fatalf("%d records to carry, want 3", len(got))
	}
	r.g.SetTip("a15")
	carry(r, "b1", all...)
	r.g.Fill("c", 4) // c4 is a slot
	r.feed(chain.Connected, "b1", "c1", "c2", "c3", "c4")
	if got := r.m.Records(tipOf(r), 10_000); len(got) != 0 {
		t.Fatalf("%d records to carry, want none", len(got))
	}
	r.certify("a12", "b1", 0, 1, 2, 3)
	r.on("c4", "b1", "a12")
	// b1 carried them, but may itself be undone: then another block has to.
	a15 := r.g.Node("a15").State
	if got := r.m.Records(&a15, 10_000); len(got) != 3 {
		t.Fatalf("%d records to carry in place of b1, want 3", len(got))
	}
	r.certify("b1", "c4", 0, 1, 2, 3)
	r.on("c4", "c4", "b1")
	if got := r.m.Certificates(); len(got) != 4 {
		t.Errorf("%d certificates are kept, want those for a8, a12, b1 and c4", len(got))
	}
	r.restart()
	r.on("c4", "c4", "b1")
	if rep := verify(t, r.net, r.store); rep.FinalBy != chain.ProofVotes || rep.Certificates != 4 {
		t.Errorf("report: %+v", rep)
	}
	// With the rest carried, the proof is in the chain.
	r.g.SetTip("c4")
	r.g.Fill("d", 3)
	carry(r, "e1", r.g.Certificate("a12", "b1", 0, 1, 2, 3), r.g.Certificate("b1", "c4", 0, 1, 2, 3))
	r.feed(chain.Connected, "d1", "d2", "d3", "e1")
	if rep := verify(t, r.net, r.store); rep.FinalBy != chain.ProofCarried || rep.Final != r.g.Node("b1").State.Checkpoint() {
		t.Errorf("report: %+v", rep)
	}
}

func tipOf(r *rig) *consensus.State {
	tip := r.m.Tip()
	return &tip
}

// TestRelease: a node does not leave the release's checkpoint, and counts from
// there (L7).
func TestRelease(t *testing.T) {
	plain := rigGenerator(t, chaingen.Params())
	plain.Fill("a", 3*testN)
	plain.SetTip("a6")
	plain.Fill("b", 3*testN) // b2 is a slot
	release := func(block string) consensus.Params {
		p := chaingen.Params()
		p.Release = &consensus.ReleaseCheckpoint{Height: plain.Node(block).State.Height, Block: plain.Node(block).State.ID}
		return p
	}
	r := &rig{node: newNode(t, releaseNetwork(t, release("a8")), chaintest.NewStore()), g: plain}
	r.feed(chain.Connected, "a1", "a2", "a3", "a4", "a5", "a6")
	r.feed(chain.Connected, "b1")
	r.refusedBlock(plain.Node("b2").Block, consensus.RuleBelowFinal)
	r.feedAny("a7", "a8")
	r.standing(consensus.Standing{Tip: plain.Node("a8").State, Certified: plain.Node("a8").State.Checkpoint(), Final: plain.Node("a8").State.Checkpoint()})
	late := func(after string) {
		plain.SetTip(after)
		r.refusedBlock(plain.Next("late on "+after).Block, consensus.RuleBelowFinal)
	}
	late("a3")
	late("a7")
	r.refusedBlock(plain.Node("b2").Block, consensus.RuleBelowFinal)
	r.restart()
	if rep := verify(t, r.net, r.store); rep.FinalBy != chain.ProofRelease {
		t.Errorf("report: %+v", rep)
	}
	// Votes from there count though nothing below it is certified.
	r.feed(chain.Connected, "a9", "a10", "a11", "a12")
	r.certify("a8", "a12", 0, 1, 2)
	r.on("a12", "a12", "a8")
	r.restart()
	r.on("a12", "a12", "a8")
}

// TestNotFinalBelowRelease: below the release's checkpoint nothing is final before
// that is reached.
func TestNotFinalBelowRelease(t *testing.T) {
	g := rigGenerator(t, chaingen.Params())
	g.Fill("a", 4*testN)
	p := chaingen.Params()
	p.Release = &consensus.ReleaseCheckpoint{Height: 3 * testN, Block: g.Node("a12").State.ID}
	r := &rig{node: newNode(t, releaseNetwork(t, p), chaintest.NewStore()), g: g}
	r.feed(chain.Connected, "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9")
	r.certify("genesis", "a4", 0, 1, 2)
	r.certify("a4", "a8", 0, 1, 2, 3)
	r.on("a9", "a8", "genesis")
	r.restart()
	r.on("a9", "a8", "genesis")
	r.feed(chain.Connected, "a10", "a11", "a12", "a13", "a14", "a15", "a16")
	r.on("a16", "a12", "a12")
	r.certify("a12", "a16", 0, 1, 2, 3)
	r.on("a16", "a16", "a12")
}

func releaseNetwork(t *testing.T, p consensus.Params) *consensus.Network {
	t.Helper()
	p.N = testN
	net, err := consensus.NewNetwork(p)
	if err != nil {
		t.Fatal(err)
	}
	return net
}

// TestReleaseOnOldStore: a release that is installed over a chain it does not
// know is refused at the start; over one it knows it counts at once; and it
// does not change over to a stored branch that it does not know.
func TestReleaseOnOldStore(t *testing.T) {
	g := rigGenerator(t, chaingen.Params())
	g.Fill("a", 2*testN)
	g.SetTip("a3")
	g.Fill("b", 2*testN)
	with := func(block string) *consensus.Network {
		p := chaingen.Params()
		p.Release = &consensus.ReleaseCheckpoint{Height: g.Node(block).State.Height, Block: g.Node(block).State.ID}
		return releaseNetwork(t, p)
	}
	s := chaintest.NewStore()
	r := &rig{node: newNode(t, g.Network(), s), g: g}
	r.feed(chain.Connected, "a1", "a2", "a3", "a4")
	r.feed(chain.SideChain, "b1")
	r.feed(chain.Connected, "b2")
	if _, err := chain.New(with("a4"), s, farFuture, r.log()); err == nil || !strings.Contains(err.Error(), "empty data directory") {
		t.Errorf("best chain has another block: %v", err)
	}
	if _, err := chain.Verify(t.Context(), with("a4"), s, nil); err == nil || !strings.Contains(err.Error(), "this release knows") {
		t.Errorf("verify: %v", err)
	}
	m := open(t, with("b1"), s)
	if got := m.Standing(); got.Final != g.Node("b1").State.Checkpoint() {
		t.Errorf("final is %v at the start", got.Final)
	}
	// b is stored beyond the release's height with another block there: it is none
	// of this release's chains, whatever votes say of it.
	s = chaintest.NewStore()
	r = &rig{node: newNode(t, g.Network(), s), g: g}
	r.feed(chain.Connected, "a1", "a2", "a3", "a4", "a5", "a6")
	r.certify("genesis", "a4", 0, 1, 2)
	r.feed(chain.SideChain, "b1", "b2", "b3", "b4", "b5", "b6")
	r.m = open(t, with("a8"), s)
	if added, err := r.m.AddCertificate(*g.Certificate("genesis", "b5", 2, 3, 4)); err != nil || !added {
		t.Fatalf("certificate: %v, %v", added, err)
	}
	r.on("a6", "a4", "genesis")
	for _, name := range []string{"a7", "a8"} {
		if got, err := r.m.AddBlock(g.Node(name).Block); got != chain.Connected {
			t.Fatalf("block %s: %v, %v", name, got, err)
		}
	}
	r.on("a8", "a8", "a8")
}
