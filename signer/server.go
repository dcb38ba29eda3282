package signer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"qcitycoin.org/qcity/node/types"
)

// ServerConfig is what a Server needs.
type ServerConfig struct {
	Socket  string     // path of the Unix socket
	Network types.Hash // clients of any other are turned away
	// UIDs may connect besides the daemon's own user and root, as nodes: what is
	// an operator's alone is not for them.
	UIDs []uint32
	// OperatorsOnly keeps nodes off the socket, as they come by Serve.
	OperatorsOnly bool
	Backend       Backend
	Log           *slog.Logger
	// MessageTimeout bounds the arrival of one message and the sending of one;
	// zero means 10 s. SignTimeout bounds one signature; zero means 30 s.
	MessageTimeout, SignTimeout time.Duration
}

// maxConnections bounds what clients can make the daemon hold in memory:
// a node needs one, an operator's status another.
const maxConnections = 16

// Server serves the signer's socket, and connections that were made otherwise.
type Server struct {
	c    ServerConfig
	peer func(*net.UnixConn) (uint32, error)
	own  uint32

	mu       sync.Mutex
	conns    map[*serverConn]struct{}
	onSocket int // of them
	closing  bool
	wg       sync.WaitGroup
}

// NewServer returns a Server; it starts nothing.
func NewServer(c ServerConfig) *Server {
	if c.MessageTimeout == 0 {
		c.MessageTimeout = 10 * time.Second
	}
	if c.SignTimeout == 0 {
		c.SignTimeout = 30 * time.Second
	}
	return &Server{c: c, peer: peerUID, own: uint32(os.Geteuid()), conns: make(map[*serverConn]struct{})}
}

// Run listens and serves until ctx ends. A request under way is then finished
// and answered, idle connections are closed, and the socket is removed.
func (s *Server) Run(ctx context.Context) error {
	l, err := listen(s.c.Socket, len(s.c.UIDs) > 0)
	if err != nil {
		return err
	}
	return s.serve(ctx, l)
}

func (s *Server) serve(ctx context.Context, l *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close() // also removes the socket file; ends Accept
		s.closeIdle()
	})
	defer stop()
	defer s.wg.Wait()
	// Work in progress outlives ctx: it is bounded by SignTimeout.
	work := context.WithoutCancel(ctx)
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return errors.Join(failed(ErrInternal, err, "accepting on %s", s.c.Socket), l.Close())
		}
		c := &serverConn{server: s, conn: conn, r: bufio.NewReader(conn), socket: true}
		if !s.add(c) {
			c.turnAway(failed(ErrUnavailable, nil, "the signer serves %d connections already, or is ending", maxConnections))
			continue
		}
		s.wg.Go(func() {
			defer s.remove(c)
			var err error
			if c.may, err = s.allow(conn); err != nil {
				s.c.Log.Warn("turned a client away", "err", err)
				c.turnAway(err)
				return
			}
			c.serve(work)
		})
	}
}

// Serve serves one connection to a node whose identity is proved, until either
// side ends it. When ctx ends, a request under way is finished and answered. The
// caller bounds the number of these connections.
func (s *Server) Serve(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, s.closeIdle)
	defer stop()
	c := &serverConn{server: s, conn: conn, r: bufio.NewReader(conn), may: forNode}
	if !s.add(c) {
		_ = conn.Close() // we are ending
		return
	}
	defer s.remove(c)
	c.serve(context.WithoutCancel(ctx))
}

