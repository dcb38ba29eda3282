package found

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/types"
)

// faultyChain is a chain that fails on demand: what it takes is on the best chain
// at once.
type faultyChain struct {
	mu      sync.Mutex
	err     error // of the next offers
	place   Place // of blocks it did not take
	placing error
	height  uint32
	taken   map[types.Hash]bool
	offers  int
	changed chan struct{}
}

func newFaultyChain() *faultyChain {
	return &faultyChain{taken: make(map[types.Hash]bool), changed: make(chan struct{})}
}

func (c *faultyChain) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// seen returns how many blocks were offered.
func (c *faultyChain) seen() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offers
}

func (c *faultyChain) Offer(b *types.Block) (work.Outcome, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offers++
	if c.err != nil {
		return work.Rejected, c.err
	}
	c.taken[b.Header.ID()] = true
	return work.Accepted, nil
}

func (c *faultyChain) Place(id types.Hash, _ uint32) (Place, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken[id] {
		return Best, "", c.placing
	}
	return c.place, "some-rule", c.placing
}

func (c *faultyChain) Due(b *types.Block) time.Time { return time.Unix(int64(b.Time), 0) }

func (c *faultyChain) Height() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.height
}

func (c *faultyChain) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// lines keeps what was logged, from a level on.
type lines struct {
	slog.Handler
	mu   sync.Mutex
	list []string
}

func (*lines) Enabled(context.Context, slog.Level) bool { return true }

func (l *lines) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	text := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, text)
	return nil
}

func (l *lines) with(parts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.list {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			n++
		}
	}
	return n
}

// rig is a keeper on a disk and a chain that fail on demand, in the bubble of a
// synctest.
type rig struct {
	t     *testing.T
	disk  *durabletest.FS
	chain *faultyChain
	log   lines
	*Keeper

	mu      sync.Mutex
	heard   []Record
	hearErr error
	fault   func(durabletest.Op) *durabletest.Fault // of the disk; nil: it works
}

// fail makes the disk fail, or with nil work again.
func (r *rig) fail(fault func(durabletest.Op) *durabletest.Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

// faulty returns a disk that fails when r says so.
func (r *rig) faulty(disk *durabletest.FS) *durabletest.FS {
	disk.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
		r.mu.Lock()
		fault := r.fault
		r.mu.Unlock()
		if fault == nil {
			return nil
		}
		return fault(op)
	}
	return disk
}

func (r *rig) hear(rec Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hearErr == nil {
		r.heard = append(r.heard, rec)
	}
	return r.hearErr
}

// start opens a keeper on r's disk, and runs it until the test ends.
func (r *rig) start() {
	r.t.Helper()
	k, err := Open(Config{Path: "j", FS: r.disk, Chain: r.chain, Hear: r.hear, Now: time.Now, Log: slog.New(&r.log)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Keeper = k
	k.Resume()
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

// bubble runs a test with a rig.
func bubble(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, chain: newFaultyChain()}
		r.disk = r.faulty(durabletest.New())
		r.start()
		test(r)
	})
}

func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// onDisk returns the records that the file has.
func (r *rig) onDisk() []Record {
	r.t.Helper()
	records, err := parse(r.disk.Content("j"))
	if err != nil {
		r.t.Fatal(err)
	}
	return records
}

// record is number n of blocks that differ.
func record(n int) Record {
	b := &types.Block{Transactions: []*types.Transaction{{Version: 1, LockTime: uint32(n)}}}
	b.Header = types.Header{Version: 1, Nonce: uint32(n), Time: 946684800}
	return Record{Block: b, Height: 7, Time: time.UnixMilli(1_700_000_000_123), Reward: 5_000_000_000, Finder: fmt.Sprint("rig.", n), Note: []byte{9, byte(n)}}
}

func (r *rig) submit(n int, want work.Outcome) {
	r.t.Helper()
	if outcome, err := r.Submit(record(n)); outcome != want || err != nil {
		r.t.Errorf("block %d: %v, %v, want %v", n, outcome, err, want)
	}
}

