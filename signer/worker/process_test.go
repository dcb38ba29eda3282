package worker_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"qcitycoin.org/qcity/signer/worker"
)

// watch returns a function that blocks until process pid has ended.
func watch(t testing.TB, pid int) func() {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("watch process %d: %v", pid, err)
	}
	return func() {
		t.Helper()
		defer unix.Close(fd)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds, 60_000)
			if err == unix.EINTR {
				continue
			}
			if n != 1 {
				t.Fatalf("process %d is still there: %v", pid, err)
			}
			return
		}
	}
}

func TestSandbox(t *testing.T) {
	b, s, key := ready(t, nil)
	if err := s.Close(); err != nil { // it made the token, and met the PIN more than once
		t.Fatal(err)
	}
	s = b.start(t)
	if err := s.Login(context.Background(), key.Token, []byte(userPIN)); err != nil {
		t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d/", s.Status().PID)
	read := func(name string) string { return string(must[[]byte](t)(os.ReadFile(proc + name))) }
	if !strings.Contains(read("status"), "NoNewPrivs:\t1") {
		t.Error("no_new_privs is not set")
	}
	threads := must[[]os.DirEntry](t)(os.ReadDir(proc + "task"))
	for _, thread := range threads {
		if !strings.Contains(read("task/"+thread.Name()+"/status"), "NoNewPrivs:\t1") {
			t.Errorf("no_new_privs is not set on thread %s", thread.Name())
		}
	}
	if limits := strings.Fields(read("limits")); !strings.Contains(strings.Join(limits, " "), "Max core file size 0 0 bytes") {
		t.Error("the core size limit is not 0")
	}
	// A process that is not dumpable belongs to root in /proc, whoever runs it.
	if os.Geteuid() != 0 {
		if _, err := os.ReadFile(proc + "environ"); !os.IsPermission(err) {
			t.Errorf("the environment can be read by its own user (%v): the process is dumpable", err)
		}
		return
	}
	for _, name := range []string{"cmdline", "environ"} {
		if strings.Contains(read(name), userPIN) {
			t.Errorf("%s shows the PIN", name)
		}
	}
	if copiesInMemory(t, proc, key.Token.Serial) == 0 {
		t.Error("the search through memory finds nothing, not even the token's serial")
	}
	if n := copiesInMemory(t, proc, userPIN); n != 0 {
		t.Errorf("the PIN is %d times in the worker's memory after login", n)
	}
}

// copiesInMemory counts text in the writable memory of a process.
func copiesInMemory(t testing.TB, proc, text string) int {
	t.Helper()
	mem := must[*os.File](t)(os.Open(proc + "mem"))
	defer mem.Close()
	n := 0
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile(proc + "maps")))) {
		var from, to uint64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if strings.HasPrefix(rights, "rw") {
			page := make([]byte, to-from)
			read, _ := mem.ReadAt(page, int64(from)) // some mappings cannot be read
			n += bytes.Count(page[:read], []byte(text))
		}
	}
	return n
}

