package worker_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/signer/worker"
)

func TestFiveTokensBothCurves(t *testing.T) {
	ctx := context.Background()
	b := newBench(t)
	s := b.start(t)
	algs := []worker.Algorithm{worker.Secp256k1, worker.P256, worker.Secp256k1, worker.P256, worker.Secp256k1}
	var keys []worker.KeyRef
	for i, alg := range algs {
		keys = append(keys, makeKey(t, s, "validator-"+string(rune('1'+i)), alg))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// A new process finds everything by label, serial and public key.
	s = b.start(t)
	if tokens := must[[]worker.TokenInfo](t)(s.ListTokens(ctx)); len(tokens) != len(keys) {
		t.Fatalf("%d tokens listed, want %d", len(tokens), len(keys))
	}
	want := worker.Attributes{
		Sensitive: worker.True, AlwaysSensitive: worker.True, Extractable: worker.False,
		NeverExtractable: worker.True, Local: worker.True, Sign: worker.True,
		Decrypt: worker.False, Unwrap: worker.False, Derive: worker.False,
	}
	for i, key := range keys {
		token := must[worker.TokenInfo](t)(s.FindToken(ctx, key.Token.Label, ""))
		if token.TokenRef != key.Token {
			t.Errorf("found token %s, want %s", token.TokenRef, key.Token)
		}
		if err := s.Login(ctx, key.Token, []byte(userPIN)); err != nil {
			t.Fatal(err)
		}
		found := must[worker.Key](t)(s.FindKey(ctx, key.Token, worker.KeyQuery{PublicKey: key.PublicKey}))
		if found.Algorithm != algs[i] || found.PublicKey != key.PublicKey || found.Label != key.Token.Label+" key" {
			t.Errorf("found %+v, want %+v", found, key)
		}
		if diff := cmp.Diff(want, found.Attributes); diff != "" {
			t.Errorf("attributes (-want +got):\n%s", diff)
		}
		if err := found.Attributes.Check(); err != nil {
			t.Error(err)
		}
		// High and low s alternate at random: 12 cover both but for 1 in 2048.
		for n := range 12 {
			d := digest(i, n)
			checkSignature(t, key, d, must[worker.Signature](t)(s.Sign(ctx, key, d)))
		}
	}
	if st := s.Status(); st.Generation != 1 || st.Restarts != 0 || st.Signatures != 60 || st.Down || st.PID == 0 {
		t.Errorf("status %+v", st)
	}
}

func TestRefusals(t *testing.T) {
	ctx := context.Background()
	b := newBench(t)
	s := b.start(t)
	key := makeKey(t, s, "one", worker.Secp256k1)
	other := must[worker.TokenInfo](t)(s.InitToken(ctx, "two", []byte(soPIN), []byte(userPIN)))
	find := func(q worker.KeyQuery) error { _, err := s.FindKey(ctx, key.Token, q); return err }
	sign := func(k worker.KeyRef) error { _, err := s.Sign(ctx, k, digest(0)); return err }
	initialise := func(label, so, pin string) error {
		_, err := s.InitToken(ctx, label, []byte(so), []byte(pin))
		return err
	}
	generate := func(label string, id byte) error {
		_, err := s.GenerateKey(ctx, key.Token, worker.P256, label, []byte{id})
		return err
	}
	missing := worker.TokenRef{Label: "one", Serial: "0123456789abcdef"}
	wrongCurve := key
	wrongCurve.Algorithm = worker.P256
	unknownKey := key
	unknownKey.PublicKey[32] ^= 1

	for _, tc := range []struct {
		name string
		call func() error
		want worker.Kind
	}{
		{"find a missing token", func() error { _, err := s.FindToken(ctx, "three", ""); return err }, worker.ErrTokenNotFound},
		{"log in to a missing serial", func() error { return s.Login(ctx, missing, []byte(userPIN)) }, worker.ErrTokenNotFound},
		{"log in without a serial", func() error { return s.Login(ctx, worker.TokenRef{Label: "one"}, []byte(userPIN)) }, worker.ErrBadRequest},
		{"log in with an empty PIN", func() error { return s.Login(ctx, other.TokenRef, nil) }, worker.ErrPINInvalid},
		{"log in again with another PIN", func() error { return s.Login(ctx, key.Token, []byte("another")) }, worker.ErrAlreadyLoggedIn},
		{"key label missing", func() error { return find(worker.KeyQuery{Label: "none"}) }, worker.ErrKeyNotFound},
		{"key id missing", func() error { return find(worker.KeyQuery{ID: []byte{9}}) }, worker.ErrKeyNotFound},
		{"key on the other curve", func() error { return find(worker.KeyQuery{Label: "one key", Algorithm: worker.P256}) }, worker.ErrKeyCurve},
		{"find without login", func() error { _, err := s.FindKey(ctx, other.TokenRef, worker.KeyQuery{}); return err }, worker.ErrNotLoggedIn},
		{"sign without login", func() error {
			return sign(worker.KeyRef{Token: other.TokenRef, Algorithm: 1, PublicKey: key.PublicKey})
		}, worker.ErrNotLoggedIn},
		{"sign on the wrong curve", func() error { return sign(wrongCurve) }, worker.ErrKeyCurve},
		{"sign with a key that is not there", func() error { return sign(unknownKey) }, worker.ErrKeyNotFound},
		{"sign with no key", func() error { return sign(worker.KeyRef{Token: key.Token}) }, worker.ErrBadRequest},
		{"token label taken", func() error { return initialise("one", soPIN, userPIN) }, worker.ErrTokenExists},
		{"token label too long", func() error { return initialise(strings.Repeat("x", 33), soPIN, userPIN) }, worker.ErrBadRequest},
		{"token without PIN", func() error { return initialise("three", soPIN, "") }, worker.ErrPINInvalid},
		{"token with a short SO PIN", func() error { return initialise("three", "1", userPIN) }, worker.ErrPINInvalid},
		{"key label taken", func() error { return generate("one key", 2) }, worker.ErrKeyExists},
		{"key id taken", func() error { return generate("new", 1) }, worker.ErrKeyExists},
		{"key without label", func() error { return generate("", 3) }, worker.ErrBadRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.call()
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %s", err, tc.want)
			}
			if worker.Classify(err) != worker.ClassStop {
				t.Errorf("class %s, want %s", worker.Classify(err), worker.ClassStop)
			}
			if strings.Contains(err.Error(), userPIN) || strings.Contains(err.Error(), soPIN) {
				t.Errorf("message shows a PIN: %v", err)
			}
		})
	}
	if st := s.Status(); st.Restarts != 0 {
		t.Errorf("refusals cost %d restarts", st.Restarts)
	}
	d := digest("after")
	checkSignature(t, key, d, must[worker.Signature](t)(s.Sign(ctx, key, d)))
}

