// Package server is the Stratum V1 server: sessions of miners around one feed
// of jobs. It judges shares, keeps each worker's account, steers every
// session's difficulty, and hands solved headers to a work.Submitter. It opens
// no port: the caller brings the listener.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
)

// Server serves miners on one listener.
type Server struct {
	cfg    Config
	ln     net.Listener
	feed   *work.Feed
	submit work.Submitter
	log    *slog.Logger

	current  atomic.Pointer[template]
	numbers  atomic.Uint32 // of sessions
	misuse   misuse
	twins    twinTable
	shy      shy
	tip      atomic.Pointer[tip]
	nextJob  atomic.Uint32 // ids start at random: a job of an earlier run is unknown, not mistaken
	books    *pool.Books
	solved   *pool.Seen // headers already given to the submitter
	buffers  sync.Pool  // *[]byte for output
	blockCtx context.Context
	noise    rate.Sometimes // how often refused Stratum V2 clients are worth a line
	// and connections with identical work
	twinNoise rate.Sometimes

	wg       sync.WaitGroup
	mu       sync.Mutex // locked before any session's
	sessions map[*session]struct{}
	prefixes prefixes
	stopping bool

	handing atomic.Bool   // Run ends without closing connections
	stop    chan struct{} // closed by HandOver
	ended   chan struct{} // closed when Run has ended
	handed  *Handover
	handErr error
}

// New makes a server for the miners that connect to ln, which the server
// closes when Run ends, and keeps the books in books. Jobs come from feed; solved headers go to submit.
func New(cfg Config, books *pool.Books, ln net.Listener, feed *work.Feed, submit work.Submitter, log *slog.Logger) (*Server, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, ln: ln, feed: feed, submit: submit, log: log,
		books:    books,
		solved:   pool.NewSeen(2048),
		sessions: map[*session]struct{}{},
		prefixes: newPrefixes(time.Now(), books),
		noise:    rate.Sometimes{Interval: time.Minute}, twinNoise: rate.Sometimes{First: 5, Interval: time.Minute},
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	s.buffers.New = func() any { b := make([]byte, 0, 2048); return &b }
	s.nextJob.Store(rand.Uint32())
	return s, nil
}

// Run serves until ctx ends (then it returns nil) or the listener fails. It
// returns when every connection is closed, or handed over, and every block
// candidate delivered.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.blockCtx = context.WithoutCancel(ctx) // a solved header outlives the shutdown
	defer close(s.ended)
	stop := context.AfterFunc(ctx, s.stopAccepting)
	defer stop()
	var watchers sync.WaitGroup
	watchers.Go(func() { s.watchFeed(ctx) })
	watchers.Go(func() { s.tick(ctx) })
	watchers.Go(func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	for _, ses := range s.all() { // adopted
		s.start(ses)
	}

	err := s.accept(ctx)
	cancel()
	watchers.Wait()
	if s.handing.Load() {
		s.freeze()
		s.wg.Wait()
		s.handed, s.handErr = s.collect()
	}
	_ = s.ln.Close()
	s.closeAll()
	s.wg.Wait()
	return err
}

// stopAccepting ends accept; a listener that is handed over stays open.
func (s *Server) stopAccepting() {
	if ln, ok := s.ln.(interface{ SetDeadline(time.Time) error }); ok && s.handing.Load() {
		_ = ln.SetDeadline(time.Unix(1, 0))
		return
	}
	_ = s.ln.Close()
}

// accept takes connections until the listener is closed. Running out of file
// descriptors is a reason to wait, not to end.
func (s *Server) accept(ctx context.Context) error {
	pause := 10 * time.Millisecond
	for {
		conn, err := s.ln.Accept()
		switch {
		case err == nil:
			pause = 10 * time.Millisecond
			s.admit(conn)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("stratum: the listener on %s was closed: %w", s.ln.Addr(), err)
		default:
			s.log.Warn("stratum: cannot take a connection, trying again; raise the open files limit if this stays", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Second)
		}
	}
}

