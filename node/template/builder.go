package template

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// blockVersion is the version of every template. Bits 5–28 are zero, as miners
// may roll them and as firmware disagrees on how to combine them with bits that
// are set (BIP 310, BIP 320, BIP 323).
const blockVersion = 0x20000000

// reserve is the room, in bytes, that transactions leave in a block for its
// header, VchBlockSig, transaction count and first transaction. It is generous,
// as pool software that asks for a template makes a coinbase of its own; coinbases
// that may be larger than DefaultMaxCoinbase get more.
const reserve = 1000

// recordShare is the part of a signed block, one in so many bytes, that its
// CoinOnline's records may take.
const recordShare = 4

// maxRebuilds is how often a template is made again without the transactions
// that spoiled it before it is made without any.
const maxRebuilds = 3

// ErrParentMoved means that the block to build on is not, or no longer, the tip.
var ErrParentMoved = errors.New("block to build on is not the tip of the chain")

// Chain is what templates need of the chain.
type Chain interface {
	Tip() consensus.State
	// View returns the tip and those of the outpoints that are unspent as of
	// it, both of one moment.
	View(outpoints []types.OutPoint) (consensus.State, consensus.Coins, error)
	// Changed returns a channel that is closed when the tip next changes.
	Changed() <-chan struct{}
	// Records returns what a signed block after parent should carry, which encodes
	// to at most maxBytes.
	Records(parent *consensus.State, maxBytes int) []consensus.Record
}

// Pool is where transactions come from.
type Pool interface {
	// Select returns transactions for the block after parent, each after those
	// it depends on, and what each pays and needs.
	Select(maxBytes, maxSigOps int) (parent consensus.State, txs []*types.Transaction, spends []consensus.Spend, err error)
	// Remove drops a transaction and what depends on it.
	Remove(id types.Hash) []types.Hash
	// Changed returns a channel that is closed when transactions next come or go.
	Changed() <-chan struct{}
}

// Template is a block that lacks only proof of work. It is immutable.
type Template struct {
	Job    *work.Job
	Reason Reason // why a Source published it
	Parent consensus.State
	// Transactions follow the coinbase in the block; Spends tells what each
	// pays and needs.
	Transactions  []*types.Transaction
	Spends        []consensus.Spend
	CoinbaseValue int64 // subsidy and fees, base units
	// Note is that of the plan by which the coinbase pays.
	Note []byte
	// LongPollID stays the same while parent and transactions do.
	LongPollID string
}

// Block returns the block that a solution of the template's job stands for.
func (t *Template) Block(s work.Solution) (*types.Block, error) { return t.block(t.Job, s) }

// block returns the block of a solution of job, the template's or a variant of it.
func (t *Template) block(job *work.Job, s work.Solution) (*types.Block, error) {
	coinbase, err := types.DecodeTransaction(job.Coinbase(s.Extranonce))
	if err != nil {
		return nil, err
	}
	raw := job.Header(s)
	header, err := types.DecodeHeader(raw[:])
	if err != nil {
		return nil, err
	}
	b := &types.Block{Transactions: append([]*types.Transaction{coinbase}, t.Transactions...)}
	b.Header = header
	return b, nil
}

// Builder makes blocks on the tip.
type Builder struct {
	chain Chain
	pool  Pool
	tag   string
	log   *slog.Logger
	rules []consensus.Option
	jobs  atomic.Uint64
}

// NewBuilder returns a builder. tag is a short text that its coinbases carry,
// for people who look at the chain; it may be empty. rules go to the validator.
func NewBuilder(chain Chain, pool Pool, tag string, log *slog.Logger, rules ...consensus.Option) (*Builder, error) {
	if len(tag) > maxTag {
		return nil, fmt.Errorf("coinbase tag of %d bytes: want at most %d", len(tag), maxTag)
	}
	return &Builder{chain: chain, pool: pool, tag: tag, log: log, rules: rules}, nil
}

