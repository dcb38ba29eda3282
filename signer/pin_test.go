package signer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qcitycoin.org/qcity/signer/worker"
)

func TestParsePINSource(t *testing.T) {
	for _, c := range []struct{ text, err string }{
		{"credential:validator-0", ""},
		{"fd:3", ""},
		{"file:/etc/qcity/pin", ""},
		{"file:a:b", ""},
		{"keyring:qcity:validator 0", ""},
		{"terminal", ""},
		{"device", ""},
		{"", "missing"},
		{"terminal:tty1", "no name"},
		{"device:", "no name"},
		{"credential:", "what to read"},
		{"credential:../shadow", "without a directory"},
		{"credential:..", "without a directory"},
		{"fd:0", "3 or higher"},
		{"fd:03", "3 or higher"},
		{"fd:x", "3 or higher"},
		{"env:PIN_SECRET", "never read from the environment"},
		{"4711-secret", "no source of a PIN"},
		{"pin:4711-secret", "no source of a PIN"},
		{"/etc/4711-secret", "no source of a PIN"},
	} {
		src, err := ParsePINSource(c.text)
		switch {
		case c.err == "" && (err != nil || src.String() != c.text):
			t.Errorf("%q: %q, %v", c.text, src, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || src != PINSource{}):
			t.Errorf("%q: %q, %v; want %q", c.text, src, err, c.err)
		case c.err != "" && strings.Contains(strings.ToLower(err.Error()), "secret"):
			t.Errorf("%q: the message repeats what may be a PIN: %v", c.text, err)
		}
	}
	if got := FilePIN("pin").Resolve(func(p string) string { return "/dir/" + p }); got.String() != "file:/dir/pin" {
		t.Error(got)
	}
	if got := (PINSource{fromKeyring, "pin"}).Resolve(func(string) string { return "x" }); got.String() != "keyring:pin" {
		t.Error(got)
	}
}

func FuzzParsePINSource(f *testing.F) {
	for _, s := range []string{"credential:a", "fd:3", "file:x", "keyring:y", "terminal", "device", "1234", "env:X"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		src, err := ParsePINSource(s)
		if err != nil {
			return
		}
		if again, err := ParsePINSource(src.String()); err != nil || again != src {
			t.Fatalf("%q became %q, then %v", s, src, err)
		}
	})
}

func source(t *testing.T, text string) PINSource {
	t.Helper()
	return need[PINSource](t)(ParsePINSource(text))
}

func readFrom(src PINSource) (string, error) {
	v, err := src.read(context.Background(), "t")
	if v.id != nil {
		return "", errors.New("a source without dates has an identity")
	}
	return string(v.pin), err
}

