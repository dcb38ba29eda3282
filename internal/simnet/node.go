package simnet

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/mempool"
	"qcitycoin.org/qcity/node/syncer"
	"qcitycoin.org/qcity/node/template"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
)

// Node is a box: node, signer and miners. What is durable outlives Stop.
type Node struct {
	net   *Net
	index int
	cfg   NodeConfig
	log   *slog.Logger

	store     *chaintest.Store
	proposals proposals
	journal   string // path; empty: no signer
	audit     books

	mu   sync.Mutex
	on   *running // nil: stopped
	runs int
	// deepest is the deepest reorganisation since the last ResetDeepest, in blocks.
	deepest uint32
	share   float64
	release *consensus.ReleaseCheckpoint
}

// running is what lives from Start to Stop.
type running struct {
	chain   *chain.Manager
	pool    *mempool.Pool
	builder *template.Builder
	relay   *syncer.Relay
	service *signer.Service
	journal *signer.Journal
	stop    context.CancelFunc
	group   *errgroup.Group
}

func newNode(n *Net, index int, c NodeConfig, dir string) *Node {
	if c.Name == "" {
		c.Name = fmt.Sprintf("n%d", index)
	}
	node := &Node{
		net: n, index: index, cfg: c, log: slog.New(lines{&n.log, c.Name}),
		store: chaintest.NewStore(), proposals: proposals{kept: map[uint32][]byte{}}, share: c.Share,
	}
	if _, keys := c.token(); len(keys) > 0 {
		node.journal = filepath.Join(dir, c.Name+".journal")
		node.must(signer.CreateJournal(node.journal, n.Network.ID, keys, 0))
	}
	return node
}

func (n *Node) must(err error) {
	n.net.T.Helper()
	if err != nil {
		n.net.T.Fatalf("%s: %v", n.cfg.Name, err)
	}
}

func (n *Node) name() string { return n.cfg.Name }

// now is the node's wall clock.
func (n *Node) now() time.Time { return time.Now().Add(n.cfg.Skew).Round(0) }

func (n *Node) running() bool { return n.live() != nil }

func (n *Node) live() *running {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.on
}

// Start starts the node from what it stored.
func (n *Node) Start() {
	n.net.T.Helper()
	r := &running{}
	var err error
	network := n.net.Network
	if n.release != nil {
		p := network.Params
		p.Release = n.release
		network, err = consensus.NewNetwork(p)
		n.must(err)
	}
	r.chain, err = chain.New(network, n.store, n.now, n.log)
	n.must(err)
	r.pool, err = mempool.New(poolChain{node.RelayChain{Manager: r.chain}}, mempool.DefaultConfig(), n.now, n.log)
	n.must(err)
	r.builder, err = template.NewBuilder(r.chain, r.pool, n.cfg.Name, n.log)
	n.must(err)
	r.relay = syncer.New(syncer.Config{Chain: node.RelayChain{Manager: r.chain}, Limits: syncer.DefaultLimits(), Now: n.now, Log: n.log})
	ctx, stop := context.WithCancel(n.net.ctx)
	r.stop = stop
	r.group, ctx = errgroup.WithContext(ctx)
	if n.journal != "" {
		n.startSigner(ctx, r)
	}
	for _, run := range []func(context.Context) error{r.chain.Run, r.relay.Run, n.watcher(r), n.miner(r)} {
		r.group.Go(func() error { return run(ctx) })
	}
	n.mu.Lock()
	n.on = r
	n.runs++
	n.mu.Unlock()
	n.net.log.add(n.cfg.Name, "started at height %d", r.chain.Tip().Height)
	n.net.rewire()
}

// Trust makes the node's software a release that vouches for a block, from its
// next start on.
func (n *Node) Trust(height uint32, block types.Hash) {
	n.release = &consensus.ReleaseCheckpoint{Height: height, Block: block}
}

// Fire makes the node one without a signer from its next start on.
func (n *Node) Fire() { n.journal = "" }

// startSigner opens the journal and has the node's keys sign and vote.
func (n *Node) startSigner(ctx context.Context, r *running) {
	tok, keys := n.cfg.token()
	var err error
	r.journal, err = signer.OpenJournal(n.journal, n.net.Network.ID, keys)
	n.must(err)
	r.service, err = signer.NewService(signer.ServiceConfig{
		Network: n.net.Network, Journal: r.journal, Audit: &n.audit, Token: tok, Keys: keys,
		Limit: signer.RateLimit{PerSecond: 10, Burst: 50}, Clock: n.now, Log: n.log,
	})
	n.must(err)
	v := node.NewValidator(node.ValidatorConfig{
		Chain: r.chain, Builder: r.builder, Proposals: &n.proposals, Signer: seat{r.service, keys},
		StartupWait: n.runs > 0, Publish: r.relay.Publish, Now: n.now, Log: n.log,
	})
	r.group.Go(func() error { return v.Run(ctx) })
}

