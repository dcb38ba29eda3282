package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"

	"qcitycoin.org/qcity/hw"
)

// Foreign is somebody else's miner, which writes its rate.
type Foreign struct {
	Args []string // the program and its arguments, as Split returns them
	CPUs []int    // it may run on; empty: any
	// Time is given to it, and Grace more to end by itself. Then it gets SIGINT,
	// after Patience SIGTERM, and after that again SIGKILL.
	Time, Grace, Patience time.Duration
	Pattern               *regexp.Regexp // where the rate is; nil: the usual forms

	// timer is time.NewTimer but in tests.
	timer func(time.Duration) *time.Timer
}

// errStopped says that the process did not end by itself.
var errStopped = errors.New("stopped")

// Check returns the error that Run would return if the program is not there.
func (f *Foreign) Check() error {
	if _, err := exec.LookPath(f.Args[0]); err != nil {
		return startError(f.Args[0], err)
	}
	return nil
}

// Run lets the miner hash for once and returns its rate in hashes per second and
// the number of readings that rests on. Whatever the miner started is ended with
// it. The errors say what to do; when ctx ends, all is killed at once and the
// error is the context's.
func (f *Foreign) Run(ctx context.Context) (rate float64, readings int, err error) {
	name := filepath.Base(f.Args[0])
	out := output{pattern: f.Pattern}
	err = f.run(ctx, &out)
	switch exit := (*exec.ExitError)(nil); {
	case ctx.Err() != nil:
		return 0, 0, fmt.Errorf("benchmark ended early: %w", ctx.Err())
	case errors.As(err, &exit):
		return 0, 0, fmt.Errorf("%s failed with %s: run it by itself to see why; %s", name, exit, out.said())
	case err != nil && !errors.Is(err, errStopped):
		return 0, 0, err
	}
	if rate, readings = rateOf(out.readings); readings == 0 {
		return 0, 0, fmt.Errorf("no hash rate found in what %s wrote: add its benchmark option, raise --seconds, or show where the rate is with --against-pattern; %s", name, out.said())
	}
	return rate, readings, nil
}

// run starts the process and returns once it and its output have ended: nil,
// errStopped, an exec.ExitError, or why it could not be started.
func (f *Foreign) run(ctx context.Context, out *output) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", f.Args[0], err)
	}
	defer r.Close()
	cmd := exec.Command(f.Args[0], f.Args[1:]...)
	cmd.Stdout, cmd.Stderr = w, w
	ownGroup(cmd)
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// A process inherits the CPUs of the thread that starts it. The thread ends
		// with this goroutine.
		runtime.LockOSThread()
		if len(f.CPUs) > 0 {
			if err := hw.PinThread(f.CPUs...); err != nil {
				started <- err
				return
			}
		}
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	err = <-started
	_ = w.Close()
	if err != nil {
		return startError(f.Args[0], err)
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(out, r)
	}()
	send := func(s syscall.Signal) { _ = syscall.Kill(-cmd.Process.Pid, s) }
	err = f.wait(ctx, ended, send)
	send(syscall.SIGKILL) // what it started and left behind
	// A process that left the group as well may keep the pipe open.
	impatient := time.AfterFunc(f.Patience, func() { _ = r.Close() })
	defer impatient.Stop()
	<-copied
	out.end()
	return err
}

// wait waits for the end, and brings it about when its time has come.
func (f *Foreign) wait(ctx context.Context, ended <-chan error, send func(syscall.Signal)) error {
	newTimer := f.timer
	if newTimer == nil {
		newTimer = time.NewTimer
	}
	stopped := false
	for _, step := range []struct {
		after  time.Duration
		signal syscall.Signal
	}{{f.Time + f.Grace, syscall.SIGINT}, {f.Patience, syscall.SIGTERM}, {f.Patience, syscall.SIGKILL}} {
		timer := newTimer(step.after)
		select {
		case err := <-ended:
			timer.Stop()
			if stopped {
				return errStopped
			}
			return err
		case <-ctx.Done():
			timer.Stop()
			send(syscall.SIGKILL)
			<-ended
			return ctx.Err()
		case <-timer.C:
			send(step.signal)
			stopped = true
		}
	}
	<-ended
	return errStopped
}

func startError(program string, err error) error {
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("there is no program %s: install it, or give its path", program)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no file %s: give the path of the program", program)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s may not be executed: chmod +x it, or name the program itself", program)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%s is not a program for this machine: give one that is, or a script with #! in its first line", program)
	}
	return fmt.Errorf("start %s: %w", program, err)
}
