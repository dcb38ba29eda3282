package syncer

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// fakeChain takes whatever has a parent, and follows what is higher.
type fakeChain struct {
	mu      sync.Mutex
	net     *consensus.Network
	blocks  map[types.Hash]*types.Block
	states  map[types.Hash]consensus.State
	best    []types.Hash // by height
	changed chan struct{}
	// stays: the best chain does not move; fails is what Add says of a block.
	stays bool
	fails func(*types.Block) error

	added, asked int // calls of Add, of AddAttestation
	votes        map[consensus.Attestation]bool
	voteErr      error
	certificates []consensus.Certificate
}

func newFakeChain(net *consensus.Network) *fakeChain {
	return &fakeChain{
		net:    net,
		blocks: map[types.Hash]*types.Block{net.ID: net.Genesis()}, states: map[types.Hash]consensus.State{net.ID: net.GenesisState()},
		best: []types.Hash{net.ID}, changed: make(chan struct{}), votes: map[consensus.Attestation]bool{},
	}
}

func (c *fakeChain) Tip() consensus.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.states[c.best[len(c.best)-1]]
}

func (c *fakeChain) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *fakeChain) State(id types.Hash) (consensus.State, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.states[id]
	return s, ok, nil
}

func (c *fakeChain) BestID(height uint32) (types.Hash, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(height) >= len(c.best) {
		return types.Hash{}, false, nil
	}
	return c.best[height], true, nil
}

func (c *fakeChain) Block(id types.Hash) (*types.Block, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.blocks[id]
	return b, ok, nil
}

func (c *fakeChain) Path(from types.Hash, most int) (reverted, applied []*types.Block, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := c.states[from]; len(reverted) < most && c.best[min(int(s.Height), len(c.best)-1)] != s.ID; s = c.states[c.blocks[s.ID].PrevBlock] {
		reverted = append(reverted, c.blocks[s.ID])
		from = c.blocks[s.ID].PrevBlock
	}
	for h := int(c.states[from].Height) + 1; h < len(c.best) && len(reverted)+len(applied) < most; h++ {
		applied = append(applied, c.blocks[c.best[h]])
	}
	return reverted, applied, nil
}

func (c *fakeChain) Add(b *types.Block) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added++
	id := b.Header.ID()
	if _, ok := c.blocks[id]; ok {
		return false, nil
	}
	parent, ok := c.states[b.PrevBlock]
	if !ok {
		return false, fmt.Errorf("adding: %w", ErrUnknownParent)
	}
	if c.fails != nil {
		if err := c.fails(b); err != nil {
			return false, err
		}
	}
	s := parent.Child(&b.SignedHeader, b.Transactions[0])
	c.blocks[id], c.states[id] = b, s
	if !c.stays && int(s.Height) >= len(c.best) {
		for at := s; int(at.Height) >= len(c.best) || c.best[at.Height] != at.ID; at = c.states[c.blocks[at.ID].PrevBlock] {
			c.best = append(c.best, make([]types.Hash, max(0, int(at.Height)+1-len(c.best)))...)
			c.best[at.Height] = at.ID
		}
		c.ring()
	}
	return true, nil
}

func (c *fakeChain) ring() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeChain) known(id types.Hash) error {
	if _, ok := c.states[id]; !ok {
		return fmt.Errorf("voting: %w", ErrUnknownTarget)
	}
	return c.voteErr
}

func (c *fakeChain) AddAttestation(a consensus.Attestation) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if err := c.known(a.Target.ID); err != nil {
		return false, err
	}
	isNew := !c.votes[a]
	c.votes[a] = true
	return isNew, nil
}

func (c *fakeChain) AddCertificate(s consensus.Certificate) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if err := c.known(s.Target.ID); err != nil {
		return false, err
	}
	if slices.ContainsFunc(c.certificates, func(o consensus.Certificate) bool { return o.Link == s.Link && o.Signers == s.Signers }) {
		return false, nil
	}
	c.certificates = append(c.certificates, s)
	c.ring()
	return true, nil
}

func (c *fakeChain) Certificates() []consensus.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.certificates)
}

func (c *fakeChain) voted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.votes)
}

// fakePeer remembers what it was sent.
type fakePeer struct {
	mu     sync.Mutex
	sent   []Message
	full   bool
	closed string
}

func (p *fakePeer) Send(m Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full {
		return false
	}
	p.sent = append(p.sent, m)
	return true
}

func (p *fakePeer) Close(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = reason
}

func (p *fakePeer) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed != ""
}

// take returns what was sent since the last take.
func (p *fakePeer) take() []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.sent
	p.sent = nil
	return list
}

// only returns the messages of one kind.
func only[M Message](list []Message) (some []M) {
	for _, m := range list {
		if m, ok := m.(M); ok {
			some = append(some, m)
		}
	}
	return some
}

// rig is a relay on a fake chain whose clock stands one interval after the
// generator's tip.
type rig struct {
	*Relay
	chain *fakeChain
	g     *chaingen.Generator
	t     *testing.T
}

func newRig(t *testing.T, g *chaingen.Generator) *rig {
	t.Helper()
	c := newFakeChain(g.Network())
	r := New(Config{
		Chain: c, Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Unix(int64(g.Tip().State.Time)+60, 0) },
	})
	return &rig{Relay: r, chain: c, g: g, t: t}
}

// load gives the chain blocks without a peer.
func (r *rig) load(blocks ...*types.Block) {
	r.t.Helper()
	for _, b := range blocks {
		if _, err := r.chain.Add(b); err != nil {
			r.t.Fatal(err)
		}
	}
}

// join connects a peer whose handshake is done: it has been asked, and has
// nothing new.
func (r *rig) join() *fakePeer {
	p := &fakePeer{}
	r.Connect(p)
	r.Handle(p, r.tip(true))
	p.take()
	return p
}

func generator(t *testing.T) *chaingen.Generator {
	t.Helper()
	return chaingen.New(t, chaingen.Params())
}

var errDisk = errors.New("disk is full")

func broken(rule consensus.Rule) func(*types.Block) error {
	return func(*types.Block) error { return &consensus.RuleError{Rule: rule, Detail: "made up"} }
}
