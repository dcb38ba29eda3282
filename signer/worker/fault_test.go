package worker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

func TestWrongPINIsTriedOnce(t *testing.T) {
	ctx := context.Background()
	b := newBench(t).withShim(t)
	maker := b.start(t)
	key := makeKey(t, maker, "one", worker.Secp256k1)
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	s := b.start(t)
	before := b.loginCount(t)
	if err := s.Login(ctx, key.Token, []byte("wrong-pin")); !errors.Is(err, worker.ErrPINIncorrect) {
		t.Fatalf("got %v, want %s", err, worker.ErrPINIncorrect)
	}
	for range 3 {
		if _, err := s.Sign(ctx, key, digest(1)); !errors.Is(err, worker.ErrPINIncorrect) {
			t.Fatalf("sign after a wrong PIN: got %v, want %s", err, worker.ErrPINIncorrect)
		}
	}
	if n := b.loginCount(t) - before; n != 1 {
		t.Fatalf("%d logins reached the token, want 1", n)
	}
	if err := s.Login(ctx, key.Token, []byte(userPIN)); err != nil {
		t.Fatalf("the operator's right PIN after a wrong one: %v", err)
	}
	must[worker.Signature](t)(s.Sign(ctx, key, digest(1)))
}

// TestPINChangedBehindOurBack: the remembered PIN stops working; a restart
// must try it once and then leave the token alone.
func TestPINChangedBehindOurBack(t *testing.T) {
	ctx := context.Background()
	b, s, key := ready(t, nil)
	must[worker.Signature](t)(s.Sign(ctx, key, digest(0)))
	before := b.loginCount(t)
	killWorker(t, s)
	b.order(t, "C_Login once a0")
	for range 3 {
		if _, err := s.Sign(ctx, key, digest(1)); !errors.Is(err, worker.ErrPINIncorrect) {
			t.Fatalf("got %v, want %s", err, worker.ErrPINIncorrect)
		}
	}
	if n := b.loginCount(t) - before; n != 1 {
		t.Fatalf("%d logins reached the token, want 1", n)
	}
}

// TestLoginRetry: a login that failed for another reason than the PIN is tried
// again only if the PIN is known to be right.
func TestLoginRetry(t *testing.T) {
	for _, tc := range []struct {
		name, fault string
		proven      bool
		logins      int
		wantErr     bool
	}{
		{"unproven PIN, device error", "C_Login once 30", false, 1, true},
		{"unproven PIN, crash", "C_Login crash -", false, 1, true},
		{"proven PIN, device error", "C_Login once 30", true, 2, false},
		{"proven PIN, crash", "C_Login crash -", true, 2, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx := context.Background()
			b, s, key := ready(t, nil)
			if !tc.proven {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = b.start(t)
			} else {
				killWorker(t, s)
			}
			before := b.loginCount(t)
			b.order(t, tc.fault)
			err := s.Login(ctx, key.Token, []byte(userPIN))
			if (err != nil) != tc.wantErr {
				t.Errorf("got %v, want error %t", err, tc.wantErr)
			}
			if n := b.loginCount(t) - before; n != tc.logins {
				t.Errorf("%d logins reached the token, want %d", n, tc.logins)
			}
		})
	}
}

func TestPINFlagsAreCheckedFirst(t *testing.T) {
	for _, tc := range []struct {
		name, flags string
		want        worker.Kind
	}{
		{"final try", "20000", worker.ErrPINFinalTry},
		{"locked", "40000", worker.ErrPINLocked},
		{"to be changed", "80000", worker.ErrPINExpired},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, s, key := ready(t, nil)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = b.start(t)
			before := b.loginCount(t)
			b.order(t, "C_GetTokenInfo flags "+tc.flags)
			if err := s.Login(context.Background(), key.Token, []byte(userPIN)); !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %s", err, tc.want)
			}
			if n := b.loginCount(t) - before; n != 0 {
				t.Fatalf("%d logins reached the token, want none", n)
			}
		})
	}
}

func TestLoginCodes(t *testing.T) {
	for code, want := range map[string]worker.Kind{
		"a1": worker.ErrPINInvalid, "a2": worker.ErrPINInvalid, "a3": worker.ErrPINExpired,
		"a4": worker.ErrPINLocked, "102": worker.ErrTokenNotReady,
	} {
		t.Run(code, func(t *testing.T) {
			b, s, key := ready(t, nil)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = b.start(t)
			b.order(t, "C_Login once "+code)
			if err := s.Login(context.Background(), key.Token, []byte(userPIN)); !errors.Is(err, want) {
				t.Fatalf("got %v, want %s", err, want)
			}
		})
	}
}

