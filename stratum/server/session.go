package server

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/port"
)

// maxPending is how much unsent output stops a session from reading on. With
// one write under way and one answer on top, a stalled client holds less than 64 KiB.
const maxPending = 24 << 10

// session is one connection. One goroutine reads. What is to be said is written
// by whoever has it to say, as far as the socket takes it at once; another
// goroutine exists only while there is a rest that has to wait.
type session struct {
	srv       *Server
	socket    net.Conn  // as accepted, for closing and deadlines
	conn      net.Conn  // the stream of lines on it: the socket, TLS or WebSocket
	kind      port.Kind // Unknown until opened
	first     []byte    // read from the socket but not looked at; until opened
	remote    string
	connected time.Time
	lines     *stratum.LineReader // reading goroutine only
	junk      int                 // reading goroutine only
	drained   chan struct{}       // tells the reader that output went out
	direct    *direct             // nil: only the waiting goroutine writes

	mu      sync.Mutex
	out     *[]byte // unsent answers, from srv.buffers; nil when empty
	writing bool    // a writer goroutine exists
	closing bool    // close once out is written
	jobDue  bool    // send the newest job

	subscribed  bool
	agent       string
	extranonce1 [work.PrefixSize]byte
	workers     []*pool.Worker
	negotiated  bool   // version rolling was asked for
	mask        uint32 // and this was granted
	vardiff     stratum.Vardiff
	announced   float64 // difficulty of the last set_difficulty
	past        []pastTarget
	jobs        jobRing
	last        sentJob
	working     bool // a job was sent on this connection
	lastNotify  time.Time
	moved       time.Time // when the first job on this parent was sent
	accepted    uint64
	rejected    uint64

	wire
}

func newSession(srv *Server, conn net.Conn, now time.Time) *session {
	halfOpen(conn, srv.cfg.WriteTimeout)
	s := &session{
		srv: srv, socket: conn, conn: conn, remote: conn.RemoteAddr().String(), connected: now,
		drained: make(chan struct{}, 1),
		vardiff: stratum.NewVardiff(srv.cfg.Difficulty, now),
		wire:    wire{number: srv.numbers.Add(1), nonce2: usualNonce2},
	}
	s.heard.Store(now.UnixNano())
	return s
}

// run reads until the connection ends; it returns false when the session goes
// on in another process instead.
func (s *session) run() (ended bool) {
	err := s.open()
	if err == nil {
		err = s.read()
	}
	if errors.Is(err, errHandedOver) {
		return false
	}
	s.srv.log.Debug("stratum: connection ended", "remote", s.remote, "kind", s.kind, "why", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing, s.jobDue = true, false
	s.write()
	return true
}

// errDone ends a session whose last words are already queued.
var errDone = errors.New("closed by this server")

// errHandedOver ends a session's goroutines here; the connection lives on.
var errHandedOver = errors.New("handed over to another process")

// open finds out what the client speaks, by its first bytes alone.
func (s *session) open() error {
	if s.kind != port.Unknown {
		return nil // adopted
	}
	_ = s.socket.SetDeadline(s.connected.Add(s.srv.cfg.SubscribeTimeout))
	if s.srv.handing.Load() { // set before the deadline that wakes a reader
		return errHandedOver
	}
	o, err := port.Open(s.socket, port.Config{TLS: s.srv.cfg.TLS, First: s.first})
	if s.srv.handing.Load() && o.Kind == port.Plain && err == nil {
		s.first = o.First // the next program looks again
		return errHandedOver
	}
	if errors.Is(err, port.ErrNoise) {
		s.srv.noise.Do(func() { s.srv.log.Info("stratum: connection refused", "remote", s.remote, "why", err) })
	}
	_ = s.socket.SetWriteDeadline(time.Time{}) // each write has its own
	s.use(o)
	return err
}

// use makes an opened connection the session's own.
func (s *session) use(o port.Opened) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.kind, s.first = o.Conn, o.Kind, nil
	s.direct = newDirect(o.Conn)
	s.lines = stratum.NewLineReader(o.Conn, s.srv.cfg.LineLimit)
	s.lines.Push(o.First)
}

