package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProofIsNotComparedByHalf: what --verify does not compare is not taken with it.
func TestProofIsNotComparedByHalf(t *testing.T) {
	for _, flag := range []string{"token", "label", "key", "challenge", "out"} {
		_, err := command(t, "key", "prove", "--network", "regtest", "--verify", "proof.json", "--"+flag, "x")
		if err == nil || !strings.Contains(err.Error(), "["+flag+" verify]") {
			t.Errorf("--verify with --%s: %v", flag, err)
		}
	}
}

// TestToolGetsNoPIN: a vendor's tool does not inherit the descriptor that the PIN is
// read from.
func TestToolGetsNoPIN(t *testing.T) {
	dir := t.TempDir()
	pin, leak := filepath.Join(dir, "pin"), filepath.Join(dir, "leak")
	if err := os.WriteFile(pin, []byte("12345678\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(pin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd())) // like one from a shell, not closed on exec
	if err != nil {
		t.Fatal(err)
	}
	from := "/proc/self/fd/" + strconv.Itoa(fd)
	if _, err := command(t, "key", "restore-test", "--worker="+filepath.Join(bin, "qcity-p11"), "--token", "a", "--serial", "1", "--from", pin,
		"--key", "secp256k1:02f46ed1eea1f3ed3cde29f8c928a1dd40022d911d542dad00387f914dd28f69ac", "--network", "regtest", "--pin", "fd:"+strconv.Itoa(fd), "--", "/bin/cp", from, leak); err == nil {
		t.Error("a token that is not there was restored")
	}
	if got, err := os.ReadFile(leak); err == nil {
		t.Errorf("the tool read %q", got)
	}
}