// TestSignFaults: one fault at the token, then what the caller sees.
func TestSignFaults(t *testing.T) {
	for _, tc := range []struct {
		name, fault string
		restarts    uint64
		want        string // in the error; empty: the call succeeds
	}{
		{"key handle invalid", "C_SignInit once 60", 0, ""},
		{"object handle invalid", "C_SignInit once 82", 0, ""},
		{"not logged in, once", "C_SignInit once 101", 0, ""},
		{"session closed", "C_Sign once b0", 0, ""},
		{"session handle invalid", "C_Sign once b3", 0, ""},
		{"operation active", "C_SignInit once 90", 0, ""},
		{"device error", "C_Sign once 30", 1, ""},
		{"device removed", "C_Sign once 32", 1, ""},
		{"general error", "C_SignInit once 5", 1, ""},
		{"vendor code", "C_Sign once 80001234", 1, ""},
		{"unknown code", "C_Sign once 777", 1, ""},
		{"crash", "C_Sign crash -", 1, ""},
		{"hang", "C_Sign hang -", 1, ""},
		{"not permitted", "C_SignInit once 68", 0, "CKR_KEY_FUNCTION_NOT_PERMITTED"},
		{"prohibited", "C_Sign once 1b", 0, "CKR_ACTION_PROHIBITED"},
		{"PIN expired", "C_Sign once a3", 0, "CKR_PIN_EXPIRED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx := context.Background()
			b, s, key := ready(t, func(c *worker.Config) {
				if strings.Contains(tc.fault, "hang") {
					c.Timeouts.Call = 2 * time.Second
				}
			})
			b.order(t, tc.fault)
			d := digest(tc.name)
			sig, err := s.Sign(ctx, key, d)
			switch {
			case tc.want == "" && err != nil:
				t.Fatal(err)
			case tc.want == "":
				checkSignature(t, key, d, sig)
			case err == nil || !strings.Contains(err.Error(), tc.want):
				t.Fatalf("got %v, want %s", err, tc.want)
			}
			if _, err := os.Stat(b.fault); err == nil {
				t.Fatal("the fault did not happen")
			}
			if st := s.Status(); st.Restarts != tc.restarts {
				t.Errorf("%d restarts, want %d", st.Restarts, tc.restarts)
			}
			d = digest(tc.name, "next")
			checkSignature(t, key, d, must[worker.Signature](t)(s.Sign(ctx, key, d)))
		})
	}
}

func TestFlippedBitStopsSigning(t *testing.T) {
	ctx := context.Background()
	b, s, key := ready(t, nil)
	b.order(t, "C_Sign flip -")
	for range 2 { // the second call must not even reach the token
		if sig, err := s.Sign(ctx, key, digest(1)); !errors.Is(err, worker.ErrBadSignature) || sig != (worker.Signature{}) {
			t.Fatalf("got %x, %v, want %s", sig, err, worker.ErrBadSignature)
		}
	}
	if st := s.Status(); st.Halted == "" || st.Signatures != 0 || st.Restarts != 0 {
		t.Errorf("status %+v", st)
	}
	if err := s.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	must[worker.Signature](t)(s.Sign(ctx, key, digest(1)))
}

func TestDownAndUpAgain(t *testing.T) {
	ctx := context.Background()
	b, s, key := ready(t, func(c *worker.Config) { c.Budget = worker.Budget{Restarts: 2, Window: time.Hour} })
	b.order(t, "C_Sign always 30")
	var err error
	for range 10 {
		if _, err = s.Sign(ctx, key, digest(1)); errors.Is(err, worker.ErrDown) {
			break
		}
	}
	st := s.Status()
	if !errors.Is(err, worker.ErrDown) || !st.Down || st.Restarts != 3 {
		t.Fatalf("got %v, status %+v; want %s after 3 restarts", err, st, worker.ErrDown)
	}
	if _, err := s.Sign(ctx, key, digest(1)); !errors.Is(err, worker.ErrDown) || s.Status().Generation != st.Generation {
		t.Fatalf("while down: got %v and generation %d, want no new worker", err, s.Status().Generation)
	}
	if err := os.Remove(b.fault); err != nil {
		t.Fatal(err)
	}
	if err := s.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	must[worker.Signature](t)(s.Sign(ctx, key, digest(1)))
	if s.Status().Down {
		t.Error("still down after a success")
	}
}

