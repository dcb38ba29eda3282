package chain_test

import (
	"errors"
	"slices"
	"testing"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// refusalRig has a best chain a1–a13, a side branch b1–b6 from a6 with a slot at
// b2 and a fallback block at b6, an invalid slot, and a slot signed after the key
// of validator 4 was disabled.
func refusalRig(t *testing.T) *rig {
	t.Helper()
	r := newMemRig(t)
	r.grow(chain.Connected, "genesis", "a", 3*testN+1)
	r.g.SetTip("a6")
	r.g.Fill("b", 5)
	r.g.NextFallback("b6")
	r.feed(chain.SideChain, "b1", "b2", "b3", "b4", "b5", "b6")
	r.g.SetTip("a11")
	r.g.NextSigned("bad", r.g.Tip().State.ValidatorOfRank(1), payTooMuch)
	r.feed(chain.SideChain, "bad")
	return r
}

// TestVoteRefusals breaks each rule about votes alone. Whatever is refused is
// counted nowhere and stored nowhere.
func TestVoteRefusals(t *testing.T) {
	r := refusalRig(t)
	// On a branch from b5 the key of validator 3 is disabled.
	first := r.g.Vote("genesis", "a4", 3)
	second := first.Link
	second.Target.ID = types.Hash{1}
	r.g.SetTip("b5")
	carry(r, "s12", r.g.Evidence(first, r.g.SignLink(second, r.g.Voters("a4"), 3)))
	r.g.Fill("d", 4) // d4 is a slot
	// On another one a slot follows a fallback block.
	r.g.SetTip("b6")
	r.g.Fill("e", 4)
	r.feedAny("s12", "d1", "d2", "d3", "d4", "e1", "e2", "e3", "e4")
	r.certify("genesis", "a4", 0, 1, 2)

	mismatch := func(l consensus.Link, change func(*consensus.Link)) consensus.Link { change(&l); return l }
	good := r.g.Link("a4", "a8")
	voters := r.g.Voters("a8")
	sign := func(change func(*consensus.Link)) consensus.Attestation {
		return r.g.SignLink(mismatch(good, change), voters, 0)
	}
	cp := func(name string) consensus.Checkpoint { return r.g.Node(name).State.Checkpoint() }
	vote := func(name string, want error, a consensus.Attestation) {
		t.Run(name, func(t *testing.T) {
			r.refusedVote(t, want, func() (bool, error) { return r.m.AddAttestation(a) })
		})
	}
	vote("target is no slot", consensus.RuleAttestTarget, sign(func(l *consensus.Link) { l.Target = cp("a9") }))
	vote("target of another height", consensus.RuleAttestTarget, sign(func(l *consensus.Link) { l.Target.Height = 12 }))
	vote("fallback block", consensus.RuleAttestTarget, sign(func(l *consensus.Link) { l.Target = cp("b6") }))
	vote("source is no slot", consensus.RuleAttestSource, sign(func(l *consensus.Link) { l.Source = cp("a3") }))
	vote("source above target", consensus.RuleAttestSource, sign(func(l *consensus.Link) { l.Source = cp("a12") }))
	vote("source on another branch", consensus.RuleAttestSource, sign(func(l *consensus.Link) { l.Source, l.Target = cp("b2"), cp("a12") }))
	vote("source of another height", consensus.RuleAttestSource, sign(func(l *consensus.Link) {
		l.Source, l.Target = consensus.Checkpoint{Height: 8, ID: cp("a4").ID}, cp("a12")
	}))
	vote("source is a fallback block", consensus.RuleAttestSource, r.g.Vote("b6", "e4", 0))
	vote("another genesis", consensus.RuleAttestGenesis, sign(func(l *consensus.Link) { l.Source = consensus.Checkpoint{ID: types.Hash{1}} }))
	vote("another set", consensus.RuleAttestSet, sign(func(l *consensus.Link) { l.Set[0]++ }))
	strange := r.g.Vote("a4", "a8", 0)
	strange.Index = 5
	vote("index of nobody", consensus.RuleAttestIndex, strange)
	strange.Index = 1
	vote("signature of another", consensus.RuleAttestSig, strange)
	vote("disabled voter", consensus.RuleAttestDisabled, r.g.Vote("s12", "d4", 3))
	vote("unknown target", chain.ErrUnknownTarget, sign(func(l *consensus.Link) { l.Target.ID = types.Hash{2} }))

	cert := func(name string, want error, c *consensus.Certificate) {
		t.Run("certificate/"+name, func(t *testing.T) {
			r.refusedVote(t, want, func() (bool, error) { return r.m.AddCertificate(*c) })
		})
	}
	cert("two of five", consensus.RuleCertQuorum, r.g.Certificate("a4", "a8", 0, 1))
	short := r.g.Certificate("a4", "a8", 0, 1, 2)
	short.Signatures = short.Signatures[:2]
	cert("a signature less", consensus.RuleCertSigners, short)
	swapped := r.g.Certificate("a4", "a8", 0, 1, 2)
	swapped.Signatures[0], swapped.Signatures[1] = swapped.Signatures[1], swapped.Signatures[0]
	cert("signatures swapped", consensus.RuleAttestSig, swapped)
	cert("a disabled voter", consensus.RuleAttestDisabled, r.g.Certificate("s12", "d4", 0, 1, 3))
	other := r.g.Certificate("a4", "a8", 0, 1, 2)
	other.Target = cp("bad")
	cert("other signatures", consensus.RuleAttestSig, other)

	// None of the refusals has spoiled what they are about.
	r.certify("a4", "a8", 0, 1, 2)
}

// TestVoteInvalidTarget: a block that is known to be invalid takes no votes.
func TestVoteInvalidTarget(t *testing.T) {
	r := refusalRig(t)
	r.certify("genesis", "bad", 0, 1, 2) // shows it
	r.refusedVote(t, consensus.RuleAttestTarget, func() (bool, error) { return r.m.AddAttestation(r.g.Vote("genesis", "bad", 3)) })
}

// TestVoteFloorAndLimit: the two refusals that do not blame the vote.
func TestVoteFloorAndLimit(t *testing.T) {
	r := newMemRig(t)
	r.grow(chain.Connected, "genesis", "a", 5*testN)
	// Validator 0 has two votes for height 20; a third counts only with a majority.
	r.attest("genesis", "a20", 0)
	r.attest("a4", "a20", 0)
	r.refusedVote(t, consensus.RuleVoteLimit, func() (bool, error) { return r.m.AddAttestation(r.g.Vote("a8", "a20", 0)) })
	spoiled := r.g.Vote("a8", "a20", 0) // whose signature is not even looked at
	spoiled.Signature[0]++
	r.refusedVote(t, consensus.RuleVoteLimit, func() (bool, error) { return r.m.AddAttestation(spoiled) })
	r.certify("a8", "a20", 0, 1, 2)
	r.certify("genesis", "a4", 0, 1, 2, 3)
	r.certify("a4", "a8", 0, 1, 2, 3)
	r.on("a20", "a20", "a4")
	for _, l := range [][2]string{{"genesis", "a4"}, {"genesis", "a8"}, {"genesis", "a12"}} {
		r.refusedVote(t, consensus.RuleVoteFloor, func() (bool, error) { return r.m.AddAttestation(r.g.Vote(l[0], l[1], 4)) })
		c := r.g.Certificate(l[0], l[1], 0, 1, 4)
		r.refusedVote(t, consensus.RuleVoteFloor, func() (bool, error) { return r.m.AddCertificate(*c) })
	}
	r.attest("a4", "a8", 4)
}

// refusedVote runs what must be refused and change nothing.
func (r *rig) refusedVote(t *testing.T, want error, add func() (bool, error)) {
	t.Helper()
	before, standing, certificates := r.snapshot(), r.m.Standing(), r.m.Certificates()
	added, err := add()
	if added || !errors.Is(err, want) {
		t.Errorf("added %v, %v; want %v", added, err, want)
	}
	r.standing(standing)
	if r.snapshot() != before || !slices.EqualFunc(certificates, r.m.Certificates(), func(a, b consensus.Certificate) bool {
		return a.Link == b.Link && a.Signers == b.Signers
	}) {
		t.Error("a refused vote left something behind")
	}
	r.check()
}
