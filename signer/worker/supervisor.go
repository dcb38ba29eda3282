package worker

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Status is a snapshot for status lines and metrics.
type Status struct {
	Generation uint64 // workers started so far
	PID        int    // of the present worker, 0 if there is none
	Module     ModuleInfo
	Restarts   uint64 // workers replaced after a failure
	Signatures uint64 // released
	Down       bool   // budget used up; cleared by the next success or Reset
	Halted     string // why signing stopped until Reset; empty if it has not
}

// Supervisor owns one worker process and everything it is asked. It starts the
// worker when it is first needed, one call runs at a time, and all methods may
// be used from many goroutines. A caller whose context ends is released at
// once; the call it made is still brought to its end.
type Supervisor struct {
	cfg Config
	// turn is a mutex that can be given up on; it guards all fields below
	// except status.
	turn   chan struct{}
	proc   *process
	pins   map[TokenRef][]byte // PINs with which a login succeeded
	denied map[TokenRef]error  // tokens whose PIN was refused
	known  map[KeyRef]bool     // keys that were found or have signed
	failed []time.Time         // failures of the present window
	down   error
	halted error
	closed bool

	mu     sync.Mutex // guards status
	status Status
}

// KeyRef addresses a signing key for ever: no slot, no handle.
type KeyRef struct {
	Token     TokenRef
	Algorithm Algorithm
	PublicKey PublicKey
}

// New checks cfg and returns a Supervisor; it starts nothing. Close ends it.
func New(cfg Config) (*Supervisor, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	return &Supervisor{
		cfg:    cfg,
		turn:   make(chan struct{}, 1),
		pins:   make(map[TokenRef][]byte),
		denied: make(map[TokenRef]error),
		known:  make(map[KeyRef]bool),
	}, nil
}

// Open makes sure that a worker runs and its module answers.
func (s *Supervisor) Open(ctx context.Context) (ModuleInfo, error) {
	return exclusive(ctx, s, func() (info ModuleInfo, err error) {
		err = s.attempt(ctx, func(p *process) error {
			info = p.module
			return nil
		})
		return info, err
	})
}

// ListTokens returns the initialised tokens the module shows.
func (s *Supervisor) ListTokens(ctx context.Context) ([]TokenInfo, error) {
	return exclusive(ctx, s, func() (tokens []TokenInfo, err error) {
		err = s.attempt(ctx, func(p *process) error {
			resp, err := p.call(&Request{Op: OpListTokens}, s.cfg.Timeouts.Call)
			if err == nil {
				tokens = resp.Tokens
			}
			return err
		})
		return tokens, err
	})
}

// FindToken resolves a label, and a serial unless it is empty, to the one token
// that has them; ErrTokenNotFound or ErrTokenAmbiguous otherwise.
func (s *Supervisor) FindToken(ctx context.Context, label, serial string) (TokenInfo, error) {
	tokens, err := s.ListTokens(ctx)
	if err != nil {
		return TokenInfo{}, err
	}
	tokens = slices.DeleteFunc(tokens, func(t TokenInfo) bool {
		return t.Label != label || serial != "" && t.Serial != serial
	})
	switch len(tokens) {
	case 0:
		return TokenInfo{}, newError(ErrTokenNotFound, "no token is labelled %q (serial %q): check that it is connected and that label and serial are right", label, serial)
	case 1:
		return tokens[0], nil
	}
	return TokenInfo{}, newError(ErrTokenAmbiguous, "%d tokens are labelled %q: give the serial number too", len(tokens), label)
}

// Login logs in to the token as its user. One call is at most one try at the
// token; the try is made again, in a new worker, only if the module failed
// before it saw the PIN, or if this same PIN has worked before. After
// ErrPINIncorrect the token is not touched again until the next Login. The
// PIN that worked is kept in memory to log in after a restart; the caller
// should clear its own copy. A final try is never spent (ErrPINFinalTry).
func (s *Supervisor) Login(ctx context.Context, token TokenRef, pin []byte) error {
	pin = slices.Clone(pin)
	_, err := exclusive(ctx, s, func() (struct{}, error) {
		defer clear(pin)
		if len(pin) == 0 {
			return struct{}{}, newError(ErrPINInvalid, "the PIN for token %s is empty: check where it is read from", token)
		}
		if old, ok := s.pins[token]; ok && subtle.ConstantTimeCompare(old, pin) != 1 {
			return struct{}{}, newError(ErrAlreadyLoggedIn, "token %s is logged in with another PIN: the new one was not tried", token)
		}
		return struct{}{}, s.attempt(ctx, func(p *process) error { return s.login(p, token, pin) })
	})
	return err
}

