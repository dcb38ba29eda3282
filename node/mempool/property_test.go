package mempool

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// machine drives a pool and its chain at random.
type machine struct {
	c     *testChain
	p     *Pool
	coins []consensus.UTXO     // that anything may try to spend, spent or not
	made  []*types.Transaction // added or mined at some time
}

func (m *machine) draw(t *rapid.T, most int) []consensus.UTXO {
	var coins []consensus.UTXO
	for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(m.coins)-1), 1, most, rapid.ID[int]).Draw(t, "coins") {
		coins = append(coins, m.coins[i])
	}
	return coins
}

// build returns a transaction over random coins, which need not be valid.
func (m *machine) build(t *rapid.T) *types.Transaction {
	coins := m.draw(t, 3)
	var total int64
	for _, u := range coins {
		total += u.Coin.Output.Value
	}
	outputs := rapid.IntRange(1, 3).Draw(t, "outputs")
	fee := rapid.Int64Range(0, min(total, 20_000)).Draw(t, "fee")
	tx := m.c.pay(fee, outputs, coins...)
	switch rapid.IntRange(0, 5).Draw(t, "lock") {
	case 0:
		tx.LockTime = m.c.tip.State.Height + rapid.Uint32Range(0, 2).Draw(t, "height") - 1
		tx.Inputs[0].Sequence = 0xfffffffe
	case 1:
		tx.Inputs[0].Sequence = rapid.Uint32Range(0, 3).Draw(t, "relative")
	default:
		return tx
	}
	m.c.SignInputs(tx, coins)
	return tx
}

func (m *machine) know(tx *types.Transaction) {
	m.made = append(m.made, tx)
	for i := range tx.Outputs {
		m.coins = append(m.coins, output(tx, i))
	}
}

// minable returns those of the candidates that fit the next block one after another.
func (m *machine) minable(txs []*types.Transaction) []*types.Transaction {
	view := make(consensus.Coins)
	tip := m.c.tip.State
	return slices.DeleteFunc(slices.Clone(txs), func(tx *types.Transaction) bool {
		for i := range tx.Inputs {
			at := tx.Inputs[i].Previous
			if coin, ok := m.c.Coin(at); ok {
				if _, known := view[at]; !known {
					view[at] = coin
				}
			}
		}
		if _, err := consensus.ValidateTransaction(&tip, tx, view); err != nil {
			return true
		}
		for i := range tx.Inputs {
			view[tx.Inputs[i].Previous] = consensus.Coin{Output: types.TxOut{Value: -1}} // spent
		}
		for i := range tx.Outputs {
			if coin, ok := poolCoin(&tip, tx, uint32(i)); ok {
				view[types.OutPoint{TxID: tx.ID(), Index: uint32(i)}] = coin
			}
		}
		return false
	})
}

// mine makes a block of some known transactions, in the pool or not.
func (m *machine) mine(t *rapid.T) {
	var picked []*types.Transaction
	if len(m.made) > 0 {
		for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(m.made)-1), 0, 6, rapid.ID[int]).Draw(t, "block") {
			picked = append(picked, m.made[i])
		}
	}
	if rapid.Bool().Draw(t, "stranger") {
		tx := m.build(t)
		m.know(tx)
		picked = append(picked, tx)
	}
	b := m.c.mine(m.minable(picked)...)
	if !b.Block.IsSigned() {
		m.coins = append(m.coins, b.Reward())
	}
}

