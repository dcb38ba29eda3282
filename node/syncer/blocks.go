package syncer

import (
	"errors"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// handleBlock takes a block, passes it on if it is new, and says what became of it.
func (r *Relay) handleBlock(p *peer, m Block) {
	b, id := m.Block, m.Block.Header.ID()
	asked, ok := r.admit(p, m, id)
	if !ok {
		r.limited(p, "blocks")
		return
	}
	isNew, err := r.chain.Add(b)
	r.answer(p, id, err)
	switch {
	case errors.Is(err, ErrUnknownParent):
		r.ask(p)
	case err != nil:
		r.failed(p, "block", err)
	default:
		if asked {
			r.followed(p, id)
		}
		if isNew {
			r.pass(p, b, id)
			r.retry(id)
		}
	}
}

// admit reports whether a block may be looked at, and whether it belongs to an
// answer that this node asked for.
func (r *Relay) admit(p *peer, m Block, id types.Hash) (asked, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.known.add(id)
	if m.Asked && p.sync.takes(m.Block, id) {
		return true, true
	}
	return false, p.blocks.AllowN(time.Now(), 1)
}

// pass sends a block that the chain took to all peers that do not have it. Old
// blocks are left to those who ask: when this node catches up, so do others.
func (r *Relay) pass(from *peer, b *types.Block, id types.Hash) {
	if r.now().Unix()-int64(b.Time) > 2*int64(r.chain.Tip().Network.SlotCloseSeconds) {
		return
	}
	for _, p := range r.others(from, func(p *peer) bool { return p.known.add(id) }) {
		r.send(p, Block{Block: b})
	}
}

// answer sends the verdict on a block, unless there were many lately.
func (r *Relay) answer(p *peer, id types.Hash, err error) {
	v := Verdict{Block: id}
	if err != nil {
		rule, ok := consensus.RuleOf(err)
		switch {
		case errors.Is(err, ErrUnknownParent):
			v.Rule = UnknownParent
		case ok:
			v.Rule = string(rule)
		default:
			return // a failure here says nothing about the block
		}
	}
	if p.verdicts.AllowN(time.Now(), 1) {
		r.send(p, v)
	}
}

func (r *Relay) handleVerdict(v Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.Rule == "" {
		r.stats.Accepted++
		return
	}
	r.stats.Refused++
	r.log.Debug("a peer refused a block", "block", v.Block, "rule", v.Rule)
}
