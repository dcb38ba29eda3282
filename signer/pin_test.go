package signer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

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
