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
	"sync"
	"time"

	"qcitycoin.org/qcity/node/types"
)

// Backend is what a Server serves: a *Service.
type Backend interface {
	SignSlot(context.Context, Request) (Response, error)
	Attest(context.Context, VoteRequest) (Response, error)
	SlotRecord(ctx context.Context, height uint32) (record SlotRecord, ok bool, err error)
	Status(context.Context) Status
}

// ServerConfig is what a Server needs.
type ServerConfig struct {
	Socket  string     // path of the Unix socket
	Network types.Hash // clients of any other are turned away
	// UIDs may connect besides the daemon's own user and root.
	UIDs    []uint32
	Backend Backend
	Log     *slog.Logger
	// MessageTimeout bounds the arrival of one message and the sending of one;
	// zero means 10 s. SignTimeout bounds one signature; zero means 30 s.
	MessageTimeout, SignTimeout time.Duration
}

// maxConnections bounds what clients can make the daemon hold in memory:
// a node needs one, an operator's status another.
const maxConnections = 16

// Server serves the signer's socket.
type Server struct {
	c    ServerConfig
	peer func(*net.UnixConn) (uint32, error)
	own  uint32

	mu      sync.Mutex
	conns   map[*serverConn]struct{}
	closing bool
	wg      sync.WaitGroup
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
		c := &serverConn{server: s, conn: conn, r: bufio.NewReader(conn)}
		if !s.add(c) {
			c.turnAway(failed(ErrUnavailable, nil, "the signer serves %d connections already, or is ending", maxConnections))
			continue
		}
		s.wg.Go(func() {
			defer s.remove(c)
			c.serve(work)
		})
	}
}

func (s *Server) add(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.conns) >= maxConnections {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) remove(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// allow checks who the peer is.
func (s *Server) allow(conn *net.UnixConn) error {
	uid, err := s.peer(conn)
	if err != nil {
		return failed(ErrPeer, err, "the signer cannot tell who connects")
	}
	if uid == s.own || uid == 0 {
		return nil
	}
	for _, u := range s.c.UIDs {
		if u == uid {
			return nil
		}
	}
	return failed(ErrPeer, nil, "user %d may not use the signer: run the node as user %d, or list %d under nodeUIDs in the signer's configuration", uid, s.own, uid)
}

type serverConn struct {
	server *Server
	conn   *net.UnixConn
	r      *bufio.Reader
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
	log := c.server.c.Log
	if err := c.server.allow(c.conn); err != nil {
		log.Warn("turned a client away", "err", err)
		c.turnAway(err)
		return
	}
	greeted := false
	for {
		req, err := c.next(greeted)
		if err != nil {
			// Every reason to close that is the client's doing is told to it.
			var e *Error
			if errors.As(err, &e) {
				log.Warn("closing a client's connection", "err", err)
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
	backend := c.server.c.Backend
	switch req.Method {
	case methodHello:
		return c.hello(req, greeted)
	case methodStatus:
		return backend.Status(ctx), nil
	case methodSignSlot:
		return sign(ctx, c, req, backend.SignSlot)
	case methodAttest:
		return sign(ctx, c, req, backend.Attest)
	case methodSlotRecord:
		var h wireHeight
		if err := decodeParams(req, &h); err != nil {
			return nil, err
		}
		record, ok, err := backend.SlotRecord(ctx, h.Height)
		if err != nil || !ok {
			return wireSlot{}, err
		}
		return wireSlot{&record}, nil
	}
	return nil, failed(ErrBadRequest, nil, "unknown method %q", req.Method)
}

func sign[R any](ctx context.Context, c *serverConn, req *wireRequest, by func(context.Context, R) (Response, error)) (any, error) {
	var r R
	if err := decodeParams(req, &r); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.server.c.SignTimeout)
	defer cancel()
	return by(ctx, r)
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
		return nil, failed(ErrWrongNetwork, nil, "the client is of network %s, the signer of network %s: correct the socket path or the network", h.Network, c.server.c.Network)
	}
	*greeted = true
	return wireHello{wireVersion, c.server.c.Network}, nil
}