// TestOnePINInOwnMemory: of a PIN that was used for everything there is to do
// with one, the supervisor's process keeps the one copy it logs in again with,
// and none when it is closed. The PIN is random and never a string, and neither
// is what is searched for, which is the PIN with all bits turned.
func TestOnePINInOwnMemory(t *testing.T) {
	ctx := context.Background()
	pin := make([]byte, 24)
	_, _ = rand.Read(pin)
	for i := range pin {
		pin[i] = '!' + pin[i]%90
	}
	turned := make([]byte, len(pin))
	for i := range pin {
		turned[i] = ^pin[i]
	}
	b := newBench(t)
	s := b.start(t)
	token := must[worker.TokenInfo](t)(s.InitToken(ctx, "one", []byte(soPIN), pin))
	if err := s.Login(ctx, token.TokenRef, pin); err != nil {
		t.Fatal(err)
	}
	key := must[worker.Key](t)(s.GenerateKey(ctx, token.TokenRef, worker.P256, "k", []byte{1}))
	killWorker(t, s)
	must[worker.Signature](t)(s.Sign(ctx, worker.KeyRef{Token: token.TokenRef, Algorithm: key.Algorithm, PublicKey: key.PublicKey}, digest(0)))
	if n := turnedCopies(t, turned); n != 2 {
		t.Fatalf("the search finds %d copies, want the test's own and the supervisor's", n)
	}
	clear(pin)
	if n := turnedCopies(t, turned); n != 1 {
		t.Errorf("the PIN is %d times in memory while it is in use, want once", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := turnedCopies(t, turned); n != 0 {
		t.Errorf("the PIN is %d times in memory after the end", n)
	}
	for i, c := range turned {
		pin[i] = ^c
	}
	if err := s.Login(ctx, token.TokenRef, pin); !errors.Is(err, worker.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := s.InitToken(ctx, "two", pin, pin); !errors.Is(err, worker.ErrClosed) {
		t.Fatal(err)
	}
	clear(pin)
	if n := turnedCopies(t, turned); n != 0 {
		t.Errorf("the PIN is %d times in memory after calls that were not made", n)
	}
}

// turnedCopies counts what turned is the complement of in this process.
func turnedCopies(t *testing.T, turned []byte) int {
	t.Helper()
	mem := must[*os.File](t)(os.Open("/proc/self/mem"))
	defer mem.Close()
	maps := string(must[[]byte](t)(os.ReadFile("/proc/self/maps")))
	// The buffer is not in Go's heap, so that the search does not meet it.
	const size = 1 << 16
	buf := must[[]byte](t)(unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS))
	defer func() { _ = unix.Munmap(buf) }()
	first := ^turned[0]
	n := 0
	for line := range strings.Lines(maps) { // from before the buffer was mapped
		var from, to uint64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !strings.HasPrefix(rights, "rw") {
			continue
		}
		for at := from; at < to; at += size - uint64(len(turned)) + 1 {
			got, _ := mem.ReadAt(buf[:min(size, to-at)], int64(at)) // some mappings cannot be read
			page := buf[:got]
			for i := bytes.IndexByte(page, first); i >= 0 && i+len(turned) <= len(page); {
				same := true
				for j, c := range turned {
					same = same && page[i+j] == ^c
				}
				if same {
					n++
				}
				next := bytes.IndexByte(page[i+1:], first)
				if next < 0 {
					break
				}
				i += 1 + next
			}
		}
		clear(buf)
	}
	return n
}

// TestOwnThreadsKeepTheirRights: setting no_new_privs for the worker must not
// spread to the daemon's other threads, in particular not to new ones.
func TestOwnThreadsKeepTheirRights(t *testing.T) {
	noNewPrivs := func() int {
		set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		return set
	}
	if noNewPrivs() != 0 {
		t.Skip("the whole test process runs with no_new_privs")
	}
	s := newBench(t).start(t)
	must[worker.ModuleInfo](t)(s.Open(context.Background()))
	const threads = 32
	var inside, done sync.WaitGroup
	inside.Add(threads)
	for range threads {
		done.Go(func() { // all at once, each on a thread of its own
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			inside.Done()
			inside.Wait()
			if noNewPrivs() != 0 {
				t.Error("a thread of the daemon carries no_new_privs")
			}
		})
	}
	done.Wait()
}

// TestWorkerDiesWithItsParent kills a daemon with SIGKILL.
func TestWorkerDiesWithItsParent(t *testing.T) {
	b := newBench(t)
	self := must[string](t)(os.Executable())
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), b.cfg.Env...), envDaemon+"="+b.cfg.Binary+":"+b.cfg.Module)
	cmd.Stderr = t.Output()
	out := must[interface {
		Read([]byte) (int, error)
	}](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid := must[int](t)(strconv.Atoi(strings.TrimSpace(line)))
	wait := watch(t, pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	wait()
	_ = cmd.Wait() // reports the kill
}

// daemonMain starts a worker, prints its process id and waits to be killed.
func daemonMain() int {
	binary, module, _ := strings.Cut(os.Getenv(envDaemon), ":")
	s, err := worker.New(worker.Config{Binary: binary, Module: module, Log: slog.Default()})
	if err == nil {
		_, err = s.Open(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.Status().PID)
	select {}
}

func TestNotStartedByHand(t *testing.T) {
	out, err := exec.Command(must[string](t)(workerBinary())).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "started by the signer") {
		t.Errorf("got %v: %s", err, out)
	}
}
