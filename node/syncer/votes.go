package syncer

import (
	"errors"
	"slices"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// handleVote counts an attestation or a certificate. One whose target is not
// known waits for it.
func (r *Relay) handleVote(p *peer, w waiting) {
	if !p.votes.AllowN(time.Now(), 1) {
		r.limited(p, "votes")
		return
	}
	r.count(p, w)
}

func (r *Relay) count(p *peer, w waiting) {
	var added bool
	var err error
	if w.vote != nil {
		added, err = r.chain.AddAttestation(*w.vote)
	} else {
		added, err = r.chain.AddCertificate(*w.certificate)
	}
	switch {
	case errors.Is(err, ErrUnknownTarget):
		r.mu.Lock()
		p.wait(w, r.limits.Waiting)
		r.mu.Unlock()
		r.ask(p)
	case err != nil:
		r.failed(p, "vote", err)
	case added && w.vote != nil:
		r.keep(*w.vote)
		r.broadcast(p, Attestation{*w.vote})
	case added:
		r.broadcast(p, Certificate{*w.certificate})
	}
}

// keep remembers a vote for peers to come, until there are newer ones: a vote
// that only half of the network has heard of may be the one that is missing.
func (r *Relay) keep(a consensus.Attestation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.votes, a) {
		return
	}
	if len(r.votes) >= maxVotes {
		r.votes = append(r.votes[:0], r.votes[1:]...)
	}
	r.votes = append(r.votes, a)
}

// retry counts the votes that waited for a block.
func (r *Relay) retry(target types.Hash) {
	r.release(func(id types.Hash) bool { return id == target })
}

// retryAll counts all waiting votes whose target is known by now.
func (r *Relay) retryAll() {
	known := make(map[types.Hash]bool)
	for _, p := range r.others(nil, func(p *peer) bool { return len(p.waiting) > 0 }) {
		for _, id := range r.targets(p) {
			if _, ok, err := r.chain.State(id); ok && err == nil {
				known[id] = true
			}
		}
	}
	r.release(func(id types.Hash) bool { return known[id] })
}

func (r *Relay) targets(p *peer) []types.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]types.Hash, len(p.waiting))
	for i := range p.waiting {
		list[i] = p.waiting[i].target()
	}
	return list
}

// release counts the waiting votes whose target is ready.
func (r *Relay) release(ready func(types.Hash) bool) {
	type owned struct {
		p *peer
		w waiting
	}
	var due []owned
	r.mu.Lock()
	for _, p := range r.peers {
		p.waiting = slices.DeleteFunc(p.waiting, func(w waiting) bool {
			yes := ready(w.target())
			if yes {
				due = append(due, owned{p, w})
			}
			return yes
		})
	}
	r.mu.Unlock()
	for _, d := range due {
		r.count(d.p, d.w)
	}
}

// offer sends all peers the newest certificates that have become known or have
// grown: votes may have met here that met nowhere else.
func (r *Relay) offer() {
	list := r.chain.Certificates()
	list = list[max(0, len(list)-newest):]
	var fresh []consensus.Certificate
	r.mu.Lock()
	offered := make(map[consensus.Link]uint32, len(list))
	for _, c := range list {
		if r.offered[c.Link] != c.Signers {
			fresh = append(fresh, c)
		}
		offered[c.Link] = c.Signers
	}
	r.offered = offered
	r.mu.Unlock()
	for _, c := range fresh {
		r.broadcast(nil, Certificate{c})
	}
}
