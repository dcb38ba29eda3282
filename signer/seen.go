package signer

import (
	"context"
	"fmt"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
)

// Seen is how far the chain that a node follows shows a key to have signed: the
// highest slot with a block of it, and the highest target that a certificate
// counts its vote for; 0: none. It is proof: only the key makes these signatures.
type Seen struct {
	Key   types.PublicKey `json:"key"`
	Block uint32          `json:"block"`
	Vote  uint32          `json:"vote"`
}

// SeenRequest is what a node tells the signer before it asks for anything.
type SeenRequest struct {
	Tip  uint32 `json:"tip"` // height
	Keys []Seen `json:"keys"`
}

// Seen compares what the chain shows with the journal. A key that signed what
// the journal knows nothing of was used elsewhere, or the journal is an old
// copy: then everything halts (S5). Until a node has called it, nothing is
// signed (rule chain-unseen). What a node says here can only forbid.
func (s *Service) Seen(_ context.Context, r SeenRequest) error {
	for _, seen := range r.Keys {
		if !s.policy.keys[seen.Key] {
			continue
		}
		block, vote := s.journal.Last(seen.Key)
		if floor := s.journal.Floor(seen.Key); max(block, floor) >= seen.Block && max(vote, floor) >= seen.Vote {
			continue
		}
		// Marks are raised all the same: whoever resumes has looked at the reason,
		// and the heights below are spent whatever he decides.
		if err := s.journal.RaiseFloor(seen.Key, max(seen.Block, seen.Vote)); err != nil {
			return err
		}
		s.halt(fmt.Sprintf("the chain has signatures of %s up to block %d and vote %d, the journal knows of %d and %d: another signer uses this key, or the journal is an old copy",
			seen.Key, seen.Block, seen.Vote, block, vote))
	}
	s.mu.Lock()
	s.seen = true
	s.mu.Unlock()
	return nil
}

// Halt stops all signing at once, and what was signed is not released again
// either. by and reason are for the log.
func (s *Service) Halt(_ context.Context, by, reason string) error {
	if by == "" {
		return failed(ErrBadRequest, nil, "who halts? give a name")
	}
	first, err := s.brake.pull(Halt{By: by, At: s.clock().UTC().Truncate(time.Second), Reason: reason})
	if first {
		s.log.Error("signing is halted", "by", by, "reason", reason)
		s.note(audit.Entry{Time: s.clock(), Event: audit.EventHalted, Actor: by, Detail: reason})
	}
	return err
}

// halt is Halt by the signer itself. That it cannot be written down changes
// nothing now, and is in the log.
func (s *Service) halt(reason string) {
	if err := s.Halt(context.Background(), "signer", reason); err != nil {
		s.log.Error("halting", "err", err)
	}
}

// Resume goes on signing once two people have asked for it within ten minutes;
// done is false after the first. What was halted for has been looked into by
// then: a token that was stopped after a bad signature is used again.
func (s *Service) Resume(ctx context.Context, by string) (done bool, err error) {
	first := s.brake.state()
	if done, err = s.brake.release(by, s.clock().UTC()); err != nil {
		return false, err
	}
	if !done {
		s.log.Warn("a first person asks to resume signing", "by", by)
		s.note(audit.Entry{Time: s.clock(), Event: audit.EventResuming, Actor: by})
		return false, nil
	}
	s.log.Warn("signing is resumed", "by", first.Resuming, "and", by)
	s.note(audit.Entry{Time: s.clock(), Event: audit.EventResumed, Actor: by, Detail: "with " + first.Resuming})
	return true, s.token.Reset(ctx)
}
