// Package syncer is a node's talk with its peers, whatever carries it: it takes
// blocks and votes in, passes on what is new, asks for what is missing and
// answers who asks.
//
// A Relay trusts no peer. What one can make it do is limited before the costly
// part, what it keeps for one is bounded, and whoever sends what no honest node
// would is dropped. Nothing here decides what is valid or better: that is the
// chain's.
package syncer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

var (
	// ErrUnknownParent means that the block before this one is not stored.
	ErrUnknownParent = errors.New("parent block is not known")
	// ErrUnknownTarget means that the block voted for is not stored.
	ErrUnknownTarget = errors.New("block voted for is not known")
)

// Chain is what a relay needs of the chain.
type Chain interface {
	Tip() consensus.State
	// Changed returns a channel that is closed at the next change of the best
	// chain, or of what is proven of it.
	Changed() <-chan struct{}
	// State returns the state after any stored block.
	State(id types.Hash) (consensus.State, bool, error)
	// BestID returns the id of the best chain's block at a height.
	BestID(height uint32) (types.Hash, bool, error)
	// Block returns a stored block.
	Block(id types.Hash) (*types.Block, bool, error)
	// Path returns the way from a block that was on the best chain to its tip, at
	// most so many blocks: what to revert, then what to apply.
	Path(from types.Hash, most int) (reverted, applied []*types.Block, err error)
	// Add takes a block. new is false when it was known. The error is
	// ErrUnknownParent, wraps a consensus.Rule, or says nothing about the block.
	Add(b *types.Block) (isNew bool, err error)
	// AddAttestation and AddCertificate count votes. The error is
	// ErrUnknownTarget, wraps a consensus.Rule, or says nothing about the vote.
	AddAttestation(a consensus.Attestation) (added bool, err error)
	AddCertificate(c consensus.Certificate) (added bool, err error)
	// Certificates returns those that are kept, by ascending target.
	Certificates() []consensus.Certificate
}

// Config is what a Relay needs.
type Config struct {
	Chain  Chain
	Limits Limits
	Now    func() time.Time // the wall clock that block times are held against
	Log    *slog.Logger
}

// Relay passes blocks and votes between the chain and peers. Its methods may be
// called from many goroutines; none of them waits for a peer.
type Relay struct {
	chain  Chain
	limits Limits
	now    func() time.Time
	log    *slog.Logger

	mu    sync.Mutex
	peers map[Peer]*peer
	votes []consensus.Attestation // the newest that counted
	// offered are the newest certificates that peers were sent, with their signers.
	offered map[consensus.Link]uint32
	stats   Stats
}

// Stats counts since the start, but for Peers and Waiting.
type Stats struct {
	Peers, Waiting    int // Waiting: votes whose target is not known
	Accepted, Refused int // verdicts of peers
	Dropped           int // peers dropped for their faults, or for being slow
	Limited           int // messages ignored because there were too many
}

// New returns a relay without peers; it starts nothing.
func New(c Config) *Relay {
	return &Relay{
		chain: c.Chain, limits: c.Limits, now: c.Now, log: c.Log,
		peers:   make(map[Peer]*peer),
		offered: make(map[consensus.Link]uint32),
	}
}

// Connect takes up a peer, which has proved to be of this network, and asks it
// for what is missing here.
func (r *Relay) Connect(conn Peer) {
	p := newPeer(conn, &r.limits)
	r.mu.Lock()
	r.peers[conn] = p
	r.mu.Unlock()
	r.ask(p)
}

// Disconnect forgets a peer.
func (r *Relay) Disconnect(conn Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.peers, conn)
}

