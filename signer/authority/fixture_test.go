package authority_test

import (
	"slices"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/proof"
)

// network returns a network of keys 0 to validators − 1 whose ranks have turns
// of a second, so that large sets fit as well.
func network(tb testing.TB, validators int) *consensus.Network {
	tb.Helper()
	p := chaingen.Params()
	p.RankStepSeconds = 1
	p.Validators = publics(numbers(0, validators)...)
	return build(tb, p)
}

func build(tb testing.TB, p consensus.Params) *consensus.Network {
	tb.Helper()
	n, err := consensus.NewNetwork(p)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// numbers lists from to end − 1.
func numbers(from, end int) (list []int) {
	for i := from; i < end; i++ {
		list = append(list, i)
	}
	return list
}

// secret returns key i, of alternating curves.
func secret(i int) chaingen.Key {
	if i%2 == 1 {
		return chaingen.ValidatorKey(types.P256, i)
	}
	return chaingen.ValidatorKey(types.Secp256k1, i)
}

func publics(numbers ...int) (list []types.PublicKey) {
	for _, i := range numbers {
		list = append(list, secret(i).Public())
	}
	return list
}

var challenge = []byte("set 1, asked by the founders")

func proofs(n *consensus.Network, numbers ...int) (list []proof.Proof) {
	for _, i := range numbers {
		k := secret(i)
		list = append(list, proof.Proof{
			Key: k.Public(), Network: n.ID, Challenge: challenge,
			Signature: k.Sign(proof.Digest(n.ID, k.Public(), challenge)),
		})
	}
	return list
}

func genesis(n *consensus.Network) authority.Chain {
	return authority.Chain{Current: consensus.ValidatorSet{Keys: n.Validators}, Tip: 1234}
}

var made = time.Date(2026, 11, 28, 7, 0, 0, 0, time.UTC)

const reason = "the token of validator 3 was lost on <Friday>"

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

// authorised is what two people confirm.
func authorised(p *authority.Proposal) authority.Authorisation {
	return authority.Authorisation{People: []string{"Ada Adler", "Bob Berg"}, Fingerprint: authority.Fingerprint(p.Next())}
}
