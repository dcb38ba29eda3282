package template

import (
	"context"
	"errors"
	"fmt"

	"qcitycoin.org/qcity/miner/work"
)

var (
	// ErrUnknownJob means that a solution names a job that was never published
	// or is too old to be remembered.
	ErrUnknownJob = errors.New("job is unknown or long gone")
	// ErrAboveTarget means that a solution solves nothing.
	ErrAboveTarget = errors.New("hash is above the chain's target")
)

// Template returns a remembered template by the id of its job, or of a variant.
func (s *Source) Template(job uint64) (*Template, bool) {
	r, _, _, ok := s.find(job)
	if !ok {
		return nil, false
	}
	return r.Template, true
}

// SubmitSolution makes the block of a solution and hands it to the chain, also
// when its parent is no longer the tip: the chain decides whether it wins a
// tie. ctx does not stop it, as a found block is worth more than a caller's
// patience. Whether version and time suit the job is for the caller to judge;
// here only what the chain asks for counts.
func (s *Source) SubmitSolution(_ context.Context, sol work.Solution) (work.Outcome, [32]byte, error) {
	t, job, note, ok := s.find(sol.JobID)
	if !ok {
		return work.Rejected, [32]byte{}, fmt.Errorf("job %d: %w", sol.JobID, ErrUnknownJob)
	}
	header := job.Header(sol)
	id := header.Hash()
	if !job.Target.Met(id) {
		return work.Rejected, id, fmt.Errorf("job %d: %w", sol.JobID, ErrAboveTarget)
	}
	block, err := t.block(job, sol)
	if err != nil {
		return work.Rejected, id, fmt.Errorf("job %d: %w", sol.JobID, err)
	}
	outcome, err := s.add(Solved{Block: block, Height: job.Height, Reward: job.Reward, Finder: sol.Finder, Note: note})
	if err != nil {
		s.log.Error("solved block refused", "block", block.Header.ID(), "height", t.Job.Height, "err", err)
		return work.Rejected, id, fmt.Errorf("block %s at height %d: %w", block.Header.ID(), t.Job.Height, err)
	}
	s.log.Debug("block found", "block", block.Header.ID(), "height", t.Job.Height, "outcome", outcome)
	return outcome, id, nil
}
