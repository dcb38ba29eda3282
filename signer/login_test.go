package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/worker"
)

// fates goes through every sequence of choices, 0 meaning that all is well,
// with at most limit others.
type fates struct {
	limit  int
	chosen []int
	ways   []int // how many each choice had
	at     int
	spent  int
	active bool
}

func (f *fates) pick(ways int) int {
	if !f.active || f.spent == f.limit {
		return 0
	}
	if f.at == len(f.chosen) {
		f.chosen, f.ways = append(f.chosen, 0), append(f.ways, ways)
	}
	c := f.chosen[f.at]
	f.at++
	if c > 0 {
		f.spent++
	}
	return c
}

// next prepares the next sequence, if there is one.
func (f *fates) next() bool {
	for f.at, f.spent = 0, 0; len(f.chosen) > 0; {
		last := len(f.chosen) - 1
		if f.chosen[last]++; f.chosen[last] < f.ways[last] {
			return true
		}
		f.chosen, f.ways = f.chosen[:last], f.ways[:last]
	}
	return false
}

// killed ends a life of the daemon wherever it is.
type killed struct{}

// pinWorld is what outlives the daemon: the token, the PIN file and the disk.
type pinWorld struct {
	fakeHSM
	fates
	t      *testing.T
	path   string    // of the PIN file
	source PINSource // that file, unless a test has another
	right  string    // what the token takes
	wrong  int       // wrong PINs the token counted
	shown  int       // PINs the token judged
	disk   []byte    // content of pins.json, nil without one
}

func newPINWorld(t *testing.T, pin, right string, limit int) *pinWorld {
	w := &pinWorld{t: t, path: t.TempDir() + "/pin", right: right, fates: fates{limit: limit}}
	w.source = FilePIN(w.path)
	w.fakeHSM = fakeHSM{key: newSoftKey(types.P256, 5), attributes: protected}
	putPIN(t, w.path, pin)
	return w
}

func (w *pinWorld) Reset(context.Context) error { return nil }

func (w *pinWorld) judge(pin []byte) error {
	w.shown++
	if string(pin) != w.right {
		w.wrong++
		return fault(worker.ErrPINIncorrect)
	}
	return nil
}

// Login judges the PIN, and may lose the answer, or everything.
func (w *pinWorld) Login(_ context.Context, _ worker.TokenRef, pin []byte) error {
	fate := w.pick(5)
	switch fate {
	case 1:
		return fault(worker.ErrLost)
	case 2:
		panic(killed{})
	}
	err := w.judge(pin)
	switch fate {
	case 3:
		return fault(worker.ErrLost)
	case 4:
		panic(killed{})
	}
	return err
}

func (w *pinWorld) read(string) ([]byte, error) {
	if w.disk == nil {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(w.disk), nil
}

// write is durable.WriteFile as its comment promises it.
func (w *pinWorld) write(_ string, b []byte, _ fs.FileMode) error {
	switch w.pick(5) {
	case 1:
		return syscall.ENOSPC
	case 2:
		panic(killed{})
	case 3:
		w.disk = bytes.Clone(b)
		return syscall.EIO
	case 4:
		w.disk = bytes.Clone(b)
		panic(killed{})
	}
	w.disk = bytes.Clone(b)
	return nil
}

// life runs a daemon as far as the tokens go: the look at the start and, unless
// that ended it, a second one. It returns how the key stands, or killed.
func (w *pinWorld) life() (ready error, wasKilled bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(killed); !ok {
				panic(r)
			}
			wasKilled = true
		}
	}()
	c := Config{Journal: "journal", Keys: []KeyConfig{{PublicKey: w.key.public, TokenLabel: "t", TokenSerial: "s", PIN: w.source}}}
	tk := newTokens(w, &c, time.Now, quiet())
	tk.ledger.read, tk.ledger.write, tk.ledger.rounds = w.read, w.write, 1
	if err := tk.prepare(context.Background()); err != nil {
		return err, false
	}
	if err := tk.prepare(context.Background()); err != nil {
		return err, false
	}
	return tk.Ready(w.key.public), false
}

