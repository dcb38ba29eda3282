package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"
)

// child keeps a process of this program running: the signer of a demo.
type child struct {
	name string
	args []string
	log  *slog.Logger
	out  io.Writer // gets the child's log lines
	last lastError
}

// lastError passes on what a child writes and remembers the error it ended
// with: that is this program's error then, said once.
type lastError struct {
	out  io.Writer
	text string
}

// errorHead is how this program begins the error it ends with.
const errorHead = "qcity: "

// Write passes everything on but the error.
func (l *lastError) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if text, ok := strings.CutPrefix(line, errorHead); ok {
			l.text = strings.TrimSpace(text)
		} else if _, err := io.WriteString(l.out, line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// How long a child that died is left alone before it is started again: it
// doubles with every quick death.
const (
	restartFirst = 100 * time.Millisecond
	restartMost  = 5 * time.Second
	stopGrace    = 5 * time.Second
)

// run starts the process, and again whenever it dies, until ctx ends. It
// returns an error only when the child says that a person is needed.
func (c *child) run(ctx context.Context) error {
	delay := restartFirst
	for {
		started := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == exitConfig {
			return needsPerson{fmt.Errorf("%s: %s", c.name, c.last.text)}
		}
		if time.Since(started) > restartMost {
			delay = restartFirst
		}
		c.log.Warn(c.name+" ended, starting it again", "err", err, "said", c.last.text, "in", delay)
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		delay = min(2*delay, restartMost)
	}
}

// once runs the process until it ends. The process holds the read end of a
// pipe as its standard input: when this process dies, however it dies, the
// pipe closes and the child ends too.
func (c *child) once(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	lifeline, keep, err := os.Pipe()
	if err != nil {
		return err
	}
	defer keep.Close()
	cmd := exec.CommandContext(ctx, self, c.args...)
	c.last = lastError{out: c.out}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = lifeline, &c.last, &c.last
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopGrace
	detach(cmd)
	err = cmd.Start()
	_ = lifeline.Close()
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	return cmd.Wait()
}

// untilOrphaned returns a context that ends when standard input does: when the
// process that started this one is gone.
func untilOrphaned(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}
