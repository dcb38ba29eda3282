package cluster

import (
	"errors"
	"fmt"

	"qcitycoin.org/qcity/node/types"
)

// ErrorKind says what kind of failure it is, in a word that is stable across
// versions. Compare with errors.Is(err, cluster.ErrConflict).
type ErrorKind string

func (k ErrorKind) Error() string { return string(k) }

// The kinds of failure.
const (
	// ErrConflict: the claim is refused for ever; the error is a *Conflict.
	ErrConflict ErrorKind = "conflict"
	// ErrUnavailable: no answer that decides. The claim may have been made. The same
	// may be asked for again, and nothing else.
	ErrUnavailable ErrorKind = "unavailable"
	// ErrRolledBack: the cluster forgot what this box has seen. Terminal.
	ErrRolledBack ErrorKind = "rolled-back"
	// ErrMisconfigured: the configuration cannot work, or it is not the cluster
	// that this box joined. Terminal.
	ErrMisconfigured ErrorKind = "misconfigured"
	// ErrDamaged: the cluster, or the file of the pin, holds what no signer wrote. Terminal.
	ErrDamaged ErrorKind = "damaged"
)

// Error is a failure that is no *Conflict.
type Error struct {
	Kind   ErrorKind
	Detail string // what happened and what to do
	Cause  error
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %v", e.Detail, e.Cause)
	}
	return e.Detail
}

// Unwrap gives errors.Is the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

func failed(k ErrorKind, cause error, format string, args ...any) error {
	return &Error{Kind: k, Detail: fmt.Sprintf(format, args...), Cause: cause}
}

// Conflict says that a claim is refused: another one has its place, or the key
// went past it.
type Conflict struct {
	Claim Claim
	// Winner is the digest claimed at this height. Zero: there is no claim at this
	// height, and the rule in Cause forbids a new one.
	Winner types.Hash
	// Last is the highest claim of this key and kind.
	Last  Mark
	Cause error // the rule that was broken; nil with a Winner
}

func (e *Conflict) Error() string {
	c := &e.Claim
	if e.Cause == nil {
		return fmt.Sprintf("%s of %s at %d: digest %s was claimed first, asked for %s", c.Kind, c.Key, c.Height, e.Winner, c.Digest)
	}
	return fmt.Sprintf("%s of %s at %d: %v", c.Kind, c.Key, c.Height, e.Cause)
}

// Unwrap gives errors.Is ErrConflict and the rule.
func (e *Conflict) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrConflict}
	}
	return []error{ErrConflict, e.Cause}
}

// IsTerminal reports whether a person has to act before asking again makes sense.
func IsTerminal(err error) bool {
	return errors.Is(err, ErrRolledBack) || errors.Is(err, ErrMisconfigured) || errors.Is(err, ErrDamaged)
}

const (
	remedyRestore = "stop every signer of these keys; if etcd was restored, restore it with etcdutl --bump-revision and a new --initial-cluster-token, " +
		"raise the floor of every box (qcity watermark raise) above what any of them signed, and join each box anew (docs/cluster.md, \"Restoring etcd\")"
	remedyJoin = "if this was done on purpose, stop every signer of these keys and join each box anew (docs/cluster.md, \"Joining\")"
)
