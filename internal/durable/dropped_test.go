package durable_test

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/internal/durable/durabletest"
)

// TestLogReadAgainIsDurable: after a failed sync the kernel may hold a record
// that reads as written but that no later sync writes. Once a process that
// opened the log anew has seen it, it must survive a power cut: a signer that
// found its claim there acts on it.
func TestLogReadAgainIsDurable(t *testing.T) {
	for _, last := range []string{"short", strings.Repeat("spans sectors ", 100)} {
		fsys := durabletest.New()
		l := mustCreate(t, fsys, "first", "second")
		fsys.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
			if op == durabletest.Sync {
				return &durabletest.Fault{Err: syscall.EIO, Drop: true}
			}
			return nil
		}
		if err := l.Append([]byte(last)); err == nil {
			t.Fatal("an append whose sync failed was acknowledged")
		}
		fsys.Fault = nil
		next := fsys.Kill()
		l, err := durable.OpenLog(name, options(next))
		if err != nil {
			t.Fatal(err)
		}
		seen := contents(t, l)
		if diff := cmp.Diff([]string{"first", "second", last}, seen); diff != "" {
			t.Fatalf("this test needs a kernel that shows what it lost: %s", diff)
		}
		for seed := range uint64(64) {
			after := next.Crash(rand.New(rand.NewPCG(seed, 0)))
			if diff := cmp.Diff(seen, reload(t, after)); diff != "" {
				t.Fatalf("power cut %d: a record that was read is gone: %s", seed, diff)
			}
		}
	}
}
