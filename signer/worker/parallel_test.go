package worker_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

// signAll signs with every key at the same time, and checks what comes.
func signAll(t *testing.T, s *worker.Supervisor, keys []worker.KeyRef) {
	t.Helper()
	var wg sync.WaitGroup
	for i, key := range keys {
		wg.Go(func() {
			d := digest("all", i)
			sig, err := s.Sign(context.Background(), key, d)
			if err != nil {
				t.Errorf("key %d: %v", i, err)
				return
			}
			checkSignature(t, key, d, sig)
		})
	}
	wg.Wait()
}

// TestSignaturesRunSideBySide: all calls must be inside C_Sign together before
// any of them goes on, so less than that never ends.
func TestSignaturesRunSideBySide(t *testing.T) {
	for _, tc := range []struct {
		name             string
		tokens, sessions int // sessions of 0: the default
		calls            int
	}{
		{"five tokens, default sessions", 5, 0, 5},
		{"one token, default sessions", 1, 0, worker.DefaultSessions},
		{"one token, five sessions", 1, 5, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t).withShim(t)
			b.cfg.Sessions = tc.sessions
			s := b.start(t)
			var made []worker.KeyRef
			for i := range tc.tokens {
				made = append(made, makeKey(t, s, string(rune('a'+i)), []worker.Algorithm{worker.Secp256k1, worker.P256}[i%2]))
			}
			signAll(t, s, made) // each once, so that all is found and none waits for that
			b.order(t, "C_Sign gather "+string(rune('0'+tc.calls)))
			var keys []worker.KeyRef
			for i := range tc.calls {
				keys = append(keys, made[i%len(made)])
			}
			signAll(t, s, keys)
		})
	}
}

// TestFewerSessionsThanWished: a token that runs out of sessions makes its
// signatures wait for one another, and nothing else.
func TestFewerSessionsThanWished(t *testing.T) {
	b := newBench(t).withShim(t)
	b.cfg.Sessions = 8
	maker := b.start(t)
	key := makeKey(t, maker, "one", worker.P256)
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	b.order(t, "C_OpenSession limit 3") // the one that keeps the login, and two
	s := b.start(t)
	if err := s.Login(context.Background(), key.Token, []byte(userPIN)); err != nil {
		t.Fatal(err)
	}
	keys := make([]worker.KeyRef, 40)
	for i := range keys {
		keys[i] = key
	}
	signAll(t, s, keys)
	if st := s.Status(); st.Restarts != 0 || st.Signatures != 40 {
		t.Errorf("status %+v", st)
	}
}

// TestOneFaultAmongMany: one call of many fails in each way. All of them end
// with a good signature, and the worker is replaced at most once.
func TestOneFaultAmongMany(t *testing.T) {
	for _, tc := range []struct {
		name, fault string
		restarts    uint64
	}{
		{"a session is poisoned", "C_Sign once b3", 0},
		{"device error", "C_Sign once 30", 1},
		{"crash", "C_Sign crash -", 1},
		{"hang", "C_Sign hang -", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, s, key := ready(t, func(c *worker.Config) {
				c.Sessions = 4
				if tc.name == "hang" {
					c.Timeouts.Call = 2 * time.Second
				}
			})
			keys := make([]worker.KeyRef, 12)
			for i := range keys {
				keys[i] = key
			}
			signAll(t, s, keys)
			b.order(t, tc.fault)
			signAll(t, s, keys)
			if _, err := os.Stat(b.fault); err == nil {
				t.Fatal("the fault did not happen")
			}
			if st := s.Status(); st.Restarts != tc.restarts {
				t.Errorf("%d restarts, want %d", st.Restarts, tc.restarts)
			}
		})
	}
}

// TestGivenUpSignature: a caller that gives up leaves its call to its end, and
// does not take a session with it.
func TestGivenUpSignature(t *testing.T) {
	b, s, key := ready(t, func(c *worker.Config) { c.Sessions = 1 })
	must[worker.Signature](t)(s.Sign(context.Background(), key, digest(0)))
	fifo := t.TempDir() + "/fifo"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	b.order(t, "C_Sign fifo "+fifo)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { _, err := s.Sign(ctx, key, digest(1)); result <- err }()
	gate := must[*os.File](t)(os.OpenFile(fifo, os.O_WRONLY, 0)) // returns once C_Sign waits
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	gate.Close()
	must[worker.Signature](t)(s.Sign(context.Background(), key, digest(2)))
	if st := s.Status(); st.Signatures != 3 || st.Restarts != 0 {
		t.Errorf("status %+v", st)
	}
}

