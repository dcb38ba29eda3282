package simnet

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/holiman/uint256"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/template"
	"qcitycoin.org/qcity/node/types"
)

// finding returns how long a share of the hash power takes to find the next
// block: exponential, with a mean that is in proportion to the block's work.
func (n *Net) finding(rng *rand.Rand, s *consensus.State, share float64) time.Duration {
	target := s.NextTarget()
	genesis, _ := types.CompactToTarget(uint32(n.Network.GenesisBits))
	ratio := new(uint256.Int).Lsh(uint256.NewInt(1), 20)
	now, first := types.Work(&target), types.Work(&genesis)
	ratio.Mul(ratio, &now).Div(ratio, &first)
	mean := float64(n.Network.IntervalSeconds) * float64(ratio.Uint64()) / (1 << 20) / share
	return time.Duration(mean * rng.ExpFloat64() * float64(time.Second))
}

// miner mines on the node's tip.
func (n *Node) miner(r *running) func(context.Context) error {
	rng := rand.New(rand.NewPCG(n.net.cfg.Seed, uint64(100+n.index*100+n.runs)))
	return func(ctx context.Context) error {
		var found types.Hash // parent of the last block found: waits for its time
		for {
			changed := r.chain.Changed()
			tip := r.chain.Tip()
			share := n.power()
			var timer <-chan time.Time
			switch {
			case share <= 0:
				timer = time.After(time.Minute)
			case tip.ID != found:
				timer = time.After(n.net.finding(rng, &tip, share))
			}
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
				continue
			case <-timer:
			}
			if n.power() <= 0 {
				continue
			}
			ok, err := n.mine(r, tip)
			if err != nil {
				return err
			}
			if ok {
				found = tip.ID
			}
		}
	}
}

func (n *Node) power() float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.share
}

// mine finds a block on the tip. It is false when the tip has moved.
func (n *Node) mine(r *running, tip consensus.State) (bool, error) {
	t, err := r.builder.Mined(tip, n.now(), n.payout())
	if errors.Is(err, template.ErrParentMoved) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s := work.Solution{JobID: t.Job.ID, Version: t.Job.Version, Time: t.Job.Time}
	for {
		if h := t.Job.Header(s); t.Job.Target.Met(h.Hash()) {
			break
		}
		s.Nonce++
	}
	b, err := t.Block(s)
	if err != nil {
		return false, err
	}
	result, err := r.chain.AddBlock(b)
	if err != nil && !errors.Is(err, consensus.RuleTimeFuture) {
		return false, err
	}
	return result != chain.SideChain, nil
}
