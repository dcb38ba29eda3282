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
	"qcitycoin.org/qcity/node/found"
	"qcitycoin.org/qcity/node/mempool"
	"qcitycoin.org/qcity/node/rpc"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/template"
)

// coinbaseTag is what this software writes into its coinbases.
const coinbaseTag = "/qcity/"

// foundFile, in a node's directory, is the journal of found blocks.
const foundFile = "found.journal"

// CookieFile is the name of the RPC cookie in a node's directory.
const CookieFile = ".cookie"

// Config is what a node needs.
type Config struct {
	Network *consensus.Network
	// Dir holds the chain database and the RPC cookie.
	Dir string
	// Payout is the output script mined blocks pay; nil: the node makes no work.
	Payout []byte
	// Payouts decides what coinbases pay; nil: all to Payout, which is also paid when a
	// plan of it cannot be used.
	Payouts template.Payouts
	// MaxCoinbase is the size, in bytes, that no coinbase passes; 0 is
	// template.DefaultMaxCoinbase.
	MaxCoinbase int
	// OnFound hears of every block that miners of this box find: when it is journaled
	// and before the chain has it, once, and again after every restart until its fate
	// is decided (BlockState). The block waits for it: it does no more than make a
	// durable note. An error keeps the block's record open, and OnFound is called
	// again a second later. Nil: nobody wants to know.
	OnFound func(FoundBlock) error
	// Signer signs this box's slots and votes; nil: none.
	Signer Signer
	// StartupWait leaves the first slot after the start to other boxes (S5).
	StartupWait bool
	// Version of the software, for RPC.
	Version string
	// HashRate returns this box's own hashes per second, for RPC; may be nil.
	HashRate func() float64
	// Calls returns RPC methods of other parts of the box, when Run starts; may be nil.
	Calls func() []rpc.Call
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
	found     *found.Keeper
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
	n.found, err = found.Open(found.Config{
		Path: filepath.Join(n.cfg.Dir, foundFile), Chain: foundChain{n.Chain},
		Hear: n.hear, Now: time.Now, Log: n.log.With("component", "found"),
	})
	if err != nil {
		return err
	}
	log := n.log.With("component", "template")
	if n.builder, err = template.NewBuilder(n.Chain, n.Pool, coinbaseTag, log, spare); err != nil {
		return fmt.Errorf("open block templates: %w", err)
	}
	if n.cfg.Payout != nil {
		c := template.DefaultSourceConfig(n.cfg.Payout)
		c.Payouts, c.MaxCoinbase = n.cfg.Payouts, n.cfg.MaxCoinbase
		n.templates, err = template.NewSource(n.builder, n.Feed, n.addSolved, c, time.Now, log)
		if err != nil {
			return fmt.Errorf("open block templates: %w", err)
		}
	}
	return nil
}

// Run runs the node until ctx ends, which is no error; it serves RPC on l,
// which it closes.
func (n *Node) Run(ctx context.Context, l net.Listener) error {
	// What was found before comes before what is to be found.
	n.found.Resume()
	ended := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.Chain.Run(ctx) })
	g.Go(func() error { return n.found.Run(ctx) })
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
	c := rpc.Config{CookieFile: filepath.Join(n.cfg.Dir, CookieFile), Version: n.cfg.Version}
	if n.cfg.Calls != nil {
		c.Calls = n.cfg.Calls()
	}
	server := rpc.New(c,
		rpcChain{n.Chain}, rpcPool{n.Pool, n.verified, log}, rpcMining{n}, log)
	g.Go(func() error { return server.Run(ctx, l) })
	// A part that says "canceled" while nobody cancelled has failed.
	if err := g.Wait(); err != nil && (ended.Err() == nil || !errors.Is(err, context.Canceled)) {
		return err
	}
	return nil
}

// Close releases the data directory. Run must have returned.
func (n *Node) Close() error {
	if err := n.found.Close(); err != nil {
		// What is open is offered again, what is closed does no harm.
		n.log.Warn("journal of found blocks not tidied", "err", err)
	}
	return n.store.Close()
}

// Healthy reports whether the chain can be read.
func (n *Node) Healthy() error {
	tip := n.Chain.Tip()
	_, ok, err := n.Chain.Header(tip.ID)
	if err == nil && !ok {
		err = fmt.Errorf("the tip %s is not stored", tip.ID)
	}
	return err
}

// SaveWork returns what RestoreWork needs to take solutions of the jobs that are out.
func (n *Node) SaveWork() ([]byte, error) {
	if n.templates == nil {
		return nil, nil
	}
	return n.templates.Save()
}

// RestoreWork remembers the jobs that another program saved. Call it before Run.
func (n *Node) RestoreWork(saved []byte) error {
	if n.templates == nil || len(saved) == 0 {
		return nil
	}
	return n.templates.Restore(saved)
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

// Variant returns a job like another one whose coinbase pays by plan: see
// template.Source.Variant.
func (n *Node) Variant(jobID uint64, plan template.Plan) (*work.Job, bool) {
	if n.templates == nil {
		return nil, false
	}
	return n.templates.Variant(jobID, plan)
}

// CoinbaseRoom returns how many bytes a coinbase of this software, of at most this
// size in all, has for its outputs; each takes template.OutputSize of its script.
func CoinbaseRoom(maxCoinbase int) int { return template.CoinbaseRoom(maxCoinbase, coinbaseTag) }

// addSolved hands a solved block to its keeper, and so to the chain.
func (n *Node) addSolved(s template.Solved) (work.Outcome, error) {
	return n.found.Submit(found.Record{
		Block: s.Block, Height: s.Height, Time: time.Now(), Reward: s.Reward, Finder: s.Finder, Note: s.Note,
	})
}