// clean is a life without faults.
func (w *pinWorld) clean() error {
	w.t.Helper()
	w.active = false
	ready, wasKilled := w.life()
	if wasKilled {
		w.t.Fatal("killed in a life without faults")
	}
	return ready
}

func (w *pinWorld) String() string {
	return fmt.Sprintf("fates %v: %d shown, %d wrong; disk: %s", w.chosen, w.shown, w.wrong, w.disk)
}

// TestLoginFaults ends the daemon, the worker and the disk at every point of
// the sequence trying → login → outcome, up to three times over three lives,
// and then lets the daemon start without a fault.
func TestLoginFaults(t *testing.T) {
	const lives, faults = 3, 3
	for _, c := range []struct {
		name     string
		accepted string // PIN the token accepted before, in this very file
		pin      string // in the file
		during   func(*pinWorld, error)
		after    func(*pinWorld, error)
	}{
		{"wrong PIN", "", "wrong", func(w *pinWorld, _ error) {
			if w.shown > 1 {
				w.t.Fatalf("a wrong PIN was shown twice: %s", w)
			}
		}, func(w *pinWorld, ready error) {
			if !IsTerminal(ready) || !strings.Contains(ready.Error(), w.path) {
				w.t.Fatalf("%v: %s", ready, w)
			}
			// Touched, it is tried once if nobody knows that it is wrong.
			touch(w.t, w.path)
			for range 2 {
				if err := w.clean(); !IsTerminal(err) || w.wrong > 2 || !strings.Contains(err.Error(), "refused") && !errors.Is(err, worker.ErrPINIncorrect) {
					w.t.Fatalf("touched: %v: %s", err, w)
				}
			}
			putPIN(w.t, w.path, "right")
			if err := w.clean(); err != nil {
				w.t.Fatalf("corrected: %v: %s", err, w)
			}
		}},
		{"right PIN, never accepted", "", "right", func(w *pinWorld, ready error) {
			if w.wrong > 0 || IsTerminal(ready) && !strings.Contains(ready.Error(), "touch ") {
				w.t.Fatalf("%v: %s", ready, w)
			}
		}, func(w *pinWorld, ready error) {
			if ready == nil {
				return
			}
			if !IsTerminal(ready) {
				w.t.Fatalf("%v: %s", ready, w)
			}
			touch(w.t, w.path)
			if err := w.clean(); err != nil {
				w.t.Fatalf("touched: %v: %s", err, w)
			}
		}},
		{"right PIN, accepted before", "right", "right", func(w *pinWorld, ready error) {
			if IsTerminal(ready) {
				w.t.Fatalf("a person is needed: %v: %s", ready, w)
			}
		}, func(w *pinWorld, ready error) {
			if ready != nil {
				w.t.Fatalf("%v: %s", ready, w)
			}
		}},
		// The token's PIN was changed, so the file's is wrong, though it was
		// accepted before. A fault may have it shown again, nothing else.
		{"changed on the token", "old", "old", func(w *pinWorld, _ error) {
			if w.wrong > 1+w.spent {
				w.t.Fatalf("shown too often: %s", w)
			}
		}, func(w *pinWorld, ready error) {
			wrong := w.wrong
			if !IsTerminal(ready) || wrong == 0 {
				w.t.Fatalf("%v: %s", ready, w)
			}
			if again := w.clean(); !IsTerminal(again) || w.wrong != wrong {
				w.t.Fatalf("shown at another start: %v: %s", again, w)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newPINWorld(t, c.pin, "right", faults)
			worlds := 0
			for more := true; more; more = w.next() {
				worlds++
				putPIN(t, w.path, c.pin)
				w.disk, w.shown, w.wrong, w.right = nil, 0, 0, "right"
				if c.accepted != "" {
					w.right = c.accepted
					if err := w.clean(); err != nil {
						t.Fatal(err)
					}
					w.right = "right"
				}
				w.active = true
				for range lives {
					ready, wasKilled := w.life()
					if !wasKilled {
						c.during(w, ready)
					}
				}
				ready := w.clean()
				c.during(w, ready)
				c.after(w, ready)
			}
			if worlds < 100 {
				t.Fatalf("only %d courses of events: the test saw too little", worlds)
			}
			t.Logf("%d courses of events", worlds)
		})
	}
}

// TestLoginTries counts the logins of one round, and of the next.
func TestLoginTries(t *testing.T) {
	for _, c := range []struct {
		name     string
		accepted bool
		fail     error
		logins   int // in one round
		terminal bool
		later    int // in the second round, when nothing fails any more
	}{
		{"unknown PIN, worker lost", false, fault(worker.ErrLost), 1, true, 0},
		{"unknown PIN, deadline", false, fault(worker.ErrDeadline), 1, true, 0},
		{"unknown PIN, module error", false, returned("C_Login", 0x30), 1, true, 0},
		{"unknown PIN, not shown", false, fault(worker.ErrDown), 1, false, 1},
		{"accepted PIN, worker lost", true, fault(worker.ErrLost), 3, false, 1},
		{"accepted PIN, deadline", true, fault(worker.ErrDeadline), 3, false, 1},
		{"accepted PIN, protocol", true, fault(worker.ErrProtocol), 3, false, 1},
		{"accepted PIN, module error", true, returned("C_Login", 0x30), 3, false, 1},
		{"accepted PIN, not shown", true, fault(worker.ErrDown), 1, false, 1},
		{"accepted PIN, no copy of the token", true, errors.New("disk full"), 1, false, 1},
		{"accepted PIN, locked", true, fault(worker.ErrPINLocked), 1, true, 0},
		{"accepted PIN, refused", true, fault(worker.ErrPINIncorrect), 1, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, tk := fakeTokens(t, nil)
			// Two keys in the one token: it still sees one login per round.
			second := *tk.keys[0]
			second.PublicKey = newSoftKey(types.P256, 6).public
			tk.keys = append(tk.keys, &second)
			if c.accepted {
				file := need[pinValue](t)(readPINFile(tk.keys[0].PIN))
				if err := tk.ledger.accepted(worker.TokenRef{Label: "t", Serial: "s"}, file, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			f.login = c.fail
			if err := tk.prepare(context.Background()); IsTerminal(err) != c.terminal {
				t.Fatalf("got %v", err)
			}
			if f.logins != c.logins {
				t.Fatalf("%d logins, want %d", f.logins, c.logins)
			}
			f.login, f.logins = nil, 0
			if err := tk.prepare(context.Background()); err != nil || f.logins != c.later {
				t.Fatalf("second round: %d logins, want %d; %v", f.logins, c.later, err)
			}
			if ready := tk.Ready(f.key.public); (ready == nil) == c.terminal {
				t.Fatalf("ready: %v", ready)
			}
		})
	}
}

// TestLoginOutlivesItsCaller: a start that is given up on still learns how its
// login ended, or it would be held against the PIN.
func TestLoginOutlivesItsCaller(t *testing.T) {
	w := newPINWorld(t, "right", "right", 0)
	ctx, cancel := context.WithCancel(context.Background())
	f, tk := fakeTokens(t, func(k *KeyConfig) { k.PIN = FilePIN(w.path) })
	tk.hsm = &cancelling{f, cancel}
	if err := tk.prepare(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	file := need[pinValue](t)(readPINFile(FilePIN(w.path)))
	if known, err := newPINLedger(tk.ledger.path).check(worker.TokenRef{Label: "t", Serial: "s"}, file); err != nil || !known {
		t.Fatalf("known %v, %v", known, err)
	}
}

// cancelling ends its caller in the middle of a login.
type cancelling struct {
	*fakeHSM
	cancel func()
}

func (c *cancelling) Login(ctx context.Context, token worker.TokenRef, pin []byte) error {
	c.cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.fakeHSM.Login(ctx, token, pin)
}
