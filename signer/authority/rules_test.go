package authority_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
)

// request asks validator 0 to put keys in the place of the first validators.
func request(n *consensus.Network, keys []types.PublicKey, fresh ...int) authority.SetChangeRequest {
	r := authority.SetChangeRequest{
		Network: n.ID, Current: consensus.ValidatorSet{Keys: n.Validators}, Keys: keys, Proofs: proofs(n, fresh...), Reason: reason,
		Authorisation: authority.Authorisation{People: []string{"Ada Adler", "Bob Berg"}},
	}
	r.Authorisation.Fingerprint = authority.Fingerprint(r.Next())
	return r
}

// TestRules breaks each rule alone: all others would let the request pass.
func TestRules(t *testing.T) {
	n, full := network(t, 5), network(t, 21)
	slow := chaingen.Params() // five turns of 20 s before miners
	slow.Validators = publics(0, 1, 2, 3, 4)
	narrow := build(t, slow)
	good := func() authority.SetChangeRequest { return request(n, publics(0, 1, 2, 5, 4), 5) }
	but := func(spoil func(*authority.SetChangeRequest)) func() authority.SetChangeRequest {
		return func() authority.SetChangeRequest {
			r := good()
			spoil(&r)
			return r
		}
	}
	refingered := func(r *authority.SetChangeRequest) { r.Authorisation.Fingerprint = authority.Fingerprint(r.Next()) }
	cases := []struct {
		name    string
		rule    authority.Rule
		network *consensus.Network
		request func() authority.SetChangeRequest
	}{
		{"network", authority.RuleNetwork, n, but(func(r *authority.SetChangeRequest) { r.Network[3] ^= 1 })},
		{"set 0 is another", authority.RuleUnknownSet, n, but(func(r *authority.SetChangeRequest) {
			r.Current.Keys = publics(0, 1, 2, 3, 4, 6, 7)
		})},
		{"set 4 cannot be", authority.RuleUnknownSet, n, but(func(r *authority.SetChangeRequest) {
			r.Current = consensus.ValidatorSet{Number: 4, Keys: publics(0, 1, 2, 3)}
			r.Proofs = proofs(n, 5, 4)
			refingered(r)
		})},
		{"last number", authority.RuleLastNumber, n, but(func(r *authority.SetChangeRequest) {
			r.Current.Number = math.MaxUint32
			refingered(r)
		})},
		{"unchanged", authority.RuleUnchanged, n, func() authority.SetChangeRequest { return request(n, publics(0, 1, 2, 3, 4)) }},
		{"even", authority.RuleEven, n, func() authority.SetChangeRequest { return request(n, publics(0, 1, 2, 3)) }},
		{"empty", authority.RuleEven, n, func() authority.SetChangeRequest {
			r := request(n, nil)
			r.Authorisation.RemoveOwn, r.Authorisation.HandOver = true, true
			return r
		}},
		{"one", authority.RuleTooSmall, n, func() authority.SetChangeRequest { return request(n, publics(0)) }},
		{"23", authority.RuleTooLarge, full, func() authority.SetChangeRequest {
			return request(full, publics(numbers(0, 23)...), 21, 22)
		}},
		{"turns", authority.RuleTurns, narrow, func() authority.SetChangeRequest {
			return request(narrow, publics(numbers(0, 7)...), 5, 6)
		}},
		{"33 voters", authority.RuleVoters, full, func() authority.SetChangeRequest {
			r := request(full, publics(slices.Concat(numbers(0, 9), numbers(21, 33))...), numbers(21, 33)...)
			r.Authorisation.HandOver = true
			return r
		}},
		{"old key twice", authority.RuleDuplicate, n, func() authority.SetChangeRequest { return request(n, publics(0, 1, 2, 4, 4)) }},
		{"new key twice", authority.RuleDuplicate, n, func() authority.SetChangeRequest { return request(n, publics(0, 1, 2, 5, 5), 5) }},
		{"no point", authority.RuleKey, n, but(func(r *authority.SetChangeRequest) {
			r.Keys[3].Point[0] = 9
			r.Proofs[0].Key = r.Keys[3]
			refingered(r)
		})},
		{"disabled", authority.RuleDisabled, n, but(func(r *authority.SetChangeRequest) { r.Disabled = publics(4) })},
		{"no proof", authority.RuleNoProof, n, but(func(r *authority.SetChangeRequest) { r.Proofs = nil })},
		{"proof of another network", authority.RuleProof, n, but(func(r *authority.SetChangeRequest) { r.Proofs = proofs(full, 5) })},
		{"forged proof", authority.RuleProof, n, but(func(r *authority.SetChangeRequest) { r.Proofs[0].Signature[50] ^= 1 })},
		{"proof of an old key", authority.RuleSurplusProof, n, but(func(r *authority.SetChangeRequest) { r.Proofs = proofs(n, 5, 1) })},
		{"proof twice", authority.RuleSurplusProof, n, but(func(r *authority.SetChangeRequest) { r.Proofs = proofs(n, 5, 5) })},
		{"no reason", authority.RuleReason, n, but(func(r *authority.SetChangeRequest) { r.Reason = "" })},
		{"reason of two lines", authority.RuleReason, n, but(func(r *authority.SetChangeRequest) { r.Reason = "a\nb" })},
		{"reason that turns around", authority.RuleReason, n, but(func(r *authority.SetChangeRequest) { r.Reason = "a\u202eb" })},
		{"reason too long", authority.RuleReason, n, but(func(r *authority.SetChangeRequest) { r.Reason = strings.Repeat("a", 401) })},
		{"index", authority.RuleIndex, n, but(func(r *authority.SetChangeRequest) { r.Index = 5 })},
		{"own disabled", authority.RuleOwnDisabled, n, but(func(r *authority.SetChangeRequest) {
			r.Index, r.Disabled, r.Authorisation.RemoveOwn = 3, publics(3), true
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
			return request(n, publics(0, 1, 5, 6, 7), 5, 6, 7)
		}},
	}
	tested := make(map[authority.Rule]bool)
	for _, c := range cases {
		r := c.request()
		if got := authority.Broken(&r, c.network); !slices.Equal(got, []authority.Rule{c.rule}) {
			t.Errorf("%s: broken are %q, want only %s", c.name, got, c.rule)
		}
		_, digest, err := r.Check(c.network)
		if !errors.Is(err, c.rule) || !digest.IsZero() {
			t.Errorf("%s: %v, digest %s", c.name, err, digest)
		}
		tested[c.rule] = true
	}
	for _, rule := range authority.RulesOf() {
		if !tested[rule] {
			t.Errorf("rule %s is not tested", rule)
		}
	}
}

// TestChecks: what passes, and that the digest is what the chain verifies.
func TestChecks(t *testing.T) {
	n := network(t, 5)
	for name, c := range map[string]struct {
		request authority.SetChangeRequest
		change  func(*authority.SetChangeRequest)
	}{
		"replace": {request(n, publics(0, 1, 2, 5, 4), 5), nil},
		"typed freely": {request(n, publics(0, 1, 2, 5, 4), 5), func(r *authority.SetChangeRequest) {
			r.Authorisation.Fingerprint = strings.ToUpper(strings.ReplaceAll(r.Authorisation.Fingerprint, " ", "-"))
		}},
		"add two":               {request(n, publics(0, 1, 2, 3, 4, 5, 6), 5, 6), nil},
		"remove two":            {request(n, publics(0, 1, 2)), nil},
		"order":                 {request(n, publics(4, 3, 2, 1, 0)), nil},
		"remove own":            {request(n, publics(1, 2, 3, 4, 5), 5), func(r *authority.SetChangeRequest) { r.Authorisation.RemoveOwn = true }},
		"hand over":             {request(n, publics(5, 6, 7, 8, 0), 5, 6, 7, 8), func(r *authority.SetChangeRequest) { r.Authorisation.HandOver = true }},
		"remove a disabled one": {request(n, publics(0, 1, 2, 5, 4), 5), func(r *authority.SetChangeRequest) { r.Disabled = publics(3) }},
	} {
		r := c.request
		if c.change != nil {
			c.change(&r)
		}
		key, digest, err := r.Check(n)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if key != r.Current.Keys[r.Index] || digest != consensus.SetChangeDigest(n.ID, r.Current, r.Keys) {
			t.Errorf("%s: key %s, digest %s", name, key, digest)
		}
	}
}
