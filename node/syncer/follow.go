package syncer

import (
	"slices"
	"time"

	"qcitycoin.org/qcity/node/types"
)

// follow is how far this node has come along a peer's chain.
type follow struct {
	asked   time.Time // when the answer under way was asked for; zero: none is
	left    int       // blocks that it may still hold
	open    bool      // its first block has not come
	at      types.Hash
	last    types.Hash // the last block of the peer's chain that is stored here
	moved   bool       // since the ask
	backoff time.Duration
	next    time.Time // no ask before, unless the last one led on
}

// takes reports whether a block belongs to the answer under way: each one
// builds on the one before.
func (f *follow) takes(b *types.Block, id types.Hash) bool {
	if f.left == 0 || (!f.open && b.PrevBlock != f.at) {
		return false
	}
	f.left--
	f.open, f.at = false, id
	return true
}

// start begins an ask, or says that it is not the time for one.
func (f *follow) start(now time.Time, blocks int) bool {
	if !f.asked.IsZero() && now.Sub(f.asked) < askTimeout {
		return false
	}
	if f.moved {
		f.backoff = 0
	} else if now.Before(f.next) {
		return false
	}
	f.backoff = min(max(2*f.backoff, minBackoff), maxBackoff)
	f.asked, f.next = now, now.Add(f.backoff)
	f.left, f.open, f.moved = blocks, true, false
	return true
}

// ask asks a peer for what follows the blocks known here, unless an answer is
// under way or the last ones led nowhere.
func (r *Relay) ask(p *peer) {
	r.mu.Lock()
	ok := p.sync.start(time.Now(), r.limits.AnswerBlocks)
	last := p.sync.last
	r.mu.Unlock()
	if !ok {
		return
	}
	locator, err := r.locator(last)
	if err != nil {
		r.log.Error("cannot tell where this node's chain stands", "err", err)
		return
	}
	r.send(p, Ask{locator})
}

// followed notes that a block of a peer's chain is stored here.
func (r *Relay) followed(p *peer, id types.Hash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.sync.moved = p.sync.moved || id != p.sync.last
	p.sync.last = id
}

// locator names blocks known here: first the one that a peer's chain was
// followed to, if it is on another branch, as that would be asked for from its
// start again and again; then the best chain from its tip down.
func (r *Relay) locator(last types.Hash) (list []types.Hash, err error) {
	beside, err := r.isBeside(last)
	if err != nil {
		return nil, err
	}
	if beside {
		list = append(list, last)
	}
	step := uint32(1)
	for height := r.chain.Tip().Height; height > 0 && len(list) < MaxLocator; {
		id, ok, err := r.chain.BestID(height)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, id)
		}
		if len(list) > 10 {
			step *= 2
		}
		height -= min(step, height)
	}
	return list, nil
}

// isBeside reports whether a block is stored, but not on the best chain.
func (r *Relay) isBeside(id types.Hash) (bool, error) {
	s, ok, err := r.chain.State(id)
	if err != nil || !ok {
		return false, err
	}
	best, _, err := r.chain.BestID(s.Height)
	return best != id, err
}

// handleAsk sends a part of the best chain.
func (r *Relay) handleAsk(p *peer, locator []types.Hash) {
	if len(locator) > MaxLocator {
		r.punish(p, faultForm, "locator is too long")
		return
	}
	if !p.asks.AllowN(time.Now(), 1) {
		r.limited(p, "asks")
		return
	}
	fork, err := r.fork(locator)
	if err == nil {
		err = r.serve(p, fork)
	}
	if err != nil {
		r.log.Error("cannot answer a peer", "err", err)
	}
}

// fork returns the height of the first block of a locator that is on the best
// chain.
func (r *Relay) fork(locator []types.Hash) (uint32, error) {
	for _, id := range locator {
		s, ok, err := r.chain.State(id)
		if err != nil {
			return 0, err
		}
		if !ok {
			continue
		}
		if best, _, err := r.chain.BestID(s.Height); err != nil || best == id {
			return s.Height, err
		}
	}
	return 0, nil
}

func (r *Relay) serve(p *peer, height uint32) error {
	bytes, last := 0, types.Hash{}
	for n := 0; n < r.limits.AnswerBlocks && bytes < r.limits.AnswerBytes; n++ {
		height++
		b, err := r.best(height)
		if err != nil {
			return err
		}
		if b != nil && n > 0 && b.PrevBlock != last {
			break // reorganised meanwhile: the peer would not see this as one answer
		}
		if b == nil {
			r.serveVotes(p)
			break
		}
		if !r.send(p, Block{b, true}) {
			return nil
		}
		bytes += len(b.Bytes())
		last = b.Header.ID()
	}
	r.send(p, r.tip(true))
	return nil
}

// best returns the best chain's block at a height, nil above the tip.
func (r *Relay) best(height uint32) (*types.Block, error) {
	id, ok, err := r.chain.BestID(height)
	if err != nil || !ok {
		return nil, err
	}
	b, _, err := r.chain.Block(id)
	return b, err
}

// serveVotes sends the newest certificates and votes, whose targets the peer
// now has.
func (r *Relay) serveVotes(p *peer) {
	list := r.chain.Certificates()
	for _, c := range list[max(0, len(list)-newest):] {
		r.send(p, Certificate{c})
	}
	r.mu.Lock()
	votes := slices.Clone(r.votes)
	r.mu.Unlock()
	for _, a := range votes {
		r.send(p, Attestation{a})
	}
}

// handleTip asks, or asks on, if a peer's chain goes on.
func (r *Relay) handleTip(p *peer, tip Tip) {
	_, known, err := r.chain.State(tip.Checkpoint.ID)
	if err != nil {
		r.log.Error("cannot look up a block", "err", err)
		return
	}
	r.mu.Lock()
	if tip.Ends {
		p.sync.asked, p.sync.left = time.Time{}, 0
	}
	if known {
		p.sync.backoff, p.sync.next = 0, time.Time{}
	}
	r.mu.Unlock()
	if !known {
		r.ask(p)
	}
}
