package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
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
// worker when it is first needed. Signatures are made side by side, up to
// Config.Sessions for each token; everything else is done alone. All methods may
// be used from many goroutines. A caller whose context ends is released at
// once; the call it made is still brought to its end.
type Supervisor struct {
	cfg Config
	// turn is a lock that can be given up on. Signing takes one share of it and
	// may read the fields up to closed, the rest takes all and may change them.
	turn       *semaphore.Weighted
	proc       *process
	pins       map[TokenRef]*Secret // PINs with which a login succeeded
	pads       map[TokenRef]bool    // tokens logged in to with their own PIN pad
	denied     map[TokenRef]error   // tokens whose PIN was refused
	failed     []time.Time          // failures of the present window
	startFails int                  // starts that failed, in a row
	nextStart  time.Time
	seenAway   bool // while the budget was used up, a look did not find a token
	closed     bool

	mu     sync.Mutex // guards what follows
	lanes  map[TokenRef]*semaphore.Weighted
	known  map[KeyRef]Key // keys as they were first found
	down   error
	halted error
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
		turn:   semaphore.NewWeighted(MaxParallel),
		pins:   make(map[TokenRef]*Secret),
		pads:   make(map[TokenRef]bool),
		denied: make(map[TokenRef]error),
		lanes:  make(map[TokenRef]*semaphore.Weighted),
		known:  make(map[KeyRef]Key),
	}, nil
}

// do makes one call of its own on the worker, alone.
func (s *Supervisor) do(ctx context.Context, f func(*process) error) error {
	err := s.attempt(ctx, new(climb), f)
	if err == nil {
		s.setDown(nil)
	}
	return err
}

// Open makes sure that a worker runs and its module answers.
func (s *Supervisor) Open(ctx context.Context) (ModuleInfo, error) {
	return exclusive(ctx, s, func() (info ModuleInfo, err error) {
		err = s.do(ctx, func(p *process) error {
			info = p.module
			return nil
		})
		return info, err
	})
}

// ListTokens returns the initialised tokens the module shows.
func (s *Supervisor) ListTokens(ctx context.Context) ([]TokenInfo, error) {
	return exclusive(ctx, s, func() ([]TokenInfo, error) { return s.listTokens(ctx) })
}

func (s *Supervisor) listTokens(ctx context.Context) (tokens []TokenInfo, err error) {
	err = s.do(ctx, func(p *process) (err error) {
		tokens, err = p.listTokens(s.cfg.Timeouts.Call)
		return err
	})
	return tokens, err
}

func (p *process) listTokens(timeout time.Duration) ([]TokenInfo, error) {
	resp, err := p.call(&Request{Op: OpListTokens}, timeout)
	if err != nil {
		return nil, err
	}
	return resp.Tokens, nil
}

// FindToken resolves a label, and a serial unless it is empty, to the one token
// that has them; ErrTokenNotFound or ErrTokenAmbiguous otherwise. A token that
// has returned is found even by a module that lists its tokens only once, and
// even while the budget of workers is used up, if it was seen to be away since.
func (s *Supervisor) FindToken(ctx context.Context, label, serial string) (TokenInfo, error) {
	return exclusive(ctx, s, func() (TokenInfo, error) {
		before := s.proc
		info, err := s.findToken(ctx, label, serial)
		switch {
		case errors.Is(err, ErrDown) && s.proc == nil && s.usedUp(time.Now()):
			if !s.look(label, serial) {
				s.seenAway = true
				return info, err
			}
			if !s.seenAway { // then what is wrong is not that it was away
				return info, err
			}
			s.failed = nil
		case errors.Is(err, ErrTokenNotFound) && s.proc == before:
			if !s.look(label, serial) {
				return info, err
			}
			s.retire()
		default:
			return info, err
		}
		s.seenAway = false
		s.cfg.Log.Info("a token has returned: the pkcs11 worker is started anew to see it", "label", label)
		return s.findToken(ctx, label, serial)
	})
}

func (s *Supervisor) findToken(ctx context.Context, label, serial string) (TokenInfo, error) {
	tokens, err := s.listTokens(ctx)
	if err != nil {
		return TokenInfo{}, err
	}
	return pick(tokens, label, serial)
}

func pick(tokens []TokenInfo, label, serial string) (TokenInfo, error) {
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

// look reports whether a new worker sees the token, of which the running one, if
// there is one, does not know. SoftHSM, for one, lists its tokens when it is
// initialised and never again. The new worker is another one, which logs in
// nowhere, so as not to disturb the one at work. Where the module allows no second
// worker, the first is given up for it if it is logged in nowhere.
func (s *Supervisor) look(label, serial string) bool {
	tokens := s.cfg.PrivateTokenCopy
	if tokens != nil {
		tokens = &PrivateTokenCopy{Source: tokens.Source, Dir: filepath.Join(tokens.Dir, "look")}
		defer os.RemoveAll(tokens.Dir)
	}
	p, err := s.open(tokens, s.cfg.Timeouts.Call, true)
	if err != nil {
		return s.proc != nil && len(s.proc.loggedIn) == 0
	}
	defer p.stop(closeGrace)
	seen, err := p.listTokens(s.cfg.Timeouts.Call)
	if err == nil {
		_, err = pick(seen, label, serial)
	}
	return err == nil
}

// InitToken initialises a free slot as a token with this label and both PINs,
// through PKCS#11 itself. It never touches an initialised token: the label
// must be new (ErrTokenExists). Not repeated after a failure.
func (s *Supervisor) InitToken(ctx context.Context, label string, soPIN, pin []byte) (TokenInfo, error) {
	req := &Request{Op: OpInitToken, Token: TokenRef{Label: label}, PIN: slices.Clone(pin), SOPIN: slices.Clone(soPIN)}
	return exclusiveWith(ctx, s, req.wipe, func() (info TokenInfo, err error) {
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
	err = s.do(ctx, func(p *process) error {
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
		s.failed, s.startFails = nil, 0
		s.setDown(nil)
		s.halt(nil)
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

// Close waits for the calls under way, ends the worker, removes the token copy
// and clears the PINs. Later calls return ErrClosed.
func (s *Supervisor) Close() error {
	_, err := alone(context.Background(), s, func() (struct{}, error) {
		s.closed = true
		s.retire()
		for _, pin := range s.pins {
			pin.Wipe()
		}
		clear(s.pins)
		if s.cfg.PrivateTokenCopy != nil {
			if err := s.cfg.PrivateTokenCopy.remove(); err != nil {
				return struct{}{}, fmt.Errorf("remove the token copy: %w", err)
			}
		}
		return struct{}{}, nil
	})
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}
