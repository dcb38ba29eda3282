package worker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// detached runs f to its end, but releases the caller when ctx ends: the state
// of the worker is known only when the call under way has been answered.
func detached[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// exclusive runs f when nothing else runs, detached.
func exclusive[T any](ctx context.Context, s *Supervisor, f func() (T, error)) (T, error) {
	return detached(ctx, func() (T, error) { return alone(ctx, s, f) })
}

// exclusiveWith is exclusive for an f with secrets: wipe is called when f has
// ended, or will not be run.
func exclusiveWith[T any](ctx context.Context, s *Supervisor, wipe func(), f func() (T, error)) (T, error) {
	return detached(ctx, func() (T, error) {
		defer wipe()
		return alone(ctx, s, f)
	})
}

// alone waits until nothing else runs, or until ctx ends, and runs f.
func alone[T any](ctx context.Context, s *Supervisor, f func() (T, error)) (T, error) {
	var zero T
	if err := s.turn.Acquire(ctx, MaxParallel); err != nil {
		return zero, err
	}
	defer s.turn.Release(MaxParallel)
	if s.closed {
		return zero, newError(ErrClosed, "the PKCS#11 supervisor is closed")
	}
	return f()
}

// attempt runs f on a worker and climbs the rungs of recovery c has left. It
// returns f's last error. It runs alone.
func (s *Supervisor) attempt(ctx context.Context, c *climb, f func(*process) error) error {
	for {
		p, err := s.worker(ctx)
		if err == nil {
			err = f(p)
		}
		if err == nil {
			return nil
		}
		rung, again := c.next(s.class(err))
		if rung == ClassStop {
			return err
		}
		var final *finalError
		if rung == ClassRestart || errors.As(err, &final) {
			s.discard(s.proc, err, !again)
		}
		if !again || errors.As(err, &final) || errors.Is(err, ErrDown) || ctx.Err() != nil {
			return err
		}
		if s.startFails > 1 {
			continue // that the module does not start has been said
		}
		s.cfg.Log.Warn("pkcs11 call failed, trying again", "class", rung.String(), "err", err)
	}
}

// worker returns the running worker or starts one, if the budget allows.
func (s *Supervisor) worker(ctx context.Context) (*process, error) {
	if s.proc != nil {
		if s.proc.usable() {
			return s.proc, nil
		}
		s.discard(s.proc, newError(ErrLost, "the PKCS#11 worker ended, or spoke unasked, while idle"), true)
	}
	if err := s.allowed(time.Now()); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	began := time.Now()
	// What fails again and again is not logged again and again.
	p, err := s.open(s.cfg.PrivateTokenCopy, s.cfg.Timeouts.Start, s.startFails > 0)
	if err != nil {
		if s.class(err) == ClassRestart {
			s.startFailed(err, time.Since(began))
		}
		return nil, err
	}
	p.quiet.Store(false)
	s.proc, s.startFails = p, 0
	s.setStatus(func(st *Status) {
		st.Generation++
		st.PID = p.cmd.Process.Pid
		st.Module = p.module
	})
	s.cfg.Log.Info("pkcs11 worker started", "pid", p.cmd.Process.Pid, "module", p.module.Description, "version", p.module.Version)
	return p, nil
}

// open starts a worker process and has it load the module. A quiet one has
// nothing logged but what the error says.
func (s *Supervisor) open(tokens *PrivateTokenCopy, timeout time.Duration, quiet bool) (*process, error) {
	conf, box := "", s.cfg.Sandbox
	if tokens != nil {
		var err error
		if conf, err = tokens.make(); err != nil {
			return nil, fmt.Errorf("prepare the private token copy: %w", err)
		}
		box = box.with(tokens.Dir)
	}
	p, err := startProcess(s.cfg.Binary, s.cfg.environ(conf), box, quiet, s.cfg.Log)
	if err != nil {
		return nil, err
	}
	resp, err := p.call(&Request{Op: OpOpen, Protocol: Protocol, Module: s.cfg.Module, InitArgs: s.cfg.InitArgs, Sessions: s.cfg.Sessions}, timeout)
	if err == nil && resp.Module == nil {
		err = newError(ErrProtocol, "PKCS#11 worker opened the module without saying what it is")
	}
	if err != nil {
		exit := p.kill()
		if !quiet {
			s.cfg.Log.Warn("pkcs11 worker failed to open its module", "exit", exit, "err", err)
		}
		return nil, err
	}
	p.module = *resp.Module
	return p, nil
}

// discard kills the worker p after a failure and books the failure, once: of
// many calls that failed with it, the first to come here does. That a token or
// key vanished is no failure of the worker's until a new one does not find it
// either (last): somebody who pulls a token and puts it back uses up no budget.
func (s *Supervisor) discard(p *process, cause error, last bool) {
	if p == nil || s.proc != p {
		return
	}
	exit := p.kill()
	s.forget()
	if p.retired.Load() {
		return
	}
	s.setStatus(func(st *Status) { st.Restarts++ })
	s.cfg.Log.Warn("pkcs11 worker discarded", "exit", exit, "cause", cause)
	if s.cfg.Discarded != nil {
		s.cfg.Discarded(cause)
	}
	var vanished *vanishedError
	if last || !errors.As(cause, &vanished) {
		s.spend(cause)
	}
}

// retire ends a worker with which nothing is wrong.
func (s *Supervisor) retire() {
	if s.proc != nil {
		s.proc.stop(closeGrace)
		s.forget()
	}
}

func (s *Supervisor) forget() {
	s.proc = nil
	s.setStatus(func(st *Status) { st.PID = 0 })
}
