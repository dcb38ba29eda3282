// Package chaingen makes blocks for tests: valid ones, and ones that are wrong
// in exactly one chosen way. Blocks have names, so that a test reads as a drawing
// of the tree it builds:
//
//	g := chaingen.New(t, chaingen.Params())
//	g.Next("a1")
//	g.Next("a2")
//	g.SetTip("a1")
//	g.Next("b2") // a fork: a1 has the children a2 and b2
//
// Records of a CoinOnline are made for blocks by name:
//
//	g.Next("s20", chaingen.Records(g.Certificate("genesis", "s10", 0, 1, 4)))
//
// Everything a block needs is filled in: bits, time, coinbase or CoinOnline,
// Merkle root, nonce or VchBlockSig. Mungers change a block before the last
// three are made; whichever of them a munger sets itself is left as it is.
// The package is for tests only: its keys are public.
package chaingen

import (
	"fmt"
	"math"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// TB is the part of testing.TB that a Generator needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Munger changes a block before its Merkle root, nonce and VchBlockSig are made.
type Munger func(*types.Block)

// Node is a block of the tree.
type Node struct {
	Name   string
	Block  *types.Block
	Parent *Node // nil for genesis
	// State is the chain as of this block, computed from headers alone: it is
	// filled in for invalid blocks too, so that they can have children.
	State consensus.State
	// Diff and Err are what consensus.Connect says of the block. Err is nil for
	// a valid block whose parent is valid.
	Diff consensus.Diff
	Err  error
}

// Generator builds a tree of blocks. It is not safe for concurrent use.
type Generator struct {
	tb      TB
	network *consensus.Network
	keys    map[types.PublicKey]Key // of validators, as far as they were needed
	nodes   map[string]*Node
	tip     *Node
}

// New returns a generator whose tip is "genesis". p must come from Params or
// P256Params; numbers may be changed, and validators as far as Secret knows
// their keys.
func New(tb TB, p consensus.Params) *Generator {
	tb.Helper()
	network, err := consensus.NewNetwork(p)
	if err != nil {
		tb.Fatalf("chaingen: %v", err)
	}
	g := &Generator{tb: tb, network: network, nodes: make(map[string]*Node), keys: make(map[types.PublicKey]Key)}
	for _, k := range p.Validators {
		g.Secret(k)
	}
	g.tip = &Node{Name: "genesis", Block: network.Genesis(), State: network.GenesisState()}
	g.nodes[g.tip.Name] = g.tip
	return g
}

// Network returns the network the blocks belong to.
func (g *Generator) Network() *consensus.Network { return g.network }

// Tip returns the block the next one will follow.
func (g *Generator) Tip() *Node { return g.tip }

// Node returns a block by name; an unknown name fails the test.
func (g *Generator) Node(name string) *Node {
	g.tb.Helper()
	n, ok := g.nodes[name]
	if !ok {
		g.tb.Fatalf("chaingen: there is no block %q", name)
	}
	return n
}

// SetTip makes an earlier block the parent of the next one.
func (g *Generator) SetTip(name string) {
	g.tb.Helper()
	g.tip = g.Node(name)
}

// Path returns the blocks from the child of genesis to the named block.
func (g *Generator) Path(name string) []*types.Block {
	g.tb.Helper()
	node := g.Node(name)
	path := make([]*types.Block, node.State.Height)
	for ; node.Parent != nil; node = node.Parent {
		path[node.State.Height-1] = node.Block
	}
	return path
}

// Next adds the block a healthy network would: a mined block one interval
// after its parent or, at a slot, the block of the validator in turn.
func (g *Generator) Next(name string, mungers ...Munger) *Node {
	g.tb.Helper()
	if g.tip.State.ChildIsSlot() {
		return g.NextSigned(name, g.tip.State.ValidatorOfRank(0), mungers...)
	}
	return g.nextMined(name, g.tip.State.Time+g.network.IntervalSeconds, mungers)
}

// NextFallback adds a mined block at a slot, as early as one may be.
func (g *Generator) NextFallback(name string, mungers ...Munger) *Node {
	g.tb.Helper()
	if !g.tip.State.ChildIsSlot() {
		g.tb.Fatalf("chaingen: block %q: height %d is no slot", name, g.tip.State.ChildHeight())
	}
	return g.nextMined(name, g.tip.State.FallbackTime(), mungers)
}

// NextSigned adds a block signed by validator index, as early as it may sign.
// At a height that is no slot the block is invalid.
func (g *Generator) NextSigned(name string, index uint8, mungers ...Munger) *Node {
	g.tb.Helper()
	state := &g.tip.State
	from, _ := state.SignedWindow(index)
	b := g.draft(from)
	key := state.Validators().Keys[int(index)%len(state.Validators().Keys)]
	b.Transactions[0].Outputs = []types.TxOut{{}, {PkScript: types.KeyScript(key)}}
	b.VchBlockSig = types.BlockSig{Index: index}.Bytes()
	return g.add(name, b, mungers)
}

// Fill adds n blocks as Next does, named prefix1 … prefixn, and returns the last.
func (g *Generator) Fill(prefix string, n int) *Node {
	g.tb.Helper()
	for i := range n {
		g.Next(fmt.Sprintf("%s%d", prefix, i+1))
	}
	return g.tip
}

func (g *Generator) nextMined(name string, time uint32, mungers []Munger) *Node {
	g.tb.Helper()
	b := g.draft(time)
	b.Transactions[0].Outputs = []types.TxOut{{
		Value:    g.tip.State.Subsidy(),
		PkScript: types.PubKeyHashScript(PaymentKey(0).hash()),
	}}
	return g.add(name, b, mungers)
}

// draft returns a block on the tip with everything but its outputs.
func (g *Generator) draft(time uint32) *types.Block {
	state := &g.tip.State
	b := &types.Block{Transactions: []*types.Transaction{{
		Version: 1,
		Inputs: []types.TxIn{{
			Previous:        types.NullOutPoint,
			SignatureScript: types.HeightScript(state.ChildHeight()),
			Sequence:        math.MaxUint32,
		}},
	}}}
	b.Header = types.Header{Version: 1, PrevBlock: state.ID, Time: time, Bits: state.NextBits()}
	return b
}

// add finishes a block, records what consensus says of it and makes it the tip.
func (g *Generator) add(name string, b *types.Block, mungers []Munger) *Node {
	g.tb.Helper()
	if _, ok := g.nodes[name]; ok {
		g.tb.Fatalf("chaingen: there is a block %q already", name)
	}
	// The name in the first transaction keeps two blocks on one parent apart.
	first := &b.Transactions[0].Inputs[0]
	tag := name[:min(len(name), 75)]
	first.SignatureScript = append(append(first.SignatureScript, byte(len(tag))), tag...)

	before := b.SignedHeader
	before.VchBlockSig = append([]byte(nil), b.VchBlockSig...)
	for _, munge := range mungers {
		munge(b)
	}
	if b.MerkleRoot == before.MerkleRoot {
		FixMerkleRoot(b)
	}
	parent := g.tip
	switch {
	case !b.IsSigned() && b.Nonce == before.Nonce:
		g.Solve(b)
	case b.IsSigned() && string(b.VchBlockSig) == string(before.VchBlockSig):
		g.Sign(b, b.VchBlockSig[0])
	}
	node := &Node{Name: name, Block: b, Parent: parent, State: follow(parent, b)}
	_, node.Diff, node.Err = consensus.Connect(&parent.State, b, g.CoinsFor(b))
	if parent.Err != nil {
		node.Err = fmt.Errorf("parent %s: %w", parent.Name, parent.Err)
	}
	g.nodes[name] = node
	g.tip = node
	return node
}

// follow returns the state after b without judging b: C6 and C8 spelled out a
// second time, which the tests hold against what consensus.Connect returns.
func follow(parent *Node, b *types.Block) consensus.State {
	target := parent.State.NextTarget()
	work := types.Work(&target)
	s := parent.State
	if b.IsSigned() && len(b.Transactions) > 0 {
		// What the chain says of its validators is not said twice: tests of the
		// records write down what they expect of it.
		s.Authority = s.Child(&b.SignedHeader, b.Transactions[0]).Authority
	}
	s.Height++
	s.ID = b.Header.ID()
	s.Time = b.Time
	s.Work.Add(&s.Work, &work)
	if b.IsSigned() {
		s.SignedSlots++
		s.LastSigned = s.Height
	}
	return s
}

// FixMerkleRoot makes the header commit to the transactions.
func FixMerkleRoot(b *types.Block) { b.MerkleRoot, _ = types.MerkleRoot(b.TxIDs()) }

// Solve finds a nonce for a block that follows the tip.
func (g *Generator) Solve(b *types.Block) {
	g.tb.Helper()
	target := g.tip.State.NextTarget()
	for b.Nonce = 0; !types.HashMeets(b.Header.ID(), &target); b.Nonce++ {
		if b.Nonce == math.MaxUint32 {
			g.tb.Fatalf("chaingen: no nonce solves the block")
		}
	}
}

// Sign puts the VchBlockSig of validator index on a block that follows the tip.
func (g *Generator) Sign(b *types.Block, index uint8) {
	g.tb.Helper()
	state := &g.tip.State
	digest := consensus.SlotDigest(g.network.ID, state.ValidatorSetID(), state.ChildHeight(), b.Header.ID())
	keys := state.Validators().Keys
	key := g.Secret(keys[int(index)%len(keys)])
	b.VchBlockSig = types.BlockSig{Index: index, Signature: key.Sign(digest)}.Bytes()
}

// Clone returns a deep copy of a block.
func Clone(b *types.Block) *types.Block {
	c := &types.Block{SignedHeader: b.SignedHeader}
	c.VchBlockSig = append([]byte(nil), b.VchBlockSig...)
	for _, tx := range b.Transactions {
		c.Transactions = append(c.Transactions, cloneTx(tx))
	}
	return c
}

func cloneTx(tx *types.Transaction) *types.Transaction {
	c := *tx
	c.Inputs = append([]types.TxIn(nil), tx.Inputs...)
	for i := range c.Inputs {
		c.Inputs[i].SignatureScript = append([]byte(nil), tx.Inputs[i].SignatureScript...)
	}
	c.Outputs = append([]types.TxOut(nil), tx.Outputs...)
	for i := range c.Outputs {
		c.Outputs[i].PkScript = append([]byte(nil), tx.Outputs[i].PkScript...)
	}
	return &c
}
