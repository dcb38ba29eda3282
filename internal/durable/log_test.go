package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/internal/durable/durabletest"
)

const name = "dir/journal"

func options(fsys durable.FS) durable.Options {
	return durable.Options{Kind: [4]byte{'T', 'E', 'S', 'T'}, Version: 1, MaxRecord: 4096, FS: fsys}
}

// contents returns every record of a log.
func contents(t *testing.T, l *durable.Log) []string {
	t.Helper()
	var all []string
	for r, err := range l.Records() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(r.Payload))
	}
	return all
}

// reload opens what a crash left, and reads it.
func reload(t *testing.T, fsys *durabletest.FS) []string {
	t.Helper()
	l, err := durable.OpenLog(name, options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	all := contents(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

func mustCreate(t *testing.T, fsys durable.FS, records ...string) *durable.Log {
	t.Helper()
	l, err := durable.CreateLog(name, options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := l.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestLogFaults(t *testing.T) {
	big := string(bytes.Repeat([]byte("x"), 1500)) // spans sectors
	eio := syscall.EIO
	for _, c := range []struct {
		name   string
		faults map[durabletest.Op]durabletest.Fault
		full   bool // a full disk, cleanly undone: the log stays usable
	}{
		{"write fails", map[durabletest.Op]durabletest.Fault{"write": {Err: eio}}, false},
		{"write is short", map[durabletest.Op]durabletest.Fault{"write": {Err: eio, Short: 700}}, false},
		{"write fails after persisting", map[durabletest.Op]durabletest.Fault{"write": {Err: eio, After: true}}, false},
		{"write fails and cannot be undone", map[durabletest.Op]durabletest.Fault{
			"write": {Err: syscall.ENOSPC, Short: 700}, "truncate": {Err: eio},
		}, false},
		{"disk full before the first byte", map[durabletest.Op]durabletest.Fault{"write": {Err: syscall.ENOSPC}}, true},
		{"disk full in the middle", map[durabletest.Op]durabletest.Fault{"write": {Err: syscall.ENOSPC, Short: 700}}, true},
		{"quota used up", map[durabletest.Op]durabletest.Fault{"write": {Err: syscall.EDQUOT, Short: 3}}, true},
		{"sync fails", map[durabletest.Op]durabletest.Fault{"sync": {Err: eio}}, false},
		{"disk full at sync", map[durabletest.Op]durabletest.Fault{"sync": {Err: syscall.ENOSPC}}, false},
		{"sync fails after persisting", map[durabletest.Op]durabletest.Fault{"sync": {Err: eio, After: true}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := durabletest.New()
			l := mustCreate(t, fsys, "one", "two")
			fsys.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
				if f, ok := c.faults[op]; ok {
					return &f
				}
				return nil
			}
			err := l.Append([]byte(big))
			if err == nil {
				t.Fatal("a failed append was acknowledged")
			}
			if full := errors.Is(c.faults["write"].Err, syscall.ENOSPC) || c.full || errors.Is(c.faults["sync"].Err, syscall.ENOSPC); errors.Is(err, durable.ErrDiskFull) != full {
				t.Errorf("disk full named: %v, expected %v: %v", !full, full, err)
			}
			fsys.Fault = nil
			if (l.Err() == nil) != c.full {
				t.Errorf("the log says %v about itself", l.Err())
			}

			acknowledged := []string{"one", "two"}
			if again := l.Append([]byte("three")); c.full {
				if again != nil {
					t.Fatalf("the log did not recover from a full disk: %v", again)
				}
				acknowledged = append(acknowledged, "three")
			} else if again == nil || again.Error() != err.Error() {
				t.Fatalf("later call returned %v, expected the first error %v", again, err)
			}
			checkAfterCrashes(t, fsys, acknowledged, big)
		})
	}
}

// checkAfterCrashes checks the whole log after a kill and after many power
// cuts: the acknowledged records, and after them at most the one in doubt.
func checkAfterCrashes(t *testing.T, fsys *durabletest.FS, acknowledged []string, doubt string) {
	t.Helper()
	states := []*durabletest.FS{fsys.Kill()}
	for seed := range uint64(64) {
		states = append(states, fsys.Crash(rand.New(rand.NewPCG(seed, 0))))
	}
	for i, state := range states {
		got := reload(t, state)
		if len(got) == len(acknowledged)+1 && got[len(got)-1] == doubt {
			got = got[:len(got)-1]
		}
		if diff := cmp.Diff(acknowledged, got); diff != "" {
			t.Fatalf("state %d (-acknowledged +found):\n%s", i, diff)
		}
	}
}

func TestLogLatchesEveryCall(t *testing.T) {
	fsys := durabletest.New()
	a, err := durable.CreateAppendFile(name, options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	offset, err := a.Append([]byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	fsys.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
		if op == durabletest.Sync {
			return &durabletest.Fault{Err: syscall.EIO}
		}
		return nil
	}
	first := a.Sync()
	fsys.Fault = nil
	for call, do := range map[string]func() error{
		"Append":   func() error { _, err := a.Append([]byte("two")); return err },
		"Sync":     a.Sync,
		"ReadAt":   func() error { _, err := a.ReadAt(offset); return err },
		"Truncate": func() error { return a.Truncate(offset) },
		"Records": func() (err error) {
			for _, err = range a.Records(durable.FirstOffset) {
			}
			return err
		},
	} {
		if err := do(); !errors.Is(err, syscall.EIO) || err.Error() != first.Error() {
			t.Errorf("%s after a failed sync: %v, expected %v", call, err, first)
		}
	}
}

// TestLogPowerCuts appends records of many sizes, cuts the power at any
// moment, opens, and goes on, hundreds of times over one file.
func TestLogPowerCuts(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fsys := durabletest.New()
		if err := mustCreate(t, fsys).Close(); err != nil {
			t.Fatal(err)
		}
		var acknowledged []string
		for life := range 40 {
			l, err := durable.OpenLog(name, options(fsys))
			if err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			found := contents(t, l)
			if len(found) > len(acknowledged) {
				acknowledged = append(acknowledged, found[len(acknowledged)]) // the one in doubt
			}
			if diff := cmp.Diff(acknowledged, found); diff != "" {
				t.Fatalf("seed %d, life %d (-acknowledged +found):\n%s", seed, life, diff)
			}
			for range rng.IntN(4) {
				r := randomRecord(rng)
				if err := l.Append(r); err != nil {
					t.Fatal(err)
				}
				acknowledged = append(acknowledged, string(r))
			}
			fsys = interrupt(t, fsys, l, rng)
		}
	}
}

// interrupt cuts the power inside one more append.
func interrupt(t *testing.T, fsys *durabletest.FS, l *durable.Log, rng *rand.Rand) *durabletest.FS {
	t.Helper()
	fsys.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
		if op == durabletest.Sync {
			return &durabletest.Fault{Err: syscall.EIO} // the power went before it returned
		}
		return nil
	}
	if err := l.Append(randomRecord(rng)); err == nil {
		t.Fatal("append without sync was acknowledged")
	}
	return fsys.Crash(rng)
}

func randomRecord(rng *rand.Rand) []byte {
	b := make([]byte, 1+rng.IntN(1+rng.IntN(4096)))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestLogEveryFlippedBit: after the last sync no single damaged bit may pass,
// neither as a record nor as a torn tail.
func TestLogEveryFlippedBit(t *testing.T) {
	fsys := durabletest.New()
	mustCreate(t, fsys, "first record", "the second one", "and a third that is the last")
	good := fsys.Content(name)
	for bit := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		hurt := durabletest.New()
		hurt.SetContent(name, bad)
		_, err := durable.OpenLog(name, options(hurt))
		if err == nil {
			t.Fatalf("bit %d: a damaged log was opened", bit)
		}
		var corrupt *durable.CorruptError
		version := bit/8 == 6 || bit/8 == 7
		if errors.As(err, &corrupt) == version {
			t.Fatalf("bit %d: %v", bit, err)
		}
		if corrupt != nil && (corrupt.Offset < 0 || corrupt.Offset > int64(bit/8)) {
			t.Fatalf("bit %d (byte %d): reported offset %d", bit, bit/8, corrupt.Offset)
		}
		if !bytes.Equal(hurt.Content(name), bad) {
			t.Fatalf("bit %d: a refused log was changed", bit)
		}
	}
}

func TestLogTornTail(t *testing.T) {
	fsys := durabletest.New()
	mustCreate(t, fsys, "first", "second")
	keep := len(fsys.Content(name))
	mustReopen(t, fsys.Kill(), 0)

	last := string(bytes.Repeat([]byte{0xab}, 1300))
	l, err := durable.OpenLog(name, options(fsys.Kill()))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	whole := durabletest.New()
	mustCreate(t, whole, "first", "second", last)
	full := whole.Content(name)
	cases := map[string][]byte{"a sector never written": bytes.Clone(full), "only zeros were written": bytes.Clone(full)}
	clear(cases["a sector never written"][512:1024])
	clear(cases["only zeros were written"][keep:])
	for cut := keep + 1; cut < len(full); cut++ {
		cases[fmt.Sprintf("cut at %d", cut)] = full[:cut]
	}
	for what, content := range cases {
		state := durabletest.New()
		state.SetContent(name, content)
		l, err := durable.OpenLog(name, options(state))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got, want := l.TornBytes(), int64(len(content)-keep); got != want {
			t.Errorf("%s: %d bytes torn, expected %d", what, got, want)
		}
		if err := l.Append([]byte("third")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"first", "second", "third"}, reload(t, state.Crash(rand.New(rand.NewPCG(1, 1))))); diff != "" {
			t.Errorf("%s:\n%s", what, diff)
		}
	}
}

// TestLogTornLength: a record whose length begins in a sector that was never
// written, while the rest of it was, is torn. It is one in 128.
func TestLogTornLength(t *testing.T) {
	for inFirst := 1; inFirst <= 3; inFirst++ {
		fsys := durabletest.New()
		before := strings.Repeat("a", 1024-inFirst-8-int(durable.FirstOffset))
		mustCreate(t, fsys, before)
		keep := len(fsys.Content(name))
		if keep%512 != 512-inFirst {
			t.Fatalf("the last record would begin at %d", keep)
		}
		whole := durabletest.New()
		mustCreate(t, whole, before, "last")
		content := whole.Content(name)
		clear(content[keep:1024])
		state := durabletest.New()
		state.SetContent(name, content)
		mustReopen(t, state, int64(len(content)-keep))
		if got := reload(t, state.Kill()); len(got) != 1 {
			t.Fatalf("%d records are left", len(got))
		}
	}
}

func mustReopen(t *testing.T, fsys *durabletest.FS, torn int64) {
	t.Helper()
	l, err := durable.OpenLog(name, options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	if l.TornBytes() != torn {
		t.Fatalf("%d bytes torn, expected %d", l.TornBytes(), torn)
	}
}

func TestLogOpening(t *testing.T) {
	fsys := durabletest.New()
	if _, err := durable.OpenLog(name, options(fsys)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	l := mustCreate(t, fsys, "one")
	if _, err := durable.OpenLog(name, options(fsys)); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("file in use: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append([]byte("two")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if _, err := durable.CreateLog(name, options(fsys)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating over records: %v", err)
	}
	if diff := cmp.Diff([]string{"one"}, reload(t, fsys)); diff != "" {
		t.Error(diff)
	}
	newer := options(fsys)
	newer.Version = 2
	if _, err := durable.OpenLog(name, newer); err == nil {
		t.Error("another version was opened")
	}
	l, err := durable.OpenLog(name, options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	for what, payload := range map[string][]byte{"empty": {}, "too long": make([]byte, 4097)} {
		if err := l.Append(payload); err == nil {
			t.Errorf("%s record was appended", what)
		}
	}
	if err := l.Append(make([]byte, 4096)); err != nil {
		t.Errorf("longest record after refused ones: %v", err)
	}
}

// TestLogCreateCrash cuts the power at every step of creating a log: the next
// start either opens an empty log or creates it.
func TestLogCreateCrash(t *testing.T) {
	for step := range 6 {
		for seed := range uint64(32) {
			fsys, n := durabletest.New(), 0
			fsys.Fault = func(durabletest.Op, string) *durabletest.Fault {
				if n++; n > step {
					return &durabletest.Fault{Err: syscall.EIO}
				}
				return nil
			}
			_, created := durable.CreateLog(name, options(fsys))
			state := fsys.Crash(rand.New(rand.NewPCG(seed, 2)))
			l, err := durable.OpenLog(name, options(state))
			if err != nil {
				if created == nil {
					t.Fatalf("step %d: created, then %v", step, err)
				}
				l, err = durable.CreateLog(name, options(state))
			}
			if err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			if err := l.Append([]byte("one")); err != nil {
				t.Fatal(err)
			}
		}
	}
}
