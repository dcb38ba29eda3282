package authority_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/authority/authoritytest"
)

// TestRules breaks each rule alone: all others would let the request pass.
func TestRules(t *testing.T) {
	tested := make(map[authority.Rule]bool)
	for _, c := range authoritytest.Cases(t) {
		r := c.Request()
		if got := authority.Broken(&r, c.Network); !slices.Equal(got, []authority.Rule{c.Rule}) {
			t.Errorf("%s: broken are %q, want only %s", c.Name, got, c.Rule)
		}
		_, digest, err := r.Check(c.Network)
		if !errors.Is(err, c.Rule) || !digest.IsZero() {
			t.Errorf("%s: %v, digest %s", c.Name, err, digest)
		}
		tested[c.Rule] = true
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
