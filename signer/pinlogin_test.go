package signer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

// TestPINIsCleared looks at the very buffer that was shown to the token.
func TestPINIsCleared(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	if err := os.WriteFile(os.Getenv("CREDENTIALS_DIRECTORY")+"/pin", []byte("1234"), 0o400); err != nil {
		t.Fatal(err)
	}
	for _, login := range []error{nil, fault(worker.ErrPINIncorrect), fault(worker.ErrLost), fault(worker.ErrDown)} {
		for _, src := range []string{"", "credential:pin"} { // none: the file
			f, tk := fakeTokens(t, func(k *KeyConfig) {
				if src != "" {
					k.PIN = source(t, src)
				}
			})
			spy := &spyHSM{fakeHSM: f}
			tk.hsm, tk.ledger.rounds, f.login = spy, 1, login
			_ = tk.prepare(context.Background()) // what comes of it is not the matter here
			if len(spy.shown) == 0 {
				t.Fatal("no PIN was shown")
			}
			for _, pin := range spy.shown {
				if strings.Trim(string(pin), "\x00") != "" {
					t.Errorf("%v, %q: the PIN is still in memory: %q", login, src, pin)
				}
			}
			tk.held.wipe()
			if len(tk.held.pins) != 0 {
				t.Error("PINs are held after the end")
			}
		}
	}
}

// spyHSM keeps the PINs it was shown, where they lie.
type spyHSM struct {
	*fakeHSM
	shown [][]byte
}

func (s *spyHSM) Login(ctx context.Context, token worker.TokenRef, pin []byte) error {
	if string(pin) != "1234" {
		return fmt.Errorf("shown %q", pin)
	}
	s.shown = append(s.shown, pin)
	return s.fakeHSM.Login(ctx, token, pin)
}

// TestLoginFaultsWithoutDates does what TestLoginFaults does with a source that
// is made anew at every start, as systemd does with credentials.
func TestLoginFaultsWithoutDates(t *testing.T) {
	const lives = 3
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	path := os.Getenv("CREDENTIALS_DIRECTORY") + "/pin"
	for _, c := range []struct {
		name, accepted, pin string
		faults              int // a right PIN has many more courses of events
	}{
		{"wrong PIN", "", "wrong", 3},
		{"right PIN, never accepted", "", "right", 2},
		{"right PIN, accepted before", "right", "right", 2},
		{"another PIN, wrong, after one that was accepted", "right", "wrong", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newPINWorld(t, c.pin, "right", c.faults)
			w.source = source(t, "credential:pin")
			allow := func() {
				t.Helper()
				l := newPINLedger("pins")
				l.read, l.write = w.read, func(_ string, b []byte, _ os.FileMode) error { w.disk = b; return nil }
				if _, err := l.allowAgain("t"); err != nil {
					t.Fatal(err)
				}
			}
			worlds := 0
			for more := true; more; more = w.next() {
				worlds++
				w.disk, w.shown, w.wrong = nil, 0, 0
				if c.accepted != "" {
					putPIN(t, path, c.accepted)
					if err := w.clean(); err != nil {
						t.Fatal(err)
					}
					w.shown = 0
				}
				w.active = true
				for range lives {
					putPIN(t, path, c.pin)
					w.life()
				}
				putPIN(t, path, c.pin)
				ready := w.clean()
				if c.pin == "wrong" && w.shown > 1 {
					t.Fatalf("a wrong PIN was shown %d times: %s", w.shown, w)
				}
				if c.pin == "right" && (w.wrong > 0 || ready != nil && (!IsTerminal(ready) || !strings.Contains(ready.Error(), "retry-pin"))) {
					t.Fatalf("%v: %s", ready, w)
				}
				allow()
				if err := w.clean(); (err == nil) != (c.pin == "right") || w.wrong > 2 {
					t.Fatalf("allowed again: %v: %s", err, w)
				}
				putPIN(t, path, "right")
				if err := w.clean(); err != nil {
					t.Fatalf("corrected: %v: %s", err, w)
				}
				if strings.Contains(string(w.disk), "hash") {
					t.Fatalf("something derived from a good PIN stays: %s", w)
				}
			}
			if worlds < 100 {
				t.Fatalf("only %d courses of events: the test saw too little", worlds)
			}
		})
	}
}

// TestTypedPIN: who types a PIN again has it tried again, unless it was refused.
func TestTypedPIN(t *testing.T) {
	token := worker.TokenRef{Label: "t", Serial: "s"}
	l := newPINLedger(t.TempDir() + "/" + pinsFile)
	l.rounds = 1
	typed := pinValue{source: source(t, "terminal"), pin: []byte("1234")}
	check := func() (bool, error) { return l.check(token, typed) }
	if known, err := check(); known || err != nil {
		t.Fatal(known, err)
	}
	if err := l.begin(token, typed, time.Now()); err != nil {
		t.Fatal(err)
	}
	if known, err := check(); known || err != nil {
		t.Fatalf("typed again after a login that was cut off: %v, %v", known, err)
	}
	if err := l.refused(token, typed, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := check(); !IsTerminal(err) || !strings.Contains(err.Error(), "terminal") {
		t.Fatalf("typed again after it was refused: %v", err)
	}
}

// TestPINEnteredAtDevice: nothing is retried that somebody would have to enter.
func TestPINEnteredAtDevice(t *testing.T) {
	for _, c := range []struct {
		name     string
		err      error
		terminal bool
		logins   int // after two looks
	}{
		{"entered", nil, false, 1},
		{"mistyped", fault(worker.ErrPINIncorrect), true, 1},
		{"nobody there", returned("C_Login", 0x50), true, 1},
		{"too slow", fault(worker.ErrDeadline), true, 1},
		{"no pin pad", fault(worker.ErrNoPINPad), true, 1},
		{"token pulled before", fault(worker.ErrTokenNotFound), false, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, tk := fakeTokens(t, func(k *KeyConfig) { k.PIN = source(t, "device") })
			f.login = c.err
			if err := tk.prepare(context.Background()); IsTerminal(err) != c.terminal {
				t.Fatal(err)
			}
			if err := tk.prepare(context.Background()); err != nil {
				t.Fatal(err)
			}
			if f.logins != c.logins {
				t.Errorf("asked %d times, want %d", f.logins, c.logins)
			}
		})
	}
}

// TestWithdrawnPIN: a token comes to refuse a PIN that cannot be read again.
func TestWithdrawnPIN(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	if err := os.WriteFile(os.Getenv("CREDENTIALS_DIRECTORY")+"/pin", []byte("1234"), 0o400); err != nil {
		t.Fatal(err)
	}
	f, tk := fakeTokens(t, func(k *KeyConfig) { k.PIN = source(t, "credential:pin") })
	tk.ledger.rounds = 1
	if err := tk.prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	f.sign = fault(worker.ErrPINIncorrect)
	if _, err := tk.Sign(context.Background(), f.key.public, [32]byte{}); !errors.Is(err, worker.ErrPINIncorrect) {
		t.Fatal(err)
	}
	next := newTokens(f, &Config{Journal: strings.TrimSuffix(tk.ledger.path, pinsFile) + "journal", Keys: []KeyConfig{tk.keys[0].KeyConfig}}, tk.clock, quiet())
	f.logins = 0
	if err := next.prepare(context.Background()); !IsTerminal(err) || !strings.Contains(err.Error(), "was refused") || f.logins != 0 {
		t.Fatalf("next start: %d logins, %v", f.logins, err)
	}
}
