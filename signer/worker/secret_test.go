package worker_test

import (
	"bytes"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"

	"qcitycoin.org/qcity/signer/worker"
)

// TestSecret: where memory cannot be locked the log says so.
func TestSecret(t *testing.T) {
	plain := []byte("1234")
	before := lockedKiB(t)
	var log bytes.Buffer
	s := worker.KeepSecret(plain, slog.New(slog.NewTextHandler(&log, nil)))
	clear(plain)
	if locked := lockedKiB(t) > before; locked == strings.Contains(log.String(), "LimitMEMLOCK") {
		t.Errorf("locked into memory: %t; the log says %q", locked, &log)
	}
	view := s.Bytes()
	if string(view) != "1234" || cap(view) != 4 {
		t.Fatalf("%q, capacity %d", view, cap(view))
	}
	s.Wipe()
	if s.Bytes() != nil {
		t.Error("there after it was wiped")
	}
	s.Wipe()
	var none *worker.Secret
	none.Wipe()
	if none.Bytes() != nil {
		t.Error("nothing has content")
	}
}

// lockedKiB is how much of this process's memory is locked.
func lockedKiB(t *testing.T) int {
	t.Helper()
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile("/proc/self/status")))) {
		if strings.HasPrefix(line, "VmLck:") {
			return must[int](t)(strconv.Atoi(strings.Fields(line)[1]))
		}
	}
	t.Fatal("no VmLck")
	return 0
}
