package signer

import (
	"context"
	"fmt"
	"os"
)

// PINReader reads a PIN for a command, from the same sources and by the same
// rules as the daemon.
type PINReader struct {
	source PINSource
	file   *os.File // the descriptor, until it has been read
}

// NewPINReader takes over the descriptor that the source may name, which must
// happen before a child is started. It reads nothing yet.
func NewPINReader(source PINSource) (*PINReader, error) {
	r := &PINReader{source: source}
	var err error
	if source.kind == fromFD {
		r.file, err = source.adopt()
	}
	return r, err
}

// AtDevice reports whether a person enters the PIN at the token itself, so that
// there is none to read.
func (r *PINReader) AtDevice() bool { return r.source.kind == fromDevice }

// Read reads the PIN, which the caller clears. A person who is asked for it is told
// what it is, as in `user PIN of token "a"`, and types it twice if twice is set: a
// mistyped new PIN locks everybody out.
func (r *PINReader) Read(ctx context.Context, what string, twice bool) ([]byte, error) {
	switch r.source.kind {
	case fromTerminal:
		return askTerminal(ctx, what, twice)
	case fromDevice:
		return nil, fmt.Errorf("the %s cannot be entered at the device here: name another source of it", what)
	case fromFD:
		f := r.file
		if r.file = nil; f == nil {
			return nil, fmt.Errorf("%s: the descriptor has been read already, and can be read once", what)
		}
		v, err := readDescriptor(r.source, f)
		return v.pin, err
	}
	v, err := r.source.read(ctx, what)
	return v.pin, err
}
