package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"qcitycoin.org/qcity/signer/worker"
)

// needSandbox tells a machine without these limits from one where they fail. It
// returns the version of Landlock.
func needSandbox(t *testing.T) int {
	t.Helper()
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		t.Skipf("this kernel has no Landlock (Linux 5.13): %v", errno)
	}
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("there is no list of system calls for " + runtime.GOARCH)
	}
	return int(abi)
}

// try has the module, inside the worker, try what, and returns the result.
func (b *bench) try(t *testing.T, s *worker.Supervisor, what string) syscall.Errno {
	t.Helper()
	b.order(t, "C_GetTokenInfo try "+what)
	must[[]worker.TokenInfo](t)(s.ListTokens(context.Background()))
	lines := strings.Fields(string(must[[]byte](t)(os.ReadFile(b.tried))))
	if len(lines) < 2 || lines[len(lines)-2] != what {
		t.Fatalf("%s was not tried: %q", what, lines)
	}
	return syscall.Errno(must[int](t)(strconv.Atoi(lines[len(lines)-1])))
}

// TestEscapes: each forbidden thing is tried by the module itself, with the
// sandbox, where it must fail, and without, where it must work, or the test
// would show nothing.
func TestEscapes(t *testing.T) {
	abi := needSandbox(t)
	b := newBench(t).withShim(t)
	makeKey(t, b.start(t), "one", worker.Secp256k1)
	dir := filepath.Dir(b.tokens)
	outside, secrets := t.TempDir(), t.TempDir()
	pin, plain := filepath.Join(secrets, "pin"), filepath.Join(outside, "plain")
	shown := filepath.Join(secrets, "copies", "token")
	for _, path := range []string{pin, plain, shown} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	daemon := strconv.Itoa(os.Getpid())
	boxed := b.cfg
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	boxed.Sandbox = &worker.Sandbox{Writable: []string{link, filepath.Dir(shown), "/nonexistent/dir"}, Hidden: []string{secrets}, NoNetwork: true}
	free, box := start(t, b.cfg), start(t, boxed)
	for _, tc := range []struct {
		name, what string
		want       syscall.Errno // in the sandbox
	}{
		{"write where it may", "write:" + dir + "/file", 0},
		{"write a device", "write:/dev/null", 0},
		{"write a new file", "write:" + outside + "/file", syscall.EACCES},
		{"write an old file", "write:" + plain, syscall.EACCES},
		{"read a file", "read:" + plain, 0},
		{"read the system's", "read:/etc/passwd", 0},
		{"read what is hidden", "read:" + pin, syscall.EACCES},
		{"read below what is hidden, where it may write", "read:" + shown, 0},
		{"trace the signer", "ptrace:" + daemon, syscall.EPERM},
		{"send the signer a signal", "signal:" + daemon, syscall.EPERM},
		{"open a network socket", "inet:", syscall.EPERM},
		{"read the keyring", "keyring:", syscall.EPERM},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if strings.HasPrefix(tc.what, "signal:") && abi < 6 {
				t.Skip("this kernel's Landlock does not limit signals (Linux 6.12)")
			}
			if got := b.try(t, box, tc.what); got != tc.want {
				t.Errorf("in the sandbox: %v, want %v", got, tc.want)
			}
			// Under no_new_privs alone, an own process may still be traced only
			// where the system allows that.
			if got := b.try(t, free, tc.what); got != 0 && !strings.HasPrefix(tc.what, "ptrace:") {
				t.Errorf("without the sandbox: %v", got)
			}
		})
	}
}

// TestSignInSandbox: SoftHSM works in it, on a copy as well.
func TestSignInSandbox(t *testing.T) {
	needSandbox(t)
	ctx := context.Background()
	b := newBench(t)
	b.cfg.Sandbox = &worker.Sandbox{Writable: []string{b.tokens}, Hidden: []string{"/root", "/home"}, NoNetwork: true}
	maker := b.start(t)
	key := makeKey(t, maker, "one", worker.P256)
	must[worker.Signature](t)(maker.Sign(ctx, key, digest(0)))
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(t.TempDir(), "run")
	b.cfg.PrivateTokenCopy = &worker.PrivateTokenCopy{Source: b.tokens, Dir: run}
	b.cfg.Sandbox = &worker.Sandbox{Hidden: []string{filepath.Dir(run)}}
	s := b.start(t)
	if err := s.Login(ctx, key.Token, []byte(userPIN)); err != nil {
		t.Fatal(err)
	}
	must[worker.Signature](t)(s.Sign(ctx, key, digest(0)))
}