func (s *Server) add(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || c.socket && s.onSocket >= maxConnections {
		return false
	}
	if c.socket {
		s.onSocket++
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) remove(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.socket {
		s.onSocket--
	}
	delete(s.conns, c)
	_ = c.conn.Close() // nothing is left to lose on it
}

// closeIdle wakes every connection that waits for a request. One that works on
// a request notices when it would read the next.
func (s *Server) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for c := range s.conns {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// allow says what the peer may call: everything as the daemon's own user or
// root, what is a node's as one of the users listed.
func (s *Server) allow(conn *net.UnixConn) (access, error) {
	uid, err := s.peer(conn)
	switch {
	case err != nil:
		return 0, failed(ErrPeer, err, "the signer cannot tell who connects")
	case (uid == s.own || uid == 0) && s.c.OperatorsOnly:
		return forOperator, nil
	case uid == s.own || uid == 0:
		return forNode | forOperator, nil
	case !slices.Contains(s.c.UIDs, uid):
		return 0, failed(ErrPeer, nil, "user %d may not use the signer: run the node as user %d, or list %d under signer.node_uids in the signer's configuration", uid, s.own, uid)
	case s.c.OperatorsOnly:
		return 0, failed(ErrPeer, nil, "user %d is a node's, and this signer dials its nodes: what is left of this socket is for user %d", uid, s.own)
	}
	return forNode, nil
}

type serverConn struct {
	server *Server
	conn   net.Conn
	r      *bufio.Reader
	socket bool // it came in by the socket
	may    access
}

// readBy sets when reading has to be done, unless the server is ending.
func (c *serverConn) readBy(t time.Time) bool {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return !c.server.closing && c.conn.SetReadDeadline(t) == nil
}

func (c *serverConn) turnAway(err error) {
	_ = c.send(&wireResponse{Error: toWire(err)}) // the peer may be gone: that is its affair
	_ = c.conn.Close()
}

func (c *serverConn) send(r *wireResponse) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.server.c.MessageTimeout)); err != nil {
		return err
	}
	return writeLine(c.conn, r)
}

func (c *serverConn) serve(ctx context.Context) {
	greeted := false
	for {
		req, err := c.next(greeted)
		if err != nil {
			// Every reason to close that is the client's doing is told to it.
			var e *Error
			if errors.As(err, &e) {
				c.server.c.Log.Warn("closing a client's connection", "err", err)
				c.turnAway(err)
			}
			return
		}
		resp := c.answer(ctx, req, &greeted)
		if c.send(resp) != nil || !greeted {
			return
		}
	}
}

// next reads a request. A connection may be idle for ever between requests,
// but not before its hello nor within a message.
func (c *serverConn) next(greeted bool) (*wireRequest, error) {
	limit := c.server.c.MessageTimeout
	idle := time.Time{}
	if !greeted {
		idle = time.Now().Add(limit)
	}
	if !c.readBy(idle) {
		return nil, io.EOF
	}
	if _, err := c.r.Peek(1); err != nil {
		return nil, err
	}
	if !c.readBy(time.Now().Add(limit)) {
		return nil, io.EOF
	}
	line, err := readLine(c.r)
	switch {
	case errors.Is(err, errTooLong):
		return nil, failed(ErrBadRequest, nil, "message exceeds %d bytes", maxLine)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, failed(ErrBadRequest, nil, "message was not complete after %s, or the signer is ending", limit)
	case err != nil:
		return nil, err
	}
	req := new(wireRequest)
	if err := decodeStrict(line, req); err != nil {
		return nil, failed(ErrBadRequest, nil, "message is no request: %v", err)
	}
	return req, nil
}

func (c *serverConn) answer(ctx context.Context, req *wireRequest, greeted *bool) *wireResponse {
	result, err := c.call(ctx, req, greeted)
	resp := &wireResponse{ID: req.ID}
	if err == nil {
		resp.Result, err = json.Marshal(result)
	}
	if err != nil {
		resp.Error = toWire(err)
	}
	return resp
}

func (c *serverConn) call(ctx context.Context, req *wireRequest, greeted *bool) (any, error) {
	if !*greeted && req.Method != methodHello {
		return nil, failed(ErrBadRequest, nil, "the first message must be %s, not %q", methodHello, req.Method)
	}
	if req.Method == methodHello {
		return c.hello(req, greeted)
	}
	m, ok := methods[req.Method]
	if !ok {
		return nil, failed(ErrBadRequest, nil, "unknown method %q", req.Method)
	}
	if m.may&c.may == 0 {
		return nil, failed(ErrPeer, nil, "%s is not for this connection: %s", req.Method, m.may.who())
	}
	return m.call(ctx, c.server, req)
}

// hello checks that both sides mean the same thing before anything else is said.
func (c *serverConn) hello(req *wireRequest, greeted *bool) (any, error) {
	var h wireHello
	*greeted = false // a hello that fails ends the connection
	if err := decodeParams(req, &h); err != nil {
		return nil, err
	}
	if h.Version != wireVersion {
		return nil, failed(ErrVersion, nil, "the client speaks version %d, the signer version %d: install the same release for both", h.Version, wireVersion)
	}
	if h.Network != c.server.c.Network {
		return nil, failed(ErrWrongNetwork, nil, "the client is of network %s, the signer of network %s: correct the socket path, the pin or the network", h.Network, c.server.c.Network)
	}
	*greeted = true
	return wireHello{wireVersion, c.server.c.Network}, nil
}
