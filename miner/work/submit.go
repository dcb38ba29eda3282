package work

import "context"

// Outcome is what became of a solution that met the chain's target.
type Outcome int

const (
	// Accepted: the block is on the best chain.
	Accepted Outcome = iota
	// Held: the block is good but not due yet (a fallback block inside the
	// validators' window, or a time ahead of the clock); it is released by itself.
	Held
	// Stale: another block took the height first.
	Stale
	// Rejected: the chain refused the block; the error says which rule.
	Rejected
)

func (o Outcome) String() string {
	return [...]string{"accepted", "held", "stale", "rejected"}[o]
}

// Submitter takes solutions that meet the chain's target. blockID is the
// solved header's hash in internal order. The error is nil unless Rejected.
type Submitter interface {
	SubmitSolution(ctx context.Context, s Solution) (outcome Outcome, blockID [32]byte, err error)
}
