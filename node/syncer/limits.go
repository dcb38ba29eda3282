package syncer

import (
	"time"

	"golang.org/x/time/rate"
)

// Rate is a mean per second and what may come at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

func (r Rate) limiter() *rate.Limiter { return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst) }

// Limits bound what one peer can make this node do or keep.
type Limits struct {
	Blocks   Rate // blocks that were not asked for
	Votes    Rate // attestations and certificates, before any signature is checked
	Asks     Rate // answers given
	Verdicts Rate // given

	Waiting      int // votes kept until their target is known
	AnswerBlocks int // blocks in an answer, given or taken
	AnswerBytes  int // of blocks in an answer, after which it ends; one block more may follow
}

// DefaultLimits leave an honest peer far behind: it sends a block and a few
// votes a minute, and after a split a few dozen blocks at once.
func DefaultLimits() Limits {
	return Limits{
		Blocks:   Rate{4, 64},
		Votes:    Rate{20, 200},
		Asks:     Rate{4, 16},
		Verdicts: Rate{5, 64},

		Waiting:      64,
		AnswerBlocks: 128,
		AnswerBytes:  4 << 20,
	}
}

const (
	// tipEvery is how often peers are told this node's tip, and what waits is
	// looked at again: whatever was lost is missed no longer than that.
	tipEvery = 30 * time.Second
	// askTimeout is how long an answer may be on its way before another ask.
	askTimeout = 20 * time.Second
	// minBackoff and maxBackoff space asks that led nowhere.
	minBackoff, maxBackoff = 2 * time.Second, time.Minute

	// newest is how many certificates are offered at once, and maxVotes how many
	// votes: those of a few slots. What is older is on the chain.
	newest, maxVotes = 16, 32

	// peerMemory is how many blocks a peer is remembered to have.
	peerMemory = 512
	// pathStep is how many blocks of the chain's way are read at once.
	pathStep = 64
)

// The score of a peer is what its faults add up to, halved every halfLife. At
// usedUp it is dropped.
const (
	usedUp   = 100.0
	halfLife = 10 * time.Minute

	faultForm = 50 // breaks a rule that every node checks before it relays
	faultBody = 10 // breaks a rule that a node need not check on a side chain
	faultRate = 1  // too much at once
)
