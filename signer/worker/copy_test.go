package worker_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qcitycoin.org/qcity/signer/worker"
)

// TestTokenCopies: one copy at a time, readable by its owner only; what an
// earlier run left is removed, what is not a copy is not.
func TestTokenCopies(t *testing.T) {
	ctx := context.Background()
	b := newBench(t)
	maker := b.start(t)
	key := makeKey(t, maker, "one", worker.P256)
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(t.TempDir(), "run")
	left, foreign := filepath.Join(run, "softhsm-copy-left", "tokens"), filepath.Join(run, "foreign")
	for _, dir := range []string{left, foreign} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.cfg.PrivateTokenCopy = &worker.PrivateTokenCopy{Source: b.tokens, Dir: run}
	s := b.start(t)
	if err := s.Login(ctx, key.Token, []byte(userPIN)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 2 {
		must[worker.Signature](t)(s.Sign(ctx, key, digest(0)))
		copies := must[[]string](t)(filepath.Glob(filepath.Join(run, "softhsm-copy-*")))
		if len(copies) != 1 || strings.HasSuffix(copies[0], "-left") || seen[copies[0]] {
			t.Fatalf("copies are %v, want a single new one", copies)
		}
		seen[copies[0]] = true
		if mode := must[os.FileInfo](t)(os.Stat(copies[0])).Mode().Perm(); mode != 0o700 {
			t.Errorf("mode of the copy is %o, want 700", mode)
		}
		killWorker(t, s)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("something that is not a copy was removed: %v", err)
	}
}

func TestTokenCopySourceMissing(t *testing.T) {
	b := newBench(t)
	source := filepath.Join(t.TempDir(), "nothing")
	b.cfg.PrivateTokenCopy = &worker.PrivateTokenCopy{Source: source, Dir: filepath.Join(t.TempDir(), "run")}
	if _, err := b.start(t).Open(context.Background()); err == nil || !strings.Contains(err.Error(), source) {
		t.Errorf("got %v, want an error that names %s", err, source)
	}
}