// TestDiskFails: whatever the journal cannot do, the block reaches the chain, an
// error says what to do, and the journal works again as soon as the disk does.
func TestDiskFails(t *testing.T) {
	for _, op := range []durabletest.Op{durabletest.Remove, durabletest.Create, durabletest.Write, durabletest.Sync, durabletest.Rename, durabletest.SyncDir} {
		for name, fault := range map[string]durabletest.Fault{
			"full":                  {Err: syscall.ENOSPC, Short: 20},
			"broken":                {Err: syscall.EIO},
			"broken, done the same": {Err: syscall.EIO, After: true},
			"broken, pages dropped": {Err: syscall.EIO, Drop: true},
		} {
			if op == durabletest.Remove && fault.After {
				continue // there is nothing to remove, which is no failure
			}
			t.Run(fmt.Sprint(op, " ", name), func(t *testing.T) {
				bubble(t, func(r *rig) {
					r.chain.set(func() { r.chain.err = ErrNotNow }) // so that the record stays
					r.fail(func(o durabletest.Op) *durabletest.Fault {
						if o == op {
							return &fault
						}
						return nil
					})
					r.submit(1, work.Held)
					r.submit(2, work.Held)
					if r.chain.seen() != 2 || len(r.heard) != 2 {
						t.Errorf("%d offers, books heard %d times", r.chain.seen(), len(r.heard))
					}
					if n := r.log.with("ERROR", "not journaled", "Free disk space, or look after the disk"); n != 2 {
						t.Errorf("%d lines on two blocks: %q", n, r.log.list)
					}
					r.pass(10 * time.Second) // it tries again, quietly
					if n := r.log.with("ERROR", "journaled"); n != 2 {
						t.Errorf("%d lines on two blocks: %q", n, r.log.list)
					}
					r.fail(nil)
					r.pass(2 * time.Second)
					if n := len(r.onDisk()); n != 2 || r.log.with("can be written again") != 1 {
						t.Errorf("%d records once the disk works, want 2; logged %q", n, r.log.list)
					}
					// What is there now is durable.
					r.disk = r.disk.Crash(newRand(1))
					if n := len(r.onDisk()); n != 2 {
						t.Errorf("%d records after a power cut, want 2", n)
					}
				})
			})
		}
	}
}

// TestChainFails: a block that the chain cannot store now is offered until it can,
// and over a restart, too.
func TestChainFails(t *testing.T) {
	bubble(t, func(r *rig) {
		r.chain.set(func() { r.chain.err = fmt.Errorf("%w: disk full", ErrNotNow) })
		r.submit(1, work.Held)
		r.pass(10 * time.Second)
		if n := r.log.with("ERROR", "cannot take a found block now"); n != 1 || r.Len() != 1 || r.chain.seen() < 5 {
			t.Errorf("%d lines, %d records, %d offers", n, r.Len(), r.chain.seen())
		}
		r.disk = r.disk.Kill()
		r.start()
		if len(r.heard) != 2 || r.heard[1].Finder != "rig.1" {
			t.Errorf("after a restart the books heard %v", r.heard)
		}
		r.chain.set(func() { r.chain.err = nil })
		r.pass(3 * time.Second)
		if !r.chain.taken[record(1).Block.Header.ID()] || r.Len() != 0 || len(r.onDisk()) != 0 {
			t.Errorf("taken %v, %d open, %d on disk", r.chain.taken, r.Len(), len(r.onDisk()))
		}
	})
}

// TestFateDecides: a record is open until the chain's word on it is final.
func TestFateDecides(t *testing.T) {
	refused := errors.New("some rule")
	for name, tc := range map[string]struct {
		err    error
		place  Place
		height uint32
		open   bool
		line   string
	}{
		"refused":                 {err: refused, line: "ERROR found block: refused by the chain for good"},
		"known to be invalid":     {err: refused, place: Invalid, line: "some-rule"},
		"stored, another is best": {err: ErrNotNow, place: Beaten, line: "INFO found block: beaten"},
		"stored, not decided":     {err: ErrNotNow, place: Waiting, open: true},
		"parent unknown":          {err: ErrNotNow, height: 106, open: true},
		"given up":                {err: ErrNotNow, height: 107, line: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.chain.set(func() { r.chain.err = ErrNotNow })
				if _, err := r.Submit(record(1)); err != nil {
					t.Error(err)
				}
				r.chain.set(func() { r.chain.err, r.chain.place, r.chain.height = tc.err, tc.place, tc.height })
				r.pass(5 * time.Second)
				if got := r.Has(record(1).Block.Header.ID()); got != tc.open || len(r.onDisk()) != r.Len() {
					t.Errorf("open %v, %d on disk", got, len(r.onDisk()))
				}
				if tc.line != "" && r.log.with(tc.line) != 1 {
					t.Errorf("logged %q, want %q", r.log.list, tc.line)
				}
				if why, ok := r.Refusal(record(1).Block.Header.ID()); ok != (strings.Contains(tc.line, "rule") || strings.Contains(tc.line, "refused")) {
					t.Errorf("refusal %q, %v", why, ok)
				}
			})
		})
	}
}