func (s *session) read() error {
	if !s.subscribed {
		_ = s.conn.SetReadDeadline(s.connected.Add(s.srv.cfg.SubscribeTimeout))
	}
	s.greet()
	if s.srv.handing.Load() { // set before the deadline that wakes a reader
		return errHandedOver
	}
	for {
		if s.srv.handing.Load() {
			return errHandedOver
		}
		line, err := s.lines.ReadLine()
		switch {
		case err != nil && s.srv.handing.Load() && errors.Is(err, os.ErrDeadlineExceeded):
			return errHandedOver
		case errors.Is(err, stratum.ErrLineTooLong):
			s.srv.misuse.long.Add(1)
			s.refuse(stratum.Raw("null"), stratum.Errorf(stratum.CodeOther, "%v", err))
			return err
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.srv.misuse.late.Add(1)
			s.refuse(stratum.Raw("null"), stratum.Errorf(stratum.CodeNotSubscribed,
				"no mining.subscribe within %v", s.srv.cfg.SubscribeTimeout))
			return err
		case err != nil:
			return err
		}
		if err := s.line(line); err != nil {
			return err
		}
		if err := s.pace(); err != nil {
			return err
		}
	}
}

// greet says what an adopted session still owes.
func (s *session) greet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write()
}

// pace starts writing when a burst of requests is answered, and holds the
// reader back while the client does not take its answers.
func (s *session) pace() error {
	for {
		s.mu.Lock()
		pending := 0
		if s.out != nil {
			pending = len(*s.out)
		}
		if pending >= maxPending || !s.lines.Buffered() {
			s.write()
		}
		closing := s.closing
		s.mu.Unlock()
		switch {
		case closing:
			return errDone
		case s.srv.handing.Load():
			return errHandedOver
		}
		if pending < maxPending {
			return nil
		}
		<-s.drained
	}
}

// line handles one line. An error ends the session.
func (s *session) line(line []byte) error {
	var q stratum.Request
	if err := stratum.ParseRequest(line, &q); err != nil {
		s.junk++
		s.srv.misuse.junk.Add(1)
		if s.junk == 1 {
			s.refuse(q.ID, stratum.Errorf(stratum.CodeOther, "cannot read this line: %v", err))
		}
		if s.junk >= s.srv.cfg.JunkLines {
			s.srv.misuse.junkClosed.Add(1)
			return errors.New("too many unreadable lines")
		}
		return nil
	}
	if q.Response {
		s.response(&q)
		return nil
	}
	return s.dispatch(&q)
}

// buf returns the output buffer; what is appended to it goes back by outBuf.
// The caller holds s.mu, here and below.
func (s *session) buf() []byte {
	if s.out == nil {
		s.out = s.srv.buffers.Get().(*[]byte)
	}
	return *s.out
}

func (s *session) outBuf(b []byte) { *s.out = b }

func (s *session) answer(id stratum.Raw, result string) {
	s.outBuf(stratum.AppendResult(s.buf(), id, result))
}

// refuse queues a refusal. It takes s.mu itself.
func (s *session) refuse(id stratum.Raw, e *stratum.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outBuf(stratum.AppendError(s.buf(), id, e))
}

// ready reports whether the session may get work. Order does not matter:
// some firmware authorizes before it subscribes.
func (s *session) ready() bool { return s.subscribed && len(s.workers) > 0 }

// jobIsDue makes the session send the newest job, unless that can wait.
func (s *session) jobIsDue(now time.Time, tpl *template) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready() && !s.closing && s.wants(now, tpl) {
		s.jobDue = true
		s.write()
	}
}

// wants reports whether a template is worth a new job: another parent at once,
// better transactions after a while.
func (s *session) wants(now time.Time, tpl *template) bool {
	if !s.working || tpl == nil || s.last.tpl.PrevBlock != tpl.PrevBlock {
		return true
	}
	return s.last.tpl.common != tpl && now.Sub(s.lastNotify) >= s.srv.cfg.UpdateInterval
}

