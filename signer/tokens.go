package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/worker"
)

// hsm is what the daemon asks of the PKCS#11 worker: a *worker.Supervisor.
type hsm interface {
	ListTokens(ctx context.Context) ([]worker.TokenInfo, error)
	FindToken(ctx context.Context, label, serial string) (worker.TokenInfo, error)
	Login(ctx context.Context, token worker.TokenRef, pin []byte) error
	LoginAtDevice(ctx context.Context, token worker.TokenRef) error
	FindKey(ctx context.Context, token worker.TokenRef, query worker.KeyQuery) (worker.Key, error)
	Sign(ctx context.Context, key worker.KeyRef, digest [32]byte) (worker.Signature, error)
	Reset(ctx context.Context) error
}

// tokens is the Token of the daemon: its configured keys, each in its token.
type tokens struct {
	hsm    hsm
	ledger *pinLedger
	held   *heldPINs
	clock  func() time.Time
	log    *slog.Logger
	keys   []*heldKey
	missed chan struct{} // a key stopped being ready
	note   func(audit.Entry)

	mu     sync.Mutex               // guards ref, err and seen of each key, and
	logins map[worker.TokenRef]bool // logins that are noted
}

type heldKey struct {
	KeyConfig
	ref worker.KeyRef
	err error // why it is not ready
	// seen: it was ready once. SoftHSM shows a token that went away as one without
	// keys, so a key that was seen before and is missing may come back by itself.
	seen bool
}

var errNotTried = errors.New("its token was not looked at yet")

func newTokens(h hsm, c *Config, clock func() time.Time, log *slog.Logger) *tokens {
	var sources []PINSource
	for _, k := range c.Keys {
		sources = append(sources, k.PIN)
	}
	t := &tokens{
		hsm: h, ledger: newPINLedger(c.besideJournal(pinsFile)), held: newHeldPINs(log, sources...),
		clock: clock, log: log, missed: make(chan struct{}, 1), note: func(audit.Entry) {},
		logins: make(map[worker.TokenRef]bool),
	}
	for _, k := range c.Keys {
		t.keys = append(t.keys, &heldKey{KeyConfig: k, err: errNotTried})
	}
	return t
}

func (t *tokens) find(key types.PublicKey) *heldKey {
	for _, k := range t.keys {
		if k.PublicKey == key {
			return k
		}
	}
	return nil
}

