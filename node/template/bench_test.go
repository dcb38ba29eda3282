package template

import (
	"fmt"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// BenchmarkMined builds templates of n transactions with one signature each.
func BenchmarkMined(b *testing.B) {
	for _, n := range []int{0, 100, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRig(b, func(p *consensus.Params) {
				p.MaxBlockBytes, p.MaxSigOps, p.N, p.CoinbaseMaturity = 1_100_000, 20_000, 1000, 1
			})
			coin := r.coins(1)[0]
			outs := make([]types.TxOut, max(n, 1))
			for i := range outs {
				outs[i] = chaingen.Pay(100_000, chaingen.PayToHash(0))
			}
			split := r.g.Spend([]consensus.UTXO{coin}, outs...)
			r.pool.put(coin.Coin.Output.Value-int64(len(outs))*100_000, split)
			r.advance(r.Tip().Height + 1)
			r.pool.empty()
			for i := range n {
				r.pool.put(10_000, r.pay(10_000, output(split, i)))
			}
			b.ResetTimer()
			for b.Loop() {
				t, err := r.builder.Mined(r.Tip(), r.clock(), payout())
				if err != nil || len(t.Transactions) != n {
					b.Fatal(err)
				}
			}
		})
	}
}
