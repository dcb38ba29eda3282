package conformance_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/worker"
)

var update = flag.Bool("update", false, "write the profiles of the tokens, and the table in docs/hsm.md")

const userPIN, soPIN = "12345678", "87654321"

// binary is qcity-p11, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "qcity-conformance-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "qcity-p11")
	if out, err := exec.Command("go", "build", "-o", binary, "qcitycoin.org/qcity/cmd/qcity-p11").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build qcity-p11: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// device is a token on the bench: how to reach it, and its label.
type device struct {
	conformance.Runner
	label string
}

// run runs a set-up tool to its end. PINs of tokens that live as long as a test
// may be seen in a process list.
func run(t *testing.T, env []string, name string, args ...string) string {
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
func daemon(t *testing.T, env []string, name string, args ...string) *bufio.Reader {
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
func library(t *testing.T, patterns ...string) string {
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
func until(t *testing.T, what string, ready func() bool) {
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

func softHSM(t *testing.T) *device {
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
	run(t, env, "softhsm2-util", "--init-token", "--free", "--label", "probe", "--pin", userPIN, "--so-pin", soPIN)
	return &device{conformance.Runner{Binary: binary, Module: module, Env: env}, "probe"}
}

func nss(t *testing.T) *device {
	t.Helper()
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(userPIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "certutil", "-N", "-d", "sql:"+dir, "-f", password)
	return &device{conformance.Runner{
		Binary: binary, Module: library(t, "/usr/lib/*/libsoftokn3.so", "/usr/lib/*/nss/libsoftokn3.so"),
		InitArgs: fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", dir),
	}, "NSS Certificate DB"}
}

// p11kit is a SoftHSM behind a socket.
func p11kit(t *testing.T) *device {
	t.Helper()
	behind := softHSM(t)
	socket := filepath.Join(short(t), "p11")
	daemon(t, behind.Env, "p11-kit", "server", "--foreground", "--name", socket, "--provider", behind.Module, "pkcs11:token=probe")
	until(t, "p11-kit server", func() bool { _, err := os.Stat(socket); return err == nil })
	return &device{conformance.Runner{
		Binary: binary, Module: library(t, "/usr/lib/*/pkcs11/p11-kit-client.so"),
		Env: []string{"P11_KIT_SERVER_ADDRESS=unix:path=" + socket, "XDG_RUNTIME_DIR=" + short(t)},
	}, "probe"}
}

// tpm is a TPM 2.0 in software with its resource manager on a bus of its own.
func tpm(t *testing.T) *device {
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
	run(t, env, "tpm2_ptool", "addtoken", "--pid", "1", "--sopin", soPIN, "--userpin", userPIN, "--label", "probe", "--path", dir)
	return &device{conformance.Runner{Binary: binary, Module: library(t, "/usr/lib/*/libtpm2_pkcs11.so*", "/usr/lib/*/pkcs11/libtpm2_pkcs11.so"), Env: env}, "probe"}
}

// short is a folder whose name leaves room for the name of a socket.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// faults are what is known to be wrong with tokens, and stays recorded as FAIL:
// NSS makes an extractable copy of a key that is not, and tpm2-pkcs11 lets both
// attributes be rewritten (the TPM keeps the key all the same).
var faults = map[string][]int{"nss": {521}, "tpm2": {519, 520}}

// TestTokens runs the whole suite on every token: no other case may fail, and each
// answer is the one in the token's profile. The tokens are made for the test and
// get one wrong PIN, followed by the right one.
func TestTokens(t *testing.T) {
	for name, setUp := range map[string]func(*testing.T) *device{"softhsm": softHSM, "nss": nss, "p11-kit": p11kit, "tpm2": tpm} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := setUp(t)
			report, err := d.Probe(t.Context(), conformance.Options{Label: d.label, PIN: []byte(userPIN), Scratch: true, WrongPIN: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Outcomes) != len(conformance.Cases()) {
				t.Errorf("%d outcomes for %d cases", len(report.Outcomes), len(conformance.Cases()))
			}
			for _, o := range report.Outcomes {
				if o.Result == conformance.Fail && slices.Contains(faults[name], o.Number) {
					continue
				}
				if o.Result == conformance.Fail || o.Result == conformance.Skipped {
					t.Errorf("%d %s: %s %s (%s)", o.Number, o.Name, o.Result, o.Value, o.Note)
				}
			}
			t.Logf("%v, %s, %v", report.Count(), report.Curve, report.Rates)
			compare(t, name, conformance.NewProfile(report))
			after, err := d.List(t.Context())
			after = slices.DeleteFunc(after, func(t conformance.Token) bool { return t.Label != d.label })
			if err != nil || len(after) != 1 || after[0].PIN != "ok" {
				t.Errorf("afterwards: %+v, %v; want one token with its PIN in order", after, err)
			}
		})
	}
	t.Run("opencryptoki", func(t *testing.T) {
		version, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", "opencryptoki").Output()
		if err != nil {
			t.Fatalf("which opencryptoki is there? %v: type scripts/deps test", err)
		}
		t.Skipf("opencryptoki %s: the soft token of Debian 12's 3.8.1 has no elliptic curves; 3.23 has, but its daemon needs a user, a group and /run of its own", version)
	})
}

// compare holds a profile against the one that is kept. The rates are not
// compared: they belong to the machine.
func compare(t *testing.T, name string, now conformance.Profile) {
	t.Helper()
	now.PoolSize = 0
	if *update {
		if err := os.WriteFile(filepath.Join("profiles", name+".json"), now.Encode(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, ok := conformance.Profiles()[name]
	if !ok {
		t.Fatalf("there is no profile %s: write it with go test -run TestTokens ./signer/conformance -update", name)
	}
	if kept.Version != now.Version || kept.Firmware != now.Firmware {
		t.Logf("another version than in the profile: %s %s, profile %s %s", now.Version, now.Firmware, kept.Version, kept.Firmware)
		return
	}
	for _, line := range kept.Drift(now) {
		t.Error(line)
	}
}
