package signer

import (
	"context"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/cluster"
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

// Seen compares what the chain shows with what journal and cluster know. A key
// that signed more than they know of was used elsewhere, or the journal is an old
// copy: then everything halts (S5). Until a node has called it, nothing is
// signed (rule chain-unseen). What a node says here can only forbid.
func (s *Service) Seen(ctx context.Context, r SeenRequest) error {
	known := s.journal.Known()
	if s.claims != nil {
		marks, err := s.claims.Known(ctx)
		if err != nil {
			return s.ofCluster(err)
		}
		known = append(known, ofMarks(marks)...)
	}
	for _, k := range r.Keys {
		if s.policy.keys[k.Key] {
			known = append(known, Known{Source: SourceChain, Key: k.Key, Block: k.Block, Vote: k.Vote})
		}
	}
	// That other boxes signed more than this one is no reason to raise its floors:
	// their claims stand in its way as they are.
	if _, err := Floor(known...); err != nil {
		s.halt(err.Error())
	}
	s.mu.Lock()
	s.seen = true
	s.mu.Unlock()
	return nil
}

// ofMarks says what the cluster knows as Floor wants it.
func ofMarks(marks []cluster.Mark) (list []Known) {
	for _, m := range marks {
		k := Known{Source: SourceCluster, Key: m.Key}
		switch m.Kind {
		case cluster.Block:
			k.Block = max(m.Height, m.Floor)
		case cluster.Vote:
			k.Vote = max(m.Height, m.Floor)
		default:
			continue
		}
		list = append(list, k)
	}
	return list
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
