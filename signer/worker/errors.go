package worker

import (
	"errors"
	"fmt"
)

// Kind says what went wrong, in a word that is stable across versions: compare
// with errors.Is(err, worker.ErrPINIncorrect).
type Kind string

// Error implements error, so that a Kind can be the target of errors.Is.
func (k Kind) Error() string { return string(k) }

// What can go wrong. Those marked (worker) travel over the wire.
const (
	// The module cannot be loaded, or does not speak PKCS#11 (worker).
	ErrModule Kind = "module-unusable"
	// No token, or more than one, has the label and serial asked for (worker).
	ErrTokenNotFound  Kind = "token-not-found"
	ErrTokenAmbiguous Kind = "token-ambiguous"
	// The token is not initialised or has no user PIN yet (worker).
	ErrTokenNotReady Kind = "token-not-ready"
	// InitToken: the label is taken, or no uninitialised slot is left (worker).
	ErrTokenExists Kind = "token-exists"
	ErrNoFreeSlot  Kind = "no-free-slot"
	// No private key, or more than one, fits the query (worker).
	ErrKeyNotFound  Kind = "key-not-found"
	ErrKeyAmbiguous Kind = "key-ambiguous"
	// Another private key has the same label and id (worker).
	ErrKeyDuplicate Kind = "key-duplicate"
	// The key is not the one configured by label or by id.
	ErrKeyLabel Kind = "key-wrong-label"
	ErrKeyID    Kind = "key-wrong-id"
	// A key that came back with another label, id or attributes.
	ErrKeyChanged Kind = "key-changed"
	// The key is on another curve than asked for, or on neither of ours (worker).
	ErrKeyCurve Kind = "key-wrong-curve"
	// GenerateKey: label or id is taken (worker).
	ErrKeyExists Kind = "key-exists"
	// The key could leave the token, or cannot sign: Attributes.Check.
	ErrKeyUnprotected Kind = "key-unprotected"
	// The PIN is wrong. Terminal: it is not tried again by itself (worker).
	ErrPINIncorrect Kind = "pin-incorrect"
	// The PIN is locked or expired; the security officer must act (worker).
	ErrPINLocked  Kind = "pin-locked"
	ErrPINExpired Kind = "pin-expired"
	// One try is left before the token locks; it is not spent here (worker).
	ErrPINFinalTry Kind = "pin-final-try"
	// The PIN has a length or form this token never accepts (worker).
	ErrPINInvalid Kind = "pin-invalid"
	// The PIN was to be entered at the token, which has no way to (worker).
	ErrNoPINPad Kind = "token-without-pin-pad"
	// A call needs a login that has not happened, or a login is already there
	// with another PIN (worker).
	ErrNotLoggedIn     Kind = "not-logged-in"
	ErrAlreadyLoggedIn Kind = "already-logged-in"
	// The module answered with a code that has no kind of its own; see RV (worker).
	ErrReturned Kind = "module-error"
	// The request makes no sense: a bug in the caller (worker).
	ErrBadRequest Kind = "bad-request"
	// The signature did not verify. Terminal until Reset.
	ErrBadSignature Kind = "bad-signature"
	// The worker could not be started.
	ErrStart Kind = "worker-start"
	// The worker ended, missed a deadline, or broke the protocol.
	ErrLost     Kind = "worker-lost"
	ErrDeadline Kind = "worker-deadline"
	ErrProtocol Kind = "worker-protocol"
	// Restarts are used up: the token counts as down.
	ErrDown Kind = "hsm-down"
	// A token cannot be changed while working on a private copy of it.
	ErrCopyReadOnly Kind = "token-copy-read-only"
	// The Supervisor is closed.
	ErrClosed Kind = "closed"
)

// Error is every failure this package and the worker report.
type Error struct {
	Kind     Kind   `json:"kind"`
	RV       RV     `json:"rv,omitempty"`       // what the module returned, RVOK if it was not asked
	Function string `json:"function,omitempty"` // the PKCS#11 call that returned it, such as "C_Sign"
	Message  string `json:"message"`            // what happened and what to do, without secrets
}

// Error returns the message, with the module's own code when there is one.
func (e *Error) Error() string {
	if e.RV == RVOK {
		return e.Message
	}
	return fmt.Sprintf("%s (%s: %s)", e.Message, e.Function, e.RV)
}

// Is reports whether target is this error's Kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

func newError(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// Class says what may be done about a failure.
type Class uint8

// The rungs of recovery, gentlest first.
const (
	// ClassStop: nothing by itself; a person has to look.
	ClassStop Class = iota
	// ClassReFind: find the key again. The worker does that at the next call,
	// because it drops session and handles after every failed signature.
	ClassReFind
	// ClassNewSession: open a new session; the worker does that too.
	ClassNewSession
	// ClassRestart: only a new worker process helps.
	ClassRestart
)

// String names the class.
func (c Class) String() string {
	switch c {
	case ClassReFind:
		return "re-find"
	case ClassNewSession:
		return "new session"
	case ClassRestart:
		return "restart worker"
	}
	return "stop and ask"
}

// Classify returns what may be done about err. Errors that are not of this
// package (a cancelled context, say) are ClassStop.
func Classify(err error) Class {
	var e *Error
	if !errors.As(err, &e) {
		return ClassStop
	}
	switch e.Kind {
	case ErrReturned:
		return e.RV.Class()
	case ErrStart, ErrLost, ErrDeadline, ErrProtocol:
		return ClassRestart
	}
	return ClassStop
}
