package mempool

import (
	"fmt"
	"slices"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

func selectIDs(t testing.TB, p *Pool, maxBytes, maxSigOps int) []types.Hash {
	t.Helper()
	_, txs, _, err := p.Select(maxBytes, maxSigOps)
	if err != nil {
		t.Fatal(err)
	}
	var ids []types.Hash
	for _, tx := range txs {
		ids = append(ids, tx.ID())
	}
	return ids
}

func TestSelect(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(4)
	p := c.pool(DefaultConfig())
	poor := c.pay(1_000, 1, coins[0])
	richChild := c.pay(90_000, 1, output(poor, 0))
	middle := c.pay(20_000, 1, coins[1])
	poorChild := c.pay(2_000, 1, output(middle, 0))
	multi := c.Spend(coins[2:3], chaingen.Pay(coins[2].Coin.Output.Value-15_000, chaingen.PayToMultisig()))
	multiChild := c.pay(20_000, 1, output(multi, 0)) // three signature checks
	last := c.pay(3_000, 1, coins[3])
	add(t, p, poor, middle, multi, last, richChild, poorChild, multiChild)
	size := func(txs ...*types.Transaction) (n int) {
		for _, tx := range txs {
			n += len(tx.Bytes())
		}
		return n
	}
	all := size(poor, richChild, middle, poorChild, multi, multiChild, last)

	for name, tc := range map[string]struct {
		bytes, sigOps int
		want          []*types.Transaction
	}{
		"all, best package first":                 {all, 9, []*types.Transaction{poor, richChild, middle, multi, multiChild, last, poorChild}},
		"child pays for its parent":               {size(poor, richChild), 9, []*types.Transaction{poor, richChild}},
		"package too large, the next best fits":   {size(poor, richChild) - 1, 9, []*types.Transaction{middle, multi}},
		"a rich parent does not lift its child":   {all - size(poorChild), 9, []*types.Transaction{poor, richChild, middle, multi, multiChild, last}},
		"signature checks run out for the child":  {all, 4, []*types.Transaction{poor, richChild, middle, multi}},
		"nothing fits":                            {50, 9, nil},
		"no signature check is left":              {all, 0, nil},
		"no room at all":                          {-1, 9, nil},
		"signature checks exactly used by a pair": {size(poor, richChild), 2, []*types.Transaction{poor, richChild}},
	} {
		t.Run(name, func(t *testing.T) {
			var want []types.Hash
			for _, tx := range tc.want {
				want = append(want, tx.ID())
			}
			got := selectIDs(t, p, tc.bytes, tc.sigOps)
			if !slices.Equal(got, want) {
				t.Errorf("selected %v, want %v", got, want)
			}
		})
	}
}

func TestSelectFollowsTheTip(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(2)
	p := c.pool(DefaultConfig())
	a, b := c.pay(10_000, 1, coins[0]), c.pay(20_000, 1, coins[1])
	add(t, p, a, b)
	c.mine(b)
	parent, txs, spends, err := p.Select(10_000, 10)
	if err != nil || parent.ID != c.tip.State.ID || len(txs) != 1 || txs[0] != a || spends[0] != (consensus.Spend{Fee: 10_000, SigOps: 1}) {
		t.Errorf("selected %v %v on height %d, %v", txs, spends, parent.Height, err)
	}
}

// bigPool returns a pool of n transactions with fees of every size: four of
// five stand alone, every fifth depends on the one before it.
func bigPool(b *testing.B, n int) *Pool {
	c := newTestChain(b, func(p *consensus.Params) {
		p.MaxBlockBytes, p.MaxSigOps, p.N = 1_000_000, 20_000, 1000
	})
	coins := c.rewards((n + 999) / 1000)
	var outs []consensus.UTXO
	for _, coin := range coins {
		split := c.pay(1_000_000, 1000, coin)
		for i := range split.Outputs {
			outs = append(outs, output(split, i))
		}
		c.mine(split)
	}
	// Filled as a reorganisation does: n signatures are checked only once.
	p := c.pool(DefaultConfig())
	view := make(consensus.Coins)
	for _, u := range outs {
		view[u.OutPoint], _ = c.Coin(u.OutPoint)
	}
	var last *types.Transaction
	for i := range n {
		fee := int64(1000 + i*7919%50_000)
		tx := c.pay(fee, 1, outs[i])
		if i%5 == 4 {
			tx = c.pay(fee, 1, output(last, 0))
		}
		last = tx
		p.reinsert(&entry{tx: tx, id: tx.ID(), bytes: len(tx.Bytes()), spend: consensus.Spend{Fee: fee, SigOps: 1}}, view)
	}
	if len(p.entries) != n {
		b.Fatalf("%d of %d inserted", len(p.entries), n)
	}
	return p
}

func BenchmarkSelect(b *testing.B) {
	for _, n := range []int{5_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := bigPool(b, n)
			b.ResetTimer()
			for b.Loop() {
				if _, txs, _, err := p.Select(1_000_000, 20_000); err != nil || len(txs) < min(n, 4000) {
					b.Fatal(len(txs), err)
				}
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	p := bigPool(b, 1000)
	ids := p.IDs()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		tx, _ := p.Get(ids[i%len(ids)])
		gone := p.Remove(tx.ID())
		b.StartTimer()
		if _, err := p.Add(tx); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if len(gone) > 1 {
			ids = slices.DeleteFunc(ids, func(id types.Hash) bool { return id == gone[0] })
		}
		b.StartTimer()
	}
}