// Handle takes a message of a peer. Those of one that was dropped are ignored.
func (r *Relay) Handle(conn Peer, m Message) {
	r.mu.Lock()
	p := r.peers[conn]
	r.mu.Unlock()
	if p == nil {
		return
	}
	switch m := m.(type) {
	case Block:
		r.handleBlock(p, m)
	case Attestation:
		r.handleVote(p, waiting{vote: &m.Vote})
	case Certificate:
		r.handleVote(p, waiting{certificate: &m.Certificate})
	case Ask:
		r.handleAsk(p, m.Locator)
	case Tip:
		r.handleTip(p, m)
	case Verdict:
		r.handleVerdict(m)
	}
}

// Publish sends a vote of this node's own, which the chain has counted.
func (r *Relay) Publish(a consensus.Attestation) {
	r.keep(a)
	r.broadcast(nil, Attestation{a})
}

// Stats returns the counters.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Peers = len(r.peers)
	for _, p := range r.peers {
		s.Waiting += len(p.waiting)
	}
	return s
}

// Run announces what the chain connects by itself, such as blocks made here,
// and what becomes proven. It returns nil when ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	tick := time.NewTicker(tipEvery)
	defer tick.Stop()
	for at := r.chain.Tip().ID; ; {
		changed := r.chain.Changed()
		at = r.announce(ctx, at)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
			r.retryAll()
			r.broadcast(nil, r.tip(false))
		}
	}
}

// announce passes on what the chain connected since a block, and the
// certificates that are new, and returns the last block passed.
func (r *Relay) announce(ctx context.Context, at types.Hash) types.Hash {
	for ctx.Err() == nil {
		reverted, applied, err := r.chain.Path(at, pathStep)
		if err != nil {
			r.log.Error("cannot read what the chain connected", "err", err)
			break
		}
		if len(reverted)+len(applied) == 0 {
			break
		}
		if n := len(reverted); n > 0 {
			at = reverted[n-1].PrevBlock
		}
		for _, b := range applied {
			at = b.Header.ID()
			r.pass(nil, b, at)
			r.retry(at)
		}
	}
	r.offer()
	return at
}

func (r *Relay) tip(ends bool) Tip {
	tip := r.chain.Tip()
	return Tip{tip.Checkpoint(), ends}
}

// send hands a message to a peer, which is dropped when it is too slow for it.
func (r *Relay) send(p *peer, m Message) bool {
	if p.conn.Send(m) {
		return true
	}
	r.drop(p, "too slow: its queue is full")
	return false
}

// broadcast sends to all peers but one.
func (r *Relay) broadcast(except *peer, m Message) {
	for _, p := range r.others(except, func(*peer) bool { return true }) {
		r.send(p, m)
	}
}

// others returns the peers but one that a condition, checked under the lock,
// holds for.
func (r *Relay) others(except *peer, want func(*peer) bool) []*peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*peer
	for _, p := range r.peers {
		if p != except && want(p) {
			list = append(list, p)
		}
	}
	return list
}

func (r *Relay) drop(p *peer, reason string) {
	r.mu.Lock()
	connected := r.peers[p.conn] == p
	if connected {
		delete(r.peers, p.conn)
		r.stats.Dropped++
	}
	r.mu.Unlock()
	if connected {
		r.log.Warn("peer dropped", "reason", reason)
		p.conn.Close(reason)
	}
}

// punish adds to a peer's score.
func (r *Relay) punish(p *peer, points float64, reason string) {
	if points == 0 {
		return
	}
	r.mu.Lock()
	gone := p.fault(points, time.Now())
	r.mu.Unlock()
	if gone {
		r.drop(p, reason)
	}
}

// failed deals with the error of something a peer sent.
func (r *Relay) failed(p *peer, what string, err error) {
	if rule, ok := consensus.RuleOf(err); ok {
		r.log.Debug(what+" refused", "err", err)
		r.punish(p, blame(rule), what+" breaks rule "+string(rule))
		return
	}
	r.log.Error(what+" could not be added", "err", err)
}

// limited notes that a peer sent too much.
func (r *Relay) limited(p *peer, what string) {
	r.mu.Lock()
	r.stats.Limited++
	r.mu.Unlock()
	r.punish(p, faultRate, "too many "+what)
}
