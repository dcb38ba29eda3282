package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// until polls a condition that another process brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	retry(t, func() error {
		if !ok() {
			return fmt.Errorf("waited in vain: %s", what)
		}
		return nil
	})
}

// retry polls what another process brings about, and ends the test with the last
// error if it does not come.
func retry(t testing.TB, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); pause(int64(10 * time.Millisecond)) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// family returns the processes below pid.
func family(pid int) (pids []int) {
	for child := childOf(pid); child > 0; child = childOf(child) {
		pids = append(pids, child)
	}
	return pids
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// TestDemoEnds: Ctrl-C ends a demo with exit code 0; kill -9 of the demo takes
// its signer and PKCS#11 worker along; and what comes after goes on.
func TestDemoEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "devnet")
	made := demo(t, dir, 1)
	p := &process{t: t, args: demoArgs(dir, 1_000_000)}
	start := func() []int {
		t.Helper()
		p.start()
		until(t, "the demo's signer is ready and a block is found", func() bool {
			log := p.tail()
			return strings.Contains(log, "key is ready") && strings.Contains(log, "block found")
		})
		pids := family(p.pid())
		if len(pids) != 2 {
			t.Fatalf("a demo runs a signer and a worker, found %d processes", len(pids))
		}
		return pids
	}
	gone := func(pids []int) {
		t.Helper()
		for _, pid := range pids {
			until(t, fmt.Sprintf("process %d ends with the demo", pid), func() bool { return !alive(pid) })
		}
	}

	pids := start()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	// --until-height was not reached, which a script must be able to tell.
	if err := p.cmd.Wait(); err == nil || !strings.Contains(p.tail(), "before height") {
		t.Fatalf("ended with %v:\n%s", err, p.tail())
	}
	gone(pids)

	pids = start()
	p.kill()
	gone(pids)

	after := demo(t, dir, int(made.Height)+3)
	if after.Blocks[1].ID != made.Blocks[1].ID {
		t.Fatal("another chain was begun")
	}

	// Without a height to reach, Ctrl-C is the way to end it.
	p.args = append([]string{"demo", "--data", dir}, demoArgs(dir, 0)[5:]...)
	start()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("ended with %v:\n%s", err, p.tail())
	}
}
