package pkcs11

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/worker"
)

// login is a token this process has logged in to, with the sessions that work
// there.
type login struct {
	slot uint
	// anchor stays open, because a token logs its user out when the last
	// session closes. It is used for nothing else.
	anchor pkcs11.SessionHandle

	mu    sync.Mutex
	freed *sync.Cond // a session became idle, or there is room for another
	idle  []*session
	live  int // sessions open, or being opened
	limit int
}

// session is used by one goroutine at a time: SoftHSM was seen to crash when two
// share one. It is discarded after any error, because a failed C_Sign leaves the
// operation active for ever.
type session struct {
	handle pkcs11.SessionHandle
	keys   map[keyName]pkcs11.ObjectHandle // valid for this session only
}

type keyName struct {
	alg worker.Algorithm
	pub worker.PublicKey
}

func newLogin(slot uint, anchor pkcs11.SessionHandle, limit int) *login {
	l := &login{slot: slot, anchor: anchor, limit: max(1, limit)}
	l.freed = sync.NewCond(&l.mu)
	return l
}

// withSession runs f in a session of a logged-in token, and discards it with
// its handles if f fails, for whatever reason.
func (w *Worker) withSession(ref worker.TokenRef, f func(*session) error) error {
	l := w.logins[ref]
	if l == nil {
		return failure(worker.ErrNotLoggedIn, "token %s is not logged in", ref)
	}
	s, err := l.take(func() (pkcs11.SessionHandle, error) { return w.ctx.OpenSession(l.slot, pkcs11.CKF_SERIAL_SESSION) }, w.log)
	if err != nil {
		return returned("C_OpenSession", err, "token %s opens no session", ref)
	}
	if err = f(s); err == nil {
		l.give(s)
		return nil
	}
	w.closeSession(s.handle)
	l.give(nil)
	return err
}

// take returns an idle session, or a new one while there is room. A token that
// has fewer than it was asked for makes the limit smaller, as long as one is left.
func (l *login) take(open func() (pkcs11.SessionHandle, error), log *slog.Logger) (*session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if n := len(l.idle); n > 0 {
			s := l.idle[n-1]
			l.idle = l.idle[:n-1]
			return s, nil
		}
		if l.live < l.limit {
			l.live++
			l.mu.Unlock()
			handle, err := open()
			l.mu.Lock()
			if err == nil {
				return &session{handle, make(map[keyName]pkcs11.ObjectHandle)}, nil
			}
			l.live--
			if l.live == 0 || !errors.Is(err, pkcs11.Error(pkcs11.CKR_SESSION_COUNT)) {
				l.freed.Signal() // somebody else may try
				return nil, err
			}
			l.limit = l.live
			log.Warn("the token has no more sessions: signatures wait for one another", "sessions", l.live)
			continue
		}
		l.freed.Wait()
	}
}

// give takes a session back; nil stands for one that was discarded.
func (l *login) give(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s != nil {
		l.idle = append(l.idle, s)
	} else {
		l.live--
	}
	l.freed.Signal()
}

// closeSession gives a session back to the module. That it fails is expected
// when the token is gone, and changes nothing.
func (w *Worker) closeSession(sh pkcs11.SessionHandle) {
	if err := w.ctx.CloseSession(sh); err != nil {
		w.log.Debug("session not closed", "err", err)
	}
}
