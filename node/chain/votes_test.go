package chain_test

import (
	"log/slog"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
)

// TestVotesStepByStep: which vote certifies and which makes final, that both
// survive a restart, and that a repetition is none.
func TestVotesStepByStep(t *testing.T) {
	forAlgorithms(t, func(t *testing.T, r *rig) {
		r.grow(chain.Connected, "genesis", "a", 3*testN+1)
		r.on("a13", "genesis", "genesis")
		changed := r.m.Changed()
		r.attest("genesis", "a4", 0, 3)
		r.on("a13", "genesis", "genesis")
		select {
		case <-changed:
			t.Error("the bell rang for votes short of a quorum")
		default:
		}
		r.attest("genesis", "a4", 4)
		r.on("a13", "a4", "genesis")
		select {
		case <-changed:
		default:
			t.Error("a slot was certified and the bell did not ring")
		}
		r.restart()
		if added, err := r.m.AddAttestation(r.g.Vote("genesis", "a4", 0)); added || err != nil {
			t.Errorf("a vote again: %v, %v", added, err)
		}
		// A certificate from a source that is not certified waits.
		r.attest("a8", "a12", 0, 1, 2, 3)
		r.on("a13", "a4", "genesis")
		r.restart()
		r.on("a13", "a4", "genesis")
		r.certify("a4", "a8", 2, 3, 4)
		r.on("a13", "a12", "a8") // four attest a8 → a12
		r.restart()
		r.on("a13", "a12", "a8")
		r.attest("a8", "a12", 4)
		r.restart()
		if got := r.m.Standing(); got.Of(8) != consensus.Final || got.Of(9) != consensus.Certified || got.Of(13) != consensus.ByWork {
			t.Errorf("standing of heights 8, 9, 13: %s, %s, %s", got.Of(8), got.Of(9), got.Of(13))
		}
		if rep := verify(t, r.net, r.store); rep.Certificates != 3 || rep.Final.Height != 8 || rep.FinalBy != chain.ProofVotes {
			t.Errorf("report: %+v", rep)
		}
	})
}

// TestCertificateMovesTip: a certificate makes a chain the best one that is
// shorter, has less work, and has fewer signed slots.
func TestCertificateMovesTip(t *testing.T) {
	forAlgorithms(t, func(t *testing.T, r *rig) {
		r.grow(chain.Connected, "genesis", "a", 4*testN)
		r.grow(chain.SideChain, "a3", "b", 1) // signed, at height 4
		r.attest("genesis", "b1", 1, 2)
		r.on("a16", "genesis", "genesis")
		r.attest("genesis", "b1", 3)
		r.on("b1", "b1", "genesis")
		r.restart()
		r.on("b1", "b1", "genesis")
		// The other chain outweighs it again with a higher certified slot, and only
		// with that: a certificate for the same height leaves it to signed slots.
		r.grow(chain.Connected, "b1", "c", 4)
		r.certify("genesis", "a8", 0, 1, 4)
		r.on("a16", "a8", "genesis")
		r.certify("b1", "c4", 0, 1, 4)
		r.on("a16", "a8", "genesis")
		r.certify("a8", "a12", 0, 2, 3)
		r.restart()
		r.on("a16", "a12", "genesis")
		verify(t, r.net, r.store)
	})
}

// TestLateCertificate: a certificate that only a side chain carries counts, for
// the chain it proves and not for the one that carries it.
func TestLateCertificate(t *testing.T) {
	forAlgorithms(t, func(t *testing.T, r *rig) {
		r.grow(chain.Connected, "genesis", "a", 2*testN+1)
		// Another branch from the slot at 4 on, which carries its certificate.
		r.g.SetTip("a4")
		r.g.Fill("b", 3)
		cert := r.g.Certificate("genesis", "a4", 0, 1, 2)
		carry(r, "b4", cert)
		r.feed(chain.SideChain, "b1", "b2", "b3")
		r.on("a9", "genesis", "genesis")
		r.feed(chain.SideChain, "b4")
		r.on("a9", "a4", "genesis")
		r.restart()
		r.on("a9", "a4", "genesis")
		if got := r.m.Certificates(); len(got) != 1 || got[0].Signers != cert.Signers {
			t.Errorf("certificates: %v", got)
		}
		// A branch that carries the proof of its own slot becomes the best with it.
		r.g.SetTip("a3")
		r.g.NextSigned("c1", r.g.Tip().State.ValidatorOfRank(1))
		r.feed(chain.SideChain, "c1")
		r.grow(chain.SideChain, "c1", "d", 3)
		carry(r, "d4", r.g.Certificate("genesis", "c1", 2, 3, 4))
		r.feed(chain.SideChain, "d4") // two slots at 4 are certified; the rest is as it was
		r.on("a9", "a4", "genesis")
		r.grow(chain.SideChain, "d4", "e", 1)
		r.grow(chain.Connected, "e1", "f", 1)
		r.on("f1", "c1", "genesis")
		verify(t, r.net, r.store)
	})
}

