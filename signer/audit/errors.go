package audit

import (
	"cmp"
	"errors"
	"fmt"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
)

// Fault says what kind of failure an error is: compare with
// errors.Is(err, audit.ErrMissing).
type Fault string

func (f Fault) Error() string { return string(f) }

// The kinds of failure. The first three need a person (IsTerminal).
const (
	// ErrMissing: there is no log at the path.
	ErrMissing Fault = "audit-missing"
	// ErrBroken: a file is damaged, was changed or is gone; see Broken.
	ErrBroken Fault = "audit-broken"
	// ErrNetwork: the log belongs to another network.
	ErrNetwork Fault = "audit-network"
	// ErrEntry: Append was given what is no entry; nothing was written.
	ErrEntry Fault = "audit-entry"
	// ErrWrite: writing failed. It may be tried again when the disk was full
	// (durable.ErrDiskFull) and Failed is not closed.
	ErrWrite Fault = "audit-write"
	// ErrSequence: the log has no record of that number.
	ErrSequence Fault = "audit-sequence"
)

// Broken is the first place at which a log is not what it was when it was written.
type Broken struct {
	Seq    uint64 // of the record; of the one that is missing or cannot be read
	File   string // path; empty in an export
	Offset int64  // of the record in the file, or of the line in the export, in bytes
	Reason string
}

func (b *Broken) Error() string {
	where := "the export"
	if b.File != "" {
		where = b.File
	}
	return fmt.Sprintf("the audit log is broken at record %d (%s, offset %d): %s", b.Seq, where, b.Offset, b.Reason)
}

// Unwrap makes a Broken an ErrBroken.
func (b *Broken) Unwrap() error { return ErrBroken }

func fault(f Fault, format string, args ...any) error {
	return &faultError{f, fmt.Errorf(format, args...)}
}

type faultError struct {
	fault Fault
	err   error
}

func (e *faultError) Error() string   { return e.err.Error() }
func (e *faultError) Unwrap() []error { return []error{e.fault, e.err} }

// IsTerminal reports whether an error of Open needs a person: starting again
// cannot mend it.
func IsTerminal(err error) bool {
	var version *durable.VersionError
	return errors.Is(err, ErrMissing) || errors.Is(err, ErrBroken) || errors.Is(err, ErrNetwork) || errors.As(err, &version)
}

func wrongNetwork(path string, got, want types.Hash) error {
	return fault(ErrNetwork, "the audit log %s belongs to network %s, this is network %s: correct the path of the log or the network", cmp.Or(path, "in this export"), got, want)
}
