package template

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// testChain is a chain in memory: what enters it has passed consensus.Connect,
// what is better than the tip becomes the tip.
type testChain struct {
	t   testing.TB
	g   *chaingen.Generator // for keys and signatures only
	net *consensus.Network
	// records are offered to every signed block, and given unchecked when spoiled.
	records []consensus.Record
	spoiled bool

	mu      sync.Mutex
	tip     *chainNode
	nodes   map[types.Hash]*chainNode
	changed chan struct{}
	viewErr error
	onView  func()
}

type chainNode struct {
	block *types.Block
	state consensus.State
	coins consensus.Coins // all that are unspent as of the block
}

func newTestChain(t testing.TB, p consensus.Params) *testChain {
	g := chaingen.New(t, p)
	root := &chainNode{block: g.Network().Genesis(), state: g.Network().GenesisState(), coins: consensus.Coins{}}
	return &testChain{
		t: t, g: g, net: g.Network(), tip: root, changed: make(chan struct{}),
		nodes: map[types.Hash]*chainNode{root.state.ID: root},
	}
}

func (c *testChain) Tip() consensus.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tip.state
}

func (c *testChain) View(outpoints []types.OutPoint) (consensus.State, consensus.Coins, error) {
	c.mu.Lock()
	hook := c.onView
	c.onView = nil
	c.mu.Unlock()
	if hook != nil {
		hook()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	coins := make(consensus.Coins)
	for _, o := range outpoints {
		if coin, ok := c.tip.coins[o]; ok {
			coins[o] = coin
		}
	}
	return c.tip.state, coins, c.viewErr
}

func (c *testChain) Records(parent *consensus.State, maxBytes int) []consensus.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spoiled {
		return c.records
	}
	return parent.SelectRecords(c.records, maxBytes)
}

func (c *testChain) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

var errOrphan = errors.New("unknown parent")

// AddBlock answers as the node's adapter to the real chain does. Held is told
// by the clock, here: of time.Now.
func (c *testChain) AddBlock(b *types.Block) (work.Outcome, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	parent, ok := c.nodes[b.PrevBlock]
	if !ok {
		return work.Rejected, errOrphan
	}
	if c.nodes[b.Header.ID()] != nil {
		return work.Accepted, nil
	}
	state, diff, err := consensus.Connect(&parent.state, b, parent.coins)
	if err != nil {
		return work.Rejected, err
	}
	n := &chainNode{block: b, state: state, coins: maps.Clone(parent.coins)}
	for _, u := range diff.Spent {
		delete(n.coins, u.OutPoint)
	}
	for _, u := range diff.Created {
		n.coins[u.OutPoint] = u.Coin
	}
	c.nodes[state.ID] = n
	if state.Weight(0).Compare(c.tip.state.Weight(0)) <= 0 {
		return work.Stale, nil
	}
	c.tip = n
	close(c.changed)
	c.changed = make(chan struct{})
	return work.Accepted, nil
}

// testPool hands out what a test puts into it, right or wrong.
type testPool struct {
	chain *testChain

	mu       sync.Mutex
	txs      []*types.Transaction
	spends   []consensus.Spend
	removed  []types.Hash
	stubborn bool             // Remove does nothing
	at       *consensus.State // stands on another block than the chain
	room     []int            // maxBytes of every Select
	changed  chan struct{}
}

func newTestPool(c *testChain) *testPool {
	return &testPool{chain: c, changed: make(chan struct{})}
}

func (p *testPool) Select(maxBytes, maxSigOps int) (parent consensus.State, txs []*types.Transaction, spends []consensus.Spend, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	parent = p.chain.Tip()
	p.room = append(p.room, maxBytes)
	if p.at != nil {
		parent = *p.at
	}
	for i, tx := range p.txs {
		maxBytes -= len(tx.Bytes())
		maxSigOps -= p.spends[i].SigOps
		if maxBytes < 0 || maxSigOps < 0 {
			break
		}
		txs, spends = append(txs, tx), append(spends, p.spends[i])
	}
	return parent, txs, spends, nil
}

