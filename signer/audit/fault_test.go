package audit

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/internal/durable/durabletest"
)

const (
	errDiskFull = syscall.ENOSPC
	errIO       = syscall.EIO
)

// witness remembers what was acknowledged, over all lives of a log.
type witness []Head

// check wants everything that was acknowledged to be in the log, in its place,
// and at most doubts more entries. It returns the log's own view.
func (w witness) check(t interface{ Fatalf(string, ...any) }, disk *durabletest.FS, doubts int) {
	r := NewReader(logPath, Options{FS: disk})
	seen := 0
	for record, err := range r.Records(ctx) {
		if err != nil {
			t.Fatalf("reading: %v", err)
		}
		if record.Header != nil || record.Entry.Event == EventRotated {
			continue
		}
		if seen < len(w) && record.Head != w[seen] {
			t.Fatalf("entry %d is %v, %v was acknowledged", seen, record.Head, w[seen])
		}
		seen++
	}
	if seen < len(w) || seen > len(w)+doubts {
		t.Fatalf("%d entries, %d were acknowledged, %d are in doubt", seen, len(w), doubts)
	}
}

// TestCreateInterrupted cuts the power at every call of a creation: what is
// left is created again, or is a whole log.
func TestCreateInterrupted(t *testing.T) {
	for step := 0; ; step++ {
		hit := false
		for seed := range uint64(8) {
			disk, n := durabletest.New(), 0
			disk.Fault = func(durabletest.Op, string) *durabletest.Fault {
				if n++; n > step {
					hit = true
					return &durabletest.Fault{Err: errIO, Short: 5}
				}
				return nil
			}
			err := Create(logPath, testNet, Options{FS: disk})
			if !hit && err != nil {
				t.Fatal(err)
			}
			after := disk.Crash(rand.New(rand.NewPCG(seed, uint64(step))))
			if err := Create(logPath, testNet, Options{FS: after}); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatalf("step %d: %v", step, err)
			}
			l := need[*Log](t)(Open(logPath, testNet, Options{FS: after}))
			fill(t, l, 2)
			need[Report](t)(verify(t, after, VerifyOptions{}))
		}
		if !hit {
			if step < 5 {
				t.Fatalf("only %d calls", step)
			}
			return
		}
	}
}

// TestFaultAtEveryCall walks one fault over every call of a short history with
// rotations, cuts the power, and wants what was acknowledged to be there and the
// log to go on.
func TestFaultAtEveryCall(t *testing.T) {
	runs := 0
	for at := 1; ; at++ {
		hit := false
		for _, f := range []durabletest.Fault{
			{Err: errIO, Short: 20},
			{Err: errIO, After: true},
			{Err: errDiskFull, Short: 20},
			{Err: errDiskFull, After: true},
			{Err: errIO, Short: 20, Drop: true},
			{Err: errDiskFull, Drop: true},
		} {
			disk, l := memLog(t, Options{FileSize: 900})
			n := 0
			disk.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
				if n++; n == at {
					hit = true
					return &f
				}
				return nil
			}
			var w witness
			doubts := 0
			for i := range 9 {
				h, err := l.Append(testEntry(i))
				if err != nil {
					if !errors.Is(err, ErrWrite) {
						t.Fatalf("call %d: %v", at, err)
					}
					doubts = 1
					continue // a full disk is tried again, anything else answers the same
				}
				w = append(w, h)
			}
			disk.Fault = nil
			for seed := range uint64(4) {
				after := disk.Kill()
				if seed > 0 {
					after = disk.Crash(rand.New(rand.NewPCG(seed, uint64(at))))
				}
				if len(w) == 9 {
					doubts = 0
				}
				// A power cut may leave an unfinished record; opening cuts it.
				again, err := Open(logPath, testNet, Options{FileSize: 900, FS: after})
				if err != nil {
					t.Fatalf("call %d, %+v: reopening: %v", at, f, err)
				}
				w.check(t, after, doubts)
				fill(t, again, 4)
				head := again.Head()
				if _, err := verify(t, after, VerifyOptions{Anchors: w, Head: &head}); err != nil {
					t.Fatalf("call %d, %+v: %v", at, f, err)
				}
				// What was read after a failed sync must survive the next power cut.
				later := after.Crash(rand.New(rand.NewPCG(seed, 99)))
				need[*Log](t)(Open(logPath, testNet, Options{FS: later}))
				need[Report](t)(verify(t, later, VerifyOptions{Head: &head}))
				runs++
			}
		}
		if !hit {
			break
		}
	}
	if runs < 400 {
		t.Fatalf("only %d runs: the faults did not reach the log", runs)
	}
}

// TestPowerCuts goes through random lives: entries, rotations, failing calls,
// kills and power cuts, over one log.
func TestPowerCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := durabletest.New()
		size := int64(rapid.SampledFrom([]int{1, 800, 2000, 1 << 20}).Draw(t, "file size"))
		if err := Create(logPath, testNet, Options{FS: disk}); err != nil {
			t.Fatal(err)
		}
		var w witness
		var l *Log
		doubts := 0
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			if l == nil {
				var err error
				if l, err = Open(logPath, testNet, Options{FileSize: size, FS: disk}); err != nil {
					t.Fatalf("reopening: %v", err)
				}
				w.check(t, disk, doubts)
				// What was in doubt is there or not, from now on for good.
				w, doubts = w[:0], 0
				for r, err := range l.Records(ctx) {
					if err != nil {
						t.Fatal(err)
					}
					if r.Header == nil && r.Entry.Event != EventRotated {
						w = append(w, r.Head)
					}
				}
			}
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				disk.Fault, l = nil, nil
				disk = disk.Kill()
			case 1, 2:
				seed := rapid.Uint64().Draw(t, "seed")
				disk.Fault, l = nil, nil
				disk = disk.Crash(rand.New(rand.NewPCG(seed, 1)))
			case 3:
				left := rapid.IntRange(0, 8).Draw(t, "calls")
				f := durabletest.Fault{
					Err: rapid.SampledFrom([]error{errIO, errDiskFull}).Draw(t, "cause"), After: rapid.Bool().Draw(t, "after"),
					Short: rapid.IntRange(0, 600).Draw(t, "short"), Drop: rapid.Bool().Draw(t, "drop"),
				}
				disk.Fault = func(durabletest.Op, string) *durabletest.Fault {
					if left--; left < 0 {
						return &f
					}
					return nil
				}
			case 4:
				if err := l.Rotate(testTime); err != nil && !errors.Is(err, ErrWrite) {
					t.Fatal(err)
				}
			default:
				h, err := l.Append(testEntry(i))
				if err == nil {
					w, doubts = append(w, h), 0
				} else if doubts = 1; !errors.Is(err, ErrWrite) {
					t.Fatal(err)
				}
			}
		}
	})
}
