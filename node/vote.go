package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// voteChain is what the voter needs of the chain.
type voteChain interface {
	Vote() (v chain.Vote, ok bool, err error)
	AddAttestation(a consensus.Attestation) (added bool, err error)
	Changed() <-chan struct{}
}

// voter has this box's keys vote for the signed slots of the best chain. What a
// key may vote for is the signer's to decide (S1, S2); the voter only asks, once
// for each slot, and again for a key that could not be reached.
type voter struct {
	chain   voteChain
	signer  Signer
	publish func(consensus.Attestation) // to peers
	log     *slog.Logger

	done voted
}

// voted is what came of the last slot voted for.
type voted struct {
	target consensus.Checkpoint
	keys   []types.PublicKey // that have voted, or never will
	all    bool              // those are all keys that were ready when last asked
	said   map[string]bool
}

// run votes until ctx ends.
func (v *voter) run(ctx context.Context) error {
	for {
		changed := v.chain.Changed()
		var retry <-chan time.Time
		if !v.vote(ctx) {
			retry = time.After(retryDelay)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-retry:
		}
	}
}

// vote casts the votes that can be cast now. It is false when asking again
// later may help.
func (v *voter) vote(ctx context.Context) bool {
	vote, ok, err := v.chain.Vote()
	if err != nil {
		v.warn(ctx, fmt.Errorf("tell what to vote for: %w", err))
		return false
	}
	if !ok {
		return true
	}
	if v.done.target != vote.Link.Target {
		v.done = voted{target: vote.Link.Target}
	}
	keys, err := v.signer.Keys(ctx)
	if err != nil && v.done.all {
		return true // nobody is missed
	}
	if err != nil {
		v.warn(ctx, fmt.Errorf("ask signer for its keys: %w", err))
		return false
	}
	v.done.all = true
	for _, k := range keys {
		index, may := vote.Parent.Voters().Index(k)
		if !may || slices.Contains(v.done.keys, k) {
			continue
		}
		err := v.attest(ctx, &vote, index)
		switch {
		case err == nil || errors.Is(err, ErrRefused):
			v.done.keys = append(v.done.keys, k)
		default:
			v.done.all = false
		}
		v.warn(ctx, err)
	}
	return v.done.all
}

// attest has one key vote and counts the vote.
func (v *voter) attest(ctx context.Context, vote *chain.Vote, index uint8) error {
	ballot := consensus.NewBallot(&vote.Parent, vote.Link, vote.Header, index)
	sig, err := v.signer.Attest(ctx, &ballot)
	if err != nil {
		return fmt.Errorf("voter %d: %w", index, err)
	}
	a := consensus.Attestation{Link: vote.Link, Index: index, Signature: sig}
	if _, err := v.chain.AddAttestation(a); err != nil {
		return fmt.Errorf("count vote of voter %d: %w", index, err)
	}
	v.publish(a)
	return nil
}

// warn logs an error the first time it is seen for a slot.
func (v *voter) warn(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil || v.done.said[err.Error()] || len(v.done.said) >= maxWarnings {
		return
	}
	if v.done.said == nil {
		v.done.said = make(map[string]bool)
	}
	v.done.said[err.Error()] = true
	v.log.Warn("vote not cast", "height", v.done.target.Height, "err", err)
}
