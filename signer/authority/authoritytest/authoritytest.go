// Package authoritytest has, for every rule about set changes, requests that this
// rule alone refuses. The tests of the rules and those of the signer that applies
// them share it.
package authoritytest

import (
	"math"
	"slices"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/proof"
)

// Network returns a network of keys 0 to validators − 1 whose ranks have turns
// of a second, so that large sets fit as well.
func Network(tb testing.TB, validators int) *consensus.Network {
	tb.Helper()
	p := chaingen.Params()
	p.RankStepSeconds = 1
	p.Validators = Publics(Numbers(0, validators)...)
	return Build(tb, p)
}

// Build makes the network of p.
func Build(tb testing.TB, p consensus.Params) *consensus.Network {
	tb.Helper()
	n, err := consensus.NewNetwork(p)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// Numbers lists from to end − 1.
func Numbers(from, end int) (list []int) {
	for i := from; i < end; i++ {
		list = append(list, i)
	}
	return list
}

// Secret returns key i, of alternating curves.
func Secret(i int) chaingen.Key {
	if i%2 == 1 {
		return chaingen.ValidatorKey(types.P256, i)
	}
	return chaingen.ValidatorKey(types.Secp256k1, i)
}

// Publics returns the public parts of keys.
func Publics(numbers ...int) (list []types.PublicKey) {
	for _, i := range numbers {
		list = append(list, Secret(i).Public())
	}
	return list
}

// challenge is what the proofs of possession answer.
var challenge = []byte("set 1, asked by the founders")

// Proofs returns the proofs of possession of keys.
func Proofs(n *consensus.Network, numbers ...int) (list []proof.Proof) {
	for _, i := range numbers {
		k := Secret(i)
		list = append(list, proof.Proof{
			Key: k.Public(), Network: n.ID, Challenge: challenge,
			Signature: k.Sign(proof.Digest(n.ID, k.Public(), challenge)),
		})
	}
	return list
}

// Reason is why the sets of the requests change.
const Reason = "the token of validator 3 was lost on <Friday>"

// Request asks validator 0 to put keys in the place of the first validators.
func Request(n *consensus.Network, keys []types.PublicKey, fresh ...int) authority.SetChangeRequest {
	r := authority.SetChangeRequest{
		Network: n.ID, Current: consensus.ValidatorSet{Keys: n.Validators}, Keys: keys, Proofs: Proofs(n, fresh...), Reason: Reason,
		Authorisation: authority.Authorisation{People: []string{"Ada Adler", "Bob Berg"}},
	}
	r.Authorisation.Fingerprint = authority.Fingerprint(r.Next())
	return r
}

// Case is a request that one rule refuses. All others would let it pass.
type Case struct {
	Name    string
	Rule    authority.Rule
	Network *consensus.Network
	Request func() authority.SetChangeRequest
}

// Cases has a case for every rule.
func Cases(tb testing.TB) []Case {
	tb.Helper()
	n, full := Network(tb, 5), Network(tb, 21)
	slow := chaingen.Params() // five turns of 20 s before miners
	slow.Validators = Publics(0, 1, 2, 3, 4)
	narrow := Build(tb, slow)
	good := func() authority.SetChangeRequest { return Request(n, Publics(0, 1, 2, 5, 4), 5) }
	but := func(spoil func(*authority.SetChangeRequest)) func() authority.SetChangeRequest {
		return func() authority.SetChangeRequest {
			r := good()
			spoil(&r)
			return r
		}
	}
	refingered := func(r *authority.SetChangeRequest) { r.Authorisation.Fingerprint = authority.Fingerprint(r.Next()) }
	return []Case{
		{"network", authority.RuleNetwork, n, but(func(r *authority.SetChangeRequest) { r.Network[3] ^= 1 })},
		{"set 0 is another", authority.RuleUnknownSet, n, but(func(r *authority.SetChangeRequest) {
			r.Current.Keys = Publics(0, 1, 2, 3, 4, 6, 7)
		})},
		{"set 4 cannot be", authority.RuleUnknownSet, n, but(func(r *authority.SetChangeRequest) {
			r.Current = consensus.ValidatorSet{Number: 4, Keys: Publics(0, 1, 2, 3)}
			r.Proofs = Proofs(n, 5, 4)
			refingered(r)
		})},
		{"last number", authority.RuleLastNumber, n, but(func(r *authority.SetChangeRequest) {
			r.Current.Number = math.MaxUint32
			refingered(r)
		})},
		{"unchanged", authority.RuleUnchanged, n, func() authority.SetChangeRequest { return Request(n, Publics(0, 1, 2, 3, 4)) }},
		{"even", authority.RuleEven, n, func() authority.SetChangeRequest { return Request(n, Publics(0, 1, 2, 3)) }},
		{"empty", authority.RuleEven, n, func() authority.SetChangeRequest {
			r := Request(n, nil)
			r.Authorisation.RemoveOwn, r.Authorisation.HandOver = true, true
			return r
		}},
		{"one", authority.RuleTooSmall, n, func() authority.SetChangeRequest { return Request(n, Publics(0)) }},
		{"23", authority.RuleTooLarge, full, func() authority.SetChangeRequest {
			return Request(full, Publics(Numbers(0, 23)...), 21, 22)
		}},
		{"turns", authority.RuleTurns, narrow, func() authority.SetChangeRequest {
			return Request(narrow, Publics(Numbers(0, 7)...), 5, 6)
		}},
		{"33 voters", authority.RuleVoters, full, func() authority.SetChangeRequest {
			r := Request(full, Publics(slices.Concat(Numbers(0, 9), Numbers(21, 33))...), Numbers(21, 33)...)
			r.Authorisation.HandOver = true
			return r
		}},
		{"old key twice", authority.RuleDuplicate, n, func() authority.SetChangeRequest { return Request(n, Publics(0, 1, 2, 4, 4)) }},
		{"new key twice", authority.RuleDuplicate, n, func() authority.SetChangeRequest { return Request(n, Publics(0, 1, 2, 5, 5), 5) }},
		{"no point", authority.RuleKey, n, but(func(r *authority.SetChangeRequest) {
			r.Keys[3].Point[0] = 9
			r.Proofs[0].Key = r.Keys[3]
			refingered(r)
		})},
		{"disabled", authority.RuleDisabled, n, but(func(r *authority.SetChangeRequest) { r.Disabled = Publics(4) })},
		{"no proof", authority.RuleNoProof, n, but(func(r *authority.SetChangeRequest) { r.Proofs = nil })},
		{"proof of another network", authority.RuleProof, n, but(func(r *authority.SetChangeRequest) { r.Proofs = Proofs(full, 5) })},
		{"forged proof", authority.RuleProof, n, but(func(r *authority.SetChangeRequest) { r.Proofs[0].Signature[50] ^= 1 })},
		{"proof of an old key", authority.RuleSurplusProof, n, but(func(r *authority.SetChangeRequest) { r.Proofs = Proofs(n, 5, 1) })},
		{"proof twice", authority.RuleSurplusProof, n, but(func(r *authority.SetChangeRequest) { r.Proofs = Proofs(n, 5, 5) })},
		{"no reason", authority.RuleReason, n, but(func(r *authority.SetChangeRequest) { r.Reason = "" })},
		{"reason of two lines", authority.RuleReason, n, but(func(r *authority.SetChangeRequest) { r.Reason = "a\nb" })},
		{"reason that turns around", authority.RuleReason, n, but(func(r *authority.SetChangeRequest) { r.Reason = "a\u202eb" })},
		{"reason too long", authority.RuleReason, n, but(func(r *authority.SetChangeRequest) { r.Reason = strings.Repeat("a", 401) })},
		{"index", authority.RuleIndex, n, but(func(r *authority.SetChangeRequest) { r.Index = 5 })},
		{"own disabled", authority.RuleOwnDisabled, n, but(func(r *authority.SetChangeRequest) {
			r.Index, r.Disabled, r.Authorisation.RemoveOwn = 3, Publics(3), true
		})},
		{"one person", authority.RulePeople, n, but(func(r *authority.SetChangeRequest) { r.Authorisation.People = []string{"Ada Adler"} })},
		{"nobody", authority.RulePeople, n, but(func(r *authority.SetChangeRequest) { r.Authorisation.People = nil })},
		{"one person twice", authority.RulePeople, n, but(func(r *authority.SetChangeRequest) {
			r.Authorisation.People = []string{"Ada Adler", "ada  adler"}
		})},
		{"nameless", authority.RulePeople, n, but(func(r *authority.SetChangeRequest) {
			r.Authorisation.People = []string{"Ada Adler", ""}
		})},
		{"fingerprint", authority.RuleFingerprint, n, but(func(r *authority.SetChangeRequest) {
			r.Authorisation.Fingerprint = authority.Fingerprint(r.Current)
		})},
		{"no fingerprint", authority.RuleFingerprint, n, but(func(r *authority.SetChangeRequest) { r.Authorisation.Fingerprint = "" })},
		{"own removed", authority.RuleOwnRemoved, n, but(func(r *authority.SetChangeRequest) { r.Index = 3 })},
		{"three of five new", authority.RuleHandOver, n, func() authority.SetChangeRequest {
			return Request(n, Publics(0, 1, 5, 6, 7), 5, 6, 7)
		}},
	}
}
