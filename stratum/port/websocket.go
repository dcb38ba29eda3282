package port

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// stream makes WebSocket messages a stream of lines. The end of a message ends
// a line, so clients may leave line ends out; a message may hold several lines.
// Text and binary messages are the same. Each line written is one text message,
// with its line end: JSON parsers skip it, and bridges to plain sockets need it.
type stream struct {
	net.Conn // what carries the frames: its deadlines, addresses and Close serve

	ws      *websocket.Conn
	in      io.Reader // the message being read, nil between two
	unended bool      // the last byte read from it ended no line
	inErr   error

	writing sync.Mutex     // the library panics at two writers
	out     io.WriteCloser // the message being written, nil between two
}

func newStream(carrier net.Conn, ws *websocket.Conn, limit int) *stream {
	if limit <= 0 {
		limit = defaultMessageLimit
	}
	ws.SetReadLimit(int64(limit))
	ws.SetPingHandler(func(data string) error {
		err := ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(pongTimeout))
		var timeout net.Error
		if errors.Is(err, websocket.ErrCloseSent) || errors.As(err, &timeout) && timeout.Timeout() {
			return nil // the connection is ending, or its writer will find out
		}
		return err
	})
	return &stream{Conn: carrier, ws: ws}
}

func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for s.inErr == nil {
		if s.in == nil {
			_, s.in, s.inErr = s.ws.NextReader()
			continue
		}
		n, err := s.in.Read(p)
		switch {
		case n > 0:
			s.unended = p[n-1] != '\n'
			return n, nil // an error comes again
		case errors.Is(err, io.EOF):
			s.in = nil
			if s.unended {
				s.unended = false
				p[0] = '\n'
				return 1, nil
			}
		default:
			s.inErr = err
		}
	}
	return 0, plainError(s.inErr)
}

// plainError says in the words of a socket what readers of sockets ask for.
func plainError(err error) error {
	var timeout net.Error
	switch {
	case websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived):
		return io.EOF
	case websocket.IsCloseError(err, websocket.CloseAbnormalClosure):
		return io.ErrUnexpectedEOF
	case errors.As(err, &timeout) && timeout.Timeout():
		return os.ErrDeadlineExceeded
	}
	return err
}

func (s *stream) Write(p []byte) (written int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for len(p) > 0 {
		if s.out == nil {
			if s.out, err = s.ws.NextWriter(websocket.TextMessage); err != nil {
				return written, plainError(err)
			}
		}
		line, end := p, false
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line, end = p[:i+1], true
		}
		n, err := s.out.Write(line)
		written += n
		if err == nil && end {
			err = s.out.Close()
			s.out = nil
		}
		if err != nil {
			return written, plainError(err)
		}
		p = p[len(line):]
	}
	return written, nil
}

func (s *stream) goodbye(deadline time.Time) {
	_ = s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), deadline)
}

// frames is the connection as the WebSocket library sees it. The library sets
// write deadlines before every write, and none means "never": those of the
// caller of Write have to stay.
type frames struct{ *replay }

func (*frames) SetDeadline(time.Time) error { return nil }

func (f *frames) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	return f.Conn.SetWriteDeadline(t)
}
