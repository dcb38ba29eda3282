package durable_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"qcitycoin.org/qcity/internal/durable"
)

// childEnv names the directory in which the re-executed test binary appends.
const childEnv = "DURABLE_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, appendForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func killOptions() durable.Options {
	return durable.Options{Kind: [4]byte{'K', 'I', 'L', 'L'}, MaxRecord: 4096}
}

// killRecord is record n: its length varies, so that records cross sectors.
func killRecord(n int) string {
	return fmt.Sprintf("%d:%s", n, strings.Repeat("k", n*37%1500))
}

// appendForever appends records and prints each one's number once acknowledged.
func appendForever(dir string) error {
	if _, err := durable.LockDir(dir); err != nil {
		return err
	}
	l, err := durable.OpenLog(filepath.Join(dir, "log"), killOptions())
	if err != nil {
		return err
	}
	n := 0
	for range l.Records() {
		n++
	}
	for ; ; n++ {
		if err := l.Append([]byte(killRecord(n))); err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

// TestKill kills an appending process again and again: whatever it had
// acknowledged is there, and its locks are not.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	l, err := durable.CreateLog(filepath.Join(dir, "log"), killOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range 25 {
		last := killAfter(t, dir, 1+round*7%23, round == 1) // locks are waited for: once is enough
		l, err := durable.OpenLog(filepath.Join(dir, "log"), killOptions())
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		n := 0
		for r, err := range l.Records() {
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if string(r.Payload) != killRecord(n) {
				t.Fatalf("round %d: record %d is %q", round, n, r.Payload)
			}
			n++
		}
		if n <= last {
			t.Fatalf("round %d: record %d was acknowledged, %d are there", round, last, n)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter starts the child, kills it after some acknowledgements and returns
// the last record that was acknowledged.
func killAfter(t *testing.T, dir string, acks int, checkLocks bool) int {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	last, lines := -1, bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			t.Fatalf("child said %q: %v", lines.Text(), err)
		}
		if acks--; acks == 1 && checkLocks {
			checkLocked(t, dir, child.Process.Pid)
		}
		if acks == 0 {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // always "signal: killed"
	if last < 0 || acks > 0 {
		t.Fatalf("the child ended by itself after record %d", last)
	}
	return last
}

func checkLocked(t *testing.T, dir string, pid int) {
	t.Helper()
	_, err := durable.LockDir(dir)
	if !errors.Is(err, durable.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", pid)) {
		t.Errorf("locking a directory in use by process %d: %v", pid, err)
	}
	if _, err := durable.OpenLog(filepath.Join(dir, "log"), killOptions()); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("opening a log in use: %v", err)
	}
}

func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	if _, err := durable.LockDir(dir); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.GC() // a lock whose handle was dropped still holds
	if _, err := durable.LockDir(dir); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("second lock after a collection: %v", err)
	}

	dir = t.TempDir()
	for range 2 { // a lock that was given back can be taken again
		lock, err := durable.LockDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := durable.LockDir(dir); !errors.Is(err, durable.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			t.Errorf("second lock: %v", err)
		}
		if err := lock.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := durable.LockDir(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("locking a directory that is not there: %v", err)
	}
}
