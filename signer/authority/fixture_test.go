package authority_test

import (
	"slices"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/authority/authoritytest"
)

var (
	network = authoritytest.Network
	numbers = authoritytest.Numbers
	secret  = authoritytest.Secret
	publics = authoritytest.Publics
	proofs  = authoritytest.Proofs
	request = authoritytest.Request
)

const reason = authoritytest.Reason

func genesis(n *consensus.Network) authority.Chain {
	return authority.Chain{Current: consensus.ValidatorSet{Keys: n.Validators}, Tip: 1234}
}

var made = time.Date(2026, 11, 28, 7, 0, 0, 0, time.UTC)

// goldenID is the id of the sample.
const goldenID = "2d1c40c1cffcd172c5e24bb1bf3f2a880b74d5a48cd619e7237a885d7c0528ef"

// sample replaces validator 3 of five by key 5.
func sample(tb testing.TB) (*consensus.Network, *authority.Proposal) {
	tb.Helper()
	n := network(tb, 5)
	p, err := authority.Propose(n, genesis(n), publics(0, 1, 2, 5, 4), proofs(n, 5), reason, made)
	if err != nil {
		tb.Fatal(err)
	}
	return n, p
}

// signed adds signatures of these validators.
func signed(tb testing.TB, p *authority.Proposal, indexes ...uint8) *authority.Proposal {
	tb.Helper()
	for _, i := range indexes {
		next, err := p.With(signature(p, i))
		if err != nil {
			tb.Fatal(err)
		}
		p = next
	}
	return p
}

func signature(p *authority.Proposal, i uint8) authority.Signature {
	return authority.Signature{
		Index: i, Signature: secret(number(p.Current.Keys[i])).Sign(p.Digest()), People: []string{"Ada Adler", "Bob Berg"},
	}
}

// number finds a key's.
func number(k types.PublicKey) int {
	return slices.IndexFunc(numbers(0, 64), func(i int) bool { return secret(i).Public() == k })
}
