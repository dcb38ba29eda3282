package worker

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
)

// Login logs in to the token as its user. One call is at most one try at the
// token; the try is made again, in a new worker, only if the module failed
// before it saw the PIN, or if this same PIN has worked before. After
// ErrPINIncorrect the token is not touched again until the next Login. The
// PIN that worked is kept in memory to log in after a restart; the caller
// should clear its own copy. A final try is never spent (ErrPINFinalTry).
func (s *Supervisor) Login(ctx context.Context, token TokenRef, pin []byte) error {
	pin = slices.Clone(pin)
	_, err := exclusiveWith(ctx, s, func() { clear(pin) }, func() (struct{}, error) {
		if len(pin) == 0 {
			return struct{}{}, newError(ErrPINInvalid, "the PIN for token %s is empty: check where it is read from", token)
		}
		if old, ok := s.pins[token]; ok && subtle.ConstantTimeCompare(old.Bytes(), pin) != 1 {
			return struct{}{}, newError(ErrAlreadyLoggedIn, "token %s is logged in with another PIN: the new one was not tried", token)
		}
		return struct{}{}, s.do(ctx, func(p *process) error { return s.login(p, token, pin) })
	})
	return err
}

// LoginAtDevice logs in to a token whose user enters the PIN at the token itself
// (PKCS#11's protected authentication path), and waits Timeouts.Pad for that;
// meanwhile nothing else is done. It is one try, as the token counts what is
// entered. After a restart of the worker a person has to enter it again: until
// LoginAtDevice is called once more, calls fail with ErrNotLoggedIn.
func (s *Supervisor) LoginAtDevice(ctx context.Context, token TokenRef) error {
	_, err := exclusive(ctx, s, func() (struct{}, error) {
		return struct{}{}, s.do(ctx, func(p *process) error {
			if p.loggedIn[token] {
				return nil
			}
			_, err := p.call(&Request{Op: OpLogin, Token: token, AtDevice: true}, s.cfg.Timeouts.Pad)
			switch {
			case err == nil:
				p.loggedIn[token], s.pads[token] = true, true
				delete(s.denied, token)
			case maybeTried(err) && s.class(err) != ClassStop:
				return &finalError{err}
			}
			return err
		})
	})
	return err
}

// login logs p in to token unless it already is.
func (s *Supervisor) login(p *process, token TokenRef, pin []byte) error {
	if p.loggedIn[token] {
		return nil
	}
	_, err := p.call(&Request{Op: OpLogin, Token: token, PIN: pin}, s.cfg.Timeouts.Login)
	_, proven := s.pins[token]
	switch {
	case err == nil:
		p.loggedIn[token] = true
		if !proven {
			s.pins[token] = KeepSecret(pin, s.cfg.Log)
		}
		delete(s.denied, token)
		return nil
	case isPINRefusal(err):
		s.pins[token].Wipe()
		delete(s.pins, token)
		s.denied[token] = err
		return err
	case !proven && maybeTried(err) && s.class(err) != ClassStop:
		// The PIN is unproven and the token may have counted the try.
		return &finalError{err}
	}
	return err
}

func isPINRefusal(err error) bool {
	return errors.Is(err, ErrPINIncorrect) || errors.Is(err, ErrPINLocked) ||
		errors.Is(err, ErrPINExpired) || errors.Is(err, ErrPINInvalid)
}

// maybeTried reports whether a failed login may have reached the token.
func maybeTried(err error) bool {
	var e *Error
	return !errors.As(err, &e) || e.RV == RVOK || e.Function == "C_Login"
}

// finalError keeps the class of an error for the worker's sake (it is replaced)
// but forbids another attempt.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// ensureLogin logs in with the remembered PIN if p has not.
func (s *Supervisor) ensureLogin(p *process, token TokenRef) error {
	if p.loggedIn[token] {
		return nil
	}
	if err := s.denied[token]; err != nil {
		return fmt.Errorf("token %s stays untouched until someone logs in with the right PIN: %w", token, err)
	}
	if pin, ok := s.pins[token]; ok {
		return s.login(p, token, pin.Bytes())
	}
	if s.pads[token] {
		return newError(ErrNotLoggedIn, "token %s is not logged in any more: its PIN must be entered at the token again", token)
	}
	return newError(ErrNotLoggedIn, "token %s is not logged in: log in first", token)
}
