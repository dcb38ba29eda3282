package rpc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// cookieUser is the user name of bitcoind's cookie.
const cookieUser = "__cookie__"

// Config says how calls are authorised and what the server calls itself.
type Config struct {
	// CookieFile is written at start, mode 0600, and removed at the end.
	CookieFile string
	// Version of the software, for getnetworkinfo.
	Version string
	// Calls are answered besides the server's own.
	Calls []Call
}

// Call is a method of another part of the program.
type Call struct {
	// Name of the method; Params lists its parameters, optional ones in brackets,
	// which are all strings; Help says what it does.
	Name, Params, Help string
	// Run gets the parameters in order, "" for those left out. Its error is told to
	// the caller as it stands.
	Run func(ctx context.Context, params []string) (any, error)
}

// Server answers JSON-RPC calls over HTTP.
type Server struct {
	cfg     Config
	chain   Chain
	pool    Pool
	mining  Mining
	log     *slog.Logger
	started time.Time
	methods map[string]method
	auth    [sha256.Size]byte
	// running holds one token for each request that is being worked on, polls
	// one for each that waits for a template.
	running, polls chan struct{}
}

// What a script can make this server hold at a time. A request is read and
// answered under one of maxRunning tokens, others wait for theirs; a long poll
// gives its token back while it waits.
const (
	maxConnections = 256
	maxRunning     = 16
	maxPolls       = 64
	// maxBatch is how many calls one request may hold.
	maxBatch = 1000
	// maxAnswer is how many bytes of answers to a batch are collected; the
	// calls after that are refused.
	maxAnswer = 64 << 20
)

// New returns a server that has not started.
func New(cfg Config, chain Chain, pool Pool, mining Mining, log *slog.Logger) *Server {
	s := &Server{
		cfg: cfg, chain: chain, pool: pool, mining: mining, log: log, started: time.Now(),
		running: make(chan struct{}, maxRunning), polls: make(chan struct{}, maxPolls),
	}
	s.methods = s.table()
	for _, c := range cfg.Calls {
		s.methods[c.Name] = method{c.Params, c.Help, c.run}
	}
	return s
}

// Run serves on l until ctx ends. It writes the cookie first, and returns when
// the last call has ended. A Server runs once.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if err := s.writeCookie(); err != nil {
		_ = l.Close()
		return err
	}
	defer os.Remove(s.cfg.CookieFile)
	// No write timeout: long polls may wait for a block.
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		done <- server.Shutdown(stop)
	}()
	if err := server.Serve(limitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("rpc server: %w", err)
	}
	if err := <-done; err != nil {
		_ = server.Close()
	}
	// A call that outlived its connection still uses the chain, which the
	// caller closes next. All tokens taken, none runs and none can start.
	for range maxRunning {
		s.running <- struct{}{}
	}
	return nil
}

// writeCookie makes a secret for this run. The file appears whole and with its
// mode: a client never reads half of it, and a stale one never lends its mode.
func (s *Server) writeCookie() error {
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return fmt.Errorf("make rpc cookie: %w", err)
	}
	cookie := cookieUser + ":" + hex.EncodeToString(secret[:])
	s.auth = sha256.Sum256([]byte(cookie))
	draft := s.cfg.CookieFile + ".new"
	if err := os.Remove(draft); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old rpc cookie: %w", err)
	}
	// 0600 is more than any umask takes away from.
	if err := os.WriteFile(draft, []byte(cookie), 0o600); err != nil {
		return fmt.Errorf("write rpc cookie: %w", err)
	}
	if err := os.Rename(draft, s.cfg.CookieFile); err != nil {
		return fmt.Errorf("write rpc cookie: %w", errors.Join(err, os.Remove(draft)))
	}
	return nil
}

func (s *Server) authorised(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	sum := sha256.Sum256([]byte(user + ":" + password))
	return ok && subtle.ConstantTimeCompare(sum[:], s.auth[:]) == 1
}

// ServeHTTP answers one request: a call or a batch of calls.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "JSON-RPC takes POST", http.StatusMethodNotAllowed)
		return
	}
	if !s.authorised(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="qcity"`)
		http.Error(w, "wrong or missing cookie: use the content of "+s.cfg.CookieFile+" as user:password", http.StatusUnauthorized)
		return
	}
	select {
	case s.running <- struct{}{}:
		defer func() { <-s.running }()
	case <-r.Context().Done():
		return
	}
	// A block travels as hexadecimal digits; a little more for the envelope.
	limit := int64(2*s.chain.Network().MaxBlockBytes) + 64<<10
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		http.Error(w, fmt.Sprintf("request is larger than %d bytes", limit), http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "request was cut off: "+err.Error(), http.StatusBadRequest)
		return
	}
	status, answer := s.answer(r.Context(), body)
	if len(answer) == 0 {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(answer, '\n'))
}

// poll waits for something without keeping others from being served.
func (s *Server) poll(wait func() error) error {
	select {
	case s.polls <- struct{}{}:
		defer func() { <-s.polls }()
	default:
		return fail(codeMisc, "%d long polls wait already: end some first", maxPolls)
	}
	<-s.running
	defer func() { s.running <- struct{}{} }()
	return wait()
}