// Stop ends the node as a kill would: nothing is said to anybody.
func (n *Node) Stop() {
	n.mu.Lock()
	r := n.on
	n.on = nil
	n.mu.Unlock()
	if r == nil {
		return
	}
	n.net.rewire()
	r.stop()
	if err := r.group.Wait(); err != nil {
		n.net.T.Errorf("%s ended with %v", n.cfg.Name, err)
	}
	if r.journal != nil {
		n.must(r.journal.Close())
	}
	n.net.log.add(n.cfg.Name, "stopped at height %d", r.chain.Tip().Height)
}

// Chain returns the running node's chain.
func (n *Node) Chain() *chain.Manager { return n.live().chain }

// Relay returns the running node's relay.
func (n *Node) Relay() *syncer.Relay { return n.live().relay }

// Standing returns what the running node knows of its best chain.
func (n *Node) Standing() consensus.Standing { return n.Chain().Standing() }

// Refusals returns how often the running signer refused, by rule.
func (n *Node) Refusals() map[signer.Rule]uint64 {
	return n.live().service.Status(context.Background()).Refusals
}

// Deepest returns the deepest reorganisation since the last ResetDeepest, in blocks.
func (n *Node) Deepest() uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deepest
}

// ResetDeepest starts a new measurement.
func (n *Node) ResetDeepest() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deepest = 0
}

// SetShare changes the node's hash power. What it has started to look for keeps
// its time, unless there is none left.
func (n *Node) SetShare(share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.share = share
}

func (n *Node) connected(c *conn) {
	if r := n.live(); r != nil {
		r.relay.Connect(c)
	}
}

func (n *Node) receive(c *conn, m syncer.Message) {
	if r := n.live(); r != nil {
		r.relay.Handle(c, m)
	}
}

func (n *Node) disconnected(c *conn) {
	if r := n.live(); r != nil {
		r.relay.Disconnect(c)
	}
}

// poolChain shows the chain to the mempool.
type poolChain struct{ node.RelayChain }

// proposals keep what the slot driver must not lose.
type proposals struct {
	mu   sync.Mutex
	kept map[uint32][]byte
}

func (p *proposals) SaveProposal(height uint32, kept []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept[height] = kept
	return nil
}

func (p *proposals) Proposal(height uint32) ([]byte, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept, ok := p.kept[height]
	return kept, ok, nil
}

// payout is the script the node's miners are paid to.
func (n *Node) payout() []byte { return chaingen.PayToHash(n.index % 16) }

// watcher follows the chain for the timeline and holds it to what always holds.
func (n *Node) watcher(r *running) func(context.Context) error {
	return func(ctx context.Context) error {
		at, seen := r.chain.Tip().ID, r.chain.Standing()
		for {
			changed := r.chain.Changed()
			at = n.watch(r, at)
			now := r.chain.Standing()
			n.compare(r, &seen, &now)
			seen = now
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			}
		}
	}
}

func (n *Node) watch(r *running, at types.Hash) types.Hash {
	reverted, applied, err := r.chain.UpdatesSince(at, 1<<20)
	n.must(err)
	if depth := uint32(len(reverted)); depth > 0 {
		n.mu.Lock()
		n.deepest = max(n.deepest, depth)
		n.mu.Unlock()
		n.net.log.add(n.cfg.Name, "reorganised from height %d: %d blocks off, %d on", reverted[0].State.Height, depth, len(applied))
		at = reverted[depth-1].Block.PrevBlock
	}
	for _, u := range applied {
		at = u.State.ID
		if n.net.Network.IsSlot(u.State.Height) && len(applied) < 30 {
			by := "mined"
			if u.Block.IsSigned() {
				by = fmt.Sprintf("signed by %d", u.Block.VchBlockSig[0])
			}
			n.net.log.add(n.cfg.Name, "slot %d %s %s, +%d s", u.State.Height, short(u.State.ID), by, u.State.Time-u.Parent.Time)
		}
	}
	return at
}

func (n *Node) compare(r *running, before, now *consensus.Standing) {
	if now.Certified != before.Certified {
		n.net.log.add(n.cfg.Name, "certified %d %s", now.Certified.Height, short(now.Certified.ID))
	}
	if now.Final == before.Final {
		return
	}
	n.net.log.add(n.cfg.Name, "final %d %s", now.Final.Height, short(now.Final.ID))
	n.net.final(n.cfg.Name, now.Final)
	if id, _, err := r.chain.BestID(before.Final.Height); err != nil || id != before.Final.ID || now.Final.Height < before.Final.Height {
		n.net.T.Errorf("%s gave up the final slot %d", n.cfg.Name, before.Final.Height)
	}
}