// admit starts a session, or turns the connection away if the house is full.
func (s *Server) admit(conn net.Conn) {
	now := time.Now()
	ses := newSession(s, conn, now)
	s.mu.Lock()
	full, stopping := len(s.sessions) >= s.cfg.MaxSessions, s.stopping
	if !full && !stopping {
		s.sessions[ses] = struct{}{}
	}
	s.mu.Unlock()
	if full || stopping {
		e := stratum.Errorf(stratum.CodeOther, "this server is full (%d connections), try again later", s.cfg.MaxSessions)
		_ = conn.SetWriteDeadline(now.Add(100 * time.Millisecond)) // a new socket takes one line at once
		_, _ = conn.Write(stratum.AppendError(nil, stratum.Raw("null"), e))
		_ = conn.Close()
		return
	}
	s.start(ses)
}

// start serves a session in a goroutine of its own.
func (s *Server) start(ses *session) {
	s.wg.Go(func() {
		if ended := ses.run(); ended {
			s.leave(ses)
		}
	})
}

// leave removes a session and keeps its place for the miner's return.
func (s *Server) leave(ses *session) {
	s.mu.Lock() // both, as a place may be taken over at any moment
	ses.mu.Lock()
	workers := ses.workers
	delete(s.sessions, ses)
	if ses.question == asking {
		s.shy.add(ses.host())
	}
	if ses.subscribed {
		ses.dropLapsed()
		s.prefixes.park(ses.extranonce1, ses.parked(time.Now()), s.cfg.ResumeEntries)
	}
	ses.mu.Unlock()
	s.mu.Unlock()
	for _, w := range workers {
		s.books.Close(w)
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for ses := range s.sessions {
		_ = ses.socket.Close()
	}
}

// tip is the parent of the work that is out, and the parent before.
type tip struct {
	parent, before [32]byte
	since          time.Time
}

// follow notes on which parent there is work now.
func (s *Server) follow(now time.Time, parent [32]byte) {
	s.books.NewParent(parent)
	last := s.tip.Load()
	switch {
	case last == nil:
		s.tip.Store(&tip{parent: parent, before: parent, since: now})
	case last.parent != parent:
		s.tip.Store(&tip{parent: parent, before: last.parent, since: now})
	}
}

// watchFeed gives every new job to every session. Nothing here waits for a
// client: what a socket does not take at once, the session writes on its own.
func (s *Server) watchFeed(ctx context.Context) {
	for {
		job, changed := s.feed.Latest()
		if job != nil {
			s.follow(time.Now(), job.PrevBlock)
			s.books.Network(job.Target)
			s.current.Store(newTemplate(job))
			s.broadcast(changed)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// tick drives what happens by time alone: silence, vardiff, forgetting.
func (s *Server) tick(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		for _, ses := range s.all() {
			ses.tick(now)
		}
		if n%60 == 0 {
			s.mu.Lock()
			s.prefixes.expire(now, s.cfg.ResumeFor)
			s.mu.Unlock()
		}
	}
}

// all returns the open sessions.
func (s *Server) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*session, 0, len(s.sessions))
	for ses := range s.sessions {
		list = append(list, ses)
	}
	return list
}

// broadcastShare is how many sessions are worth another goroutine.
const broadcastShare = 256

// broadcast sends the newest job to every session, on all CPUs. When an even
// newer one comes it stops: the next broadcast reaches everybody with that.
func (s *Server) broadcast(newer <-chan struct{}) {
	list, now, tpl := s.all(), time.Now(), s.current.Load()
	var next atomic.Int64
	push := func() {
		for {
			from := int(next.Add(broadcastShare)) - broadcastShare
			if from >= len(list) {
				return
			}
			select {
			case <-newer:
				return
			default:
			}
			for _, ses := range list[from:min(from+broadcastShare, len(list))] {
				ses.jobIsDue(now, tpl)
			}
		}
	}
	var helpers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(list)/broadcastShare) - 1 {
		helpers.Go(push)
	}
	push()
	helpers.Wait()
}