func TestCredentialPIN(t *testing.T) {
	src := source(t, "credential:pin")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := readFrom(src); err == nil || !strings.Contains(err.Error(), "LoadCredentialEncrypted=pin") {
		t.Errorf("without systemd: %v", err)
	}
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if _, err := readFrom(src); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	write := func(mode os.FileMode, content string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(dir+"/pin"), os.WriteFile(dir+"/pin", []byte(content), 0o600), os.Chmod(dir+"/pin", mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []os.FileMode{0o400, 0o600} {
		write(mode, "1234")
		if pin, err := readFrom(src); err != nil || pin != "1234" {
			t.Errorf("mode %o: %q, %v", mode, pin, err)
		}
	}
	write(0o444, "1234")
	if _, err := readFrom(src); err == nil || !strings.Contains(err.Error(), "0444") {
		t.Errorf("open to all: %v", err)
	}
	write(0o400, "12\n34")
	if _, err := readFrom(src); err == nil || !strings.Contains(err.Error(), "one line") || strings.Contains(err.Error(), "12") {
		t.Errorf("two lines: %v", err)
	}
}

// ownedFile is a file as somebody else may have made it.
type ownedFile struct {
	os.FileInfo
	uid  uint32
	mode os.FileMode
}

func (f ownedFile) Mode() os.FileMode { return f.mode }
func (f ownedFile) Sys() any          { return &syscall.Stat_t{Uid: f.uid} }

// TestCredentialOwner: what systemd makes, with and without an access list, and
// nothing else.
func TestCredentialOwner(t *testing.T) {
	for _, c := range []struct {
		uid  uint32
		mode os.FileMode
		good bool
	}{
		{1000, 0o400, true},
		{1000, 0o600, true},
		{0, 0o440, true},
		{1000, 0o440, false},
		{1000, 0o640, false},
		{0, 0o400, false},
		{0, 0o460, false},
		{0, 0o444, false},
		{1001, 0o400, false},
		{1001, 0o440, false},
	} {
		if err := checkCredential(ownedFile{uid: c.uid, mode: c.mode}, 1000, "credential pin"); (err == nil) != c.good {
			t.Errorf("user %d, mode %04o: %v", c.uid, c.mode, err)
		}
	}
}

func TestDescriptorPIN(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("12 34\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	fd := need[int](t)(unix.Dup(int(r.Fd())))
	r.Close()
	src := source(t, fmt.Sprintf("fd:%d", fd))
	h := newHeldPINs(quiet(), src, src)
	defer h.wipe()
	token := worker.TokenRef{Label: "t", Serial: "s"}
	for range 2 { // it can be read once, and is remembered
		v, err := h.read(context.Background(), token, src)
		if err != nil || string(v.pin) != "12 34" {
			t.Fatalf("%q, %v", v.pin, err)
		}
		clear(v.pin)
	}
	h.drop(token)
	if _, err := h.read(context.Background(), token, src); err == nil || !strings.Contains(err.Error(), "is not open") {
		t.Errorf("used up: %v", err)
	}

	// A number that is wrong may name a file of ours: it is not touched.
	own := need[*os.File](t)(os.Open("/dev/zero"))
	defer own.Close()
	src = source(t, fmt.Sprintf("fd:%d", own.Fd()))
	if _, err := newHeldPINs(quiet(), src).read(context.Background(), token, src); err == nil || !strings.Contains(err.Error(), "is not open") {
		t.Errorf("a file of our own: %v", err)
	}
	if _, err := own.Read(make([]byte, 1)); err != nil {
		t.Errorf("a file of our own was closed: %v", err)
	}
}

func TestKeyringPIN(t *testing.T) {
	name := fmt.Sprintf("qcity-test-%d", os.Getpid())
	src := source(t, "keyring:"+name)
	if _, err := readFrom(src); err == nil || !strings.Contains(err.Error(), "keyctl padd user "+name) {
		t.Errorf("missing: %v", err)
	}
	id, err := unix.AddKey("user", name, []byte("1234"), unix.KEY_SPEC_PROCESS_KEYRING)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skip("this system allows no keyring (containers often do not): ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.KeyctlInt(unix.KEYCTL_REVOKE, id, 0, 0, 0) }()
	if pin, err := readFrom(src); err != nil || pin != "1234" {
		t.Errorf("%q, %v", pin, err)
	}
	if _, err := unix.AddKey("user", name, []byte(strings.Repeat("x", 400)), unix.KEY_SPEC_PROCESS_KEYRING); err != nil {
		t.Fatal(err)
	}
	if _, err := readFrom(src); err == nil || !strings.Contains(err.Error(), "one line") {
		t.Errorf("too long: %v", err)
	}
}

// terminalPair is a terminal and the end at which somebody sits.
func terminalPair(t *testing.T) (person, tty *os.File) {
	t.Helper()
	person = need[*os.File](t)(os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0))
	t.Cleanup(func() { person.Close() })
	raw := need[int](t)(unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN))
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty = need[*os.File](t)(os.OpenFile(fmt.Sprintf("/dev/pts/%d", raw), os.O_RDWR|unix.O_NOCTTY, 0))
	t.Cleanup(func() { tty.Close() })
	return person, tty
}

func TestTerminalPIN(t *testing.T) {
	person, tty := terminalPair(t)
	before := need[*unix.Termios](t)(unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS))
	type result struct {
		pin []byte
		err error
	}
	done := make(chan result, 1)
	ask := func(ctx context.Context) {
		pin, err := readHidden(ctx, tty, "PIN: ")
		done <- result{pin, err}
	}
	buf := make([]byte, 100)
	for _, c := range []struct{ typed, want, err string }{{"12 34\n", "12 34", ""}, {"\n", "", "one line"}} {
		go ask(context.Background())
		if n, err := person.Read(buf); err != nil || string(buf[:n]) != "PIN: " {
			t.Fatalf("prompt %q, %v", buf[:n], err)
		}
		if _, err := person.WriteString(c.typed); err != nil {
			t.Fatal(err)
		}
		r := <-done
		if string(r.pin) != c.want || (r.err != nil) != (c.err != "") || r.err != nil && !strings.Contains(r.err.Error(), c.err) {
			t.Fatalf("typed %q: got %q, %v", c.typed, r.pin, r.err)
		}
		if n, err := person.Read(buf); err != nil || strings.Contains(string(buf[:n]), "1") {
			t.Fatalf("the terminal shows %q, %v", buf[:n], err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go ask(ctx)
	need[int](t)(person.Read(buf))
	cancel()
	if r := <-done; !errors.Is(r.err, context.Canceled) {
		t.Fatalf("given up: %v", r.err)
	}
	if after := need[*unix.Termios](t)(unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)); *after != *before {
		t.Error("the terminal is not as it was")
	}
}

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