// TestNoDetour: a certificate in a side block for a slot that the best chain has,
// too, does not make the node change over and back.
func TestNoDetour(t *testing.T) {
	r := newMemRig(t)
	log := new(lockedBuffer)
	m, err := chain.New(r.net, r.store, farFuture, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	r.m = m
	r.grow(chain.Connected, "genesis", "a", 2*testN+1)
	r.g.SetTip("a4")
	r.g.Fill("b", 3)
	carry(r, "b4", r.g.Certificate("genesis", "a4", 0, 1, 2))
	r.feed(chain.SideChain, "b1", "b2", "b3", "b4")
	r.on("a9", "a4", "genesis")
	if strings.Contains(log.String(), "reorganised") {
		t.Errorf("log:\n%s", log)
	}
}

// carry makes the next block, a slot, carry records.
func carry(r *rig, name string, records ...consensus.Record) {
	r.tb.Helper()
	node := r.g.Next(name, chaingen.Records(records...))
	if node.Err != nil {
		r.tb.Fatal(node.Err)
	}
}

// TestCarriedByInvalid: certificates count though the block that carried them
// breaks a rule that only connecting it shows.
func TestCarriedByInvalid(t *testing.T) {
	r := newMemRig(t)
	r.grow(chain.Connected, "genesis", "a", testN+3)
	r.g.Next("bad", chaingen.Records(r.g.Certificate("genesis", "a4", 0, 1, 2)), payTooMuch)
	b := r.g.Node("bad").Block
	if _, err := r.m.AddBlock(b); !isRule(err, consensus.RuleCoinOnlinePay) {
		t.Fatalf("block that pays too much: %v", err)
	}
	r.noteCarried(b)
	r.check()
	r.on("a7", "a4", "genesis")
	r.restart()
	r.on("a7", "a4", "genesis")
}

// TestValidPart: of a certified branch whose end is invalid the rest is
// followed, and when its certified block is, nothing.
func TestValidPart(t *testing.T) {
	r := newMemRig(t)
	r.grow(chain.Connected, "genesis", "a", 3*testN)
	r.g.SetTip("a3")
	r.g.Fill("b", 3) // b1 is the slot
	r.g.Next("b4", payTooMuch)
	r.g.Next("b5")
	r.feed(chain.SideChain, "b1", "b2", "b3", "b4", "b5")
	r.certify("genesis", "b1", 0, 1, 2)
	r.on("b3", "b1", "genesis")
	for _, name := range []string{"b4", "b5"} {
		if why, marked, err := r.m.InvalidReason(r.g.Node(name).State.ID); !marked || err != nil {
			t.Errorf("%s is not marked: %s, %v", name, why, err)
		}
	}
	r.restart()
	r.on("b3", "b1", "genesis")

	r.g.SetTip("b3")
	r.g.Fill("c", 2) // c2 is a slot
	r.g.SetTip("c1")
	r.g.Next("bad", payTooMuch)
	r.feed(chain.Connected, "c1", "c2")
	r.feed(chain.SideChain, "bad")
	r.certify("b1", "bad", 1, 2, 3)
	r.on("c2", "b1", "genesis")
	// The node starts though what it stores is certified is invalid.
	r.restart()
	r.on("c2", "b1", "genesis")
	verify(t, r.net, r.store)
	r.certify("b1", "c2", 0, 1, 2)
	r.on("c2", "c2", "genesis")
}

// TestFirstSeenOfMany: of several branches that a certificate makes better alike,
// the one seen first is followed, also after a restart.
func TestFirstSeenOfMany(t *testing.T) {
	r := newMemRig(t)
	r.grow(chain.Connected, "genesis", "a", testN+3)
	r.g.SetTip("a3")
	r.g.NextSigned("b", r.g.Tip().State.ValidatorOfRank(1))
	r.feed(chain.SideChain, "b")
	for _, name := range []string{"c", "d", "e", "f", "g", "h"} {
		r.g.SetTip("b")
		r.g.Next(name)
		r.feed(chain.SideChain, name)
	}
	r.certify("genesis", "b", 0, 1, 2)
	r.on("c", "b", "genesis")
	r.restart()
	r.on("c", "b", "genesis")
}
