package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/semaphore"
)

// FindKey returns the one key in the token that fits the query. It reports the
// key's attributes and judges none: see Attributes.Check.
func (s *Supervisor) FindKey(ctx context.Context, token TokenRef, query KeyQuery) (Key, error) {
	return exclusive(ctx, s, func() (key Key, err error) {
		err = s.do(ctx, func(p *process) error {
			if err := s.ensureLogin(p, token); err != nil {
				return err
			}
			if key, err = p.findKey(token, query, s.cfg); err != nil {
				return err
			}
			// Whoever asks judges what is found, so this is how it is from now on.
			s.remember(p, KeyRef{token, key.Algorithm, key.PublicKey}, key)
			return nil
		})
		return key, err
	})
}

func (p *process) findKey(token TokenRef, query KeyQuery, cfg Config) (Key, error) {
	resp, err := p.call(&Request{Op: OpFindKey, Token: token, Key: query}, cfg.Timeouts.Call)
	if err != nil {
		return Key{}, err
	}
	return keyFrom(resp)
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

func (s *Supervisor) remember(p *process, ref KeyRef, key Key) {
	p.checked[ref] = true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[ref] = key
}

// Sign returns a low-S signature over digest that verifies under key. It is
// tried again only with the same digest, and after a restart only once. Before
// a new worker signs with a key it is found again, and must be what it was
// (ErrKeyChanged). A signature that does not verify (ErrBadSignature) stops all
// signing until Reset: the token, or the way to it, is not what it was.
func (s *Supervisor) Sign(ctx context.Context, key KeyRef, digest [32]byte) (Signature, error) {
	if key.Algorithm == 0 || key.PublicKey == (PublicKey{}) {
		return Signature{}, newError(ErrBadRequest, "a signing key is named by algorithm and public key, got %s in token %s", key.query(), key.Token)
	}
	return detached(ctx, func() (Signature, error) {
		lane := s.lane(key.Token)
		if err := lane.Acquire(ctx, 1); err != nil {
			return Signature{}, err
		}
		defer lane.Release(1)
		return s.signInLane(ctx, key, digest)
	})
}

func (k KeyRef) query() KeyQuery { return KeyQuery{Algorithm: k.Algorithm, PublicKey: k.PublicKey} }

// lane admits as many signatures as the token has sessions for, so that none
// waits inside the worker with its deadline running.
func (s *Supervisor) lane(token TokenRef) *semaphore.Weighted {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lanes[token] == nil {
		s.lanes[token] = semaphore.NewWeighted(int64(s.cfg.Sessions))
	}
	return s.lanes[token]
}

// signInLane signs side by side with others. What has to be mended first, or
// after a failure, is mended alone.
func (s *Supervisor) signInLane(ctx context.Context, key KeyRef, digest [32]byte) (Signature, error) {
	var c climb
	for {
		p, sig, err := s.sign(ctx, key, digest)
		if err == nil || ctx.Err() != nil {
			return sig, err
		}
		if p == nil && errors.Is(err, errNotPrepared) {
			if _, err := alone(ctx, s, func() (struct{}, error) { return struct{}{}, s.prepare(ctx, &c, key) }); err != nil {
				return Signature{}, err
			}
			continue
		}
		rung, again := c.next(s.class(err))
		if rung == ClassRestart {
			if _, lost := alone(ctx, s, func() (struct{}, error) { s.discard(p, err, !again); return struct{}{}, nil }); lost != nil {
				return Signature{}, err
			}
		}
		if !again {
			return Signature{}, err
		}
		s.cfg.Log.Warn("pkcs11 signature failed, trying again", "class", rung.String(), "err", err)
	}
}

// errNotPrepared: there is no worker that is logged in and has the key checked.
var errNotPrepared = errors.New("the worker is not prepared")

// prepare brings the worker to where it can sign with key.
func (s *Supervisor) prepare(ctx context.Context, c *climb, key KeyRef) error {
	return s.attempt(ctx, c, func(p *process) error {
		if err := s.ensureLogin(p, key.Token); err != nil {
			return err
		}
		if p.checked[key] {
			return nil
		}
		found, err := p.findKey(key.Token, key.query(), s.cfg)
		if err != nil {
			return s.vanished(key, err)
		}
		s.mu.Lock()
		was, known := s.known[key]
		s.mu.Unlock()
		if known && (was.Label != found.Label || !bytes.Equal(was.ID, found.ID) || was.Attributes != found.Attributes) {
			return newError(ErrKeyChanged, "the key %s in token %s is not as it was (%s): check the token, then start the signer again", key.PublicKey, key.Token, difference(was, found))
		}
		s.remember(p, key, found)
		return nil
	})
}

func difference(was, is Key) string {
	switch {
	case was.Label != is.Label:
		return fmt.Sprintf("its label was %q, now %q", was.Label, is.Label)
	case !bytes.Equal(was.ID, is.ID):
		return fmt.Sprintf("its id was %x, now %x", was.ID, is.ID)
	}
	return fmt.Sprintf("its attributes were %+v, now %+v", was.Attributes, is.Attributes)
}

// sign makes one signature, with a share of the turn. p is the worker that was
// asked, nil if none was.
func (s *Supervisor) sign(ctx context.Context, key KeyRef, digest [32]byte) (asked *process, sig Signature, err error) {
	if err := s.turn.Acquire(ctx, 1); err != nil {
		return nil, sig, err
	}
	defer s.turn.Release(1)
	if s.closed {
		return nil, sig, newError(ErrClosed, "the PKCS#11 supervisor is closed")
	}
	if err := s.isHalted(); err != nil {
		return nil, sig, fmt.Errorf("signing was stopped and needs a person: %w", err)
	}
	p := s.proc
	if p == nil || !p.loggedIn[key.Token] || !p.checked[key] || !p.usable() {
		return nil, sig, errNotPrepared
	}
	resp, err := p.call(&Request{Op: OpSign, Token: key.Token, Key: key.query(), Digest: digest[:]}, s.cfg.Timeouts.Call)
	if errors.Is(err, ErrDeadline) {
		// No login can be under way now. The others' calls fail with this one's
		// worker, and are made again in the next.
		p.kill()
	}
	if err != nil {
		return p, sig, s.vanished(key, err)
	}
	sig, err = CheckSignature(key.Algorithm, key.PublicKey, digest, resp.Signature)
	if errors.Is(err, ErrBadSignature) {
		s.halt(err)
		p.retired.Store(true) // whatever handle did this dies with its worker
		p.kill()
	}
	if err == nil {
		s.setDown(nil)
		s.setStatus(func(st *Status) { st.Signatures++ })
	}
	return p, sig, err
}

// vanished: SoftHSM shows a token that vanished as one without objects, and sees
// it again only after a new C_Initialize: a known key that is gone is worth one
// new worker.
func (s *Supervisor) vanished(key KeyRef, err error) error {
	s.mu.Lock()
	_, known := s.known[key]
	s.mu.Unlock()
	if known && (errors.Is(err, ErrKeyNotFound) || errors.Is(err, ErrTokenNotFound)) {
		return &vanishedError{err}
	}
	return err
}

// vanishedError makes a missing key or token worth a restart.
type vanishedError struct{ error }

func (e *vanishedError) Unwrap() error { return e.error }

func (s *Supervisor) isHalted() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.halted
}

// halt stops all signing because of err, or allows it again.
func (s *Supervisor) halt(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted, s.status.Halted = err, ""
	if err != nil {
		s.status.Halted = err.Error()
	}
}
