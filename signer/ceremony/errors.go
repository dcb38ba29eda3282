package ceremony

import "fmt"

// Kind says what went wrong in a word; compare with errors.Is.
type Kind string

// Error implements error, so that a Kind can be the target of errors.Is.
func (k Kind) Error() string { return string(k) }

// What can go wrong besides the tokens themselves.
const (
	// ErrRefused: a person did not confirm what was shown.
	ErrRefused Kind = "ceremony-refused"
	// ErrOther: the folder holds a ceremony by another script, program or kind.
	ErrOther Kind = "ceremony-other"
	// ErrTranscript: the transcript is not what a ceremony by this script writes.
	ErrTranscript Kind = "ceremony-transcript"
	// ErrRecord: a key in a token is not the one of its record.
	ErrRecord Kind = "key-not-as-recorded"
	// ErrAttestation: the vendor's attestation of a key does not hold.
	ErrAttestation Kind = "attestation-bad"
	// ErrBackup: a backup or a share of its key cannot be used.
	ErrBackup Kind = "backup-bad"
	// ErrTokenState: a token is not in the state the step needs.
	ErrTokenState Kind = "token-state"
)

// Error is a failure of a Kind, in one sentence that says what to do.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return e.Message }

// Is reports whether target is this error's Kind.
func (e *Error) Is(target error) bool { k, ok := target.(Kind); return ok && k == e.Kind }

func failure(k Kind, format string, args ...any) *Error {
	return &Error{k, fmt.Sprintf(format, args...)}
}

// LineError is what is wrong with a line of a transcript, counted from 1.
type LineError struct {
	Line   int
	Reason string
}

func (e *LineError) Error() string { return fmt.Sprintf("transcript line %d: %s", e.Line, e.Reason) }

// Is makes a LineError an ErrTranscript.
func (e *LineError) Is(target error) bool { return target == ErrTranscript }

// FieldError is a value of a Script that cannot work. Key is its place in the
// file, with the index of a table in an array: "validators[1]", "token".
type FieldError struct {
	Key    []string
	Reason string
}

func (e *FieldError) Error() string {
	text := ""
	for i, k := range e.Key {
		if i > 0 {
			text += "."
		}
		text += k
	}
	return text + ": " + e.Reason
}