func (p *testPool) Remove(id types.Hash) []types.Hash {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.txs, func(tx *types.Transaction) bool { return tx.ID() == id })
	if i < 0 || p.stubborn {
		return nil
	}
	p.txs, p.spends = slices.Delete(slices.Clone(p.txs), i, i+1), slices.Delete(slices.Clone(p.spends), i, i+1)
	p.removed = append(p.removed, id)
	return []types.Hash{id}
}

func (p *testPool) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// put adds a transaction with one signature check for each input.
func (p *testPool) put(fee int64, txs ...*types.Transaction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, tx := range txs {
		p.txs = append(p.txs, tx)
		p.spends = append(p.spends, consensus.Spend{Fee: fee, SigOps: len(tx.Inputs)})
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *testPool) empty() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.txs, p.spends = nil, nil
}

// rig is a chain, a pool and a builder on them.
type rig struct {
	*testChain
	pool    *testPool
	builder *Builder
	found   []Solved // by Sources of the rig, which are not used concurrently
	log     errorLines
}

// errorLines keeps what was logged as an error.
type errorLines struct {
	slog.Handler
	mu   sync.Mutex
	list []string
}

func (*errorLines) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (e *errorLines) WithAttrs([]slog.Attr) slog.Handler { return e }

func (e *errorLines) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, line)
	return nil
}

func (e *errorLines) lines() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}

// payout is the script all tests pay blocks to.
func payout() []byte { return chaingen.PayToHash(1) }

func newRig(t testing.TB, change ...func(*consensus.Params)) *rig {
	p := chaingen.Params()
	for _, f := range change {
		f(&p)
	}
	c := newTestChain(t, p)
	r := &rig{testChain: c, pool: newTestPool(c)}
	b, err := NewBuilder(c, r.pool, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.builder = b
	return r
}

// clock returns a time at which the next block is neither early nor late.
func (r *rig) clock() time.Time {
	return time.Unix(int64(r.Tip().Time)+int64(r.net.IntervalSeconds), 0)
}

// solve finds a nonce for a job.
func solve(t testing.TB, j *work.Job, s work.Solution) work.Solution {
	t.Helper()
	s.JobID = j.ID
	for ; ; s.Nonce++ {
		h := j.Header(s)
		if j.Target.Met(h.Hash()) {
			return s
		}
	}
}

// advance adds blocks from templates until the chain has a height.
func (r *rig) advance(height uint32) {
	r.t.Helper()
	for r.Tip().Height < height {
		tmpl, err := r.builder.Mined(r.Tip(), r.clock(), payout())
		if err != nil {
			r.t.Fatal(err)
		}
		b, err := tmpl.Block(solve(r.t, tmpl.Job, work.Solution{Version: tmpl.Job.Version, Time: tmpl.Job.Time}))
		if err != nil {
			r.t.Fatal(err)
		}
		if outcome, err := r.AddBlock(b); outcome != work.Accepted || err != nil {
			r.t.Fatalf("height %d: %v, %v", tmpl.Job.Height, outcome, err)
		}
	}
}

// coins returns n mature coins of the chain, oldest first.
func (r *rig) coins(n int) []consensus.UTXO {
	r.t.Helper()
	r.advance(uint32(n) + r.net.CoinbaseMaturity)
	var coins []consensus.UTXO
	for o, c := range r.tip.coins {
		coins = append(coins, consensus.UTXO{OutPoint: o, Coin: c})
	}
	slices.SortFunc(coins, func(a, b consensus.UTXO) int { return int(a.Coin.Height) - int(b.Coin.Height) })
	return coins[:n]
}

// pay spends a coin and leaves the fee over.
func (r *rig) pay(fee int64, u consensus.UTXO) *types.Transaction {
	r.t.Helper()
	return r.g.Spend([]consensus.UTXO{u}, chaingen.Pay(u.Coin.Output.Value-fee, chaingen.PayToHash(2)))
}

func output(tx *types.Transaction, index int) consensus.UTXO {
	return consensus.UTXO{
		OutPoint: types.OutPoint{TxID: tx.ID(), Index: uint32(index)},
		Coin:     consensus.Coin{Output: tx.Outputs[index]},
	}
}
