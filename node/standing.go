package node

import (
	"context"
	"log/slog"

	"qcitycoin.org/qcity/node/consensus"
)

// standingChain is what watchStanding follows.
type standingChain interface {
	Standing() consensus.Standing
	Changed() <-chan struct{}
}

// watchStanding logs when the validators begin to owe something, and when all
// is well again (L5). What is shown and measured elsewhere comes from the same
// Standing. It returns nil when ctx ends.
func watchStanding(ctx context.Context, chain standingChain, log *slog.Logger) error {
	last := consensus.Degradation{}
	for {
		changed := chain.Changed()
		standing := chain.Standing()
		now, degraded := standing.Degraded()
		switch {
		case now.Missing == last.Missing: // what is owed; since when may move
		case degraded:
			log.Warn(now.String(), "height", standing.Tip.Height, "since", now.Since, "missing", now.Missing)
		default:
			log.Info("validators sign, certify and finalise again", "height", standing.Tip.Height)
		}
		last = now
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
