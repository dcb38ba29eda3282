package consensus_test

import (
	"bytes"
	"errors"
	"go/parser"
	"go/token"
	"maps"
	"math/big"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// voteFixture is a network of five validators, two of them with P-256 keys, and
// what its validators would sign.
type voteFixture struct {
	network *consensus.Network
	set     consensus.ValidatorSet
	voters  *consensus.Electorate // the set alone
	keys    []chaingen.Key
	genesis consensus.Checkpoint
}

func newVoteFixture(tb testing.TB) *voteFixture {
	tb.Helper()
	f := &voteFixture{}
	p := chaingen.Params()
	for i := range p.Validators {
		key := chaingen.ValidatorKey([]types.KeyAlgorithm{types.Secp256k1, types.P256}[i%2], i)
		f.keys = append(f.keys, key)
		p.Validators[i] = key.Public()
	}
	var err error
	if f.network, err = consensus.NewNetwork(p); err != nil {
		tb.Fatal(err)
	}
	state := f.network.GenesisState()
	f.set, f.voters = state.Validators(), state.Voters()
	f.genesis = consensus.Checkpoint{ID: f.network.ID}
	return f
}

// slot makes up the checkpoint of a branch at height 10 · s; 0 is genesis.
func (f *voteFixture) slot(branch byte, s uint32) consensus.Checkpoint {
	if s == 0 {
		return f.genesis
	}
	return consensus.Checkpoint{Height: 10 * s, ID: types.Hash{0: byte(s), 1: branch, 2: 0x77}}
}

func (f *voteFixture) link(branch byte, source, target uint32) consensus.Link {
	return consensus.Link{Set: f.set.ID(), Source: f.slot(branch, source), Target: f.slot(branch, target)}
}

func (f *voteFixture) attest(l consensus.Link, index uint8) consensus.Attestation {
	return consensus.Attestation{Link: l, Index: index, Signature: f.keys[index].Sign(l.Digest(f.network.ID))}
}

func (f *voteFixture) certificate(tb testing.TB, l consensus.Link, signers ...uint8) consensus.Certificate {
	tb.Helper()
	var list []consensus.Attestation
	for _, i := range signers {
		list = append(list, f.attest(l, i))
	}
	c, err := consensus.NewCertificate(list)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestAttestationsOfBothAlgorithmsVerify(t *testing.T) {
	f := newVoteFixture(t)
	for _, l := range []consensus.Link{f.link(1, 0, 1), f.link(1, 1, 2), f.link(1, 1, 7)} {
		for i := range f.keys {
			a := f.attest(l, uint8(i))
			if err := a.Verify(f.network, f.voters); err != nil {
				t.Errorf("validator %d, %s: %v", i, f.set.Keys[i], err)
			}
		}
	}
}

// TestEverythingEntersTheDigest: a signature must not fit another vote.
func TestEverythingEntersTheDigest(t *testing.T) {
	f := newVoteFixture(t)
	good := f.attest(f.link(1, 1, 2), 1)
	for name, change := range map[string]func(*consensus.Attestation){
		"source height": func(a *consensus.Attestation) { a.Source.Height = 0 },
		"source":        func(a *consensus.Attestation) { a.Source.ID[31] ^= 1 },
		"target height": func(a *consensus.Attestation) { a.Target.Height = 30 },
		"target":        func(a *consensus.Attestation) { a.Target.ID[0] ^= 1 },
		"set":           func(a *consensus.Attestation) { a.Set[5] ^= 1 },
	} {
		a := good
		change(&a)
		if a.Digest(f.network.ID) == good.Digest(f.network.ID) {
			t.Errorf("%s does not enter the digest", name)
		}
	}
	if good.Digest(f.network.ID) == good.Digest(types.Hash{}) {
		t.Error("the network does not enter the digest")
	}
	block := consensus.SlotDigest(f.network.ID, good.Set, good.Target.Height, good.Target.ID)
	a := good
	a.Signature = f.keys[1].Sign(block)
	if err := a.Verify(f.network, f.voters); !errors.Is(err, consensus.RuleAttestSig) {
		t.Errorf("the signature of a block passes for a vote: %v", err)
	}
}

// voteViolation is one way to break one of the rules about votes.
type voteViolation struct {
	name string
	rule consensus.Rule
	try  func(*voteFixture, *testing.T) error
}

func voteViolations() []voteViolation {
	return slices.Concat(attestationViolations(), certificateViolations(), recordViolations(), tallyViolations())
}

func attestationViolations() []voteViolation {
	spoiled := func(name string, rule consensus.Rule, spoil func(*voteFixture, *consensus.Attestation)) voteViolation {
		return voteViolation{name, rule, func(f *voteFixture, t *testing.T) error {
			a := f.attest(f.link(1, 1, 2), 0)
			spoil(f, &a)
			return a.Verify(f.network, f.voters)
		}}
	}
	// resigned signs what it spoiled: nothing but the rule stands against it.
	resigned := func(name string, rule consensus.Rule, spoil func(*consensus.Link)) voteViolation {
		return spoiled(name, rule, func(f *voteFixture, a *consensus.Attestation) {
			l := a.Link
			spoil(&l)
			*a = f.attest(l, 0)
		})
	}
	return []voteViolation{
		resigned("between slots", "attest-target", func(l *consensus.Link) { l.Target.Height = 21 }),
		resigned("genesis", "attest-target", func(l *consensus.Link) { l.Target.Height = 0 }),
		resigned("between slots", "attest-source", func(l *consensus.Link) { l.Source.Height = 9 }),
		resigned("at the target's height", "attest-source", func(l *consensus.Link) { l.Source.Height = 20 }),
		resigned("above the target", "attest-source", func(l *consensus.Link) { l.Source.Height = 30 }),
		resigned("another network's genesis", "attest-genesis", func(l *consensus.Link) { l.Source.Height = 0 }),
		resigned("another set", "attest-set", func(l *consensus.Link) { l.Set[0] ^= 1 }),
		{"key of the voter", "attest-disabled", func(f *voteFixture, _ *testing.T) error {
			a := f.attest(f.link(1, 1, 2), 1)
			return a.Verify(f.network, consensus.NewElectorate(f.set, nil, f.set.Keys[1:2]))
		}},
		spoiled("just outside", "attest-index", func(_ *voteFixture, a *consensus.Attestation) { a.Index = 5 }),
		spoiled("far outside", "attest-index", func(_ *voteFixture, a *consensus.Attestation) { a.Index = 255 }),
		spoiled("another validator's", "attest-signature", func(_ *voteFixture, a *consensus.Attestation) { a.Index = 2 }),
		spoiled("another algorithm's", "attest-signature", func(_ *voteFixture, a *consensus.Attestation) { a.Index = 1 }),
		spoiled("one bit", "attest-signature", func(_ *voteFixture, a *consensus.Attestation) { a.Signature[63] ^= 1 }),
		spoiled("empty", "attest-signature", func(_ *voteFixture, a *consensus.Attestation) { a.Signature = [64]byte{} }),
		spoiled("high S", "attest-signature", func(_ *voteFixture, a *consensus.Attestation) {
			s := new(big.Int).SetBytes(a.Signature[32:])
			s.Sub(secp256k1.Params().N, s).FillBytes(a.Signature[32:])
		}),
		spoiled("another network's", "attest-signature", func(f *voteFixture, a *consensus.Attestation) {
			a.Signature = f.keys[0].Sign(a.Digest(types.Hash{1}))
		}),
	}
}

func TestVoteRules(t *testing.T) {
	for _, v := range voteViolations() {
		t.Run(string(v.rule)+"/"+v.name, func(t *testing.T) {
			err := v.try(newVoteFixture(t), t)
			if rule, ok := consensus.RuleOf(err); !ok || rule != v.rule || !errors.Is(err, v.rule) {
				t.Errorf("got %v, want rule %s", err, v.rule)
			}
		})
	}
}

// TestVoteRulesAreCompleteAndDocumented: every rule of the vote files has a
// violation above and a line in docs/votes.md, and no name is used twice.
func TestVoteRulesAreCompleteAndDocumented(t *testing.T) {
	declared := make(map[string]bool)
	for _, name := range []string{"attestation.go", "certificate.go", "vote.go", "tally.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		rules := rulesIn(t, file)
		if len(rules) == 0 {
			t.Errorf("no rules found in %s: this test reads it wrongly", name)
		}
		for _, text := range rules {
			if declared[text] {
				t.Errorf("%s is declared twice", text)
			}
			declared[text] = true
		}
	}
	tested, documented := make(map[string]bool), make(map[string]bool)
	for _, v := range voteViolations() {
		tested[string(v.rule)] = true
	}
	text, err := os.ReadFile("../../docs/votes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| .+ \\|$").FindAllStringSubmatch(section(t, text, "Refusals"), -1) {
		documented[row[1]] = true
	}
	names := func(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }
	if diff := cmp.Diff(names(declared), names(tested)); diff != "" {
		t.Errorf("declared (-) and tested (+) rules differ:\n%s", diff)
	}
	if diff := cmp.Diff(names(declared), names(documented)); diff != "" {
		t.Errorf("declared (-) rules and docs/votes.md (+) differ:\n%s", diff)
	}
	for _, text := range declaredRules(t) {
		if declared[text] {
			t.Errorf("%s is a rule of blocks as well", text)
		}
	}
}

func TestDecodeAttestationRefuses(t *testing.T) {
	f := newVoteFixture(t)
	a := f.attest(f.link(1, 0, 1), 4)
	raw := a.AppendTo(nil)
	if len(raw) != 169 || consensus.AttestationBytes != 169 || consensus.LinkBytes != 104 {
		t.Fatalf("%d bytes", len(raw))
	}
	if back, err := consensus.DecodeAttestation(raw); err != nil || back != a {
		t.Fatalf("comes back as %+v, %v", back, err)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "a byte short": raw[:168], "a byte long": append(bytes.Clone(raw), 0),
		"index of no set": append(append(bytes.Clone(raw[:104]), 32), raw[105:]...),
	} {
		if got, err := consensus.DecodeAttestation(bad); err == nil || got != (consensus.Attestation{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