// tick looks after silence and difficulty, once a second.
func (s *session) tick(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.police(now)
	if !s.ready() || s.closing {
		return
	}
	s.grantWish(now)
	changed := s.working && s.vardiff.Tick(now)
	if changed || s.jobDue || s.working && s.wants(now, s.srv.current.Load()) || now.Sub(s.lastNotify) >= s.srv.cfg.RefreshInterval {
		s.jobDue = true
		s.write()
	}
}

// write makes sure that what is queued goes out, and never waits for it.
func (s *session) write() {
	if s.writing {
		return
	}
	if s.direct != nil {
		if s.jobDue {
			s.compose(time.Now())
		}
		s.writeNow()
	}
	if s.out != nil || s.jobDue || s.closing {
		s.writing = true
		s.srv.wg.Add(1) // the reader still holds one, so this is never the first after Wait
		go s.drain()
	}
}

// writeNow writes what the socket takes at once; the rest stays queued.
func (s *session) writeNow() {
	if s.out == nil {
		return
	}
	b := *s.out
	n := s.direct.write(b)
	if n == len(b) {
		s.srv.recycle(s.out)
		s.out = nil
		return
	}
	s.outBuf(b[:copy(b, b[n:])])
}

// drain writes until nothing is left, as slowly as the client takes it. Everything that blocks happens without
// the lock, so nobody ever waits for this client.
func (s *session) drain() {
	defer s.srv.wg.Done()
	for {
		now := time.Now()
		s.mu.Lock()
		if s.jobDue {
			s.compose(now)
		}
		buf := s.out
		s.out = nil
		if buf == nil {
			s.writing = false
			closing := s.closing
			if !closing && !s.srv.handing.Load() { // TLS may have something to say by itself, later
				_ = s.conn.SetWriteDeadline(time.Time{})
			}
			s.mu.Unlock()
			if closing {
				port.HangUp(s.conn, time.Second)
			}
			return
		}
		s.mu.Unlock()
		_ = s.conn.SetWriteDeadline(now.Add(s.srv.cfg.WriteTimeout))
		n := 0
		var err error
		if !s.srv.handing.Load() { // set before the deadline that wakes a writer
			n, err = s.conn.Write(*buf)
		}
		if s.srv.handing.Load() && s.keep((*buf)[n:]) {
			return
		}
		s.srv.recycle(buf)
		if err != nil {
			s.abandon(err)
			return
		}
		s.signal()
	}
}

// keep puts back what was not written, for the process that goes on with this
// session; it returns false for one that is ending.
func (s *session) keep(rest []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if later := s.out; later != nil {
		rest = append(append([]byte(nil), rest...), *later...)
	}
	s.out = nil
	if len(rest) > 0 {
		s.outBuf(append(s.buf(), rest...))
	}
	s.writing = false
	s.signal()
	return true
}

// abandon gives a client up that takes no more data.
func (s *session) abandon(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.srv.misuse.stalled.Add(1)
	}
	s.srv.log.Debug("stratum: cannot write", "remote", s.remote, "err", err)
	_ = s.socket.Close() // the reader ends with it
	s.mu.Lock()
	s.closing, s.jobDue, s.out = true, false, nil
	s.mu.Unlock() // writing stays true: nothing is written any more
	s.signal()
}

func (s *session) signal() {
	select {
	case s.drained <- struct{}{}:
	default:
	}
}

// recycle keeps buffers of ordinary size.
func (s *Server) recycle(buf *[]byte) {
	if cap(*buf) <= 2*maxPending {
		*buf = (*buf)[:0]
		s.buffers.Put(buf)
	}
}

// deliver gives a solved header to the submitter. It is not bound to the
// session or to the server's life: a found block must not get lost.
func (s *Server) deliver(sol work.Solution) (work.Outcome, [32]byte, error) {
	ctx, cancel := context.WithTimeout(s.blockCtx, time.Minute)
	defer cancel()
	return s.submit.SubmitSolution(ctx, sol)
}
