package link

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// lingerTime is how long a connection that we have ended goes on reading, so
// that the peer gets to see our last words: closing with bytes unread would
// take them back (RST).
const lingerTime = time.Second

// conn is a connection with a pulse. Its user holds one end of a pipe; the
// goroutines at the other end move lines to and from the network and keep the
// pulse, whether the user reads or not.
type conn struct {
	net.Conn          // the user's end
	inner    net.Conn // ours
	raw      net.Conn // the network

	claimed chan struct{} // closed by the first line from the peer
	gone    chan struct{} // closed when the connection is over

	writing chan struct{} // held by who writes to the network; guards midLine
	midLine bool          // what was sent last does not end a line

	mu      sync.Mutex
	closing bool  // the user has closed: the read deadline stands
	reason  error // why the connection ended, if not by somebody's will
}

// newConn takes over a connection; it ends when either side closes it, or falls
// silent. The caller has seen the peer alive just now.
func newConn(raw net.Conn) *conn {
	user, inner := net.Pipe()
	c := &conn{
		Conn: user, inner: inner, raw: raw,
		claimed: make(chan struct{}), gone: make(chan struct{}), writing: make(chan struct{}, 1),
	}
	go c.receive()
	go c.transmit()
	go c.beat()
	return c
}

func (c *conn) LocalAddr() net.Addr  { return c.raw.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Read says why the connection ended, where a pipe knows only that it did.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.reason != nil {
			err = c.reason
		}
	}
	return n, err
}

// receive moves what comes from the network to the user.
func (c *conn) receive() {
	defer close(c.gone)
	defer c.raw.Close()
	defer c.inner.Close()
	buf := make([]byte, 16<<10)
	var lines filter
	first, discard := true, false
	for c.setReadDeadline() == nil {
		n, err := c.raw.Read(buf)
		if text := lines.strip(buf[:n]); len(text) > 0 && !discard {
			if first {
				close(c.claimed)
				first = false
			}
			_, writeErr := c.inner.Write(text)
			discard = writeErr != nil // the user has closed: only its last words matter
		}
		if err != nil {
			c.ended(err)
			return
		}
	}
}

func (c *conn) setReadDeadline() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return nil
	}
	return c.raw.SetReadDeadline(time.Now().Add(silence))
}

// ended remembers the first reason that is one.
func (c *conn) ended(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != nil || c.closing || errors.Is(err, io.EOF) {
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ErrSilent
	}
	c.reason = err
}

// transmit moves what the user writes to the network, and says goodbye.
func (c *conn) transmit() {
	buf := make([]byte, 16<<10)
	for {
		n, err := c.inner.Read(buf)
		if n > 0 && c.send(buf[:n]) != nil {
			_ = c.inner.Close()
			return
		}
		if err != nil {
			c.goodbye()
			return
		}
	}
}

func (c *conn) goodbye() {
	c.mu.Lock()
	c.closing = true
	_ = c.raw.SetReadDeadline(time.Now().Add(lingerTime))
	c.mu.Unlock()
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		_ = c.raw.SetWriteDeadline(time.Now().Add(lingerTime))
		_ = half.CloseWrite() // the peer may be gone already
	}
}

func (c *conn) send(b []byte) error {
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	return c.write(b)
}

// write needs c.writing. A TLS connection is of no more use once a write failed.
func (c *conn) write(b []byte) error {
	err := c.raw.SetWriteDeadline(time.Now().Add(silence))
	if err == nil {
		_, err = c.raw.Write(b)
	}
	if err != nil {
		c.ended(err)
		_ = c.raw.Close()
	}
	c.midLine = b[len(b)-1] != '\n'
	return err
}

// beat sends empty lines between the lines of others.
func (c *conn) beat() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.gone:
			return
		case <-tick.C:
		}
		if c.pulse() != nil {
			return
		}
	}
}

func (c *conn) pulse() error {
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	c.mu.Lock()
	closing := c.closing // asked now: after a goodbye a write fails, and would end the lingering
	c.mu.Unlock()
	if closing || c.midLine {
		return nil
	}
	return c.write([]byte{'\n'})
}

// filter takes empty lines out of a stream.
type filter struct{ midLine bool }

// strip works in place.
func (f *filter) strip(b []byte) []byte {
	out := b[:0]
	for _, x := range b {
		if x != '\n' {
			f.midLine = true
		} else if !f.midLine {
			continue
		} else {
			f.midLine = false
		}
		out = append(out, x)
	}
	return out
}
