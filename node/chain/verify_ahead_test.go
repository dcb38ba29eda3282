package chain_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// fullBlock is a block of n transactions with two signatures each, the coins
// it spends and the state before it. Every tenth transaction spends an output
// of the one before it.
func fullBlock(tb testing.TB, n int) (parent consensus.State, b *types.Block, coins consensus.Coins) {
	tb.Helper()
	parent = testNetwork(tb, nil).GenesisState()
	coins = make(consensus.Coins)
	const value = 1000
	fresh := func() types.OutPoint {
		o := types.OutPoint{TxID: types.DoubleHash(fmt.Append(nil, len(coins)))}
		coins[o] = consensus.Coin{Output: types.TxOut{Value: value, PkScript: payeeScript}, Height: 0}
		return o
	}
	var txs []*types.Transaction
	for i := range n {
		from := []types.OutPoint{fresh(), fresh()}
		if i%10 == 9 {
			from[0] = types.OutPoint{TxID: txs[i-1].ID()}
		}
		txs = append(txs, pay(from, 2*value, 2))
	}
	b, _ = recipe{txs: txs}.make(parent)
	return parent, b, coins
}

// TestVerifyAheadDecidesNothing: with signatures checked ahead, a block is
// accepted or refused, and by the same rule, as without.
func TestVerifyAheadDecidesNothing(t *testing.T) {
	parent, good, coins := fullBlock(t, 40)
	for name, c := range map[string]struct {
		spoil func(txs []*types.Transaction)
		want  error
	}{
		"good":              {func([]*types.Transaction) {}, nil},
		"one bad signature": {func(txs []*types.Transaction) { txs[30].Inputs[1].SignatureScript[20] ^= 1 }, consensus.RuleTxScript},
		"empty script":      {func(txs []*types.Transaction) { txs[7].Inputs[0].SignatureScript = nil }, consensus.RuleTxScript},
		"missing coin":      {func(txs []*types.Transaction) { txs[12].Inputs[0].Previous.Index = 9 }, consensus.RuleTxMissing},
		"spent twice": {func(txs []*types.Transaction) {
			*txs[20] = *pay([]types.OutPoint{txs[19].Inputs[1].Previous, txs[20].Inputs[1].Previous}, 2000, 2)
		}, consensus.RuleTxMissing},
		"spent before it is made": {func(txs []*types.Transaction) { txs[8], txs[10] = txs[10], txs[8] }, consensus.RuleTxMissing},
	} {
		t.Run(name, func(t *testing.T) {
			var txs []*types.Transaction
			for _, tx := range good.Transactions[1:] {
				clone, err := types.DecodeTransaction(tx.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				txs = append(txs, clone)
			}
			c.spoil(txs)
			b, _ := recipe{txs: txs}.make(parent)
			_, _, serial := consensus.Connect(&parent, b, coins)
			_, _, ahead := consensus.Connect(&parent, b, coins, chain.VerifyAhead(b, coins, nil)...)
			if !errors.Is(serial, c.want) || !errors.Is(ahead, c.want) || (serial == nil) != (ahead == nil) {
				t.Fatalf("serial: %v; ahead: %v; want %v", serial, ahead, c.want)
			}
		})
	}
}

// BenchmarkConnect4000Signatures connects a block of 2,000 transactions with
// 4,000 signatures, without the disk: one by one, on all processors, and with
// all signatures known from the mempool. All three in turn, as the machine's
// speed drifts; ratios are to the first.
func BenchmarkConnect4000Signatures(b *testing.B) {
	parent, block, coins := fullBlock(b, 2000)
	all := []consensus.Option{consensus.Verified(func(types.Hash) bool { return true })}
	var took [3]time.Duration
	for b.Loop() {
		for i, options := range []func() []consensus.Option{
			func() []consensus.Option { return nil },
			func() []consensus.Option { return chain.VerifyAhead(block, coins, nil) },
			func() []consensus.Option { return chain.VerifyAhead(block, coins, all) },
		} {
			start := time.Now()
			if _, _, err := consensus.Connect(&parent, block, coins, options()...); err != nil {
				b.Fatal(err)
			}
			took[i] += time.Since(start)
		}
	}
	b.ReportMetric(float64(took[0].Milliseconds())/float64(b.N), "serial-ms")
	b.ReportMetric(float64(took[1])/float64(took[0]), "parallel/serial")
	b.ReportMetric(float64(took[2])/float64(took[0]), "cached/serial")
	b.ReportMetric(0, "ns/op")
}
