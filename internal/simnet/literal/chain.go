package literal

import (
	"slices"
	"time"

	"github.com/holiman/uint256"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Chain is the block tree of one node that follows the source text. It is for
// one goroutine.
type Chain struct {
	net    *consensus.Network
	now    func() time.Time
	target uint256.Int
	blocks map[types.Hash]*block
	tip    *block
}

// block is a block of the tree with the chain as of it. Of the state only
// Network, Height, ID, Time and Work mean anything here.
type block struct {
	state  consensus.State
	parent *block // nil for genesis
	body   *types.Block
	diff   consensus.Diff
}

// New returns a chain that holds the genesis block of net. Of the parameters
// it takes n, the keys, the numbers about money, and SlotOpenSeconds as "the
// set time" (P20: twice the block interval).
func New(net *consensus.Network, now func() time.Time) *Chain {
	genesis := &block{state: net.GenesisState(), body: net.Genesis()}
	target, err := types.CompactToTarget(uint32(net.GenesisBits))
	if err != nil {
		panic("literal: the genesis target was checked with the parameters")
	}
	return &Chain{net: net, now: now, target: target, blocks: map[types.Hash]*block{net.ID: genesis}, tip: genesis}
}

// Add checks a block and stores it. better reports whether it is the tip now;
// a block that is known already is not. The error names the statement it
// breaks, such as "P22", or a rule of node/consensus where the text means
// Bitcoin's own.
func (c *Chain) Add(b *types.Block) (better bool, err error) {
	id := b.Header.ID()
	if c.blocks[id] != nil {
		return false, nil
	}
	parent := c.blocks[b.PrevBlock]
	if parent == nil {
		return false, broken(consensus.RulePrevBlock, "parent %s is not known", b.PrevBlock)
	}
	if err := c.checkHeader(parent, &b.SignedHeader); err != nil {
		return false, err
	}
	check := c.checkOrdinary
	if c.isAuth(parent, b.Time) {
		check = c.checkAuth
	}
	diff, err := check(parent, b)
	if err != nil {
		return false, err
	}
	child := &block{state: c.Child(parent.state, &b.Header), parent: parent, body: b, diff: diff}
	c.blocks[id] = child
	// P27: forks are out of the text's scope and most work wins, as in Bitcoin; of
	// equals what came first.
	if !child.state.Work.Gt(&c.tip.state.Work) {
		return false, nil
	}
	c.tip = child
	return true, nil
}

// Tip returns the best chain.
func (c *Chain) Tip() consensus.State { return c.tip.state }

// State returns the chain as of a stored block.
func (c *Chain) State(id types.Hash) (consensus.State, bool) {
	b := c.blocks[id]
	if b == nil {
		return consensus.State{}, false
	}
	return b.state, true
}

// Block returns a stored block, nil if there is none.
func (c *Chain) Block(id types.Hash) *types.Block {
	if b := c.blocks[id]; b != nil {
		return b.body
	}
	return nil
}

// Child returns the state after a block with this header. A signed block is
// credited the work of a mined one: the text compares chains by work (P27) and
// says nothing else of its weight (PA8).
func (c *Chain) Child(parent consensus.State, h *types.Header) consensus.State {
	work := types.Work(&c.target)
	s := parent
	s.Height, s.ID, s.Time = parent.ChildHeight(), h.ID(), h.Time
	s.Work.Add(&parent.Work, &work)
	return s
}

// Bits is the compact target of every block. The text has no rule for it;
// Bitcoin's would change it after 2016 blocks, more than any chain here has.
func (c *Chain) Bits() uint32 { return uint32(c.net.GenesisBits) }

// MinTime returns the earliest time of a block on a stored one: Bitcoin's rule,
// as the text has none. It is far below the parent's.
func (c *Chain) MinTime(parent types.Hash) uint32 { return c.blocks[parent].median() + 1 }

// SignTime returns the time a validator gives the block it signs now on a
// stored parent; ok is false once it may not (P19, P21).
func (c *Chain) SignTime(parent types.Hash) (at uint32, ok bool) {
	now, prev := c.now().Unix(), c.blocks[parent]
	if now-int64(prev.state.Time) > c.setTime() {
		return 0, false
	}
	return max(uint32(now), prev.median()+1), true
}

// setTime is "the set time" of P19 to P22, in seconds.
func (c *Chain) setTime() int64 { return int64(c.net.SlotOpenSeconds) }

// median is the median time of a block and the ten before it.
func (b *block) median() uint32 {
	times := make([]uint32, 0, medianBlocks)
	for at := b; at != nil && len(times) < medianBlocks; at = at.parent {
		times = append(times, at.state.Time)
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// coins returns what a block on parent spends of the chain before it.
func (b *block) coins(child *types.Block) consensus.Coins {
	coins := make(consensus.Coins)
	for _, tx := range child.Transactions[1:] {
		for i := range tx.Inputs {
			at := tx.Inputs[i].Previous
			if coin, ok := b.coin(at); ok {
				coins[at] = coin
			}
		}
	}
	return coins
}

func (b *block) coin(at types.OutPoint) (consensus.Coin, bool) {
	is := func(u consensus.UTXO) bool { return u.OutPoint == at }
	for ; b != nil; b = b.parent {
		if slices.ContainsFunc(b.diff.Spent, is) {
			break
		}
		if i := slices.IndexFunc(b.diff.Created, is); i >= 0 {
			return b.diff.Created[i].Coin, true
		}
	}
	return consensus.Coin{}, false
}
