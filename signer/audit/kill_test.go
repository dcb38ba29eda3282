package audit

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
)

// childEnv names the log that the re-executed test binary appends to.
const childEnv = "AUDIT_TEST_CHILD"

// killOptions make a file so small that kills meet rotations.
func killOptions() Options { return Options{FileSize: 1500} }

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		fmt.Fprintln(os.Stderr, appendForever(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// appendForever appends entries and prints the head of each once it is acknowledged.
func appendForever(path string) error {
	l, err := Open(path, testNet, killOptions())
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		h, err := l.Append(testEntry(i))
		if err != nil {
			return err
		}
		if _, err := fmt.Println(h); err != nil {
			return err
		}
	}
}

// TestKill kills a writing process again and again: all it acknowledged is there,
// and the log goes on. AUDIT_KILLS asks for more than the few of every run.
func TestKill(t *testing.T) {
	kills := 20
	if s := os.Getenv("AUDIT_KILLS"); s != "" {
		kills = need[int](t)(strconv.Atoi(s))
	}
	path := t.TempDir() + "/audit.log"
	if err := Create(path, testNet, Options{}); err != nil {
		t.Fatal(err)
	}
	var heads []Head
	for life := range kills {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+path)
		child.Stderr = os.Stderr
		out := need[io.ReadCloser](t)(child.StdoutPipe())
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		left := 1 + life*7%23
		for lines := bufio.NewScanner(out); lines.Scan(); {
			heads = append(heads, need[Head](t)(ParseHead(lines.Text())))
			if left--; left == 0 {
				_ = child.Process.Kill()
			}
		}
		_ = child.Wait() // always "signal: killed"
		if left > 0 {
			t.Fatalf("life %d: the child ended by itself", life)
		}
	}
	report := need[Report](t)(Verify(t.Context(), path, VerifyOptions{Anchors: heads}))
	if len(report.Files) < kills/2 {
		t.Fatalf("%d files: the kills met no rotation", len(report.Files))
	}
	t.Logf("%d kills, %d entries acknowledged, %d files", kills, len(heads), len(report.Files))
	l := need[*Log](t)(Open(path, testNet, Options{}))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReadWhileWriting verifies and follows a log without a pause while it is
// written and rotated: no moment looks like damage, and nothing is missed.
func TestReadWhileWriting(t *testing.T) {
	path := t.TempDir() + "/audit.log"
	if err := Create(path, testNet, Options{}); err != nil {
		t.Fatal(err)
	}
	l := need[*Log](t)(Open(path, testNet, killOptions()))
	done := make(chan struct{})
	var wg sync.WaitGroup
	reads := 0
	wg.Go(func() {
		r := NewReader(path, Options{})
		seen := uint64(0)
		follow := func() {
			for record, err := range r.Records(t.Context()) {
				if err != nil || record.Seq != seen {
					t.Errorf("following: record %d is %d, %v", seen, record.Seq, err)
					return
				}
				seen++
			}
		}
		for !t.Failed() {
			select {
			case <-done:
				if follow(); seen != l.Head().Seq+1 {
					t.Errorf("following: %d records seen, the last is %d", seen, l.Head().Seq)
				}
				return
			default:
			}
			head := l.Head()
			if _, err := Verify(t.Context(), path, VerifyOptions{Anchors: []Head{head}}); err != nil {
				t.Errorf("verifying: %v", err)
			}
			if _, _, err := Last(t.Context(), path, 3, Options{}); err != nil {
				t.Errorf("the last ones: %v", err)
			}
			if hash, err := l.HashAt(head.Seq / 2); err != nil || hash.IsZero() {
				t.Errorf("HashAt: %v", err)
			}
			follow()
			reads++
		}
	})
	for i := range 400 {
		if _, err := l.Append(testEntry(i)); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	if reads < 3 {
		t.Fatalf("only %d reads while it was written", reads)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