func TestRefusedAtOnce(t *testing.T) {
	bubble(t, func(r *rig) {
		bad := errors.New("some rule")
		r.chain.set(func() { r.chain.err = bad })
		if outcome, err := r.Submit(record(1)); outcome != work.Rejected || !errors.Is(err, bad) || r.Len() != 0 {
			t.Errorf("%v, %v, %d open", outcome, err, r.Len())
		}
	})
}

// TestBooksFail: a record is not closed before the books have taken it.
func TestBooksFail(t *testing.T) {
	bubble(t, func(r *rig) {
		r.mu.Lock()
		r.hearErr = errors.New("no space")
		r.mu.Unlock()
		r.submit(1, work.Accepted)
		r.pass(20 * time.Second)
		if r.Len() != 1 || len(r.onDisk()) != 1 || r.log.with("ERROR", "books did not take") != 1 {
			t.Errorf("%d open, logged %q", r.Len(), r.log.list)
		}
		r.mu.Lock()
		r.hearErr = nil
		r.mu.Unlock()
		r.pass(3 * time.Second)
		if r.Len() != 0 || len(r.onDisk()) != 0 || len(r.heard) != 1 {
			t.Errorf("%d open, heard %d times", r.Len(), len(r.heard))
		}
	})
}

// TestPlaceCannotBeRead: a chain whose index cannot be read decides nothing.
func TestPlaceCannotBeRead(t *testing.T) {
	bubble(t, func(r *rig) {
		r.chain.set(func() { r.chain.placing = errors.New("disk on fire") })
		r.submit(1, work.Accepted)
		r.pass(5 * time.Second)
		if r.Len() != 1 {
			t.Error("the record is closed")
		}
		r.chain.set(func() { r.chain.placing = nil })
		r.pass(2 * time.Second)
		if r.Len() != 0 {
			t.Error("the record is open")
		}
	})
}

// TestSameBlockManyTimes: miners that submit one block at the same time make one
// record of it, and the books hear of it once.
func TestSameBlockManyTimes(t *testing.T) {
	bubble(t, func(r *rig) {
		r.chain.set(func() { r.chain.err = ErrNotNow })
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				if outcome, err := r.Submit(record(i % 2)); outcome != work.Held || err != nil {
					t.Errorf("%v, %v", outcome, err)
				}
			})
		}
		wg.Wait()
		if len(r.heard) != 2 || len(r.onDisk()) != 2 || r.Len() != 2 {
			t.Errorf("heard %d times, %d on disk, %d open", len(r.heard), len(r.onDisk()), r.Len())
		}
	})
}

// TestJournalStaysSmall: closed records go, and when too many wait at once the rest
// is handed on without a record.
func TestJournalStaysSmall(t *testing.T) {
	bubble(t, func(r *rig) {
		for i := range 500 {
			r.submit(i, work.Accepted)
		}
		if n := len(r.onDisk()); n > 2 {
			t.Errorf("%d records of blocks that are settled", n)
		}
		r.pass(2 * time.Second)
		if n := len(r.disk.Content("j")); n != headerSize {
			t.Errorf("%d bytes with no record open", n)
		}
		r.chain.set(func() { r.chain.err = ErrNotNow })
		for i := range maxOpen {
			r.submit(1000+i, work.Held)
		}
		outcome, err := r.Submit(record(2000))
		if outcome != work.Rejected || !errors.Is(err, ErrNotNow) || r.Len() != maxOpen || len(r.onDisk()) != maxOpen {
			t.Errorf("%v, %v, %d records", outcome, err, r.Len())
		}
		if r.log.with("WARN", "not journaled") != 1 || len(r.heard) != 500+maxOpen+1 {
			t.Errorf("heard %d times, logged %q", len(r.heard), r.log.list[len(r.log.list)-1])
		}
	})
}

// TestWritesAreShared: what arrives while the file is written needs one more write.
func TestWritesAreShared(t *testing.T) {
	bubble(t, func(r *rig) {
		writes, writing, gate := 0, make(chan struct{}), make(chan struct{})
		r.fail(func(op durabletest.Op) *durabletest.Fault {
			if op == durabletest.Write {
				if writes++; writes == 1 {
					close(writing)
					<-gate
				}
			}
			return nil
		})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { r.submit(i, work.Accepted) })
			if i == 0 {
				<-writing
			}
		}
		for r.Len() < 20 { // all are waiting
			runtime.Gosched()
		}
		close(gate)
		wg.Wait()
		if writes != 2 {
			t.Errorf("%d writes for 20 blocks at once, want 2", writes)
		}
	})
}
