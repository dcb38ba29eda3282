package signer

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPINReader: what the daemon's sources are to a command.
func TestPINReader(t *testing.T) {
	path := t.TempDir() + "/pin"
	if err := os.WriteFile(path, []byte("1234\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	f := need[*os.File](t)(os.Open(path))
	fd := need[int](t)(unix.Dup(int(f.Fd())))
	f.Close()
	for _, c := range []struct {
		source, pin, err string
		again            bool // it can be read more than once
	}{
		{"file:" + path, "1234", "", true},
		{fmt.Sprintf("fd:%d", fd), "1234", "", false},
		{"file:" + path + "x", "", "no such file", true},
		{"device", "", "user PIN cannot be entered", true},
	} {
		r := need[*PINReader](t)(NewPINReader(source(t, c.source)))
		for range 2 {
			pin, err := r.Read(context.Background(), "user PIN", false)
			if string(pin) != c.pin || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("%s: %q, %v", c.source, pin, err)
			}
			if !c.again {
				c.pin, c.err = "", "read once"
			}
		}
		if r.AtDevice() != (c.source == "device") {
			t.Errorf("%s: at the device: %t", c.source, r.AtDevice())
		}
	}
	if _, err := NewPINReader(source(t, fmt.Sprintf("fd:%d", fd))); err == nil {
		t.Error("a descriptor was taken over twice")
	}
}

// TestPINTwice: a new PIN that is typed in two ways is none.
func TestPINTwice(t *testing.T) {
	for _, c := range []struct{ first, again, err string }{
		{"1234", "1234", ""},
		{"1234", "1243", "the two differ"},
		{"1234", "", "one line"},
	} {
		person, tty := terminalPair(t)
		done := make(chan string)
		go func() {
			pin, err := askHidden(context.Background(), tty, "new PIN", true)
			done <- fmt.Sprintf("%s %v", pin, err)
		}()
		for _, line := range []struct{ prompt, typed string }{{"new PIN: ", c.first}, {"the same again: ", c.again}} {
			await(t, person, line.prompt)
			if _, err := person.WriteString(line.typed + "\n"); err != nil {
				t.Fatal(err)
			}
		}
		got, want := <-done, c.first+" <nil>"
		if c.err == "" && got != want || c.err != "" && (!strings.Contains(got, c.err) || strings.Contains(got, "1243")) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// await reads what the person sees up to a prompt.
func await(t *testing.T, person *os.File, prompt string) {
	t.Helper()
	seen, buf := "", make([]byte, 100)
	for !strings.HasSuffix(seen, prompt) {
		n, err := person.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", seen, err)
		}
		seen += string(buf[:n])
	}
}
