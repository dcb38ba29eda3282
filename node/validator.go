package node

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/template"
)

// ValidatorConfig is what a Validator needs.
type ValidatorConfig struct {
	Chain     *chain.Manager
	Builder   *template.Builder
	Proposals Proposals
	Signer    Signer
	// StartupWait leaves the first slot after the start to others (S5).
	StartupWait bool
	// Publish hands a vote to peers; nil: there are none.
	Publish func(consensus.Attestation)
	Now     func() time.Time
	Log     *slog.Logger
}

// Validator has the keys of a box's signer sign the slots that are theirs, and
// vote for signed slots.
type Validator struct {
	slots slotDriver
	votes voter
	free  chan struct{} // closed when S5's wait is over
}

// NewValidator returns a validator that has not started.
func NewValidator(c ValidatorConfig) *Validator {
	if c.Publish == nil {
		c.Publish = func(consensus.Attestation) {}
	}
	free := make(chan struct{})
	signer := &teller{Signer: c.Signer, chain: c.Chain}
	return &Validator{
		free: free,
		slots: slotDriver{
			chain: c.Chain, store: c.Proposals, proposer: c.Builder, signer: signer,
			now: c.Now, wait: c.StartupWait, free: func() { close(free) }, log: c.Log.With("component", "slots"),
		},
		votes: voter{chain: c.Chain, signer: signer, publish: c.Publish, log: c.Log.With("component", "votes")},
	}
}

// Run signs and votes until ctx ends, which is no error. It is called once.
func (v *Validator) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return v.slots.run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-v.free:
			return v.votes.run(ctx)
		}
	})
	return g.Wait()
}