// login logs p in to token unless it already is.
func (s *Supervisor) login(p *process, token TokenRef, pin []byte) error {
	if p.loggedIn[token] {
		return nil
	}
	_, err := p.call(&Request{Op: OpLogin, Token: token, PIN: pin}, s.cfg.Timeouts.Login)
	if err == nil {
		p.loggedIn[token] = true
		if _, ok := s.pins[token]; !ok {
			s.pins[token] = slices.Clone(pin)
		}
		delete(s.denied, token)
		return nil
	}
	_, proven := s.pins[token]
	if isPINRefusal(err) {
		clear(s.pins[token])
		delete(s.pins, token)
		s.denied[token] = err
		return err
	}
	if !proven && maybeTried(err) && Classify(err) != ClassStop {
		// The PIN is unproven and the token may have counted the try.
		return &finalError{err}
	}
	return err
}

func isPINRefusal(err error) bool {
	return errors.Is(err, ErrPINIncorrect) || errors.Is(err, ErrPINLocked) ||
		errors.Is(err, ErrPINExpired) || errors.Is(err, ErrPINInvalid)
}

// maybeTried reports whether a failed login may have reached the token.
func maybeTried(err error) bool {
	var e *Error
	return !errors.As(err, &e) || e.RV == RVOK || e.Function == "C_Login"
}

// finalError keeps the class of an error for the worker's sake (it is replaced)
// but forbids another attempt.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// ensureLogin logs in with the remembered PIN if p has not.
func (s *Supervisor) ensureLogin(p *process, token TokenRef) error {
	if p.loggedIn[token] {
		return nil
	}
	if err := s.denied[token]; err != nil {
		return fmt.Errorf("token %s stays untouched until someone logs in with the right PIN: %w", token, err)
	}
	pin, ok := s.pins[token]
	if !ok {
		return newError(ErrNotLoggedIn, "token %s is not logged in: log in first", token)
	}
	return s.login(p, token, pin)
}

// FindKey returns the one key in the token that fits the query. It reports the
// key's attributes and judges none: see Attributes.Check.
func (s *Supervisor) FindKey(ctx context.Context, token TokenRef, query KeyQuery) (Key, error) {
	return exclusive(ctx, s, func() (key Key, err error) {
		err = s.attempt(ctx, func(p *process) error {
			if err := s.ensureLogin(p, token); err != nil {
				return err
			}
			resp, err := p.call(&Request{Op: OpFindKey, Token: token, Key: query}, s.cfg.Timeouts.Call)
			if err != nil {
				return err
			}
			key, err = keyFrom(resp)
			return err
		})
		if err == nil {
			s.known[KeyRef{token, key.Algorithm, key.PublicKey}] = true
		}
		return key, err
	})
}

// keyFrom takes the key out of a response after checking that it is on its curve.
func keyFrom(resp *Response) (Key, error) {
	if resp.Key == nil {
		return Key{}, newError(ErrProtocol, "PKCS#11 worker answered without a key")
	}
	if _, err := CompressPoint(resp.Key.Algorithm, resp.Key.PublicKey[:]); err != nil {
		return Key{}, newError(ErrProtocol, "PKCS#11 worker answered with a bad public key: %v", err)
	}
	return *resp.Key, nil
}

// Sign returns a low-S signature over digest that verifies under key. It is
// tried again only with the same digest, and after a restart only once. A
// signature that does not verify (ErrBadSignature) stops all signing until
// Reset: the token, or the way to it, is not what it was.
func (s *Supervisor) Sign(ctx context.Context, key KeyRef, digest [32]byte) (Signature, error) {
	return exclusive(ctx, s, func() (sig Signature, err error) {
		if s.halted != nil {
			return sig, fmt.Errorf("signing was stopped and needs a person: %w", s.halted)
		}
		err = s.attempt(ctx, func(p *process) (err error) {
			sig, err = s.sign(p, key, digest)
			return err
		})
		switch {
		case err == nil:
			s.known[key] = true
			s.setStatus(func(st *Status) { st.Signatures++ })
		case errors.Is(err, ErrBadSignature):
			s.halted = err
			s.retire() // whatever handle did this dies with its worker
			s.setStatus(func(st *Status) { st.Halted = err.Error() })
		}
		return sig, err
	})
}

