package chain

import (
	"iter"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Entry is what the index holds of a block. It and Batch are aliases of
// unnamed types, so that a store has them without importing this package.
type Entry = struct {
	Header types.SignedHeader
	State  consensus.State // after the block, derived from headers
	// Sequence is the order of arrival, HasBlock and HasUndo say what is kept of
	// the block. The store sets them; Commit ignores them.
	Sequence          uint64
	HasBlock, HasUndo bool
	// Invalid is the rule that InvalidBlock, this block or an ancestor, breaks,
	// and Detail how. Empty: not known to be invalid.
	Invalid      consensus.Rule
	Detail       string
	InvalidBlock types.Hash
}

// Batch is one atomic change of the store.
type Batch = struct {
	// Entries are new, or replace what is there under the same id.
	Entries []Entry
	// Blocks are the bodies to keep; each has an entry, here or already there.
	Blocks []*types.Block
	// Spent are the coins that newly connected blocks spent, by block: the undo
	// records.
	Spent map[types.Hash][]consensus.UTXO
	// Best are the changes of the best chain, id by height; the zero hash
	// removes a height.
	Best map[uint32]types.Hash
	// Tip is the last block of the best chain. Zero: unchanged.
	Tip types.Hash
	// Coins are the changes of the set of unspent outputs; nil removes a coin.
	Coins map[types.OutPoint]*consensus.Coin

	// Certificates are to be kept, in place of what is kept of the same links.
	Certificates []consensus.Certificate
	// Forget are links whose certificates need no longer be kept.
	Forget []consensus.Link
	// Final is the highest final slot. Zero: unchanged.
	Final consensus.Checkpoint
}

// BlockSource is a stored chain as its reader sees it. Errors mean I/O failure
// or damage, name the file, and say nothing about a block's validity.
type BlockSource interface {
	// Tip returns the last block of the best chain, false in an empty store.
	Tip() (types.Hash, bool, error)
	// BestID returns the block of the best chain at a height.
	BestID(height uint32) (types.Hash, bool, error)
	// Entry returns the index entry of a block.
	Entry(id types.Hash) (Entry, bool, error)
	// Block returns the body of a block whose entry says HasBlock.
	Block(id types.Hash) (*types.Block, bool, error)
	// Spent returns the coins a block spent, if its entry says HasUndo.
	Spent(id types.Hash) ([]consensus.UTXO, bool, error)
	// Entries yields the whole index, in no order.
	Entries() iter.Seq2[Entry, error]
	// UTXOs yields all unspent outputs, in no order.
	UTXOs() iter.Seq2[consensus.UTXO, error]
	// Certificates returns the certificates that are kept, in no order.
	Certificates() ([]consensus.Certificate, error)
	// Final returns the highest final slot, the zero value before the first.
	Final() (consensus.Checkpoint, error)
	// Where says in which file a block's body lies, for error messages.
	Where(id types.Hash) string
	// Check looks for damage in the index itself.
	Check() error
}

// Store keeps a chain. Calls may be concurrent, except that there is one
// Commit at a time.
type Store interface {
	BlockSource
	// Coins returns those of the outpoints that are unspent.
	Coins(outpoints []types.OutPoint) (consensus.Coins, error)
	// Leaves returns the blocks that no stored block builds on.
	Leaves() ([]types.Hash, error)
	// Commit makes all of b durable, or nothing of it; which of the two it was is
	// open after an error, until the store is read again.
	Commit(b Batch) error
}
