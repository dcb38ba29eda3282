package mempool

import (
	"errors"
	"sync"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestEverybodyAtOnce lets transactions, blocks, reorganisations and readers
// meet in whatever order the scheduler likes; run it with -race.
func TestEverybodyAtOnce(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(8)
	fork := c.tip
	var txs []*types.Transaction
	for _, u := range coins {
		first, rival := c.pay(10_000, 2, u), c.pay(20_000, 1, u)
		txs = append(txs, first, rival, c.pay(10_000, 1, output(first, 0)), c.pay(10_000, 1, output(first, 1)))
	}
	tips := []*chaingen.Node{fork, c.mine(txs[0]), c.mine(txs[5])}
	c.move(fork)
	tips = append(tips, c.mine(txs[1], txs[4]), c.mine(txs[8], txs[10]))
	c.move(fork)
	cfg := DefaultConfig()
	cfg.MaxBytes, cfg.MaxTxBytes = 4000, 1000 // not enough for all
	p := c.pool(cfg)

	var wg sync.WaitGroup
	for worker := range 3 {
		wg.Go(func() {
			for i := range txs {
				_, err := p.Add(txs[(i*7+worker*11)%len(txs)])
				if _, rule := consensus.RuleOf(err); err != nil && !rule && !errors.As(err, new(*PolicyError)) {
					t.Errorf("add: %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 40 {
			c.move(tips[i%len(tips)])
		}
	})
	wg.Go(func() {
		for range 20 {
			room := 2000
			_, picked, _, err := p.Select(room, 100)
			if err != nil {
				t.Errorf("select: %v", err)
			}
			spent := make(map[types.OutPoint]bool)
			for _, tx := range picked {
				room -= len(tx.Bytes())
				for i := range tx.Inputs {
					if at := tx.Inputs[i].Previous; spent[at] {
						t.Errorf("%s is spent twice in a selection", at)
					} else {
						spent[at] = true
					}
				}
			}
			if room < 0 {
				t.Error("too much was selected")
			}
		}
	})
	wg.Go(func() {
		for range 20 {
			for _, e := range p.Entries() {
				p.Has(e.ID)
				p.Spender(e.Tx.Inputs[0].Previous)
			}
			if ids := p.IDs(); len(ids) > 10 {
				p.Remove(ids[0])
			}
			p.Info()
			p.Changed()
		}
	})
	wg.Wait()
	check(t, c, p)
}