// Ready implements Token.
func (t *tokens) Ready(key types.PublicKey) error {
	k := t.find(key)
	if k == nil {
		return fmt.Errorf("%s is not configured", key)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return k.err
}

// Reset implements Token.
func (t *tokens) Reset(ctx context.Context) error { return t.hsm.Reset(ctx) }

// Sign implements Token.
func (t *tokens) Sign(ctx context.Context, key types.PublicKey, digest [32]byte) ([64]byte, error) {
	if err := t.Ready(key); err != nil {
		return [64]byte{}, err
	}
	k := t.find(key)
	t.mu.Lock()
	ref := k.ref
	t.mu.Unlock()
	sig, err := t.hsm.Sign(ctx, ref, digest)
	var fault *worker.Error
	if errors.As(err, &fault) {
		// Not ready, until prepare has seen token and key again.
		t.lose(k, ref, t.keyFault(k, ref.Token, err, true))
	}
	return sig, err
}

// lose marks a key as not ready, and has it looked after.
func (t *tokens) lose(k *heldKey, ref worker.KeyRef, err error) {
	t.set(k, ref, err)
	select {
	case t.missed <- struct{}{}:
	default: // it is known already
	}
}

func (t *tokens) set(k *heldKey, ref worker.KeyRef, err error) {
	t.mu.Lock()
	old := k.err
	k.ref, k.err = ref, err
	k.seen = k.seen || err == nil
	if old == nil && err != nil {
		delete(t.logins, ref.Token)
	}
	t.mu.Unlock()
	switch {
	case old != nil && err == nil:
		t.note(audit.Entry{Time: t.clock(), Event: audit.EventKeyReady, Key: k.PublicKey, Detail: "token " + ref.Token.String()})
	case (old == nil || errors.Is(old, errNotTried)) && err != nil:
		t.note(audit.Entry{Time: t.clock(), Event: audit.EventKeyLost, Key: k.PublicKey, Detail: err.Error()})
	}
}

// prepare brings every key that is not ready to where it can sign: token found,
// logged in, key checked. Keys that need a person are left alone (IsTerminal);
// the error joins what is new about them.
func (t *tokens) prepare(ctx context.Context) error {
	var errs []error
	logins := make(map[worker.TokenRef]error)
	for _, k := range t.keys {
		old := t.Ready(k.PublicKey)
		if old == nil || IsTerminal(old) {
			continue
		}
		ref, err := t.open(ctx, k, logins)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			err = fmt.Errorf("key %s: %w", k.PublicKey, err)
		}
		t.set(k, ref, err)
		switch {
		case err == nil:
			t.log.Info("key is ready", "key", k.PublicKey, "token", ref.Token.String())
		case IsTerminal(err):
			errs = append(errs, err)
		case reason(old) != reason(err):
			t.log.Warn("key is not available", "err", err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &TerminalError{err}
	}
	return nil
}

// reason is what an error says apart from what changes at every look.
func reason(err error) string {
	var e *worker.Error
	if errors.As(err, &e) {
		return string(e.Kind)
	}
	return err.Error()
}

// open finds a key. logins holds how the logins of this round ended: a token
// with several keys sees one.
func (t *tokens) open(ctx context.Context, k *heldKey, logins map[worker.TokenRef]error) (worker.KeyRef, error) {
	info, err := t.hsm.FindToken(ctx, k.TokenLabel, k.TokenSerial)
	if err != nil {
		return worker.KeyRef{}, keyFault(err, k.seen)
	}
	ref := worker.KeyRef{
		Token:     info.TokenRef,
		Algorithm: worker.Algorithm(k.PublicKey.Algorithm),
		PublicKey: worker.PublicKey(k.PublicKey.Point),
	}
	err, done := logins[ref.Token]
	if !done {
		err = t.login(ctx, ref.Token, k.PIN)
		logins[ref.Token] = err
	}
	if err != nil {
		return worker.KeyRef{}, err
	}
	// Exactly one key of this curve with this public point, or an error.
	key, err := t.hsm.FindKey(ctx, ref.Token, worker.KeyQuery{Algorithm: ref.Algorithm, PublicKey: ref.PublicKey})
	if err != nil {
		return worker.KeyRef{}, t.keyFault(k, ref.Token, err, k.seen)
	}
	return ref, t.check(k, &key)
}

// check judges a key as found in its token: at every start, and whenever a token
// has come back. Each refusal has a worker.Kind.
func (t *tokens) check(k *heldKey, found *worker.Key) error {
	if k.KeyLabel != "" && found.Label != k.KeyLabel {
		return &TerminalError{&worker.Error{Kind: worker.ErrKeyLabel, Message: fmt.Sprintf("in token %q it has the label %q, not %q: correct label or public_key", k.TokenLabel, found.Label, k.KeyLabel)}}
	}
	if len(k.KeyID) > 0 && !bytes.Equal(k.KeyID, found.ID) {
		return &TerminalError{&worker.Error{Kind: worker.ErrKeyID, Message: fmt.Sprintf("in token %q it has the id %x, not %x: correct id or public_key", k.TokenLabel, found.ID, k.KeyID)}}
	}
	for _, remark := range found.Attributes.Remarks() {
		t.log.Warn("a key may do more than it should", "key", k.PublicKey, "token", k.TokenLabel, "what", remark)
	}
	err := found.Attributes.Check()
	if err == nil {
		return nil
	}
	if !k.AllowExtractable || found.Attributes.Sign == worker.False {
		return &TerminalError{fmt.Errorf("%w (or set allow_extractable if losing this key is of no account)", err)}
	}
	t.log.Warn("using a key that may leave its token, as allow_extractable permits", "key", k.PublicKey, "why", err)
	return nil
}

// keyFault is keyFault for a call that may have logged in again by itself: a
// PIN that the token has come to refuse is not shown to it at the next start.
func (t *tokens) keyFault(k *heldKey, token worker.TokenRef, err error, seen bool) error {
	if !refusesPIN(err) {
		return keyFault(err, seen)
	}
	var noted error
	if k.PIN.kind == fromFile {
		var f pinValue
		if f, noted = readPINFile(k.PIN); noted == nil {
			noted = t.ledger.withdrawn(token, f, t.clock())
			clear(f.pin)
		}
	} else if f, ok := t.held.take(token); ok {
		noted = t.ledger.refused(token, f, t.clock())
		clear(f.pin)
	}
	return &TerminalError{errors.Join(err, noted)}
}

// keyFault marks the failures that only a person can end. seen: the key was
// ready before.
func keyFault(err error, seen bool) error {
	if seen && errors.Is(err, worker.ErrKeyNotFound) {
		return err
	}
	for _, kind := range []worker.Kind{
		worker.ErrTokenAmbiguous, worker.ErrTokenNotReady,
		worker.ErrKeyNotFound, worker.ErrKeyAmbiguous, worker.ErrKeyDuplicate, worker.ErrKeyCurve, worker.ErrKeyChanged,
		worker.ErrPINIncorrect, worker.ErrPINLocked, worker.ErrPINExpired, worker.ErrPINFinalTry, worker.ErrPINInvalid, worker.ErrNoPINPad,
		worker.ErrBadSignature, worker.ErrBadRequest,
	} {
		if errors.Is(err, kind) {
			return &TerminalError{err}
		}
	}
	return err
}