// TestTokenReturnsBesideOthers: one of two tokens goes and comes back. It is
// found again by a worker that is busy with the other, which is not disturbed
// while it is away.
func TestTokenReturnsBesideOthers(t *testing.T) {
	ctx := context.Background()
	b := newBench(t)
	s := b.start(t)
	gone, stays := makeKey(t, s, "gone", worker.Secp256k1), makeKey(t, s, "stays", worker.P256)
	keys := []worker.KeyRef{gone, stays}
	signAll(t, s, keys)
	dir := tokenDir(t, b, "gone")
	if err := os.Rename(dir, b.tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(ctx, gone, digest(0)); !errors.Is(err, worker.ErrTokenNotFound) {
		t.Fatalf("while away: got %v, want %s", err, worker.ErrTokenNotFound)
	}
	must[worker.Signature](t)(s.Sign(ctx, stays, digest(0)))
	generation := s.Status().Generation
	for range 3 {
		if _, err := s.FindToken(ctx, "gone", ""); !errors.Is(err, worker.ErrTokenNotFound) {
			t.Fatalf("while away: got %v, want %s", err, worker.ErrTokenNotFound)
		}
	}
	if now := s.Status().Generation; now != generation {
		t.Errorf("generation %d became %d: looking for one token disturbed the other", generation, now)
	}
	if err := os.Rename(b.tokens+".away", dir); err != nil {
		t.Fatal(err)
	}
	must[worker.TokenInfo](t)(s.FindToken(ctx, "gone", gone.Token.Serial))
	signAll(t, s, keys)
}

// TestTokenReturnsBesideOthersOnACopy: the same where workers have copies of
// the tokens: the look has a copy of its own, and leaves nothing.
func TestTokenReturnsBesideOthersOnACopy(t *testing.T) {
	ctx := context.Background()
	b := newBench(t)
	maker := b.start(t)
	gone, stays := makeKey(t, maker, "gone", worker.P256), makeKey(t, maker, "stays", worker.P256)
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	dir, run := tokenDir(t, b, "gone"), t.TempDir()+"/run"
	if err := os.Rename(dir, b.tokens+".away"); err != nil {
		t.Fatal(err)
	}
	b.cfg.PrivateTokenCopy = &worker.PrivateTokenCopy{Source: b.tokens, Dir: run}
	b.cfg.Sandbox = &worker.Sandbox{}
	s := b.start(t)
	if err := s.Login(ctx, stays.Token, []byte(userPIN)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.FindToken(ctx, "gone", ""); !errors.Is(err, worker.ErrTokenNotFound) {
		t.Fatalf("while away: got %v", err)
	}
	must[worker.Signature](t)(s.Sign(ctx, stays, digest(0)))
	if err := os.Rename(b.tokens+".away", dir); err != nil {
		t.Fatal(err)
	}
	must[worker.TokenInfo](t)(s.FindToken(ctx, "gone", ""))
	if err := s.Login(ctx, gone.Token, []byte(userPIN)); err != nil {
		t.Fatal(err)
	}
	signAll(t, s, []worker.KeyRef{gone, stays})
	if left := must[[]os.DirEntry](t)(os.ReadDir(run)); len(left) != 1 {
		t.Errorf("%d copies, want the worker's only", len(left))
	}
}

// tokenDir returns the directory of the token with a label.
func tokenDir(t *testing.T, b *bench, label string) string {
	t.Helper()
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(b.tokens)) {
		dir := b.tokens + "/" + e.Name()
		// SoftHSM's token.object holds the label as it is.
		if data := must[[]byte](t)(os.ReadFile(dir + "/token.object")); bytes.Contains(data, []byte(label)) {
			return dir
		}
	}
	t.Fatalf("no token %q", label)
	return ""
}

// TestModuleThatDoesNotStart: a device that is away costs no budget, and is used
// again as soon as it is back.
func TestModuleThatDoesNotStart(t *testing.T) {
	ctx := context.Background()
	b := newBench(t)
	b.cfg.Budget = worker.Budget{Restarts: 2, Window: time.Hour}
	s := b.start(t)
	key := makeKey(t, s, "one", worker.Secp256k1)
	must[worker.Signature](t)(s.Sign(ctx, key, digest(0)))
	if err := os.Rename(b.tokens, b.tokens+".away"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := s.Sign(ctx, key, digest(0)); err == nil {
			t.Fatal("signed without a token")
		}
	}
	if !s.Status().Down {
		t.Error("not down while its module does not start")
	}
	if err := os.Rename(b.tokens+".away", b.tokens); err != nil {
		t.Fatal(err)
	}
	d := digest(1)
	sig, err := s.Sign(ctx, key, d)
	for errors.Is(err, worker.ErrDown) { // until the pause between two starts is over
		sig, err = s.Sign(ctx, key, d)
	}
	if err != nil || s.Status().Down {
		t.Fatalf("after its return: %v, status %+v", err, s.Status())
	}
	checkSignature(t, key, d, sig)
}

// TestVendorCodes: the class of a vendor's code can be chosen, that of others not.
func TestVendorCodes(t *testing.T) {
	ctx := context.Background()
	b, s, key := ready(t, func(c *worker.Config) { c.VendorCodes = map[worker.RV]worker.Class{0x80000005: worker.ClassStop} })
	must[worker.Signature](t)(s.Sign(ctx, key, digest(0)))
	b.order(t, "C_Sign once 80000005")
	if _, err := s.Sign(ctx, key, digest(0)); !errors.Is(err, worker.ErrReturned) {
		t.Fatalf("a code that stops: got %v", err)
	}
	b.order(t, "C_Sign once 80000006")
	must[worker.Signature](t)(s.Sign(ctx, key, digest(0)))
	if st := s.Status(); st.Restarts != 1 {
		t.Errorf("%d restarts, want one, for the code without a class of its own", st.Restarts)
	}
	b.cfg.VendorCodes = map[worker.RV]worker.Class{worker.RVDeviceError: worker.ClassStop}
	if _, err := worker.New(b.cfg); err == nil {
		t.Error("a code of the standard got another class")
	}
}

// TestLoginAtDevice: the shim plays a token with a pin pad.
func TestLoginAtDevice(t *testing.T) {
	ctx := context.Background()
	b, s, key := ready(t, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = b.start(t)
	if err := s.LoginAtDevice(ctx, key.Token); !errors.Is(err, worker.ErrNoPINPad) {
		t.Fatalf("without a pin pad: got %v, want %s", err, worker.ErrNoPINPad)
	}
	b.order(t, "C_GetTokenInfo flags 100")
	b.cfg.Env = append(b.cfg.Env, "SHIM_PAD="+userPIN)
	s = b.start(t)
	before := b.loginCount(t)
	if err := s.LoginAtDevice(ctx, key.Token); err != nil {
		t.Fatal(err)
	}
	must[worker.Signature](t)(s.Sign(ctx, key, digest(0)))
	killWorker(t, s)
	if _, err := s.Sign(ctx, key, digest(0)); !errors.Is(err, worker.ErrNotLoggedIn) || b.loginCount(t)-before != 1 {
		t.Fatalf("after a restart: got %v after %d logins, want %s: a person has to enter it", err, b.loginCount(t)-before, worker.ErrNotLoggedIn)
	}
	if err := s.LoginAtDevice(ctx, key.Token); err != nil {
		t.Fatal(err)
	}
	must[worker.Signature](t)(s.Sign(ctx, key, digest(0)))

	b.cfg.Env = append(b.cfg.Env, "SHIM_PAD=mistyped")
	s = b.start(t)
	before = b.loginCount(t)
	if err := s.LoginAtDevice(ctx, key.Token); !errors.Is(err, worker.ErrPINIncorrect) || b.loginCount(t)-before != 1 {
		t.Fatalf("mistyped: got %v after %d logins", err, b.loginCount(t)-before)
	}
}
