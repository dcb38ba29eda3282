// Package node puts the rooms of a node together: chain on its store, mempool,
// block templates, JSON-RPC, and the driver that has slots signed.
//
// Data flows one way: a block comes in through AddBlock, the chain connects it
// and rings (Changed); mempool and templates then pull what they need. Nothing
// is pushed, so nobody can fall out of step.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/mempool"
	"qcitycoin.org/qcity/node/rpc"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/template"
	"qcitycoin.org/qcity/node/types"
)

// coinbaseTag is what this software writes into its coinbases.
const coinbaseTag = "/qcity/"

// CookieFile is the name of the RPC cookie in a node's directory.
const CookieFile = ".cookie"

// Config is what a node needs.
type Config struct {
	Network *consensus.Network
	// Dir holds the chain database and the RPC cookie.
	Dir string
	// Payout is the output script mined blocks pay; nil: the node makes no work.
	Payout []byte
	// Signer signs this box's slots and votes; nil: none.
	Signer Signer
	// StartupWait leaves the first slot after the start to other boxes (S5).
	StartupWait bool
	// Version of the software, for RPC.
	Version string
	// HashRate returns this box's own hashes per second, for RPC; may be nil.
	HashRate func() float64
}

// Node is an open node. Chain, Pool and Feed may be used before Run.
type Node struct {
	Chain *chain.Manager
	Pool  *mempool.Pool
	// Feed carries the work of the newest template.
	Feed *work.Feed

	cfg       Config
	store     *store.Store
	builder   *template.Builder
	templates *template.Source // nil: no payout
	verified  *verified
	log       *slog.Logger
}

// Open opens the data directory and resumes its chain. It starts nothing.
func Open(cfg Config, log *slog.Logger) (*Node, error) {
	s, err := store.Open(cfg.Dir, cfg.Network, store.Options{})
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, store: s, Feed: work.NewFeed(), verified: newVerified(), log: log}
	if err := n.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return n, nil
}

func (n *Node) open() error {
	var err error
	spare := consensus.Verified(n.verified.has)
	if n.Chain, err = chain.New(n.cfg.Network, n.store, time.Now, n.log.With("component", "chain"), spare); err != nil {
		return err
	}
	if n.Pool, err = mempool.New(poolChain{n.Chain}, mempool.DefaultConfig(), time.Now, n.log.With("component", "mempool")); err != nil {
		return fmt.Errorf("open mempool: %w", err)
	}
	log := n.log.With("component", "template")
	if n.builder, err = template.NewBuilder(n.Chain, n.Pool, coinbaseTag, log, spare); err != nil {
		return fmt.Errorf("open block templates: %w", err)
	}
	if n.cfg.Payout != nil {
		n.templates, err = template.NewSource(n.builder, n.Feed, n.addSolved, template.DefaultSourceConfig(n.cfg.Payout), time.Now, log)
		if err != nil {
			return fmt.Errorf("open block templates: %w", err)
		}
	}
	return nil
}

// Run runs the node until ctx ends, which is no error; it serves RPC on l,
// which it closes.
func (n *Node) Run(ctx context.Context, l net.Listener) error {
	ended := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.Chain.Run(ctx) })
	g.Go(func() error { return watchStanding(ctx, n.Chain, n.log) })
	if n.templates != nil {
		g.Go(func() error { return n.templates.Run(ctx) })
	}
	if n.cfg.Signer != nil {
		v := NewValidator(ValidatorConfig{
			Chain: n.Chain, Builder: n.builder, Proposals: n.store, Signer: n.cfg.Signer,
			StartupWait: n.cfg.StartupWait, Now: time.Now, Log: n.log,
		})
		g.Go(func() error { return v.Run(ctx) })
	}
	log := n.log.With("component", "rpc")
	server := rpc.New(rpc.Config{CookieFile: filepath.Join(n.cfg.Dir, CookieFile), Version: n.cfg.Version},
		rpcChain{n.Chain}, rpcPool{n.Pool, n.verified, log}, rpcMining{n}, log)
	g.Go(func() error { return server.Run(ctx, l) })
	// A part that says "canceled" while nobody cancelled has failed.
	if err := g.Wait(); err != nil && (ended.Err() == nil || !errors.Is(err, context.Canceled)) {
		return err
	}
	return nil
}

// Close releases the data directory. Run must have returned.
func (n *Node) Close() error { return n.store.Close() }

// Healthy reports whether the chain can be read.
func (n *Node) Healthy() error {
	tip := n.Chain.Tip()
	_, ok, err := n.Chain.Header(tip.ID)
	if err == nil && !ok {
		err = fmt.Errorf("the tip %s is not stored", tip.ID)
	}
	return err
}

// PoolSize returns the number of transactions that wait and their size in bytes.
func (n *Node) PoolSize() (count int, bytes int64) {
	info := n.Pool.Info()
	return info.Count, int64(info.Bytes)
}

// SubmitSolution takes a solution of a job of Feed.
func (n *Node) SubmitSolution(ctx context.Context, s work.Solution) (work.Outcome, [32]byte, error) {
	if n.templates == nil {
		return work.Rejected, [32]byte{}, ErrNoTemplate
	}
	return n.templates.SubmitSolution(ctx, s)
}

// addSolved hands a solved block to the chain in the terms of the work feed.
func (n *Node) addSolved(s template.Solved) (work.Outcome, error) {
	b := s.Block
	result, err := n.Chain.AddBlock(b)
	if err != nil {
		return work.Rejected, err
	}
	switch result {
	case chain.Held, chain.Parked:
		return work.Held, nil
	case chain.SideChain:
		return work.Stale, nil
	case chain.Known:
		return n.knownOutcome(b)
	}
	return work.Accepted, nil
}

func (n *Node) knownOutcome(b *types.Block) (work.Outcome, error) {
	id := b.Header.ID()
	state, ok, err := n.Chain.State(id)
	if err != nil || !ok {
		return work.Stale, err
	}
	best, ok, err := n.Chain.BestID(state.Height)
	if err == nil && ok && best == id {
		return work.Accepted, nil
	}
	return work.Stale, err
}
