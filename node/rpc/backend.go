package rpc

import (
	"context"
	"errors"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Chain is what the calls read of the chain.
type Chain interface {
	Network() *consensus.Network
	Tip() consensus.State
	State(id types.Hash) (consensus.State, bool, error)
	Header(id types.Hash) (types.SignedHeader, bool, error)
	Block(id types.Hash) (*types.Block, bool, error)
	BestID(height uint32) (types.Hash, bool, error)
	View(outpoints []types.OutPoint) (consensus.State, consensus.Coins, error)
	InvalidReason(id types.Hash) (string, bool, error)
	// Standing returns the best chain and what votes prove of it.
	Standing() consensus.Standing
	// Certificates returns the newest certificates, by ascending target.
	Certificates() []consensus.Certificate
	// AddAttestation and AddCertificate count votes; AddSetChange keeps a change of
	// the validator set for the next signed block. Errors are *consensus.RuleError,
	// ErrTooEarly, or failures of this node.
	AddAttestation(a consensus.Attestation) (added bool, err error)
	AddCertificate(c consensus.Certificate) (added bool, err error)
	AddSetChange(c *consensus.SetChange) error
}

// ErrTooEarly is what Chain wraps for votes whose target this node does not have
// yet: they may be right and may be handed in again.
var ErrTooEarly = errors.New("too early for this vote")

// PoolEntry is a transaction that waits to be mined.
type PoolEntry struct {
	Tx     *types.Transaction
	TxID   types.Hash
	Fee    int64 // base units
	Size   int   // bytes
	Time   time.Time
	Height uint32 // of the tip when it came in
}

// ErrConfirmed is what Pool answers for a transaction that is in a block already.
var ErrConfirmed = errors.New("transaction is confirmed already")

// ErrUnwanted is what Pool answers for a transaction that breaks no rule of the
// chain but is not wanted, for example because of its fee.
type ErrUnwanted struct{ Err error }

func (e ErrUnwanted) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e ErrUnwanted) Unwrap() error { return e.Err }

// Pool is the mempool.
type Pool interface {
	// Add validates a transaction and keeps it for mining. The error is a
	// *consensus.RuleError, an ErrUnwanted, ErrConfirmed, or a failure of this
	// node that says nothing about the transaction.
	Add(tx *types.Transaction) (types.Hash, error)
	// Test validates a transaction as Add does, without keeping it.
	Test(tx *types.Transaction) (PoolEntry, error)
	Entry(id types.Hash) (PoolEntry, bool)
	Entries() []PoolEntry
	// Spender returns the waiting transaction that spends an output.
	Spender(o types.OutPoint) (types.Hash, bool)
	// MinFeeRate returns the lowest fee accepted, in base units per 1,000 bytes.
	MinFeeRate() int64
}

// TemplateTx is a transaction of a block template.
type TemplateTx struct {
	Tx     *types.Transaction
	Fee    int64
	SigOps int
}

// Template is what a miner needs to build the next block.
type Template struct {
	Parent        consensus.State
	Transactions  []TemplateTx
	CoinbaseValue int64 // subsidy and fees, base units
	Time          uint32
	LongPollID    string
}

// Submission is what became of a block handed to submitblock.
type Submission int

const (
	SubmitAccepted  Submission = iota // on the best chain
	SubmitSideChain                   // valid, on another chain
	SubmitHeld                        // good, not due yet
	SubmitKnown                       // was there before
	SubmitNoParent                    // the block before it is not known
	SubmitBadParent                   // builds on a block that breaks a rule
)

// Mining is what getblocktemplate and submitblock need.
type Mining interface {
	// BlockTemplate returns the current template, or waits until there is one
	// that differs from longPollID when that is not empty.
	BlockTemplate(ctx context.Context, longPollID string) (*Template, error)
	// SubmitBlock adds a block. The error is a *consensus.RuleError when the
	// block itself is at fault, otherwise a failure of this node.
	SubmitBlock(b *types.Block) (Submission, error)
	// Generate solves one block that pays pkScript, at once and without a clock;
	// only networks made for tests can.
	Generate(ctx context.Context, pkScript []byte) (types.Hash, error)
	// HashRate returns this machine's own hashes per second.
	HashRate() float64
}

// ErrNoWork is what BlockTemplate wraps when this node is not set up to mine.
var ErrNoWork = errors.New("no block templates")

// ErrNotDue is what Generate wraps when the block is ahead of the clock.
var ErrNotDue = errors.New("cannot generate ahead of time")

// ErrNotForThisNetwork is what Generate returns on a network with real difficulty.
type ErrNotForThisNetwork struct{ Network string }

func (e ErrNotForThisNetwork) Error() string {
	return "blocks cannot be generated on " + e.Network + ": only on regtest"
}
