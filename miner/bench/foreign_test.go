package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/hw"
)

// long is a time that no test waits for.
const long = time.Hour

// script is a foreign miner made of shell. A test that listens hears from it
// through descriptor 3, and its end once nothing that it started is left.
func script(t *testing.T, text string) *Foreign {
	t.Helper()
	file := filepath.Join(t.TempDir(), "miner")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return &Foreign{Args: []string{file}, Time: long, Grace: 0, Patience: long}
}

// line makes a named pipe for the script's words: say is to be put before them.
// hear calls first at the first word, and returns when all who hold the other end
// are gone.
func line(t *testing.T) (say string, hear func(first func()) error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return "exec 3>" + name + "\n", func(first func()) error {
		pipe, err := os.Open(name)
		if err != nil {
			return err
		}
		defer pipe.Close()
		if _, err = pipe.Read(make([]byte, 1)); err != nil {
			return err
		}
		first()
		_, err = io.Copy(io.Discard, pipe)
		return err
	}
}

func TestForeignEndsByItself(t *testing.T) {
	f := script(t, `echo "Total: 99 MH/s"; echo "Total: 2 MH/s" >&2; echo "Total: 4 MH/s"`)
	if err := f.Check(); err != nil {
		t.Error(err)
	}
	if rate, n, err := f.Run(t.Context()); err != nil || rate != 3e6 || n != 2 {
		t.Errorf("%v from %d, %v", rate, n, err)
	}
}

// TestForeignErrors: one line that names the program and what to do.
func TestForeignErrors(t *testing.T) {
	notExecutable := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(notExecutable, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	notProgram := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(notProgram, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		miner *Foreign
		want  []string
	}{
		{"exit code", script(t, "echo 'Total: 5 MH/s'; echo 'bad algorithm' >&2; exit 3"), []string{"failed with exit status 3", "bad algorithm"}},
		{"signal", script(t, "kill -SEGV $$"), []string{"failed with signal", "printed nothing"}},
		{"no rate", script(t, "echo hello; echo; echo world"), []string{"no hash rate found", "--against-pattern", "hello ⏎ world"}},
		{"silence", script(t, "exit 0"), []string{"no hash rate found", "printed nothing"}},
		{"a folder", &Foreign{Args: []string{"/"}}, []string{"start /:"}},
		{"no such program", &Foreign{Args: []string{"minerd-of-nobody"}}, []string{"no program minerd-of-nobody", "give its path"}},
		{"no such file", &Foreign{Args: []string{"/no/such/miner"}}, []string{"no file /no/such/miner"}},
		{"not executable", &Foreign{Args: []string{notExecutable}}, []string{notExecutable, "chmod +x"}},
		{"not a program", &Foreign{Args: []string{notProgram}}, []string{notProgram, "not a program for this machine"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, n, err := c.miner.Run(t.Context())
			if early := c.miner.Check(); early != nil && early.Error() != err.Error() {
				t.Errorf("%v before it is run, then %v", early, err)
			}
			if err == nil || n != 0 || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%d readings, %v", n, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}

// TestForeignKilled: a miner that ignores what it can ignore is killed, and so is
// what it started; what it wrote counts.
func TestForeignKilled(t *testing.T) {
	say, hear := line(t)
	f := script(t, say+`trap '' INT TERM
echo "Total: 7 MH/s"
sleep 1000 &
echo ready >&3
wait
sleep 1000`)
	// Its time is over once it has said that it is ready.
	ready := make(chan struct{})
	f.timer = func(time.Duration) *time.Timer {
		<-ready
		return time.NewTimer(0)
	}
	gone := make(chan error, 1)
	go func() { gone <- hear(func() { close(ready) }) }()
	if rate, n, err := f.Run(t.Context()); err != nil || rate != 7e6 || n != 1 {
		t.Errorf("%v from %d, %v", rate, n, err)
	}
	if err := <-gone; err != nil {
		t.Error(err)
	}
}

// TestForeignInterrupted: Ctrl-C kills the miner at once.
func TestForeignInterrupted(t *testing.T) {
	say, hear := line(t)
	f := script(t, say+"sleep 1000 & echo ready >&3; wait")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := make(chan error, 1)
	go func() { gone <- hear(cancel) }()
	if _, _, err := f.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-gone; err != nil {
		t.Error(err)
	}
}

// TestForeignLeavesGroup: a process that left the group keeps the output open, and
// is not waited for.
func TestForeignLeavesGroup(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip(err)
	}
	f := script(t, "echo 'Total: 7 MH/s'; setsid sleep 20 &")
	f.Patience = time.Millisecond
	if rate, _, err := f.Run(t.Context()); err != nil || rate != 7e6 {
		t.Errorf("%v, %v", rate, err)
	}
}

// TestForeignSignals: the polite signals come first, and none after the end.
func TestForeignSignals(t *testing.T) {
	for _, c := range []struct {
		obeys syscall.Signal // 0: ends by itself
		want  []syscall.Signal
	}{
		{0, nil},
		{syscall.SIGINT, []syscall.Signal{syscall.SIGINT}},
		{syscall.SIGTERM, []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}},
		{syscall.SIGKILL, []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL}},
	} {
		ended := make(chan error, 1)
		var got []syscall.Signal
		f := Foreign{timer: func(time.Duration) *time.Timer {
			if len(ended) > 0 {
				return time.NewTimer(long)
			}
			return time.NewTimer(0)
		}}
		if c.obeys == 0 {
			ended <- nil
		}
		err := f.wait(t.Context(), ended, func(s syscall.Signal) {
			if got = append(got, s); s == c.obeys {
				ended <- errors.New("signal")
			}
		})
		if !slices.Equal(got, c.want) || (c.obeys == 0) != (err == nil) || c.obeys != 0 && !errors.Is(err, errStopped) {
			t.Errorf("obeys %v: got %v, %v; want %v", c.obeys, got, err, c.want)
		}
	}
}

// TestForeignPinned: it runs on the CPUs that ours ran on.
func TestForeignPinned(t *testing.T) {
	cpus := usableCPUs(t)
	f := script(t, "grep Cpus_allowed_list /proc/self/status")
	f.CPUs = cpus[len(cpus)-1:]
	var out output
	if err := f.run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.last) != 1 || !strings.HasSuffix(out.last[0], " "+strconv.Itoa(f.CPUs[0])) {
		t.Errorf("%q, want CPU %d", out.last, f.CPUs[0])
	}
}

// usableCPUs skips the test where threads cannot be pinned.
func usableCPUs(t *testing.T) []int {
	t.Helper()
	machine := hw.Detect(os.DirFS("/"))
	cpus, ok := machine.Usable.CPUs.Get()
	if !ok || !hw.CanPin {
		t.Skip("no affinity on " + runtime.GOOS)
	}
	return cpus
}