func TestSandboxNeedsAbsolutePaths(t *testing.T) {
	b := newBench(t)
	b.cfg.Sandbox = &worker.Sandbox{Writable: []string{"tokens"}}
	if _, err := b.start(t).Open(context.Background()); !errors.Is(err, worker.ErrStart) || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("got %v", err)
	}
}

// TestSandboxStaysOutside: the limits are set on a thread of the signer's, and
// must reach the worker only.
func TestSandboxStaysOutside(t *testing.T) {
	needSandbox(t)
	b := newBench(t)
	b.cfg.Sandbox = &worker.Sandbox{Writable: []string{b.tokens}, NoNetwork: true}
	must[worker.ModuleInfo](t)(b.start(t).Open(context.Background()))
	dir := t.TempDir()
	const threads = 16
	var inside, done sync.WaitGroup
	inside.Add(threads)
	for i := range threads {
		done.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			inside.Done()
			inside.Wait()
			if mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil || mode != 0 {
				t.Errorf("a thread of the signer's has its system calls filtered (%v)", err)
			}
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
}

// TestEnvironmentAndDescriptors: what the signer has is not the worker's.
func TestEnvironmentAndDescriptors(t *testing.T) {
	b := newBench(t)
	t.Setenv("QCITY_TEST_SECRET", "s3cret")
	t.Setenv("QCITY_TEST_PASSED", "on")
	t.Setenv("LD_PRELOAD_NOT", "1")
	b.cfg.Env = append(b.cfg.Env, "QCITY_TEST_PASSED", "QCITY_TEST_SET=1", "QCITY_TEST_ABSENT")
	leak, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0) // survives exec
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	s := b.start(t)
	must[worker.ModuleInfo](t)(s.Open(context.Background()))
	if os.Geteuid() != 0 {
		t.Skip("only root sees the environment and the descriptors of a process that is not dumpable")
	}
	proc := fmt.Sprintf("/proc/%d/", s.Status().PID)
	var names []string
	for e := range strings.SplitSeq(strings.TrimRight(string(must[[]byte](t)(os.ReadFile(proc+"environ"))), "\x00"), "\x00") {
		name, _, _ := strings.Cut(e, "=")
		names = append(names, name)
	}
	for name, want := range map[string]bool{
		"PATH": true, "SOFTHSM2_CONF": true, "QCITY_TEST_PASSED": true, "QCITY_TEST_SET": true,
		"QCITY_TEST_SECRET": false, "QCITY_TEST_ABSENT": false, "LD_PRELOAD_NOT": false,
	} {
		if slices.Contains(names, name) != want {
			t.Errorf("%s: want it in the environment: %t; it is %v", name, want, names)
		}
	}
	for _, fd := range must[[]os.DirEntry](t)(os.ReadDir(proc + "fd")) {
		if target, _ := os.Readlink(proc + "fd/" + fd.Name()); target == "/etc/passwd" {
			t.Error("a descriptor of the signer's is open in the worker")
		}
	}
	limits := strings.Join(strings.Fields(string(must[[]byte](t)(os.ReadFile(proc+"limits")))), " ")
	if !strings.Contains(limits, "Max open files 512 512 files") {
		t.Errorf("open files are not limited: %s", limits)
	}
}

// TestNoCoreDump: the module aborts where a dump could be written. The kernel
// says in the exit status whether it wrote one; the log has it.
func TestNoCoreDump(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: old.Max, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &old) }()
	var log bytes.Buffer
	b, s, key := ready(t, func(c *worker.Config) { c.Log = slog.New(slog.NewTextHandler(&lockedBuffer{buf: &log}, nil)) })
	b.order(t, "C_Sign crash -")
	must[worker.Signature](t)(s.Sign(context.Background(), key, digest(0)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); !strings.Contains(text, "aborted") || strings.Contains(text, "core dumped") {
		t.Errorf("the worker's end is logged as: %s", text)
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf *bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}
