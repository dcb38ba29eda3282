package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

const dir = "books"

// hashOf makes the hash of share n, of about difficulty 1.
func hashOf(n int) (h [32]byte) {
	binary.LittleEndian.PutUint64(h[:], uint64(n))
	h[27] = 1
	return h
}

func shareOfNumber(n int) Share {
	h := hashOf(n)
	return Share{Hash: h, Difficulty: float64(1 + n%7), Real: stratum.HashDifficulty(h), Block: n%100 == 99}
}

func memory(fsys *durabletest.FS) Config {
	return Config{
		Dir: dir, FS: fsys, Rules: reward.Rules{Mode: reward.Proportional, Fee: 100},
		Payable: func(a string) bool { return len(a) > 0 && a[0] == 'q' },
	}
}

func mustOpen(t interface{ Fatal(...any) }, cfg Config) *Books {
	b, err := Open(time.Now(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// image is all that a restart must find again.
func image(b *Books) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drain()
	b.recordRefused()
	return string(b.state.appendState(nil))
}

// work lets one of everything happen.
func bookSome(b *Books, n int) {
	now := time.Now()
	names := []string{"qalice.1", "qalice.2", "bob", "qcarol"}
	workers := make([]*Worker, len(names))
	for i, name := range names {
		workers[i] = b.Open(now, name)
	}
	b.Network(work.TargetFromDifficulty(1000))
	b.NewParent([32]byte{byte(n)})
	for i := range 20 {
		b.Accept(now.Add(time.Duration(i)*time.Millisecond), workers[i%len(workers)], shareOfNumber(100*n+i))
		b.Reject(now, workers[i%3], Reason(i%int(reasons)))
	}
	b.Reject(now, nil, Unauthorized)
	b.Issued([4]byte{1, byte(n)}, names[:n%3], float64(n)+0.5)
	b.Returned([4]byte{1, byte(n - 2)})
	for _, w := range workers {
		b.Close(w)
	}
}

func foundBlock(b *Books, n int) error {
	_, note := b.Plan(uint32(n), 1000, 3)
	if err := b.Found(Found{ID: [32]byte{9, byte(n)}, Height: uint32(n), Time: time.Now(), Reward: 1000, Finder: "qalice.1", Note: note}); err != nil {
		return err
	}
	return b.Settle([32]byte{9, byte(n)}, State(1+n%3))
}

func TestRestartFindsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := durabletest.New()
		b := mustOpen(t, memory(fsys))
		for n := range 12 {
			time.Sleep(time.Second)
			bookSome(b, n)
			if err := foundBlock(b, n); err != nil {
				t.Fatal(err)
			}
			if n == 6 {
				b.journal.segs[0].size = 1 << 30 // begin a new segment
			}
			before, want := image(b), b.Report()
			_, wantWorkers := b.Stats(time.Now())
			if err := b.Flush(); err != nil {
				t.Fatal(err)
			}
			again := mustOpen(t, memory(fsys.Kill()))
			if image(again) != before {
				t.Fatalf("step %d: another state", n)
			}
			_, gotWorkers := again.Stats(time.Now())
			if d := cmp.Diff(want, again.Report()) + cmp.Diff(wantWorkers, gotWorkers); d != "" {
				t.Fatal(d)
			}
			for i := range 20 {
				if again.Accept(time.Now(), nil, shareOfNumber(100*n+i)) {
					t.Fatalf("step %d: share %d counts again", n, i)
				}
			}
			if !again.Accept(time.Now(), nil, shareOfNumber(100*n+50)) {
				t.Fatal("a new share does not count")
			}
		}
		if len(b.journal.segs) != 2 {
			t.Errorf("%d segments", len(b.journal.segs))
		}
		if err := b.Shut(); err != nil {
			t.Error(err)
		}
	})
}

// TestNobodyElse: the books of a running process are opened by nobody, and
// read by anybody.
func TestNobodyElse(t *testing.T) {
	fsys := durabletest.New()
	b := mustOpen(t, memory(fsys))
	bookSome(b, 1)
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(time.Now(), memory(fsys)); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	v, err := read(t.Context(), fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	total, _ := v.Stats(time.Now())
	if total.Accepted != 20 || total.Refused() != 21 {
		t.Errorf("%+v", total)
	}
}

// faults are the ways in which a call fails.
var faults = map[string]durabletest.Fault{
	"fails":                      {Err: syscall.EIO},
	"fails half way":             {Err: syscall.EIO, Short: 700},
	"fails after it persisted":   {Err: syscall.EIO, After: true},
	"fails and drops":            {Err: syscall.EIO, Drop: true},
	"finds the disk full":        {Err: syscall.ENOSPC, Short: 300},
	"finds the disk full, later": {Err: syscall.ENOSPC, After: true},
}

// TestFaultAtEveryCall fails every call to the disk in turn, once and then for
// ten seconds, in every way. Mining goes on; what was acknowledged is there
// after a kill and after a power cut, nothing is there twice, and when the disk
// is well again so are the books.
func TestFaultAtEveryCall(t *testing.T) {
	for what, fault := range faults {
		for _, last := range []time.Duration{0, 10 * time.Second} {
			for step := 0; ; step++ {
				hit := false
				t.Run(fmt.Sprintf("call %d %s for %v", step, what, last), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { hit = failAt(t, step, last, fault) })
				})
				if t.Failed() {
					return
				}
				if !hit {
					if step < 20 {
						t.Fatalf("only %d calls", step)
					}
					break
				}
			}
		}
	}
}

