package port

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Config says how to open connections.
type Config struct {
	// TLS serves TLS; nil closes a TLS client at once, and it may retry without.
	TLS *tls.Config
	// Deadline is when a connection must be open: its kind known, its handshakes
	// done. Zero: no limit.
	Deadline time.Time
	// MessageLimit is the longest WebSocket message taken, in bytes. Default 64 KiB.
	// It costs no memory: messages are read piece by piece.
	MessageLimit int
}

const (
	defaultMessageLimit = 64 << 10
	// readSize holds the first burst of every common client, so that telling the
	// kinds apart costs no read of its own.
	readSize = 512
	// pongTimeout is how long a client may take to accept the answer to its ping.
	pongTimeout = 10 * time.Second
)

// Reasons why Open closes a connection.
var (
	ErrNoTLS = errors.New("the client speaks TLS, which is switched off on this port")
	ErrNoise = errors.New("the client speaks Stratum V2 (Noise) or another binary protocol: Stratum V2 is not spoken here yet")
	ErrHTTP  = errors.New("an HTTP request was answered; it did not ask for WebSocket")

	errTLSInside = errors.New("the client speaks TLS inside TLS: a TLS proxy in front of it and the miner both do, switch one of them to plain")
)

// Conn is an open connection: a stream of Stratum lines in both directions,
// whatever carries it. As with any net.Conn, one goroutine may read while
// another writes. Over WebSocket an error of Read or Write, a deadline too, is final.
type Conn struct {
	// Conn carries the stream behind the bytes already read: the socket itself if
	// Kind is Plain, so that an idle plain miner costs nothing more.
	net.Conn
	Kind Kind

	first  []byte // read already, to be read again
	socket net.Conn
}

// Socket returns the connection given to Open. Its Close ends a Conn at once,
// and its deadlines are those of the Conn.
func (c *Conn) Socket() net.Conn { return c.socket }

// Read reads the stream from its first byte.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.first)
	if c.first = c.first[n:]; len(c.first) == 0 {
		c.first = nil // let it go
	}
	return n, nil
}

// Open finds out what a new connection speaks and does the handshakes. It takes
// no goroutine that outlives it. A client that says nothing, or too little to
// tell, is Plain when the deadline comes: its reader then says so. With an error
// the Conn is good for HangUp only; HTTP has its answer then.
func Open(socket net.Conn, cfg Config) (*Conn, error) {
	c := &Conn{Conn: socket, Kind: Plain, socket: socket}
	_ = socket.SetDeadline(cfg.Deadline)
	if err := c.open(cfg); err != nil {
		return c, err
	}
	_ = socket.SetDeadline(time.Time{})
	return c, nil
}

func (c *Conn) open(cfg Config) error {
	kind, err := c.look()
	if err == nil && kind == TLS {
		if kind, err = c.openTLS(cfg.TLS); err == nil && kind == TLS {
			return errTLSInside
		}
	}
	switch {
	case err != nil:
		return err
	case kind == Noise:
		return ErrNoise
	case kind == HTTP:
		return c.openHTTP(cfg.MessageLimit)
	}
	return nil
}

// look reads until the kind is known. What ends before that is text for the
// reader of lines, which knows what to say to the end of a stream or to silence.
func (c *Conn) look() (Kind, error) {
	c.first = make([]byte, 0, readSize)
	for {
		if kind := Classify(c.first); kind != Unknown {
			return kind, nil
		}
		n, err := c.Conn.Read(c.first[len(c.first):cap(c.first)])
		c.first = c.first[:len(c.first)+n]
		switch {
		case n > 0 || err == nil:
		case len(c.first) > 0 && !isText(c.first[0]):
			return Unknown, fmt.Errorf("the connection ended within a TLS handshake: %w", err)
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return Plain, nil // both come again
		default:
			return Unknown, err
		}
	}
}

// openTLS does the handshake and looks at what is inside.
func (c *Conn) openTLS(cfg *tls.Config) (Kind, error) {
	if cfg == nil {
		return Unknown, ErrNoTLS
	}
	conn := tls.Server(&replay{Conn: c.Conn, first: c.first}, cfg)
	// On a stack of its own: the handshake needs a deep one, which the goroutine
	// of the session would keep.
	done := make(chan error, 1)
	go func() { done <- conn.Handshake() }()
	if err := <-done; err != nil {
		return Unknown, fmt.Errorf("TLS handshake: %w", err)
	}
	c.Conn, c.Kind = conn, TLS
	return c.look()
}

// HangUp ends a connection so that the last words arrive: it says goodbye in
// the way of each layer, takes what the client still sends for as long as wait,
// and closes. Closing at once would reset a TCP connection with unread input,
// and a reset may overtake what was just written. Nobody may read meanwhile.
func (c *Conn) HangUp(wait time.Duration) {
	_ = c.socket.SetDeadline(time.Now().Add(wait))
	under := c.Conn
	if ws, ok := under.(*stream); ok {
		ws.goodbye(time.Now().Add(wait))
		under = ws.Conn
	}
	if conn, ok := under.(*tls.Conn); ok {
		_ = conn.CloseWrite()
	}
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(c.socket, 1<<20))
	}
	_ = c.socket.Close()
}

// replay is a connection whose first bytes were read before.
type replay struct {
	net.Conn
	first []byte
}

func (r *replay) Read(p []byte) (int, error) {
	if len(r.first) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.first)
	if r.first = r.first[n:]; len(r.first) == 0 {
		r.first = nil
	}
	return n, nil
}
