package signer

import (
	"errors"
	"fmt"

	"qcitycoin.org/qcity/node/consensus"
)

// Rule names the policy rule that refused a request. Its text is stable: it
// travels over the socket and labels metrics. Rules of the chain keep the names
// they have in package consensus.
type Rule string

func (r Rule) Error() string { return string(r) }

// The signer's own rules. Each is checked in exactly one place.
const (
	// RuleFormat: a part of the request does not have its one exact form.
	RuleFormat Rule = "request-format"
	// RuleKeyNotHeld: the validator at the index is none of this daemon's keys.
	RuleKeyNotHeld Rule = "key-not-held"
	// RuleFuture: the header's time is too far ahead of our clock; temporary.
	RuleFuture = Rule(consensus.RuleTimeFuture)
	// RuleStale: the parent is so old by our clock that its branch was left long ago.
	RuleStale Rule = "slot-stale"
	// RuleRate: more signatures were asked for than the configured rate; temporary.
	RuleRate Rule = "rate-limit"
	// RuleDoubleSign: this key has claimed or signed another block at this height.
	RuleDoubleSign Rule = "double-sign"
	// RuleWatermark: this key has claimed or signed at a higher height.
	RuleWatermark Rule = "height-regression"
	// RuleFloor: the height is not above the key's floor, below which it may
	// have signed what this journal does not know of. Of a vote, its source is
	// below the floor.
	RuleFloor Rule = "below-floor"
	// RuleOnePerSlot: another key of this daemon has signed this slot.
	RuleOnePerSlot Rule = "one-signature-per-slot"
	// RuleHalted: signing is halted until two people resume it.
	RuleHalted Rule = "halted"
	// RuleUnseen: since the signer's start no node has told it what the chain shows
	// of its keys (Seen); temporary.
	RuleUnseen Rule = "chain-unseen"
	// RuleAhead: the height is above any that the chain can have reached by now.
	RuleAhead Rule = "height-ahead"
	// RuleAnchor: the block does not carry the end of the signer's audit log.
	RuleAnchor Rule = "audit-anchor"
	// RuleCluster: a box with the same key has claimed something else, or more.
	RuleCluster Rule = "cluster-claim"
	// RuleAbandoned: this key's claim on the slot was given up in favour of
	// another key of this daemon.
	RuleAbandoned Rule = "claim-abandoned"
)

// Refusal says that a request was understood and will not be signed. Nothing
// is wrong with the daemon, and the connection stays usable.
type Refusal struct {
	Rule   Rule
	Detail string
}

func (e *Refusal) Error() string { return fmt.Sprintf("refused by rule %s: %s", e.Rule, e.Detail) }

// Temporary reports whether the same request may be answered later.
func (e *Refusal) Temporary() bool {
	switch e.Rule {
	case RuleFuture, RuleRate, RuleUnseen, RuleHalted, RuleAhead:
		return true
	}
	return false
}

// Unwrap gives errors.Is the rule.
func (e *Refusal) Unwrap() error { return e.Rule }

func refuse(r Rule, format string, args ...any) error {
	return &Refusal{Rule: r, Detail: fmt.Sprintf(format, args...)}
}

// Kind says what kind of failure, other than a refusal, kept the daemon from
// answering. Compare with errors.Is(err, signer.ErrUnavailable).
type Kind string

func (k Kind) Error() string { return string(k) }

// The kinds of failure. All of them travel over the socket.
const (
	// ErrUnavailable: the daemon or the key's token cannot be reached just now.
	// The same request may be made again.
	ErrUnavailable Kind = "unavailable"
	// ErrInternal: the daemon failed, for example its disk is full.
	ErrInternal Kind = "internal"
	// ErrBadRequest: what was sent is no request of this protocol.
	ErrBadRequest Kind = "bad-request"
	// ErrWrongNetwork: client and daemon belong to different networks.
	ErrWrongNetwork Kind = "wrong-network"
	// ErrPeer: this user may not talk to the daemon.
	ErrPeer Kind = "peer-not-allowed"
	// ErrVersion: client and daemon speak different versions of the protocol.
	ErrVersion Kind = "protocol-version"
)

// Error is a failure that is no Refusal.
type Error struct {
	Kind   Kind
	Detail string // what happened and what to do
	Cause  error  // not sent over the socket
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

func failed(k Kind, cause error, format string, args ...any) error {
	return &Error{Kind: k, Detail: fmt.Sprintf(format, args...), Cause: cause}
}

// TerminalError is a failure to start that starting again cannot mend: a person
// has to act first. The caller exits with ExitTerminal and does not restart.
type TerminalError struct{ Err error }

// ExitTerminal is the exit code that goes with a TerminalError: EX_CONFIG of
// sysexits.h, to be named in systemd's RestartPreventExitStatus.
const ExitTerminal = 78

func (e *TerminalError) Error() string { return e.Err.Error() }

// Unwrap returns the failure itself.
func (e *TerminalError) Unwrap() error { return e.Err }

// IsTerminal reports whether err is, or wraps, a TerminalError.
func IsTerminal(err error) bool {
	var t *TerminalError
	return errors.As(err, &t)
}