// Mined returns a template on parent, the tip, that pays its reward to a
// script. At a slot it is a fallback block. The error is ErrParentMoved, a
// *consensus.RuleError when nothing can be paid to the script, or an I/O failure.
func (b *Builder) Mined(parent consensus.State, now time.Time, payoutScript []byte) (*Template, error) {
	sel, err := b.choose(&parent, 0)
	if err != nil {
		return nil, err
	}
	return b.mined(parent, now, fixed(payoutScript), 0, sel)
}

// mined makes a template that pays by plan, and whose coinbase takes room bytes
// more than reserve has for it.
func (b *Builder) mined(parent consensus.State, now time.Time, plan func(uint32, int64) Plan, room int, sel selection) (*Template, error) {
	var t *Template
	_, err := b.checked(&parent, room, sel, func(sel selection) (*types.Block, error) {
		t = b.template(parent, now, plan, sel)
		return t.Block(work.Solution{Version: t.Job.Version, Time: t.Job.Time})
	})
	if err != nil {
		return nil, fmt.Errorf("template at height %d: %w", parent.ChildHeight(), err)
	}
	t.LongPollID = fmt.Sprintf("%s-%d", parent.ID, t.Job.ID)
	return t, nil
}

// template cuts a block open as a job; nothing is checked yet.
func (b *Builder) template(parent consensus.State, now time.Time, plan func(uint32, int64) Plan, sel selection) *Template {
	t := &Template{
		Parent: parent, Transactions: sel.txs, Spends: sel.spends,
		CoinbaseValue: parent.Subsidy() + sel.fees(),
	}
	pays := plan(parent.ChildHeight(), t.CoinbaseValue)
	t.Note = pays.Note
	id := b.jobs.Add(1)
	target := parent.NextTarget()
	t.Job = &work.Job{
		ID: id, Height: parent.ChildHeight(), Fallback: parent.ChildIsSlot(),
		Version: blockVersion, PrevBlock: parent.ID,
		CoinbasePrefix: coinbasePrefix(&parent, b.tag), CoinbaseSuffix: coinbaseSuffix(id, b.tag, pays.Outputs),
		MerkleBranch: sel.branch(),
		Time:         minedTime(&parent, now), MinTime: parent.MinedTime(),
		Bits: parent.NextBits(), Target: target.Bytes32(), Reward: t.CoinbaseValue,
	}
	t.Job.Transactions = t.serialised
	return t
}

// serialised returns the transactions beside the coinbase.
func (t *Template) serialised() [][]byte {
	list := make([][]byte, len(t.Transactions))
	for i, tx := range t.Transactions {
		list[i] = tx.Bytes()
	}
	return list
}

// minedTime returns the header time of a mined block that is made now. At a
// slot that is the earliest a fallback block may have, even when it lies ahead:
// the work may be done early, and the block is held until it is due.
func minedTime(parent *consensus.State, now time.Time) uint32 {
	return max(clock(now), parent.MinedTime())
}

func clock(now time.Time) uint32 { return uint32(min(max(now.Unix(), 0), 1<<32-1)) }

// refreshed returns the template with another time and job. Its transactions
// were checked on this parent already, and time is no matter of the body.
func (b *Builder) refreshed(t *Template, now time.Time, plan func(uint32, int64) Plan) *Template {
	f := b.template(t.Parent, now, plan, selection{txs: t.Transactions, spends: t.Spends, leafBranch: t.Job.MerkleBranch})
	f.LongPollID = t.LongPollID
	return f
}

// selection is what goes into a block behind its first transaction.
type selection struct {
	txs        []*types.Transaction
	spends     []consensus.Spend
	leafBranch [][32]byte // when known
}

func (s *selection) fees() (sum int64) {
	for _, spend := range s.spends {
		sum += spend.Fee
	}
	return sum
}

func (s *selection) sigOps() (sum int) {
	for _, spend := range s.spends {
		sum += spend.SigOps
	}
	return sum
}

func (s *selection) same(t *Template) bool { return slices.Equal(s.txs, t.Transactions) }

