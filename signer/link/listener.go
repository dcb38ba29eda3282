package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ListenerConfig is what a Listener needs.
type ListenerConfig struct {
	Identity *Identity
	// Pins are the signers that may connect.
	Pins []Pin
	Log  *slog.Logger
}

// Listener is the node's side: signers dial it, and the node takes connections
// to them from Dial.
type Listener struct {
	c        ListenerConfig
	tls      *tls.Config
	listener net.Listener
	half     *halfOpen
	strange  complaints

	mu      sync.Mutex
	spare   map[Pin][]*conn // not taken yet, oldest first
	count   map[Pin]int     // all that live
	changed chan struct{}   // closed when there is a new one
	closed  bool
}

// NewListener returns a Listener on l, which it will close. Run must follow.
func NewListener(l net.Listener, c ListenerConfig) *Listener {
	return &Listener{
		c: c, tls: config(c.Identity, c.Pins), listener: l, half: newHalfOpen(),
		strange: complaints{log: c.Log, interval: 10 * time.Second},
		spare:   make(map[Pin][]*conn), count: make(map[Pin]int), changed: make(chan struct{}),
	}
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.listener.Addr() }

// Run accepts signers until ctx ends; then it ends every connection.
func (l *Listener) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.listener.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.close()
	for {
		raw, err := l.listener.Accept()
		if ctx.Err() != nil {
			if raw != nil {
				_ = raw.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accepting signers on %s: %w", l.Addr(), err)
			}
			// No descriptors left, or a peer that has gone already: go on, slowly.
			l.strange.add("cannot accept a signer's connection", "err", err)
			sleep(ctx, 50*time.Millisecond)
			continue
		}
		w := l.half.add(raw, ctx.Done())
		if w == nil {
			_ = raw.Close()
			return nil
		}
		wg.Go(func() { l.admit(ctx, w) })
	}
}

// admit takes a connection through the handshake and keeps it until it ends.
func (l *Listener) admit(ctx context.Context, w *waiting) {
	secure, pin, err := l.handshake(ctx, w.conn)
	l.half.remove(w)
	if err != nil {
		_ = w.conn.Close()
		if ctx.Err() == nil {
			l.strange.add("turned away a connection to the signer's port", "from", w.conn.RemoteAddr(), "err", err)
		}
		return
	}
	c := newConn(secure)
	if !l.keep(c, pin) {
		_ = c.Close()
		return
	}
	select {
	case <-c.gone: // whoever uses it reads that
	case <-ctx.Done():
		_ = c.Close()
	}
	l.drop(c, pin)
}

func (l *Listener) handshake(ctx context.Context, raw net.Conn) (*tls.Conn, Pin, error) {
	secure := tls.Server(raw, l.tls)
	if err := secure.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return nil, Pin{}, err
	}
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, Pin{}, plain(err)
	}
	cs := secure.ConnectionState()
	pin, ok := peerPin(&cs, l.c.Pins)
	if !ok {
		return nil, Pin{}, ErrNotPinned
	}
	// In TLS 1.3 the dialler cannot know that its key was accepted until it hears
	// from us.
	if _, err := secure.Write([]byte{'\n'}); err != nil {
		return nil, Pin{}, err
	}
	return secure, pin, secure.SetDeadline(time.Time{})
}

// plain takes what a stranger could have put into an error out of it.
func plain(err error) error {
	switch {
	case errors.Is(err, ErrNotPinned):
		return ErrNotPinned
	case errors.Is(err, ErrProtocol):
		return ErrProtocol
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		return errHandshakeTime
	}
	return errHandshake
}

const (
	errHandshake     constError = "no TLS 1.3 handshake with a key and ALPN " + ALPN + " came about"
	errHandshakeTime constError = "the handshake was not complete in time"
)

func (l *Listener) keep(c *conn, pin Pin) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.count[pin] >= maxPerPeer {
		return false
	}
	if l.count[pin]++; l.count[pin] == 1 {
		l.c.Log.Info("a signer is connected", "signer", pin, "from", c.RemoteAddr())
	}
	l.spare[pin] = append(l.spare[pin], c)
	close(l.changed)
	l.changed = make(chan struct{})
	return true
}

func (l *Listener) drop(c *conn, pin Pin) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[pin]--; l.count[pin] == 0 && !l.closed {
		l.c.Log.Warn("the signer's last connection ended", "signer", pin, "from", c.RemoteAddr())
	}
	l.spare[pin] = slices.DeleteFunc(l.spare[pin], func(x *conn) bool { return x == c })
}

func (l *Listener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.changed)
	l.changed = make(chan struct{})
}

// Dials returns a function for each pin, in their order. It returns a connection
// to that signer which nobody has used yet, and waits for one until ctx ends.
func (l *Listener) Dials() []func(context.Context) (net.Conn, error) {
	var list []func(context.Context) (net.Conn, error)
	for _, pin := range l.c.Pins {
		list = append(list, func(ctx context.Context) (net.Conn, error) { return l.Dial(ctx, pin) })
	}
	return list
}

// Dial does for one pin what the functions of Dials do.
func (l *Listener) Dial(ctx context.Context, pin Pin) (net.Conn, error) {
	for {
		c, changed, err := l.take(pin)
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("signer %s is not connected to %s: %w", pin, l.Addr(), ctx.Err())
		case <-changed:
		}
	}
}

func (l *Listener) take(pin Pin) (net.Conn, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, fmt.Errorf("waiting for a signer on %s: %w", l.Addr(), net.ErrClosed)
	}
	for n := len(l.spare[pin]); n > 0; n = len(l.spare[pin]) {
		c := l.spare[pin][n-1] // the newest is the least likely to be dead
		l.spare[pin] = l.spare[pin][:n-1]
		select {
		case <-c.gone:
		default:
			return c, nil, nil
		}
	}
	return nil, l.changed, nil
}

// complaints is a log that strangers cannot fill: one line in an interval, with
// how many there were since the last.
type complaints struct {
	log       *slog.Logger
	interval  time.Duration
	mu        sync.Mutex
	sometimes rate.Sometimes
	left      int
}

func (s *complaints) add(msg string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left++
	s.sometimes.Interval = s.interval
	s.sometimes.Do(func() {
		s.log.Warn(msg, append(args, "times", s.left)...)
		s.left = 0
	})
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