func TestPropertyAnySequenceKeepsThePoolMinable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newTestChain(t, func(p *consensus.Params) { p.CoinbaseMaturity = 3 })
		m := &machine{c: c, coins: c.rewards(6)}
		cfg := DefaultConfig()
		cfg.MinFeeRate = 10
		cfg.Expiry = 2 * time.Hour
		if rapid.Bool().Draw(t, "tight") {
			cfg.MaxTxBytes, cfg.MaxBytes = 700, 1500
		}
		m.p = c.pool(cfg)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { check(t, c, m.p) },
			"add": func(t *rapid.T) {
				tx := m.build(t)
				if _, err := m.p.Add(tx); err == nil {
					m.know(tx)
				}
			},
			"add again": func(t *rapid.T) {
				if len(m.made) > 0 {
					_, _ = m.p.Add(rapid.SampledFrom(m.made).Draw(t, "tx"))
				}
			},
			"remove": func(t *rapid.T) {
				if ids := m.p.IDs(); len(ids) > 0 {
					m.p.Remove(rapid.SampledFrom(ids).Draw(t, "id"))
				}
			},
			"mine": m.mine,
			"mine what is selected": func(t *rapid.T) {
				room, sigOps := rapid.IntRange(0, 3000).Draw(t, "bytes"), rapid.IntRange(0, 20).Draw(t, "sigops")
				_, txs, spends, err := m.p.Select(room, sigOps)
				if err != nil {
					t.Fatalf("select: %v", err)
				}
				for i, tx := range txs {
					room -= len(tx.Bytes())
					sigOps -= spends[i].SigOps
				}
				if room < 0 || sigOps < 0 {
					t.Fatalf("limits exceeded: %d bytes and %d signature checks are left", room, sigOps)
				}
				c.mine(txs...) // fails unless consensus.Connect takes the block
			},
			"reorganise": func(t *rapid.T) {
				depth := rapid.IntRange(1, 4).Draw(t, "depth")
				n := c.tip
				for range min(depth, int(n.State.Height)) {
					n = n.Parent
				}
				c.move(n)
				for range rapid.IntRange(0, 5).Draw(t, "blocks") {
					m.mine(t)
				}
			},
			"wait": func(t *rapid.T) {
				c.clock = c.clock.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
			},
			"fail": func(t *rapid.T) { c.pathFails = rapid.IntRange(1, 3).Draw(t, "call"); _ = m.p.Sync(); c.pathFails = 0 },
		})
	})
}

// TestPropertySelectionIsNeverWorseThanByFeeRateAlone compares with the plain
// greedy choice of single transactions whose parents are in already.
func TestPropertySelectionIsNeverWorseThanByFeeRateAlone(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(8)
	rapid.Check(t, func(t *rapid.T) {
		p := c.pool(DefaultConfig())
		open := slices.Clone(coins)
		for range rapid.IntRange(1, 14).Draw(t, "transactions") {
			i := rapid.IntRange(0, len(open)-1).Draw(t, "coin")
			tx := c.pay(rapid.Int64Range(1000, 50_000).Draw(t, "fee"), 2, open[i])
			open = append(slices.Delete(open, i, i+1), output(tx, 0), output(tx, 1))
			if _, err := p.Add(tx); err != nil {
				t.Fatalf("%v", err)
			}
		}
		// All transactions have about the same size, so that rates decide, and
		// room is a number of transactions.
		const largest = 230
		room := rapid.IntRange(1, 14).Draw(t, "room") * largest
		_, txs, spends, err := p.Select(room, 200)
		if err != nil {
			t.Fatalf("%v", err)
		}
		var got, plain int64
		for i := range txs {
			got += spends[i].Fee
		}
		left, in := room, make(map[types.Hash]bool)
		for {
			var best *Entry
			for _, e := range p.Entries() {
				ready := !in[e.ID] && e.Bytes <= left
				for _, parent := range e.DependsOn {
					ready = ready && in[parent]
				}
				if ready && (best == nil || e.Fee*int64(best.Bytes) > best.Fee*int64(e.Bytes)) {
					best = &e
				}
			}
			if best == nil {
				break
			}
			in[best.ID] = true
			left -= best.Bytes
			plain += best.Fee
		}
		if p.Info().Bytes <= room && got != p.Info().Fees {
			t.Fatalf("everything fits, but %d of %d in fees were selected", got, p.Info().Fees)
		}
		// A package may leave a gap at the end that single transactions fill, so
		// only the space of one transaction may be lost against the plain choice.
		if slack := int64(50_000); got+slack < plain {
			t.Fatalf("selected %d in fees, the plain choice has %d", got, plain)
		}
	})
}
