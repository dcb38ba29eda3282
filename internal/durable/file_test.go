package durable_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/internal/durable/durabletest"
)

// TestWriteFileFaults fails every call of a replacement, in every way, and
// then kills the process or cuts the power: old or new, nothing else, and new
// for certain once acknowledged.
func TestWriteFileFaults(t *testing.T) {
	const path = "dir/config"
	before, after := string(bytes.Repeat([]byte("old "), 700)), string(bytes.Repeat([]byte("NEW "), 900))
	for step := range 8 {
		for what, fault := range map[string]durabletest.Fault{
			"fails":                  {Err: syscall.EIO},
			"fails on a full disk":   {Err: syscall.ENOSPC, Short: 1000},
			"fails after persisting": {Err: syscall.EIO, After: true},
		} {
			fsys := durabletest.New()
			fsys.SetContent(path, []byte(before))
			fsys.SetContent(path+".tmp", []byte("left by a crash"))
			calls, failed := 0, durabletest.Op("")
			fsys.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
				if calls++; calls == step+1 {
					failed = op
					return &fault
				}
				return nil
			}
			err := durable.WriteFileOn(fsys, path, []byte(after), 0o600)
			if err != nil && errors.Is(err, durable.ErrDiskFull) != (fault.Err == syscall.ENOSPC) && failed != durabletest.Remove {
				t.Errorf("%s %s: %v", failed, what, err)
			}
			if failed != "" && err == nil {
				t.Errorf("%s %s, and the write was acknowledged", failed, what)
			}
			states := []*durabletest.FS{fsys.Kill()}
			for seed := range uint64(64) {
				states = append(states, fsys.Crash(rand.New(rand.NewPCG(seed, 3))))
			}
			for i, state := range states {
				got := string(state.Content(path))
				if got != after && (got != before || err == nil) {
					t.Fatalf("%s %s: state %d holds %d bytes of neither or of the wrong one", failed, what, i, len(got))
				}
				if err := durable.WriteFileOn(state, path, []byte("next"), 0o600); err != nil || string(state.Content(path)) != "next" {
					t.Fatalf("%s %s: writing again after state %d: %v", failed, what, i, err)
				}
			}
		}
	}
}

func TestWriteFileReal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path+".tmp", []byte("left by a crash"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"first", "", "third"} {
		if err := durable.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := durable.WriteFile(filepath.Join(path, "under a file"), nil, 0o600); err == nil {
		t.Error("wrote below a file")
	}
}

func TestAppendFile(t *testing.T) {
	fsys := durabletest.New()
	a, err := durable.CreateAppendFile(name, options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	var offsets []int64
	payloads := []string{"one", "two", "three"}
	for _, p := range payloads {
		offset, err := a.Append([]byte(p))
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, offset)
	}
	for i, offset := range offsets {
		if got, err := a.ReadAt(offset); err != nil || string(got) != payloads[i] {
			t.Errorf("record %d: %q, %v", i, got, err)
		}
	}
	var corrupt *durable.CorruptError
	if _, err := a.ReadAt(offsets[1] + 1); !errors.As(err, &corrupt) || corrupt.Offset != offsets[1]+1 {
		t.Errorf("reading inside a record: %v", err)
	}
	for _, wrong := range []int64{-1, 0, durable.FirstOffset - 1, a.Size(), a.Size() + 5} {
		if _, err := a.ReadAt(wrong); err == nil || errors.As(err, &corrupt) {
			t.Errorf("reading at %d: %v", wrong, err)
		}
	}
	if err := a.Truncate(a.Size() + 1); err == nil {
		t.Error("truncated to more than there is")
	}
	// Cut the last record and write another in its place; then the synced part
	// of the file is what every crash leaves.
	if err := a.Truncate(offsets[2]); err != nil {
		t.Fatal(err)
	}
	if offset, err := a.Append([]byte("drei")); err != nil || offset != offsets[2] {
		t.Fatalf("offset %d, %v", offset, err)
	}
	if err := a.Sync(); err != nil {
		t.Fatal(err)
	}
	synced := a.Size()
	for range 20 {
		if _, err := a.Append(bytes.Repeat([]byte("u"), 900)); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(64) {
		checkSyncedPart(t, fsys.Crash(rand.New(rand.NewPCG(seed, 4))), synced, []string{"one", "two", "drei"})
	}
}

// checkSyncedPart does what an owner does after a crash.
func checkSyncedPart(t *testing.T, fsys *durabletest.FS, synced int64, want []string) {
	t.Helper()
	a, err := durable.OpenAppendFile(name, options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Truncate(synced); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r, err := range a.Records(durable.FirstOffset) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(r.Payload))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

// TestDamagedLengthAllocatesNothing puts the largest length there is in front
// of a large file.
func TestDamagedLengthAllocatesNothing(t *testing.T) {
	fsys := durabletest.New()
	mustCreate(t, fsys, "one")
	content := fsys.Content(name)
	binary.LittleEndian.PutUint32(content[durable.FirstOffset:], 0xffffffff)
	content = append(content, make([]byte, 1<<20)...)
	fsys.SetContent(name, content)
	a, err := durable.OpenAppendFile(name, options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = a.ReadAt(durable.FirstOffset)
	runtime.ReadMemStats(&after)
	var corrupt *durable.CorruptError
	if !errors.As(err, &corrupt) {
		t.Errorf("damaged length: %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("a damaged length allocated %d bytes", used)
	}
}

// FuzzOpenLog opens any bytes as a log: what is accepted reads back as exactly
// those bytes, less a torn tail, and a refused file is left alone.
func FuzzOpenLog(f *testing.F) {
	seed := durabletest.New()
	l, err := durable.CreateLog(name, options(seed))
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []string{"one", "two", string(make([]byte, 1200)), "four"} {
		f.Add(seed.Content(name))
		if err := l.Append([]byte(r)); err != nil {
			f.Fatal(err)
		}
	}
	whole := seed.Content(name)
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		fsys := durabletest.New()
		fsys.SetContent(name, content)
		l, err := durable.OpenLog(name, options(fsys))
		if err != nil {
			if !bytes.Equal(fsys.Content(name), content) {
				t.Fatal("a refused log was changed")
			}
			return
		}
		again := durabletest.New()
		mustCreate(t, again, contents(t, l)...)
		kept := content[:len(content)-int(l.TornBytes())]
		if !bytes.Equal(again.Content(name), kept) || !bytes.Equal(fsys.Content(name), kept) {
			t.Fatalf("%x was accepted but its records make %x", kept, again.Content(name))
		}
	})
}
