package mempool

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// testChain is a chain in memory whose blocks all went through
// consensus.Connect, and whose tip a test moves at will.
type testChain struct {
	*chaingen.Generator
	tb chaingen.TB

	mu    sync.Mutex
	tip   *chaingen.Node
	nodes map[types.Hash]*chaingen.Node
	// pathFails makes the nth next call of Path fail, counted from 1.
	pathFails int
	// onView runs once, when View is called, before it reads the tip.
	onView func()
	clock  time.Time
}

func newTestChain(tb chaingen.TB, change ...func(*consensus.Params)) *testChain {
	p := chaingen.Params()
	for _, f := range change {
		f(&p)
	}
	g := chaingen.New(tb, p)
	c := &testChain{Generator: g, tb: tb, nodes: make(map[types.Hash]*chaingen.Node), clock: time.Unix(int64(p.GenesisTime), 0)}
	c.move(g.Tip())
	return c
}

// move makes a node, which must be valid, the tip.
func (c *testChain) move(n *chaingen.Node) {
	c.tb.Helper()
	if n.Err != nil {
		c.tb.Fatalf("block %s: %v", n.Name, n.Err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.SetTip(n.Name)
	c.nodes[n.State.ID] = n
	c.tip = n
}

// mine adds a block to the tip and makes it the tip.
func (c *testChain) mine(txs ...*types.Transaction) *chaingen.Node {
	c.tb.Helper()
	n := c.Next(fmt.Sprintf("n%d", len(c.nodes)), c.Include(txs...))
	c.move(n)
	return n
}

// rewards mines n blocks and then lets them mature; it returns their coins.
func (c *testChain) rewards(n int) []consensus.UTXO {
	c.tb.Helper()
	var coins []consensus.UTXO
	for len(coins) < n {
		if b := c.mine(); !b.Block.IsSigned() {
			coins = append(coins, b.Reward())
		}
	}
	for range c.Network().CoinbaseMaturity {
		c.mine()
	}
	return coins
}

func (c *testChain) View(outpoints []types.OutPoint) (consensus.State, consensus.Coins, error) {
	if hook := c.onView; hook != nil {
		c.onView = nil
		hook()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	coins := make(consensus.Coins)
	for _, o := range outpoints {
		if coin, ok := c.Coin(o); ok {
			coins[o] = coin
		}
	}
	return c.tip.State, coins, nil
}

var errDisk = errors.New("disk on fire")

func (c *testChain) Path(from types.Hash, limit int) (reverted, applied []*types.Block, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pathFails--; c.pathFails == 0 {
		return nil, nil, errDisk
	}
	a, b := c.nodes[from], c.tip
	for a.State.Height > b.State.Height {
		reverted, a = append(reverted, a.Block), a.Parent
	}
	for b.State.Height > a.State.Height {
		applied, b = append([]*types.Block{b.Block}, applied...), b.Parent
	}
	for a != b {
		reverted, a = append(reverted, a.Block), a.Parent
		applied, b = append([]*types.Block{b.Block}, applied...), b.Parent
	}
	reverted = reverted[:min(limit, len(reverted))]
	return reverted, applied[:min(limit-len(reverted), len(applied))], nil
}

func (c *testChain) now() time.Time { return c.clock }

func (c *testChain) pool(cfg Config) *Pool {
	c.tb.Helper()
	p, err := New(c, cfg, c.now, slog.New(slog.DiscardHandler))
	if err != nil {
		c.tb.Fatalf("%v", err)
	}
	return p
}

// pay spends coins to as many equal outputs as wanted and leaves the fee over.
func (c *testChain) pay(fee int64, outputs int, coins ...consensus.UTXO) *types.Transaction {
	c.tb.Helper()
	left := -fee
	for _, u := range coins {
		left += u.Coin.Output.Value
	}
	outs := make([]types.TxOut, outputs)
	for i := range outs {
		outs[i] = chaingen.Pay(left/int64(outputs), chaingen.PayToHash(i%4))
	}
	outs[0].Value += left % int64(outputs)
	return c.Spend(coins, outs...)
}

// output returns an output of an unconfirmed transaction as a coin.
func output(tx *types.Transaction, index int) consensus.UTXO {
	return consensus.UTXO{
		OutPoint: types.OutPoint{TxID: tx.ID(), Index: uint32(index)},
		Coin:     consensus.Coin{Output: tx.Outputs[index]},
	}
}

func add(t testing.TB, p *Pool, txs ...*types.Transaction) {
	t.Helper()
	for i, tx := range txs {
		if _, err := p.Add(tx); err != nil {
			t.Fatalf("transaction %d: %v", i, err)
		}
	}
}

// fatal is what check needs of a test, so that rapid can use it too.
type fatal interface {
	Helper()
	Fatalf(string, ...any)
}

// check recomputes everything a pool keeps incrementally, and validates its
// transactions one after another against the chain as it is.
func check(t fatal, c *testChain, p *Pool) {
	t.Helper()
	if err := p.Sync(); err != nil {
		t.Fatalf("sync: %v", err)
	}
	if p.tip.ID != c.tip.State.ID {
		t.Fatalf("pool stands on height %d, chain on %d", p.tip.Height, c.tip.State.Height)
	}
	coins := make(consensus.Coins)
	bytes, inputs := 0, 0
	for _, e := range p.sorted() {
		if e.id != e.tx.ID() || p.entries[e.id] != e || e.bytes != len(e.tx.Bytes()) {
			t.Fatalf("entry %s is filed wrongly", e.id)
		}
		for i := range e.tx.Inputs {
			at := e.tx.Inputs[i].Previous
			if coin, ok := c.Coin(at); ok {
				coins[at] = coin
			}
			if p.spenders[at] != e {
				t.Fatalf("input %s of %s has spender %v", at, e.id, p.spenders[at])
			}
		}
		spend, err := consensus.ValidateTransaction(&p.tip, e.tx, coins)
		if err != nil {
			t.Fatalf("transaction %s is in the pool but invalid: %v", e.id, err)
		}
		if spend != e.spend {
			t.Fatalf("transaction %s: spend %+v, recorded %+v", e.id, spend, e.spend)
		}
		for i := range e.tx.Inputs {
			delete(coins, e.tx.Inputs[i].Previous)
		}
		for i := range e.tx.Outputs {
			if coin, ok := poolCoin(&p.tip, e.tx, uint32(i)); ok {
				coins[types.OutPoint{TxID: e.id, Index: uint32(i)}] = coin
			}
		}
		bytes += e.bytes
		inputs += len(e.tx.Inputs)
	}
	if p.bytes != bytes || len(p.spenders) != inputs || len(p.cheapest) != len(p.entries) {
		t.Fatalf("counters: %d bytes (really %d), %d spenders (%d), %d in the heap (%d)", p.bytes, bytes, len(p.spenders), inputs, len(p.cheapest), len(p.entries))
	}
	if p.bytes > p.cfg.MaxBytes {
		t.Fatalf("%d bytes, limit %d", p.bytes, p.cfg.MaxBytes)
	}
	checkLinks(t, p)
}

// checkLinks recomputes relations and sums from the transactions alone.
func checkLinks(t fatal, p *Pool) {
	t.Helper()
	above := make(map[types.Hash]map[types.Hash]bool)
	ancestors, descendants := make(map[types.Hash]sum), make(map[types.Hash]sum)
	for _, e := range p.sorted() {
		set := map[types.Hash]bool{e.id: true}
		for i := range e.tx.Inputs {
			for id := range above[e.tx.Inputs[i].Previous.TxID] {
				set[id] = true
			}
		}
		above[e.id] = set
		var s sum
		for id := range set {
			s.add(p.entries[id].own())
			d := descendants[id]
			d.add(e.own())
			descendants[id] = d
		}
		ancestors[e.id] = s
	}
	for i, e := range p.cheapest {
		if e.evictIndex != i {
			t.Fatalf("entry %s is at %d of the heap and believes to be at %d", e.id, i, e.evictIndex)
		}
		if i > 0 && p.cheapest.Less(i, (i-1)/2) {
			t.Fatalf("heap order broken at %d", i)
		}
		if e.ancestors != ancestors[e.id] || e.descendants != descendants[e.id] {
			t.Fatalf("sums of %s: ancestors %+v (really %+v), descendants %+v (%+v)", e.id, e.ancestors, ancestors[e.id], e.descendants, descendants[e.id])
		}
		if e.ancestors.count > MaxAncestors || e.descendants.count > MaxDescendants {
			t.Fatalf("%s has %d ancestors and %d descendants", e.id, e.ancestors.count, e.descendants.count)
		}
	}
}
