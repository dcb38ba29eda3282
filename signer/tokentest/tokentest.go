// Package tokentest makes tokens to test on, of every kind that Debian has: each
// is new, ready for use, and gone when the test ends.
package tokentest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

// The PINs of every token made here.
const UserPIN, SOPIN = "12345678", "87654321"

// Device is one initialised token, and how to reach it.
type Device struct {
	Module   string   // path of the library
	InitArgs string   // for C_Initialize; empty if the library wants none
	Env      []string // NAME=value, for the process that loads it
	Label    string
	Enter    []string // what to put before the command of that process; see Binary
}

// run runs a set-up tool to its end. PINs of tokens that live as long as a test
// may be seen in a process list.
func run(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s(scripts/deps test installs what the tests need)", strings.Join(append([]string{name}, args...), " "), err, out)
	}
	return string(out)
}

// daemon starts a program that ends with the test.
func daemon(t testing.TB, env []string, name string, args ...string) *bufio.Reader {
	t.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatalf("%v (scripts/deps test installs what the tests need)", err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM) // the group: some start children
		_ = c.Wait()
	})
	return bufio.NewReader(out)
}

// library returns the first library that fits one of the patterns.
func library(t testing.TB, patterns ...string) string {
	t.Helper()
	for _, p := range patterns {
		if found, _ := filepath.Glob(p); len(found) > 0 { // the patterns are constants
			return found[0]
		}
	}
	t.Fatalf("none of %v is there: type scripts/deps test", patterns)
	return ""
}

// until waits for a daemon to be ready; there is no event to wait for.
func until(t testing.TB, what string, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is not ready after a minute", what)
		}
	}
}

// SoftHSM is a SoftHSM of its own.
func SoftHSM(t testing.TB) *Device {
	t.Helper()
	module, err := worker.SoftHSMModule()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(worker.SoftHSMConf(tokens)), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"SOFTHSM2_CONF=" + conf}
	run(t, env, "softhsm2-util", "--init-token", "--free", "--label", "probe", "--pin", UserPIN, "--so-pin", SOPIN)
	return &Device{Module: module, Env: env, Label: "probe"}
}

// NSS is the database of NSS; it has no secp256k1.
func NSS(t testing.TB) *Device {
	t.Helper()
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(UserPIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "certutil", "-N", "-d", "sql:"+dir, "-f", password)
	return &Device{
		Module:   library(t, "/usr/lib/*/libsoftokn3.so", "/usr/lib/*/nss/libsoftokn3.so"),
		InitArgs: fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", dir),
		Label:    "NSS Certificate DB",
	}
}

// P11Kit is a SoftHSM behind a socket.
func P11Kit(t testing.TB) *Device {
	t.Helper()
	behind := SoftHSM(t)
	socket := filepath.Join(short(t), "p11")
	daemon(t, behind.Env, "p11-kit", "server", "--foreground", "--name", socket, "--provider", behind.Module, "pkcs11:token=probe")
	until(t, "p11-kit server", func() bool { _, err := os.Stat(socket); return err == nil })
	return &Device{
		Module: library(t, "/usr/lib/*/pkcs11/p11-kit-client.so"),
		Env:    []string{"P11_KIT_SERVER_ADDRESS=unix:path=" + socket, "XDG_RUNTIME_DIR=" + short(t)},
		Label:  "probe",
	}
}

// TPM is a TPM 2.0 in software with its resource manager on a bus of its own.
func TPM(t testing.TB) *Device {
	t.Helper()
	dir := short(t)
	socket := filepath.Join(dir, "swtpm")
	daemon(t, nil, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl",
		"--flags", "not-need-init,startup-clear")
	until(t, "swtpm", func() bool { _, err := os.Stat(socket); return err == nil })
	address, err := daemon(t, nil, "dbus-daemon", "--session", "--nofork", "--print-address", "--address", "unix:path="+filepath.Join(dir, "bus")).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	env := []string{
		"DBUS_SESSION_BUS_ADDRESS=" + strings.TrimSpace(address), "TPM2_PKCS11_STORE=" + dir, "TPM2_PKCS11_LOG_LEVEL=0", "TSS2_LOG=all+NONE",
		"TPM2_PKCS11_TCTI=tabrmd:bus_type=session", "TPM2TOOLS_TCTI=tabrmd:bus_type=session",
	}
	daemon(t, env, "tpm2-abrmd", "--session", "--allow-root", "--tcti=swtpm:path="+socket)
	until(t, "tpm2-abrmd", func() bool {
		c := exec.Command("tpm2_getrandom", "4", "--hex")
		c.Env = append(os.Environ(), env...)
		return c.Run() == nil
	})
	run(t, env, "tpm2_ptool", "init", "--path", dir)
	run(t, env, "tpm2_ptool", "addtoken", "--pid", "1", "--sopin", SOPIN, "--userpin", UserPIN, "--label", "probe", "--path", dir)
	return &Device{Module: library(t, "/usr/lib/*/libtpm2_pkcs11.so*", "/usr/lib/*/pkcs11/libtpm2_pkcs11.so"), Env: env, Label: "probe"}
}

// short is a folder whose name leaves room for the name of a socket.
func short(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
