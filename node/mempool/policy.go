package mempool

import (
	"errors"
	"fmt"
	"time"
)

// An unconfirmed transaction may depend on so many others, and have so many
// depend on it, itself included. The limits bound the work of every change to
// the pool; they are the ones wallets know from Bitcoin Core.
const (
	MaxAncestors   = 25
	MaxDescendants = 25
)

// floorHalfLife is how fast the fee that an overflowing pool asks for falls
// back to MinFeeRate.
const floorHalfLife = 3 * time.Hour

// Config is the policy of a pool.
type Config struct {
	// MinFeeRate is the least fee, in base units per 1,000 bytes.
	MinFeeRate int64
	// MaxTxBytes is the largest serialised transaction taken.
	MaxTxBytes int
	// MaxBytes bounds the serialised size of all transactions together. When it
	// is exceeded those that pay least leave.
	MaxBytes int
	// Expiry is how long a transaction waits for a block before it is dropped.
	Expiry time.Duration
}

// DefaultConfig returns the policy of a node that was told nothing else.
func DefaultConfig() Config {
	return Config{MinFeeRate: 1000, MaxTxBytes: 100_000, MaxBytes: 50_000_000, Expiry: 14 * 24 * time.Hour}
}

func (c *Config) check() error {
	switch {
	case c.MinFeeRate < 0:
		return fmt.Errorf("minimum fee rate %d: want 0 or more base units per 1,000 bytes", c.MinFeeRate)
	case c.MaxTxBytes < 1:
		return fmt.Errorf("largest transaction of %d bytes: want at least 1", c.MaxTxBytes)
	case c.MaxBytes < c.MaxTxBytes:
		return fmt.Errorf("pool of %d bytes cannot hold a transaction of %d: raise the one or lower the other", c.MaxBytes, c.MaxTxBytes)
	case c.Expiry <= 0:
		return errors.New("expiry is not positive: every transaction would be dropped at once")
	}
	return nil
}

// Reason names a rule of this pool, not of the chain: another node may take
// the transaction, and a block that holds it is valid. Found with errors.Is; its
// text is stable.
type Reason string

func (r Reason) Error() string { return string(r) }

// The reasons for which a valid transaction is refused.
const (
	ReasonKnown       Reason = "already-in-pool"
	ReasonConfirmed   Reason = "already-confirmed"    // some of its outputs are unspent on the chain
	ReasonConflict    Reason = "conflict"             // another transaction of the pool spends the same output
	ReasonBytes       Reason = "tx-bytes"             // larger than Config.MaxTxBytes
	ReasonFee         Reason = "fee-too-low"          // pays less than MinFeeRate
	ReasonFull        Reason = "pool-full"            // pays too little to stay in a full pool
	ReasonAncestors   Reason = "too-many-ancestors"   // MaxAncestors
	ReasonDescendants Reason = "too-many-descendants" // MaxDescendants of one it depends on
)

// PolicyError is a refusal that is this node's own. It unwraps to its Reason.
// Violated rules of the chain are *consensus.RuleError instead, and whatever is
// neither is an I/O failure that says nothing about the transaction.
type PolicyError struct {
	Reason Reason
	Detail string
}

func (e *PolicyError) Error() string { return fmt.Sprintf("%s: %s", e.Reason, e.Detail) }

// Unwrap gives errors.Is the reason.
func (e *PolicyError) Unwrap() error { return e.Reason }

func refused(r Reason, format string, args ...any) error {
	return &PolicyError{Reason: r, Detail: fmt.Sprintf(format, args...)}
}
