// Package probe runs the self tests of hashing kernels in a process of their
// own. An instruction that the CPU does not know, or a wild pointer in assembly,
// ends a Go process whatever it does; here it ends a child, and the kernel that
// was being tested is not used. Which features a CPU claims is then a hint only.
package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"time"

	"qcitycoin.org/qcity/miner/sha256d"
)

const (
	// silence is how long a child may say nothing: a self test takes milliseconds,
	// under emulation a second or so.
	silence = 30 * time.Second
	// headBytes of what a child complains about are kept. A dying Go program names
	// the signal first, but others, such as an emulator, may have said more before.
	headBytes = 64 << 10
	// drain is how long others that a child may have left its pipes to are waited for.
	drain = time.Second
)

// Children tests kernels in child processes, one after another, as long as each
// of them brings the testing forward.
type Children struct {
	// Command returns a process, not started yet, that calls Serve with these names
	// and ends when its standard input does.
	Command func(names []string) (*exec.Cmd, error)
	Log     *slog.Logger

	timer func(time.Duration) *time.Timer // nil: time.NewTimer
}

// Probe is a sha256d.Prober. Where no child can be used it tests in this process,
// and says so in one line of the log.
func (c *Children) Probe(ctx context.Context, kernels []sha256d.Kernel) []error {
	errs := make([]error, 0, len(kernels))
	for len(errs) < len(kernels) {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			continue
		}
		left := kernels[len(errs):]
		verdicts, err := c.child(ctx, left)
		errs = append(errs, verdicts...)
		if err != nil && ctx.Err() == nil {
			c.Log.Warn("hashing kernels are tested in this process, as a process of their own cannot be used: an instruction that the CPU does not know would end this one", "err", err)
			errs = append(errs, sha256d.InProcess(ctx, left)...)
		}
	}
	return errs
}

// child runs one process and returns its verdicts on the first kernels, at least
// one; an error when it was of no use.
func (c *Children) child(ctx context.Context, kernels []sha256d.Kernel) ([]error, error) {
	talk := dialogue{names: make([]string, len(kernels))}
	for i := range kernels {
		talk.names[i] = kernels[i].Name
	}
	cmd, err := c.Command(talk.names)
	if err != nil {
		return nil, err
	}
	// Whatever the user has chosen: no core is to be dumped.
	cmd.Env = append(cmd.Environ(), "GOTRACEBACK=none")
	cmd.WaitDelay = drain
	complaint := &head{}
	cmd.Stderr = complaint
	// Held open, and closed by Wait or the end of this process.
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	reading, enough := context.WithCancel(ctx)
	fault := c.follow(ctx, &talk, lines(reading, out))
	enough()
	// A process that is ending by itself keeps its own exit status.
	_ = cmd.Process.Kill()
	end := cmd.Wait()
	if talk.testing && ctx.Err() == nil {
		k := &kernels[len(talk.verdicts)]
		talk.verdicts = append(talk.verdicts, fmt.Errorf("kernel %s failed its self test: %s", k.Name, cause(k.Needs, fault, end, complaint.text)))
	}
	if len(talk.verdicts) == 0 {
		return nil, fmt.Errorf("it tested nothing: %w", cmp.Or(fault, end, errors.New("it ended at once")))
	}
	return talk.verdicts, nil
}

// follow listens until all is said, the child says nothing more (nil), or it is
// at fault.
func (c *Children) follow(ctx context.Context, talk *dialogue, lines <-chan string) error {
	newTimer := c.timer
	if newTimer == nil {
		newTimer = time.NewTimer
	}
	for !talk.over() {
		timer := newTimer(silence)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("nothing was heard of it for %v", silence)
		case line, more := <-lines:
			timer.Stop()
			if !more {
				return nil
			}
			if !talk.hear(line) {
				return fmt.Errorf("its process said %.80q", line)
			}
		}
	}
	return nil
}

// lines sends what is read line by line until ctx ends.
func lines(ctx context.Context, r io.Reader) <-chan string {
	c := make(chan string)
	go func() {
		defer close(c)
		// A line without end is the end, as far as anybody cares.
		for s := bufio.NewScanner(r); s.Scan(); {
			select {
			case c <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

// head keeps the beginning of what is written.
type head struct{ text []byte }

func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), headBytes-len(h.text))]...)
	return len(p), nil
}

// firstLine returns the first line that is not empty.
func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	return string(line)
}