func (s *Supervisor) sign(p *process, key KeyRef, digest [32]byte) (Signature, error) {
	if err := s.ensureLogin(p, key.Token); err != nil {
		return Signature{}, err
	}
	resp, err := p.call(&Request{
		Op:     OpSign,
		Token:  key.Token,
		Key:    KeyQuery{Algorithm: key.Algorithm, PublicKey: key.PublicKey},
		Digest: digest[:],
	}, s.cfg.Timeouts.Call)
	if err == nil {
		return CheckSignature(key.Algorithm, key.PublicKey, digest, resp.Signature)
	}
	// SoftHSM shows a token that vanished as one without objects, and sees it
	// again only after a new C_Initialize: a known key that is gone is worth
	// one new worker.
	if s.known[key] && (errors.Is(err, ErrKeyNotFound) || errors.Is(err, ErrTokenNotFound)) {
		return Signature{}, &vanishedError{err}
	}
	return Signature{}, err
}

// vanishedError makes a missing key or token worth a restart.
type vanishedError struct{ error }

func (e *vanishedError) Unwrap() error { return e.error }

// InitToken initialises a free slot as a token with this label and both PINs,
// through PKCS#11 itself. It never touches an initialised token: the label
// must be new (ErrTokenExists). Not repeated after a failure.
func (s *Supervisor) InitToken(ctx context.Context, label string, soPIN, pin []byte) (TokenInfo, error) {
	req := &Request{Op: OpInitToken, Token: TokenRef{Label: label}, PIN: slices.Clone(pin), SOPIN: slices.Clone(soPIN)}
	return exclusive(ctx, s, func() (info TokenInfo, err error) {
		defer req.wipe()
		resp, err := s.setUp(ctx, TokenRef{}, req)
		if err != nil {
			return info, err
		}
		if resp.Token == nil {
			return info, newError(ErrProtocol, "PKCS#11 worker answered without a token")
		}
		return *resp.Token, nil
	})
}

// GenerateKey generates a key pair inside the token: sensitive, not
// extractable, for signing only, not modifiable. Label and id must be new
// (ErrKeyExists) and the token logged in. Not repeated after a failure.
func (s *Supervisor) GenerateKey(ctx context.Context, token TokenRef, alg Algorithm, label string, id []byte) (Key, error) {
	req := &Request{Op: OpGenerateKey, Token: token, Key: KeyQuery{Algorithm: alg, Label: label, ID: slices.Clone(id)}}
	return exclusive(ctx, s, func() (Key, error) {
		resp, err := s.setUp(ctx, token, req)
		if err != nil {
			return Key{}, err
		}
		return keyFrom(resp)
	})
}

// setUp makes a changing call: no second attempt, and not on a copy.
func (s *Supervisor) setUp(ctx context.Context, token TokenRef, req *Request) (resp *Response, err error) {
	if s.cfg.PrivateTokenCopy != nil {
		return nil, newError(ErrCopyReadOnly, "this worker runs on a private copy of the token, where changes would be lost: use one without PrivateTokenCopy for %q", req.Op)
	}
	err = s.attempt(ctx, func(p *process) error {
		if token != (TokenRef{}) {
			if err := s.ensureLogin(p, token); err != nil {
				return err
			}
		}
		resp, err = p.call(req, s.cfg.Timeouts.SetUp)
		if err != nil && Classify(err) != ClassStop {
			return &finalError{err}
		}
		return err
	})
	return resp, err
}

// Reset forgets past failures: the budget is full again, Down and Halted are
// cleared. For an operator who has looked.
func (s *Supervisor) Reset(ctx context.Context) error {
	_, err := exclusive(ctx, s, func() (struct{}, error) {
		s.failed, s.halted = nil, nil
		s.setDown(nil)
		s.setStatus(func(st *Status) { st.Halted = "" })
		return struct{}{}, nil
	})
	return err
}

// Status may be called at any time and does not wait for a call.
func (s *Supervisor) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *Supervisor) setStatus(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

// closeGrace is how long an idle worker may take for C_Finalize.
const closeGrace = 3 * time.Second

// Close waits for the call under way, ends the worker, removes the token copy
// and clears the PINs. Later calls return ErrClosed.
func (s *Supervisor) Close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.proc != nil {
		s.proc.stop(closeGrace)
		s.forget()
	}
	for _, pin := range s.pins {
		clear(pin)
	}
	clear(s.pins)
	if s.cfg.PrivateTokenCopy != nil {
		if err := s.cfg.PrivateTokenCopy.remove(); err != nil {
			return fmt.Errorf("remove the token copy: %w", err)
		}
	}
	return nil
}
