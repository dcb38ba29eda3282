package signer

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"qcitycoin.org/qcity/signer/worker"
)

// heldPINs are the PINs that cannot be read again, or that must be recognised
// without a file's dates, in locked memory for as long as the daemon runs. The
// PKCS#11 worker's supervisor holds each of them anyway.
type heldPINs struct {
	log *slog.Logger

	mu      sync.Mutex
	pins    map[worker.TokenRef]heldPIN
	adopted map[PINSource]*os.File // descriptors that were not read yet
}

type heldPIN struct {
	source   PINSource
	secret   *worker.Secret
	accepted bool
}

// newHeldPINs takes over the descriptors among the sources, before any child is
// started. One that is not there is missed when its token logs in.
func newHeldPINs(log *slog.Logger, sources ...PINSource) *heldPINs {
	h := &heldPINs{log: log, pins: make(map[worker.TokenRef]heldPIN), adopted: make(map[PINSource]*os.File)}
	for _, source := range sources {
		if _, done := h.adopted[source]; done || source.kind != fromFD {
			continue
		}
		if f, err := source.adopt(); err == nil {
			h.adopted[source] = f
		}
	}
	return h
}

// read reads the PIN from its source, or from here when the source was used up.
// The caller clears it.
func (h *heldPINs) read(ctx context.Context, token worker.TokenRef, source PINSource) (pinValue, error) {
	if source.once() {
		if held, ok := h.get(token); ok {
			return pinValue{source: source, pin: slices.Clone(held.secret.Bytes())}, nil
		}
	}
	f, err := h.readNow(ctx, token, source)
	if err == nil && source.once() {
		h.put(token, f, false)
	}
	return f, err
}

func (h *heldPINs) readNow(ctx context.Context, token worker.TokenRef, source PINSource) (pinValue, error) {
	if source.kind != fromFD {
		return source.read(ctx, token.String())
	}
	h.mu.Lock()
	f := h.adopted[source]
	delete(h.adopted, source)
	h.mu.Unlock()
	if f == nil {
		return pinValue{}, fmt.Errorf("file descriptor %s is not open: start the signer with the PIN on it, as in  qcity signer run %s< FILE", source.name, source.name)
	}
	return readDescriptor(source, f)
}

func (h *heldPINs) get(token worker.TokenRef) (heldPIN, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held, ok := h.pins[token]
	return held, ok
}

func (h *heldPINs) put(token worker.TokenRef, f pinValue, accepted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pins[token].secret.Wipe()
	h.pins[token] = heldPIN{f.source, worker.KeepSecret(f.pin, h.log), accepted}
}

// accept notes that the token accepted the PIN. Files have the ledger for that.
func (h *heldPINs) accept(token worker.TokenRef, f pinValue) {
	if f.id == nil {
		h.put(token, f, true)
	}
}

// accepted reports whether the token accepted this very PIN since the start.
func (h *heldPINs) accepted(token worker.TokenRef, f pinValue) bool {
	held, ok := h.get(token)
	return ok && held.accepted && subtle.ConstantTimeCompare(held.secret.Bytes(), f.pin) == 1
}

// take hands over the PIN that the token accepted, for the ledger to remember as
// refused, and forgets it. The caller clears it.
func (h *heldPINs) take(token worker.TokenRef) (pinValue, bool) {
	held, ok := h.get(token)
	if !ok {
		return pinValue{}, false
	}
	f := pinValue{source: held.source, pin: slices.Clone(held.secret.Bytes())}
	h.drop(token)
	return f, true
}

// drop forgets the token's PIN.
func (h *heldPINs) drop(token worker.TokenRef) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pins[token].secret.Wipe()
	delete(h.pins, token)
}

// wipe clears all.
func (h *heldPINs) wipe() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, held := range h.pins {
		held.secret.Wipe()
	}
	clear(h.pins)
	for source, f := range h.adopted {
		f.Close()
		delete(h.adopted, source)
	}
}

// ForbidDumps keeps the PINs of this process out of core dumps and away from
// debuggers of the same user. It is for the program, before Open.
func ForbidDumps(log *slog.Logger) {
	err := errors.Join(
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
	)
	if err != nil {
		log.Warn("memory of the signer may reach a core dump", "err", err)
	}
}
