package simnet

import (
	"context"

	adapter "qcitycoin.org/qcity/internal/seat"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
)

// secret returns validator key i.
func secret(i int) chaingen.Key { return chaingen.ValidatorKey(types.Secp256k1, i) }

// token is a signer.Token in software.
type token map[types.PublicKey]chaingen.Key

func newToken(numbers []int) (token, []types.PublicKey) {
	t, list := make(token), chaingen.PublicKeys(types.Secp256k1, numbers...)
	for i, k := range list {
		t[k] = secret(numbers[i])
	}
	return t, list
}

// token returns what holds the keys of a node's signer, and the keys.
func (c *NodeConfig) token() (signer.Token, []types.PublicKey) {
	if c.Token != nil {
		return c.Token, c.Public
	}
	return newToken(c.Keys)
}

func (t token) Ready(types.PublicKey) error { return nil }

func (t token) Reset(context.Context) error { return nil }

func (t token) Sign(_ context.Context, key types.PublicKey, digest [32]byte) ([64]byte, error) {
	return t[key].Sign(digest), nil
}

// seat is the signer as its node sees it, without the socket in between.
type seat struct {
	service *signer.Service
	keys    []types.PublicKey
}

func (s seat) Keys(context.Context) ([]types.PublicKey, error) { return s.keys, nil }

func (s seat) Tell(ctx context.Context, tip uint32, shown []node.Shown) error {
	return s.service.Seen(ctx, adapter.Seen(tip, shown))
}

func (s seat) Anchor(ctx context.Context, _ types.PublicKey) (*consensus.AuditAnchor, error) {
	return s.service.Status(ctx).Audit, nil
}

func (s seat) SignSlot(ctx context.Context, p *consensus.Proposal) ([64]byte, error) {
	return adapter.Signature(s.service.SignSlot(ctx, signer.NewRequest(p)))
}

func (s seat) Attest(ctx context.Context, b *consensus.Ballot) ([64]byte, error) {
	return adapter.Signature(s.service.Attest(ctx, signer.NewVoteRequest(b)))
}
