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
	// First are bytes that were read from the socket before.
	First []byte
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

// Opened is an open connection.
type Opened struct {
	// Conn is a stream of Stratum lines in both directions, whatever carries it:
	// the socket itself if Kind is Plain, so that an idle plain miner costs nothing
	// more. As with any net.Conn, one goroutine may read while another writes;
	// deadlines, addresses and Close are the socket's. In TLS a deadline of a write
	// is final, over WebSocket one of a read is, too.
	Conn net.Conn
	Kind Kind
	// First is what was read of the stream already; it comes before what Conn reads.
	First []byte
}

// Open finds out what a new connection speaks and does the handshakes. It keeps
// no goroutine. The caller sets a deadline on the socket before, for all of it,
// and lifts it after. A client that says nothing, or too little to tell, is
// Plain when the deadline comes or the input ends: the reader of its lines says
// what is to be said. With an error Conn is good for HangUp only; HTTP has its
// answer then.
func Open(socket net.Conn, cfg Config) (Opened, error) {
	o := Opened{Conn: socket, Kind: Plain, First: cfg.First}
	kind, err := o.look()
	if err == nil && kind == TLS {
		if kind, err = o.openTLS(cfg.TLS); err == nil && kind == TLS {
			err = errTLSInside
		}
	}
	switch {
	case err != nil:
	case kind == Noise:
		err = ErrNoise
	case kind == HTTP:
		err = o.openHTTP(cfg.MessageLimit)
	}
	return o, err
}

// look reads until the kind is known. What ends before that is text for the
// reader of lines, which knows what to say to the end of a stream or to silence.
func (o *Opened) look() (Kind, error) {
	b := append(make([]byte, 0, max(readSize, len(o.First)+MaxFirst)), o.First...)
	for {
		o.First = b
		if kind := Classify(b); kind != Unknown {
			return kind, nil
		}
		n, err := o.Conn.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case n > 0 || err == nil:
		case len(b) > 0 && !isText(b[0]):
			return Unknown, fmt.Errorf("the connection ended within a TLS handshake: %w", err)
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return Plain, nil // both come again
		default:
			return Unknown, err
		}
	}
}

// openTLS does the handshake and looks at what is inside.
func (o *Opened) openTLS(cfg *tls.Config) (Kind, error) {
	if cfg == nil {
		return Unknown, ErrNoTLS
	}
	conn := tls.Server(&replay{o.Conn, o.First}, cfg)
	// On a stack of its own: the handshake needs a deep one, which the goroutine
	// of the session would keep: 4 to 7 KiB more (BenchmarkIdle).
	done := make(chan error, 1)
	go func() { done <- conn.Handshake() }()
	if err := <-done; err != nil {
		return Unknown, fmt.Errorf("TLS handshake: %w", err)
	}
	*o = Opened{Conn: conn, Kind: TLS}
	return o.look()
}

// HangUp ends the connection of an Opened so that the last words arrive: it says
// goodbye in the way of each layer, takes what the client still sends for as
// long as wait, and closes. Closing at once would reset a TCP connection with
// unread input, and a reset may overtake what was just written. What somebody
// reads meanwhile is of no use.
func HangUp(conn net.Conn, wait time.Duration) {
	deadline := time.Now().Add(wait)
	_ = conn.SetDeadline(deadline)
	if ws, ok := conn.(*stream); ok {
		ws.goodbye(deadline)
		conn = ws.Conn
	}
	if secure, ok := conn.(*tls.Conn); ok {
		_ = secure.CloseWrite() // if the handshake was done
		conn = secure.NetConn().(*replay).Conn
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<20))
	}
	_ = conn.Close()
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
		r.first = nil // let it go
	}
	return n, nil
}