func failAt(t *testing.T, step int, last time.Duration, fault durabletest.Fault) bool {
	fsys := durabletest.New()
	b := mustOpen(t, memory(fsys))
	calls, began := 0, time.Time{}
	fsys.Fault = func(op durabletest.Op, name string) *durabletest.Fault {
		calls++
		if calls == step+1 {
			began = time.Now()
		}
		if !began.IsZero() && (calls == step+1 || time.Since(began) < last) {
			return &fault
		}
		return nil
	}
	acked := image(b)
	images := []string{acked}
	for n := range 6 {
		time.Sleep(250 * time.Millisecond)
		bookSome(b, n)
		var found error
		if n%2 == 1 {
			found = foundBlock(b, n)
		}
		if n == 3 {
			b.journal.segs[len(b.journal.segs)-1].size = 1 << 30
		}
		images = append(images, image(b))
		err := b.Flush()
		if err == nil {
			acked = image(b)
			images = append(images, acked)
		}
		if failing := !b.Journal().Failing.IsZero(); failing != (err != nil) {
			t.Errorf("flushed with %v, and failing is %v", err, failing)
		}
		if found != nil && err == nil && began.IsZero() {
			t.Error(found)
		}
		checkCrashes(t, fsys, step, acked, images)
	}
	if time.Sleep(15 * time.Second); b.Flush() != nil {
		t.Errorf("the disk is well, and: %v", b.Flush())
	}
	if j := b.Journal(); !j.Failing.IsZero() || j.Missing != 0 {
		t.Errorf("%+v", j)
	}
	again := mustOpen(t, memory(fsys.Kill()))
	if image(again) != image(b) {
		t.Error("another state after all")
	}
	checkShares(t, fsys.Kill(), 6*20)
	return !began.IsZero()
}

// checkCrashes opens what a kill and what power cuts leave. It must be a state
// that the books were in, and none before the last that was acknowledged.
func checkCrashes(t *testing.T, fsys *durabletest.FS, step int, acked string, images []string) {
	t.Helper()
	after := seqOf(acked)
	states := []*durabletest.FS{fsys.Kill()}
	for seed := range uint64(3) {
		states = append(states, fsys.Crash(rand.New(rand.NewPCG(uint64(step), seed))))
	}
	for i, state := range states {
		b, err := Open(time.Now(), memory(state))
		if err != nil {
			t.Errorf("crash %d: %v", i, err)
			continue
		}
		if seq := b.state.seq; seq < after {
			t.Errorf("crash %d: %d events of %d that were acknowledged", i, seq, after)
		}
		total, _ := b.Stats(time.Now())
		if int(total.Accepted)%20 != 0 || total.Accepted > uint64(20*len(images)) {
			t.Errorf("crash %d: %d shares", i, total.Accepted)
		}
		if err := b.state.ledger.Check(); err != nil {
			t.Error(err)
		}
		if b.state.seq == after && image(b) != acked {
			t.Errorf("crash %d: another state than was acknowledged", i)
		}
	}
}

func seqOf(image string) uint64 {
	n, _ := binary.Uvarint([]byte(image[:10]))
	return n
}

// checkShares: every share is in the journal, once.
func checkShares(t *testing.T, fsys FS, want int) {
	t.Helper()
	seen := map[[32]byte]bool{}
	err := shares(t.Context(), fsys, dir, time.Time{}, nil, func(s *ShareRecord) error {
		if seen[s.Hash] || s.Worker == "" {
			return fmt.Errorf("share %x of %q, seen %v", s.Hash[:4], s.Worker, seen[s.Hash])
		}
		seen[s.Hash] = true
		return nil
	})
	if err != nil || len(seen) != want {
		t.Errorf("%d shares of %d in the journal, %v", len(seen), want, err)
	}
}

