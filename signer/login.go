package signer

import (
	"context"
	"errors"
	"fmt"

	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/worker"
)

// knownTries is how often a PIN that the token accepted before is shown to it
// in one round when nothing is heard of the outcome.
const knownTries = 3

// login logs in to the token. A PIN that it never accepted is shown to it once,
// and that is on disk before: only a person, by changing the PIN, touching its
// file or typing it, has it shown again. A PIN that it accepted before is free.
func (t *tokens) login(ctx context.Context, token worker.TokenRef, source PINSource) error {
	if source.kind == fromDevice {
		return t.loginAtDevice(ctx, token)
	}
	f, err := t.held.read(ctx, token, source)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &TerminalError{err}
	}
	defer clear(f.pin)
	known := t.held.accepted(token, f)
	if !known {
		if known, err = t.ledger.check(token, f); err != nil {
			return err
		}
	}
	if known {
		err = t.showKnown(ctx, token, f)
	} else {
		err = t.showUnknown(ctx, token, f)
	}
	if refusesPIN(err) {
		t.held.drop(token)
		t.note(audit.Entry{Time: t.clock(), Event: audit.EventLoginRefused, Detail: fmt.Sprintf("token %s refused the PIN from %s", token, source)})
		err = fmt.Errorf("correct the PIN in %s; it was tried once and will not be tried again: %w", source, err)
		return &TerminalError{errors.Join(err, t.ledger.refused(token, f, t.clock()))}
	}
	if err != nil {
		return err
	}
	if err := t.ledger.accepted(token, f, t.clock()); err != nil {
		return fmt.Errorf("recording that token %s accepted its PIN: %w", token, err)
	}
	t.held.accept(token, f)
	t.loggedIn(token, source)
	return nil
}

// loggedIn notes a login, once until a key of the token is lost: a token that shows
// no keys is looked at, and logged in to, again and again.
func (t *tokens) loggedIn(token worker.TokenRef, source PINSource) {
	t.mu.Lock()
	known := t.logins[token]
	t.logins[token] = true
	t.mu.Unlock()
	if !known {
		t.note(audit.Entry{Time: t.clock(), Event: audit.EventLogin, Detail: fmt.Sprintf("token %s accepted the PIN from %s", token, source)})
	}
}

// loginAtDevice has a person enter the PIN at the token. No PIN is known here, so
// none can be tried twice: each try is what somebody enters.
func (t *tokens) loginAtDevice(ctx context.Context, token worker.TokenRef) error {
	t.log.Info("waiting for the PIN to be entered at the token itself", "token", token.String())
	err := t.hsm.LoginAtDevice(context.WithoutCancel(ctx), token)
	switch {
	case err == nil:
		t.loggedIn(token, PINSource{kind: fromDevice})
		return nil
	case refusesPIN(err):
		t.note(audit.Entry{Time: t.clock(), Event: audit.EventLoginRefused, Detail: fmt.Sprintf("token %s refused the PIN entered at the device", token)})
		return &TerminalError{fmt.Errorf("the PIN entered at the token was refused; start the signer again to enter another: %w", err)}
	case mayHaveSeen(err):
		return &TerminalError{fmt.Errorf("no PIN was entered at token %s, or it is not known whether it was accepted: start the signer again when somebody is there to enter it: %w", token, err)}
	}
	return loginFault(err)
}

func (t *tokens) showUnknown(ctx context.Context, token worker.TokenRef, f pinValue) error {
	if err := t.ledger.begin(token, f, t.clock()); err != nil {
		return err
	}
	err := t.show(ctx, token, f)
	switch {
	case err == nil, refusesPIN(err):
		return err
	case mayHaveSeen(err):
		return &TerminalError{fmt.Errorf("%w: %w", cutOff(token, f), err)}
	}
	// The token was not asked, so nothing is held against the PIN.
	if undo := t.ledger.unseen(token); undo != nil {
		err = errors.Join(err, undo)
	}
	return loginFault(err)
}

func (t *tokens) showKnown(ctx context.Context, token worker.TokenRef, f pinValue) (err error) {
	for range knownTries {
		err = t.show(ctx, token, f)
		if err == nil || refusesPIN(err) {
			return err
		}
		if !mayHaveSeen(err) || worker.Classify(err) == worker.ClassStop {
			return loginFault(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.log.Warn("login was cut off; the token accepted this PIN before, so it is tried again", "token", token.String(), "err", err)
	}
	return fmt.Errorf("logging in to token %s was cut off %d times and is tried again later: %w", token, knownTries, err)
}

// show waits for the outcome even when ctx ends: giving up would leave it
// unknown, and the worker brings the login to its end in any case.
func (t *tokens) show(ctx context.Context, token worker.TokenRef, f pinValue) error {
	return t.hsm.Login(context.WithoutCancel(ctx), token, f.pin)
}

func refusesPIN(err error) bool {
	return errors.Is(err, worker.ErrPINIncorrect) || errors.Is(err, worker.ErrPINInvalid)
}

// mayHaveSeen reports whether the token may have been shown the PIN in a login
// that failed, and may have judged it, though nothing is known of that.
func mayHaveSeen(err error) bool {
	var e *worker.Error
	if !errors.As(err, &e) {
		return true
	}
	switch e.Kind {
	case worker.ErrTokenNotFound, worker.ErrTokenAmbiguous, worker.ErrTokenNotReady,
		worker.ErrPINLocked, worker.ErrPINExpired, worker.ErrPINFinalTry,
		worker.ErrAlreadyLoggedIn, worker.ErrBadRequest, worker.ErrNoPINPad,
		worker.ErrModule, worker.ErrStart, worker.ErrDown, worker.ErrClosed:
		return false
	case worker.ErrReturned: // by a call before C_Login, or by C_Login itself
		return e.Function == "" || e.Function == "C_Login"
	}
	return true
}

// loginFault is keyFault for a login whose PIN was not refused.
func loginFault(err error) error {
	var e *worker.Error
	switch {
	case !errors.As(err, &e):
		return err
	case e.Kind == worker.ErrAlreadyLoggedIn, e.Kind == worker.ErrReturned && worker.Classify(err) == worker.ClassStop:
		return &TerminalError{err}
	}
	return keyFault(err, false)
}