func TestCannotOpen(t *testing.T) {
	text := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*worker.Config)
		want   worker.Kind
	}{
		{"worker missing", func(c *worker.Config) { c.Binary = "/nonexistent/qcity-p11" }, worker.ErrStart},
		{"worker is another program", func(c *worker.Config) { c.Binary = "/bin/true" }, worker.ErrLost},
		{"module missing", func(c *worker.Config) { c.Module = "/nonexistent/module.so" }, worker.ErrModule},
		{"module is not a library", func(c *worker.Config) { c.Module = text }, worker.ErrModule},
		{"module does not initialise", func(c *worker.Config) { c.Env = []string{"SOFTHSM2_CONF=/nonexistent"} }, worker.ErrReturned},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			tc.change(&b.cfg)
			_, err := b.start(t).Open(context.Background())
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// TestKillWhileSigning kills the worker with SIGKILL again and again, also in
// the middle of logins, while many goroutines sign with two keys.
func TestKillWhileSigning(t *testing.T) {
	const kills, signers, each = 25, 6, 50
	ctx := context.Background()
	b := newBench(t)
	maker := b.start(t)
	keys := []worker.KeyRef{makeKey(t, maker, "a", worker.Secp256k1), makeKey(t, maker, "b", worker.P256)}
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	pristine := hashTree(t, b.tokens)

	cfg := b.cfg
	cfg.PrivateTokenCopy = &worker.PrivateTokenCopy{Source: b.tokens, Dir: filepath.Join(t.TempDir(), "run")}
	cfg.Budget = worker.Budget{Restarts: 1 << 20, Window: time.Hour}
	s := start(t, cfg)
	for _, key := range keys {
		if err := s.Login(ctx, key.Token, []byte(userPIN)); err != nil {
			t.Fatal(err)
		}
	}

	signed := make(chan struct{})
	killed := make(chan int)
	go func() { // a kill after every few signatures, while others are under way
		n, count := 0, 0
		for range signed {
			count++
			if pid := s.Status().PID; pid > 0 && n < kills && count%10 == 0 {
				if syscall.Kill(pid, syscall.SIGKILL) == nil {
					n++
				}
			}
		}
		killed <- n
	}()
	var wg sync.WaitGroup
	var lost atomic.Int64
	for g := range signers {
		wg.Go(func() {
			for i := range each {
				key, d := keys[(g+i)%2], digest(g, i)
				sig, err := s.Sign(ctx, key, d)
				for err != nil {
					if worker.Classify(err) != worker.ClassRestart {
						t.Errorf("sign: %v", err)
						return
					}
					lost.Add(1) // killed twice within one call
					sig, err = s.Sign(ctx, key, d)
				}
				checkSignature(t, key, d, sig)
				signed <- struct{}{}
			}
		})
	}
	wg.Wait()
	close(signed)
	n := <-killed
	st := s.Status()
	t.Logf("%d kills, %d restarts, %d calls lost, %d signatures", n, st.Restarts, lost.Load(), st.Signatures)
	if n < kills || st.Restarts == 0 || st.Signatures != signers*each {
		t.Errorf("%d kills, status %+v", n, st)
	}
	if after := hashTree(t, b.tokens); after != pristine {
		t.Error("the original token directory was written to")
	}
	if _, err := s.InitToken(ctx, "c", []byte(soPIN), []byte(userPIN)); !errors.Is(err, worker.ErrCopyReadOnly) {
		t.Errorf("InitToken on a copy: got %v, want %s", err, worker.ErrCopyReadOnly)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left := must[[]os.DirEntry](t)(os.ReadDir(cfg.PrivateTokenCopy.Dir)); len(left) != 0 {
		t.Errorf("%d token copies are left", len(left))
	}
}

// hashTree covers names and contents of all files below dir.
func hashTree(t testing.TB, dir string) [32]byte {
	t.Helper()
	h := sha256.New()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		h.Write([]byte(path + "\x00"))
		h.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func TestTokenLeavesAndReturns(t *testing.T) {
	ctx := context.Background()
	b := newBench(t)
	s := b.start(t)
	key := makeKey(t, s, "one", worker.Secp256k1)
	must[worker.Signature](t)(s.Sign(ctx, key, digest(1)))
	away := b.tokens + ".away"
	if err := os.Rename(b.tokens, away); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(ctx, key, digest(2)); err == nil {
		t.Fatal("signed without a token")
	} else {
		t.Log(err)
	}
	if err := os.Rename(away, b.tokens); err != nil {
		t.Fatal(err)
	}
	d := digest(3)
	checkSignature(t, key, d, must[worker.Signature](t)(s.Sign(ctx, key, d)))
}

func TestClosed(t *testing.T) {
	ctx := context.Background()
	s := newBench(t).start(t)
	must[worker.ModuleInfo](t)(s.Open(ctx))
	pid := s.Status().PID
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("worker %d after Close: %v, want no such process", pid, err)
	}
	if _, err := s.ListTokens(ctx); !errors.Is(err, worker.ErrClosed) {
		t.Errorf("got %v, want %s", err, worker.ErrClosed)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