// TestDiskFullForLong: with more to write than is kept, single shares go
// missing, which shows; no sum does.
func TestDiskFullForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := durabletest.New()
		cfg := memory(fsys)
		cfg.maxUnwritten = 4000
		b := mustOpen(t, cfg)
		full := true
		fsys.Fault = func(op durabletest.Op, name string) *durabletest.Fault {
			if full && (op == durabletest.Write || op == durabletest.Create) {
				return &durabletest.Fault{Err: syscall.ENOSPC}
			}
			return nil
		}
		began := time.Now()
		for n := range 50 {
			bookSome(b, n)
			if err := b.Flush(); !errors.Is(err, durable.ErrDiskFull) && n == 0 {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if j := b.Journal(); !j.Failing.Equal(began) || j.Missing == 0 {
			t.Errorf("failing since %v of %v: %+v", j.Failing, began, j)
		}
		full = false
		time.Sleep(2 * time.Second)
		if err := b.Flush(); err != nil {
			t.Fatal(err)
		}
		again := mustOpen(t, memory(fsys.Kill()))
		if image(again) != image(b) {
			t.Error("another state")
		}
		single, missing := 0, uint64(0)
		if err := shares(t.Context(), fsys.Kill(), dir, time.Time{}, nil, func(s *ShareRecord) error {
			if missing += s.Missing; s.Missing == 0 {
				single++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if j := b.Journal(); uint64(single)+missing != 50*20 || missing != j.Missing || single == 0 {
			t.Errorf("%d shares and %d missing, %+v", single, missing, j)
		}
	})
}

// TestRetention: old segments go, by age and by size, and the sums stay.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := durabletest.New()
		cfg := memory(fsys)
		cfg.Retention, cfg.SegmentBytes = 48*time.Hour, 4096
		b := mustOpen(t, cfg)
		for n := range 200 {
			bookSome(b, n)
			if err := b.Flush(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		names, _ := fsys.Names(dir)
		if j := b.Journal(); j.Segments != len(names) || j.Segments < 5 || j.Segments > 60 {
			t.Errorf("%d segments, %d files", j.Segments, len(names))
		}
		oldest := time.Time{}
		if err := shares(t.Context(), fsys, dir, time.Time{}, nil, func(s *ShareRecord) error {
			if oldest.IsZero() {
				oldest = s.Time
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if age := time.Since(oldest); age < 48*time.Hour || age > 60*time.Hour {
			t.Errorf("the oldest share is %v old", age)
		}
		total, _ := mustOpen(t, memory(fsys.Kill())).Stats(time.Now())
		if total.Accepted != 200*20 {
			t.Errorf("%d shares", total.Accepted)
		}
		b.journal.cfg.MaxBytes = 20_000
		bookSome(b, 201)
		b.journal.segs[len(b.journal.segs)-1].size = 1 << 20
		if err := b.Flush(); err != nil {
			t.Fatal(err)
		}
		if j := b.Journal(); j.Bytes > 20_000 {
			t.Errorf("%d bytes", j.Bytes)
		}
	})
}

// TestDamage: a flipped bit in what was acknowledged is never taken for the end.
func TestDamage(t *testing.T) {
	fsys := durabletest.New()
	b := mustOpen(t, memory(fsys))
	for n := range 3 {
		bookSome(b, n)
		if err := b.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	want := image(b)
	path := segmentPath(dir, 1)
	good := fsys.Content(path)
	for at := 0; at < len(good)-1500; at += 7 {
		bad := append([]byte(nil), good...)
		bad[at] ^= 4
		state := durabletest.New()
		state.SetContent(path, bad)
		again, err := Open(time.Now(), memory(state))
		if err == nil && image(again) != want {
			t.Fatalf("bit at %d: other books are opened without a word", at)
		}
	}
	for cut := range good { // a cut record is cut off
		state := durabletest.New()
		state.SetContent(path, good[:cut])
		again, err := Open(time.Now(), memory(state))
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if err := again.state.ledger.Check(); err != nil || again.state.seq > b.state.seq {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
}

// TestRandomHistory: books that crash again and again are those that never did,
// but for what was not acknowledged: Flush is called before each crash.
func TestRandomHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fsys := durabletest.New()
		b, calm := mustOpen(rt, memory(fsys)), New(time.Now(), memory(nil))
		clock := time.UnixMilli(1_800_000_000_000)
		n, blocks := 0, 0
		ids := func(k int) (h [32]byte) { h[0], h[1] = 7, byte(k); return h }
		rt.Repeat(map[string]func(*rapid.T){
			"shares": func(t *rapid.T) {
				name := rapid.SampledFrom([]string{"qa.1", "qa.2", "qb", "c"}).Draw(t, "worker")
				count := rapid.IntRange(1, 30).Draw(t, "count")
				for _, books := range []*Books{b, calm} {
					w := books.Open(clock, name)
					for i := range count {
						if !books.Accept(clock, w, shareOfNumber(n+i)) {
							t.Fatal("a new share is none")
						}
						if books.Accept(clock, w, shareOfNumber(n+i/2)) {
							t.Fatal("a share counts twice")
						}
						books.Reject(clock, w, DuplicateShare)
					}
					books.Close(w)
				}
				n += count
			},
			"found": func(t *rapid.T) {
				reward, outputs := rapid.Int64Range(0, 1e10).Draw(t, "reward"), rapid.IntRange(0, 3).Draw(t, "outputs")
				_, note := b.Plan(uint32(blocks), reward, outputs)
				if _, other := calm.Plan(uint32(blocks), reward, outputs); string(note) != string(other) {
					t.Fatal("another plan")
				}
				for _, books := range []*Books{b, calm} {
					if err := books.Found(Found{ID: ids(blocks), Height: uint32(blocks), Time: clock, Reward: reward, Finder: "qa.1", Note: note}); err != nil {
						t.Fatal(err)
					}
				}
				blocks++
			},
			"settle": func(t *rapid.T) {
				if blocks == 0 {
					return
				}
				k, s := rapid.IntRange(0, blocks-1).Draw(t, "block"), State(rapid.IntRange(0, 3).Draw(t, "state"))
				if err := errors.Join(b.Settle(ids(k), s), calm.Settle(ids(k), s)); err != nil {
					t.Fatal(err)
				}
			},
			"crash": func(t *rapid.T) {
				if err := b.Flush(); err != nil {
					t.Fatal(err)
				}
				fsys = fsys.Crash(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)))
				b = mustOpen(t, memory(fsys))
			},
			"segment": func(*rapid.T) { b.journal.segs[len(b.journal.segs)-1].size = 1 << 30 },
			"wait": func(t *rapid.T) {
				clock = clock.Add(time.Duration(rapid.IntRange(1, 1e6).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(t *rapid.T) {
				if d := cmp.Diff(calm.Report(), b.Report()); d != "" {
					t.Fatal(d)
				}
				if err := b.state.ledger.Check(); err != nil {
					t.Fatal(err)
				}
				got, gotWorkers := b.Stats(clock)
				want, wantWorkers := calm.Stats(clock)
				want.HashRate, got.HashRate = HashRate{}, HashRate{} // they began at different times
				if d := cmp.Diff(want, got) + cmp.Diff(wantWorkers, gotWorkers); d != "" {
					t.Fatal(d)
				}
			},
		})
	})
}

func TestRunFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := durabletest.New()
		b := mustOpen(t, memory(fsys))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		accepted := func() uint64 {
			total, _ := mustOpen(t, memory(fsys.Kill())).Stats(time.Now())
			return total.Accepted
		}
		bookSome(b, 1)
		time.Sleep(251 * time.Millisecond)
		synctest.Wait()
		if n := accepted(); n != 20 {
			t.Errorf("%d shares are durable after 251 ms", n)
		}
		bookSome(b, 2)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := accepted(); n != 40 {
			t.Errorf("%d shares are durable after the end", n)
		}
		if err := b.Shut(); err != nil {
			t.Error(err)
		}
		if b.Flush() == nil {
			t.Error("flushed to nowhere")
		}
	})
}

func TestEvictionIsKept(t *testing.T) {
	fsys := durabletest.New()
	cfg := memory(fsys)
	cfg.MaxWorkers = 2
	b := mustOpen(t, cfg)
	for i := range 5 {
		now := time.UnixMilli(int64(1_800_000_000_000 + i))
		w := b.Open(now, fmt.Sprint("q", i))
		if w == nil {
			t.Fatal("no room")
		}
		b.Accept(now, w, shareOfNumber(i))
		b.Reject(now, w, StaleShare)
		b.Close(w)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, memory(fsys.Kill()))
	if image(again) != image(b) || len(again.state.workers) != 2 {
		t.Errorf("%d workers", len(again.state.workers))
	}
	checkShares(t, fsys.Kill(), 5)
}

func TestPrefixesReturn(t *testing.T) {
	fsys := durabletest.New()
	b := mustOpen(t, memory(fsys))
	b.Issued([4]byte{1}, []string{"a"}, 1)
	b.Issued([4]byte{2}, nil, 1.0/3)
	b.Issued([4]byte{1}, []string{"a", "b"}, 8)
	b.Returned([4]byte{2})
	b.Issued([4]byte{3}, []string{"c"}, 0.25)
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	got := mustOpen(t, memory(fsys.Kill())).Prefixes()
	if d := cmp.Diff(b.Prefixes(), got); d != "" || len(got) != 2 {
		t.Error(d)
	}
	byID := map[[4]byte]Prefix{}
	for _, p := range got {
		byID[p.Extranonce1] = p
	}
	if p := byID[[4]byte{1}]; p.Difficulty != 8 || len(p.Workers) != 2 {
		t.Errorf("%+v", p)
	}
}
