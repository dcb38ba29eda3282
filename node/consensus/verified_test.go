package consensus_test

import (
	"errors"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestVerifiedSparesOnlySignatures: a transaction named as verified is not
// checked for its signatures, one that is not named is, and every other rule
// holds for both.
func TestVerifiedSparesOnlySignatures(t *testing.T) {
	g := chaingen.New(t, chaingen.Params())
	first := g.Next("first", chaingen.PayMinerTo(chaingen.PayToHash(0)))
	g.Fill("mature", int(g.Network().CoinbaseMaturity))
	parent := g.Tip()
	spend := g.Spend([]consensus.UTXO{first.Reward()}, chaingen.Pay(first.Reward().Coin.Output.Value, chaingen.PayToKey(1)))
	spend.Inputs[0].SignatureScript = []byte{0}
	block := g.Next("unsigned", g.Include(spend))
	coins := g.CoinsFor(block.Block)

	connect := func(opts ...consensus.Option) error {
		_, _, err := consensus.Connect(&parent.State, block.Block, coins, opts...)
		return err
	}
	known := func(ids ...types.Hash) consensus.Option {
		return consensus.Verified(func(id types.Hash) bool {
			for _, k := range ids {
				if k == id {
					return true
				}
			}
			return false
		})
	}
	if err := connect(); !errors.Is(err, consensus.RuleTxScript) {
		t.Fatalf("without the option: %v, want %v", err, consensus.RuleTxScript)
	}
	if err := connect(known(types.Hash{1})); !errors.Is(err, consensus.RuleTxScript) {
		t.Fatalf("another transaction verified: %v, want %v", err, consensus.RuleTxScript)
	}
	if err := connect(known(spend.ID())); err != nil {
		t.Fatalf("this transaction verified: %v", err)
	}
	delete(coins, spend.Inputs[0].Previous)
	if err := connect(known(spend.ID())); !errors.Is(err, consensus.RuleTxMissing) {
		t.Fatalf("spent coin gone: %v, want %v", err, consensus.RuleTxMissing)
	}
}
