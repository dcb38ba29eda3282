package node

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/found"
	"qcitycoin.org/qcity/node/types"
)

const journalPath = "found.journal"

// world is what outlives a process that keeps found blocks, in the bubble of a
// synctest: the disk of the journal, the chain's store, and what the books heard.
type world struct {
	t     *testing.T
	g     *chaingen.Generator
	disk  *durabletest.FS
	store *chaintest.Store

	mu      sync.Mutex
	heard   map[types.Hash]int
	written bool // a whole record has been written, though perhaps not durably
}

// newWorld has a chain of this height; the clock starts at the time of its tip.
func newWorld(t *testing.T, height int) *world {
	t.Helper()
	p := chaingen.Params()
	p.GenesisTime = uint32(time.Now().Unix()) - uint32(height)*p.IntervalSeconds
	w := &world{t: t, g: chaingen.New(t, p), disk: durabletest.New(), store: chaintest.NewStore(), heard: make(map[types.Hash]int)}
	w.g.Fill("a", height)
	l := w.begin(0, nil)
	for _, b := range w.g.Path(w.g.Tip().Name) {
		if _, err := l.chain.AddBlock(b); err != nil {
			t.Fatal(err)
		}
	}
	l.end()
	return w
}

// process is one process, from its start to its end or crash.
type process struct {
	*world
	chain   *chain.Manager
	keeper  *found.Keeper
	stop    context.CancelFunc
	running sync.WaitGroup

	// crashed is closed when it crashes; next is the disk that the crash leaves.
	crashed chan struct{}
	next    *durabletest.FS

	steps, crashAt int // guarded by world.mu
	dead           bool
	cut            func(*durabletest.FS) *durabletest.FS
}

// begin starts a process as a node does. It crashes before its crashAt-th step,
// counted from arm: whatever it was about to do is not done, and nothing after.
// cut says what the crash leaves on the disk.
func (w *world) begin(crashAt int, cut func(*durabletest.FS) *durabletest.FS) *process {
	w.t.Helper()
	p := &process{world: w, crashed: make(chan struct{}), crashAt: crashAt, cut: cut}
	log := slog.New(slog.DiscardHandler)
	w.disk.Fault, w.store.Fail = nil, nil
	var err error
	if p.chain, err = chain.New(w.g.Network(), w.store, time.Now, log); err != nil {
		w.t.Fatal(err)
	}
	p.keeper, err = found.Open(found.Config{
		Path: journalPath, FS: w.disk, Chain: foundChain{p.chain}, Now: time.Now, Log: log,
		Hear: func(r found.Record) error {
			p.step(func() { w.heard[r.Block.Header.ID()]++ })
			return nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	p.keeper.Resume()
	ctx, stop := context.WithCancel(w.t.Context())
	p.stop = stop
	for _, run := range []func(context.Context) error{p.chain.Run, p.keeper.Run} {
		p.running.Go(func() {
			if err := run(ctx); err != nil {
				w.t.Error(err)
			}
		})
	}
	return p
}

// arm counts steps from here on.
func (p *process) arm() {
	p.disk.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
		p.step(func() { p.written = p.written || op == durabletest.Sync })
		return nil
	}
	p.store.SetFail(func(call string) (bool, bool) {
		if call == "Commit" {
			p.step(func() {})
		}
		return false, false
	})
}

// step ends the calling goroutine if the process has crashed, or does so now.
func (p *process) step(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead {
		if p.steps++; p.steps != p.crashAt {
			do()
			return
		}
		p.dead, p.next = true, p.cut(p.disk)
		close(p.crashed)
	}
	runtime.Goexit()
}

// end stops a process, or buries one that has crashed, and reports which.
func (p *process) end() (crashed bool) {
	p.t.Helper()
	p.stop()
	p.running.Wait()
	select {
	case <-p.crashed:
		p.disk = p.next
		return true
	default:
	}
	p.disk.Fault, p.store.Fail = nil, nil
	if err := p.keeper.Close(); err != nil {
		p.t.Error(err)
	}
	p.disk = p.disk.Kill() // without its locks
	return false
}

// open returns how many records the journal has.
func (w *world) open() int {
	k, err := found.Open(found.Config{Path: journalPath, FS: w.disk.Kill(), Chain: foundChain{}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	return k.Len()
}

// mined returns a block on the tip, a fallback block at a slot, as a record.
func (w *world) mined(name string) found.Record {
	var n *chaingen.Node
	parent := w.g.Tip()
	if parent.State.ChildIsSlot() {
		n = w.g.NextFallback(name)
	} else {
		n = w.g.Next(name)
	}
	w.g.SetTip(parent.Name)
	return found.Record{
		Block: n.Block, Height: n.State.Height, Time: time.Now(), Reward: n.Block.Transactions[0].Outputs[0].Value,
		Finder: "worker", Note: []byte("note"),
	}
}

// powers are the ways a process can end at once, by what they leave on a disk.
func powers(seed uint64) map[string]func(*durabletest.FS) *durabletest.FS {
	return map[string]func(*durabletest.FS) *durabletest.FS{
		"killed":    (*durabletest.FS).Kill,
		"power cut": func(f *durabletest.FS) *durabletest.FS { return f.Crash(rand.New(rand.NewPCG(seed, 0))) },
	}
}

// pass lets the bubble's clock run and everything that is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var _ work.Submitter = (*Node)(nil)
