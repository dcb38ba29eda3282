package chain_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// farFuture is a clock for which no block of these tests is early.
func farFuture() time.Time { return time.Unix(4_000_000_000, 0) }

// open opens a chain on which nothing has to wait: any number of twins comes at
// once, and the node is catching up.
func open(tb testing.TB, net *consensus.Network, s chain.Store) *chain.Manager {
	tb.Helper()
	m := openAt(tb, net, s, farFuture)
	chain.AllowTwins(m)
	return m
}

func openAt(tb testing.TB, net *consensus.Network, s chain.Store, now func() time.Time) *chain.Manager {
	tb.Helper()
	m, err := chain.New(net, s, now, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// node is a manager over a store, with a subscriber that follows it.
type node struct {
	tb       testing.TB
	net      *consensus.Network
	store    chain.Store
	m        *chain.Manager
	at       types.Hash
	followed consensus.Coins
	votes    []consensus.Attestation // that the manager must know of
	root     consensus.Checkpoint    // final at the last restart
	parked   bool                    // something better may be stored
	stop     func()                  // ends Run
	chains   map[types.Hash][]chain.Entry
}

func newNode(tb testing.TB, net *consensus.Network, s chain.Store) *node {
	return &node{tb: tb, net: net, store: s, m: open(tb, net, s), at: net.ID, followed: consensus.Coins{}}
}

func newMemNode(tb testing.TB) *node {
	net := testNetwork(tb, nil)
	return newNode(tb, net, chaintest.NewStore())
}

// add adds blocks, each with the result wanted, and checks everything after each.
func (n *node) add(want chain.Result, blocks ...*types.Block) {
	n.tb.Helper()
	for _, b := range blocks {
		got, err := n.m.AddBlock(b)
		if err != nil || got != want {
			n.tb.Fatalf("adding block %s: %v, %v; want %v", b.Header.ID(), got, err, want)
		}
		n.noteCarried(b)
		n.check()
	}
}

// refused adds a block that must be refused with these errors.
func (n *node) refused(b *types.Block, want ...error) {
	n.tb.Helper()
	before := n.m.Tip()
	_, err := n.m.AddBlock(b)
	for _, w := range want {
		if !errors.Is(err, w) {
			n.tb.Fatalf("adding block %s: error %v, want %v", b.Header.ID(), err, w)
		}
	}
	if got := n.m.Tip(); !got.Equal(&before) {
		n.tb.Fatalf("refused block moved the tip")
	}
	n.check()
}

func (n *node) tip(want consensus.State) {
	n.tb.Helper()
	if got := n.m.Tip(); !got.Equal(&want) {
		n.tb.Fatalf("tip is %s at height %d, want %s at height %d", got.ID, got.Height, want.ID, want.Height)
	}
}

// restart forgets everything in memory. What is proven is not among it.
func (n *node) restart() {
	n.tb.Helper()
	before := n.m.Standing()
	n.m = open(n.tb, n.net, n.store)
	n.loseVotes()
	n.standing(before)
	n.check()
}

// check compares the whole state with what the best chain's blocks and the votes
// that are known give from scratch.
func (n *node) check() {
	n.tb.Helper()
	n.checkChain()
	n.checkBest()
}

// checkChain compares what the best chain's blocks give with the store and a
// subscriber.
func (n *node) checkChain() {
	n.tb.Helper()
	want, coins := n.replay()
	if got := n.m.Tip(); !got.Equal(&want) {
		n.tb.Fatalf("tip is %v, the best chain ends in %v", got, want)
	}
	stored := consensus.Coins{}
	for u, err := range n.store.UTXOs() {
		if err != nil {
			n.tb.Fatal(err)
		}
		stored[u.OutPoint] = u.Coin
	}
	if d := cmp.Diff(coins, stored); d != "" {
		n.tb.Fatalf("unspent outputs (-replayed +stored):\n%s", d)
	}
	n.follow()
	if d := cmp.Diff(coins, n.followed); d != "" {
		n.tb.Fatalf("unspent outputs (-replayed +subscriber's):\n%s", d)
	}
}

// replayed is what consensus.Connect says of a block after its ancestors.
type replayed struct {
	state consensus.State
	diff  consensus.Diff
}

// replays are the blocks that replay has connected, by id: the same ones again
// and again, and what comes out depends on nothing else.
var replays sync.Map

// replay connects the best chain from genesis.
func (n *node) replay() (consensus.State, consensus.Coins) {
	n.tb.Helper()
	state, coins := n.net.GenesisState(), consensus.Coins{}
	for h := uint32(1); ; h++ {
		id, ok, err := n.m.BestID(h)
		if err != nil {
			n.tb.Fatal(err)
		}
		if !ok {
			return state, coins
		}
		known, ok := replays.Load(id)
		if !ok {
			b, ok, err := n.m.Block(id)
			if err != nil || !ok {
				n.tb.Fatalf("block %s of the best chain: %v, %v", id, ok, err)
			}
			after, d, err := consensus.Connect(&state, b, coins)
			if err != nil {
				n.tb.Fatalf("block %s of the best chain: %v", id, err)
			}
			known, _ = replays.LoadOrStore(id, replayed{after, d})
		}
		r := known.(replayed)
		if h != r.state.Height {
			n.tb.Fatalf("block %s of height %d is at height %d", id, r.state.Height, h)
		}
		state = r.state
		for _, u := range r.diff.Spent {
			delete(coins, u.OutPoint)
		}
		for _, u := range r.diff.Created {
			coins[u.OutPoint] = u.Coin
		}
	}
}

// follow is a subscriber: three blocks at a time, to the tip.
func (n *node) follow() {
	n.tb.Helper()
	for {
		reverted, applied, err := n.m.UpdatesSince(n.at, 3)
		if err != nil {
			n.tb.Fatal(err)
		}
		if len(reverted)+len(applied) > 3 {
			n.tb.Fatalf("asked for 3 updates, got %d and %d", len(reverted), len(applied))
		}
		if len(reverted)+len(applied) == 0 {
			break
		}
		for _, u := range reverted {
			n.step(u, u.State, u.Parent, u.Diff.Created, u.Diff.Spent)
		}
		for _, u := range applied {
			n.step(u, u.Parent, u.State, u.Diff.Spent, u.Diff.Created)
		}
	}
	if n.at != n.m.Tip().ID {
		n.tb.Fatalf("subscriber ends at %s, tip is %s", n.at, n.m.Tip().ID)
	}
}

func (n *node) step(u chain.Update, from, to consensus.State, remove, add []consensus.UTXO) {
	n.tb.Helper()
	if n.at != from.ID || u.Block.Header.ID() != u.State.ID || u.Block.PrevBlock != u.Parent.ID {
		n.tb.Fatalf("subscriber at %s got an update from %s to %s with block %s", n.at, from.ID, to.ID, u.Block.Header.ID())
	}
	for _, x := range remove {
		if !cmp.Equal(n.followed[x.OutPoint], x.Coin) {
			n.tb.Fatalf("update removes %s as %v, subscriber has %v", x.OutPoint, x.Coin, n.followed[x.OutPoint])
		}
		delete(n.followed, x.OutPoint)
	}
	for _, x := range add {
		if _, ok := n.followed[x.OutPoint]; ok {
			n.tb.Fatalf("update adds %s again", x.OutPoint)
		}
		n.followed[x.OutPoint] = x.Coin
	}
	n.at = to.ID
}

func verify(tb testing.TB, net *consensus.Network, s chain.BlockSource) chain.Report {
	tb.Helper()
	r, err := chain.Verify(context.Background(), net, s, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func (n *node) log() *slog.Logger { return slog.New(slog.DiscardHandler) }