// TestReturnWhileDown: the budget is used up. A token that is there all the while
// gets no other worker; one that was seen to be away gets one when it is back.
func TestReturnWhileDown(t *testing.T) {
	ctx := context.Background()
	b, s, key := ready(t, func(c *worker.Config) { c.Budget = worker.Budget{Restarts: 1, Window: time.Hour} })
	b.order(t, "C_Sign always 30")
	for range 10 {
		if _, err := s.Sign(ctx, key, digest(1)); errors.Is(err, worker.ErrDown) {
			break
		}
	}
	find := func() error { _, err := s.FindToken(ctx, key.Token.Label, key.Token.Serial); return err }
	for range 3 {
		if err := find(); !errors.Is(err, worker.ErrDown) {
			t.Fatalf("while it is there: got %v, want %s", err, worker.ErrDown)
		}
	}
	if err := os.Rename(b.tokens, b.tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if err := find(); !errors.Is(err, worker.ErrDown) {
		t.Fatalf("while it is away: got %v, want %s", err, worker.ErrDown)
	}
	if err := errors.Join(os.Remove(b.fault), os.Rename(b.tokens+".away", b.tokens)); err != nil {
		t.Fatal(err)
	}
	if err := find(); err != nil {
		t.Fatalf("back: %v", err)
	}
	must[worker.Signature](t)(s.Sign(ctx, key, digest(1)))
	if s.Status().Down {
		t.Error("still down after a success")
	}
}

// TestLoginIsNotInterrupted: neither a caller that gives up nor the deadline
// of ordinary calls, here as good as none, cuts a login short.
func TestLoginIsNotInterrupted(t *testing.T) {
	b, s, key := ready(t, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.cfg.Timeouts.Call = 1
	s = b.start(t)
	before := b.loginCount(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	b.order(t, "C_Login fifo "+fifo)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Login(ctx, key.Token, []byte(userPIN)) }()
	gate := must[*os.File](t)(os.OpenFile(fifo, os.O_WRONLY, 0)) // returns once C_Login waits
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	gate.Close()
	// It is this caller's turn when the login has ended, and there is nothing
	// left to do for it.
	if err := s.Login(context.Background(), key.Token, []byte(userPIN)); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.Restarts != 0 || b.loginCount(t)-before != 1 {
		t.Errorf("%d logins, status %+v; want one login and no restart", b.loginCount(t)-before, st)
	}
	if _, err := s.ListTokens(context.Background()); !errors.Is(err, worker.ErrDeadline) {
		t.Errorf("an ordinary call: got %v, want %s", err, worker.ErrDeadline)
	}
}

// TestSetUpIsNotRepeated: after a failure in the middle nobody knows how much
// of the change has happened, so the first error is the answer.
func TestSetUpIsNotRepeated(t *testing.T) {
	ctx := context.Background()
	b := newBench(t).withShim(t)
	s := b.start(t)
	b.order(t, "C_Login once 30") // the security officer's, after C_InitToken
	_, err := s.InitToken(ctx, "one", []byte(soPIN), []byte(userPIN))
	var e *worker.Error
	if !errors.As(err, &e) || e.RV != worker.RVDeviceError || b.loginCount(t) != 1 {
		t.Fatalf("got %v after %d logins, want %s after one", err, b.loginCount(t), worker.RVDeviceError)
	}
	// The half-made token is visible, says so, and is not overwritten.
	token := must[worker.TokenInfo](t)(s.FindToken(ctx, "one", ""))
	if err := s.Login(ctx, token.TokenRef, []byte(userPIN)); !errors.Is(err, worker.ErrTokenNotReady) {
		t.Errorf("login: got %v, want %s", err, worker.ErrTokenNotReady)
	}
	if _, err := s.InitToken(ctx, "one", []byte(soPIN), []byte(userPIN)); !errors.Is(err, worker.ErrTokenExists) {
		t.Errorf("second try: got %v, want %s", err, worker.ErrTokenExists)
	}
}

// killWorker ends the worker and returns when it is gone.
func killWorker(t testing.TB, s *worker.Supervisor) {
	t.Helper()
	pid := s.Status().PID
	wait := watch(t, pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait()
}
