package signer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"qcitycoin.org/qcity/internal/durable"
)

// haltFile lies beside the journal while signing is halted.
const haltFile = "halt.json"

// resumeWithin is how long the first of two people who resume waits for the second.
const resumeWithin = 10 * time.Minute

// Halt says who stopped all signing, when and why. Nothing is signed, and
// nothing released again, until two people resume it.
type Halt struct {
	By     string    `json:"by"` // a person, or "signer" where it halted itself
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	// Resuming is who asked to resume first, and waits for a second person.
	Resuming string `json:"resuming,omitempty"`
	// ResumingAt is when.
	ResumingAt time.Time `json:"resumingAt,omitzero"`
}

// brake keeps the halt: on disk first, so that no crash or restart lifts it.
type brake struct {
	files durable.FS
	path  string // empty: in memory only, for tests
	mu    sync.Mutex
	halt  *Halt
	// unsaved: the halt could not be written down yet.
	unsaved bool
}

// openBrake reads the halt that was left behind, if there is one. A file that
// cannot be read halts: it was written by somebody who wanted just that.
func openBrake(files durable.FS, path string) (*brake, error) {
	b := &brake{files: files, path: path}
	if path == "" {
		return b, nil
	}
	text, err := durable.ReadFileOn(files, path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading whether signing is halted: %w", err)
	}
	var h *Halt
	if err := json.Unmarshal(text, &h); err != nil {
		h = &Halt{By: "signer", Reason: fmt.Sprintf("%s cannot be read: %v", path, err)}
	}
	if h == nil { // "null": resumed
		return b, nil
	}
	// Whoever was first to resume has to come again: the other may be long gone.
	h.Resuming, h.ResumingAt = "", time.Time{}
	b.halt = h
	return b, nil
}

// state returns the halt, nil if there is none.
func (b *brake) state() *Halt {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.halt == nil {
		return nil
	}
	h := *b.halt
	return &h
}

// pull halts. From the moment it is called nothing is signed, even where it
// cannot be written down; then every later call tries that again. It reports
// whether signing went on until now.
func (b *brake) pull(h Halt) (first bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first = b.halt == nil; first {
		b.halt, b.unsaved = &h, true
	}
	b.halt.Resuming, b.halt.ResumingAt = "", time.Time{}
	if !b.unsaved {
		return first, nil
	}
	if err := b.save(b.halt); err != nil {
		return first, failed(ErrInternal, err, "signing is halted, but that could not be written down and will not outlast a restart: make room for %s and halt again, or stop the signer", b.path)
	}
	b.unsaved = false
	return first, nil
}

func (b *brake) save(h *Halt) error {
	if b.path == "" {
		return nil
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return durable.WriteFileOn(b.files, b.path, append(text, '\n'), 0o600)
}

// release resumes, once a second person asks. done is false after the first.
func (b *brake) release(by string, now time.Time) (done bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.halt
	if h == nil {
		return false, failed(ErrBadRequest, nil, "signing is not halted")
	}
	switch age := now.Sub(h.ResumingAt); {
	case by == "":
		return false, failed(ErrBadRequest, nil, "who resumes? give a name")
	case h.Resuming == "" || age < 0 || age > resumeWithin:
		h.Resuming, h.ResumingAt = by, now
		return false, nil
	case h.Resuming == by:
		return false, failed(ErrBadRequest, nil, "%s asked already: a second person has to resume as well, by %s", by, h.ResumingAt.Add(resumeWithin).Format(time.TimeOnly))
	}
	if err := b.save(nil); err != nil {
		return false, failed(ErrInternal, err, "signing stays halted, as that could not be written down")
	}
	b.halt, b.unsaved = nil, false
	return true, nil
}
