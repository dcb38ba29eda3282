package worker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// exclusive runs f when it is its turn. If ctx ends first the caller is
// released, but f runs to its end before the next one starts: the state of
// the worker is known only when the call under way has been answered.
func exclusive[T any](ctx context.Context, s *Supervisor, f func() (T, error)) (T, error) {
	var zero T
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return zero, ctx.Err()
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-s.turn }()
		if s.closed {
			done <- result{err: newError(ErrClosed, "the PKCS#11 supervisor is closed")}
			return
		}
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// attempt runs f on a worker and climbs the rungs of recovery: at most once
// the same worker again (which has dropped its session and handles by then),
// and at most once a new worker. It returns f's last error.
func (s *Supervisor) attempt(ctx context.Context, f func(*process) error) error {
	var again, restarted bool
	for {
		p, err := s.worker(ctx)
		if err == nil {
			err = f(p)
		}
		if err == nil {
			s.setDown(nil)
			return nil
		}
		var final *finalError
		isFinal := errors.As(err, &final)
		var vanished *vanishedError
		class := Classify(err)
		if errors.As(err, &vanished) {
			class = ClassRestart
		}
		if class == ClassStop {
			return err
		}
		if class != ClassRestart && !again && !isFinal {
			again = true
			s.cfg.Log.Warn("pkcs11 call failed, trying again", "class", class.String(), "err", err)
			continue
		}
		s.discard(err)
		if isFinal || restarted || errors.Is(err, ErrDown) || ctx.Err() != nil {
			return err
		}
		restarted = true
	}
}

// worker returns the running worker or starts one, if the budget allows.
func (s *Supervisor) worker(ctx context.Context) (*process, error) {
	if s.proc != nil {
		if s.proc.usable() {
			return s.proc, nil
		}
		s.discard(newError(ErrLost, "the PKCS#11 worker ended, or spoke unasked, while idle"))
	}
	if err := s.allowed(time.Now()); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := s.start()
	if err != nil && Classify(err) == ClassRestart {
		s.spend(err)
	}
	return p, err
}

func (s *Supervisor) start() (*process, error) {
	conf := ""
	if s.cfg.PrivateTokenCopy != nil {
		var err error
		if conf, err = s.cfg.PrivateTokenCopy.make(); err != nil {
			return nil, fmt.Errorf("prepare the private token copy: %w", err)
		}
	}
	p, err := startProcess(s.cfg.Binary, s.cfg.environ(conf), s.cfg.Log)
	if err != nil {
		return nil, err
	}
	resp, err := p.call(&Request{Op: OpOpen, Protocol: Protocol, Module: s.cfg.Module}, s.cfg.Timeouts.Start)
	if err == nil && resp.Module == nil {
		err = newError(ErrProtocol, "PKCS#11 worker opened the module without saying what it is")
	}
	if err != nil {
		s.cfg.Log.Warn("pkcs11 worker failed to open its module", "exit", p.kill(), "err", err)
		return nil, err
	}
	p.module = *resp.Module
	s.proc = p
	s.setStatus(func(st *Status) {
		st.Generation++
		st.PID = p.cmd.Process.Pid
		st.Module = p.module
	})
	s.cfg.Log.Info("pkcs11 worker started", "pid", p.cmd.Process.Pid, "module", p.module.Description, "version", p.module.Version)
	return p, nil
}

// discard kills the worker after a failure and books the failure. A worker
// that could not be started has been booked by worker.
func (s *Supervisor) discard(cause error) {
	if s.proc == nil {
		return
	}
	exit := s.proc.kill()
	s.forget()
	s.setStatus(func(st *Status) { st.Restarts++ })
	s.cfg.Log.Warn("pkcs11 worker discarded", "exit", exit, "cause", cause)
	s.spend(cause)
}

// retire ends a worker that is not to be used again without booking a failure.
func (s *Supervisor) retire() {
	if s.proc != nil {
		s.proc.kill()
		s.forget()
	}
}

func (s *Supervisor) forget() {
	s.proc = nil
	s.setStatus(func(st *Status) { st.PID = 0 })
}

func (s *Supervisor) spend(cause error) {
	now := time.Now()
	s.prune(now)
	s.failed = append(s.failed, now)
	if len(s.failed) > s.cfg.Budget.Restarts {
		s.setDown(cause)
	}
}

func (s *Supervisor) prune(now time.Time) {
	for len(s.failed) > 0 && now.Sub(s.failed[0]) >= s.cfg.Budget.Window {
		s.failed = s.failed[1:]
	}
}

// allowed refuses a start while the budget is used up. As old failures leave
// the window single starts become possible again; Down stays set until one of
// them leads to a success.
func (s *Supervisor) allowed(now time.Time) error {
	s.prune(now)
	if len(s.failed) <= s.cfg.Budget.Restarts {
		return nil
	}
	wait := s.cfg.Budget.Window - now.Sub(s.failed[0])
	return newError(ErrDown, "the HSM is down: %d worker failures within %s, next try in %s or after a reset; last failure: %v",
		len(s.failed), s.cfg.Budget.Window, wait.Round(time.Second), s.down)
}

func (s *Supervisor) setDown(cause error) {
	if cause != nil && s.down == nil {
		s.cfg.Log.Error("HSM down: the PKCS#11 worker keeps failing", "cause", cause)
	}
	if cause == nil && s.down != nil {
		s.cfg.Log.Info("HSM is up again")
	}
	s.down = cause
	s.setStatus(func(st *Status) { st.Down = cause != nil })
}