// branch returns the Merkle siblings of the first transaction.
func (s *selection) branch() [][32]byte {
	if s.leafBranch == nil {
		ids := make([]types.Hash, 1, 1+len(s.txs))
		for _, tx := range s.txs {
			ids = append(ids, tx.ID())
		}
		for _, h := range types.MerkleBranch(ids) {
			s.leafBranch = append(s.leafBranch, h)
		}
	}
	return s.leafBranch
}

// choose asks the pool for transactions that follow parent and leave room, in
// bytes, for what the first transaction carries.
func (b *Builder) choose(parent *consensus.State, room int) (selection, error) {
	n := parent.Network
	at, txs, spends, err := b.pool.Select(max(0, int(n.MaxBlockBytes)-reserve-room), int(n.MaxSigOps))
	if err != nil {
		return selection{}, fmt.Errorf("selecting transactions: %w", err)
	}
	if at.ID != parent.ID {
		return selection{}, ErrParentMoved
	}
	return selection{txs: txs, spends: spends}, nil
}

// checked makes a block of the selection and validates it. A transaction that
// makes it invalid, which would be a mistake of the pool, is dropped from there
// and another block is made, in the end an empty one: no transaction may keep
// the chain from going on.
func (b *Builder) checked(parent *consensus.State, room int, sel selection, build func(selection) (*types.Block, error)) (*types.Block, error) {
	for rebuilds := 0; ; rebuilds++ {
		block, err := build(sel)
		if err != nil {
			return nil, err
		}
		coins, err := b.coins(parent, sel.txs)
		if err != nil {
			return nil, err
		}
		err = b.validate(parent, block, coins)
		if err == nil {
			return block, nil
		}
		if _, rule := consensus.RuleOf(err); !rule || len(sel.txs) == 0 {
			return nil, err
		}
		b.log.Error("a block made of pool transactions is invalid", "height", parent.ChildHeight(), "err", err)
		if dropped := b.drop(parent, sel.txs, coins); dropped == 0 || rebuilds == maxRebuilds {
			sel = selection{}
			continue
		}
		if sel, err = b.choose(parent, room); err != nil {
			return nil, err
		}
	}
}

// validate applies every rule but those of the header.
func (b *Builder) validate(parent *consensus.State, block *types.Block, coins consensus.Coins) error {
	if err := parent.CheckBlock(block); err != nil {
		return err
	}
	_, err := consensus.ValidateBody(parent, block, coins, b.rules...)
	return err
}

// coins looks up what transactions spend on the chain.
func (b *Builder) coins(parent *consensus.State, txs []*types.Transaction) (consensus.Coins, error) {
	var outpoints []types.OutPoint
	for _, tx := range txs {
		for i := range tx.Inputs {
			outpoints = append(outpoints, tx.Inputs[i].Previous)
		}
	}
	state, coins, err := b.chain.View(outpoints)
	if err != nil {
		return nil, fmt.Errorf("looking up coins: %w", err)
	}
	if state.ID != parent.ID {
		return nil, ErrParentMoved
	}
	return coins, nil
}

// drop removes from the pool what is not valid where it stands, and returns
// how many such transactions there were.
func (b *Builder) drop(parent *consensus.State, txs []*types.Transaction, coins consensus.Coins) (dropped int) {
	for _, tx := range txs {
		_, err := consensus.ValidateTransaction(parent, tx, coins)
		if err != nil {
			gone := b.pool.Remove(tx.ID())
			b.log.Error("invalid transaction dropped from the pool", "tx", tx.ID(), "count", len(gone), "err", err)
			dropped++
			continue
		}
		for i := range tx.Inputs {
			delete(coins, tx.Inputs[i].Previous)
		}
		for i, out := range tx.Outputs {
			coins[types.OutPoint{TxID: tx.ID(), Index: uint32(i)}] = consensus.Coin{Output: out, Height: parent.ChildHeight(), ParentTime: parent.Time}
		}
	}
	return dropped
}
