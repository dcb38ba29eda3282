package firmwareapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gorilla/websocket"

	"qcitycoin.org/qcity/hw"
)

// Config holds the server's settings; zero fields mean the default named.
type Config struct {
	Version         string        // of the program, for the OpenAPI document; "unknown"
	PushesPerSecond float64       // most a stream subscriber is sent; 4
	MaxSubscribers  int           // streams open at once; 32
	PingInterval    time.Duration // a subscriber silent for two of them is dropped; 20 s
	WriteTimeout    time.Duration // a subscriber that takes longer to accept a push is dropped; 5 s
}

func (c Config) withDefaults() Config {
	setDefault(&c.Version, "unknown")
	setDefault(&c.PushesPerSecond, 4)
	setDefault(&c.MaxSubscribers, 32)
	setDefault(&c.PingInterval, 20*time.Second)
	setDefault(&c.WriteTimeout, 5*time.Second)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Check is one named part of the machine's health.
type Check struct {
	Name string
	// Check returns nil when the part works. It heeds ctx.
	Check func(ctx context.Context) error
}

// Sources are where the server's answers come from. None may be nil, but
// there may be no Checks.
type Sources struct {
	Status   *Broadcaster
	Hardware func() hw.Inventory
	Checks   []Check
}

// Server answers the API. Its routes are in its own OpenAPI document, at
// /api/openapi.json.
type Server struct {
	cfg      Config
	sources  Sources
	log      *slog.Logger
	api      huma.API
	handler  http.Handler
	upgrader websocket.Upgrader

	pause       time.Duration  // between two pushes to a subscriber
	subscribers chan struct{}  // one token for each open stream
	streams     sync.WaitGroup // running stream handlers
}

// New returns a server that does nothing until Run.
func New(cfg Config, sources Sources, log *slog.Logger) *Server {
	s := &Server{cfg: cfg.withDefaults(), sources: sources, log: log}
	s.pause = time.Duration(float64(time.Second) / s.cfg.PushesPerSecond)
	s.subscribers = make(chan struct{}, s.cfg.MaxSubscribers)
	s.upgrader = websocket.Upgrader{
		HandshakeTimeout: s.cfg.WriteTimeout,
		CheckOrigin:      func(*http.Request) bool { return true }, // guard has checked it
	}
	mux := http.NewServeMux()
	s.api = s.routes(mux)
	s.handler = guard(mux)
	return s
}

// Listen opens a TCP port on a loopback address ("localhost:8480",
// "127.0.0.1:0", "[::1]:8480"); any other address is refused unopened.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("API address %q: %w", address, err)
	}
	if !loopbackName(host) {
		return nil, fmt.Errorf("API address %q is not a loopback address: the API has no passwords, use 127.0.0.1 or an SSH tunnel", address)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("opening the API port: %w", err)
	}
	// Whatever localhost resolves to.
	if err := requireLoopback(l.Addr()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func requireLoopback(a net.Addr) error {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		return nil
	}
	return fmt.Errorf("refusing to serve the API on %s: it has no passwords and serves loopback addresses only", a)
}

// Run serves until ctx ends, then closes every stream with a goodbye, lets
// running requests finish for up to WriteTimeout, and returns nil. A listener
// on anything but a loopback address is refused. Run closes the listener. It
// is called once.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if err := requireLoopback(l.Addr()); err != nil {
		return errors.Join(err, l.Close())
	}
	return s.serve(ctx, l)
}

func (s *Server) serve(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()

	var err error
	select {
	case err = <-failed:
		err = fmt.Errorf("serving the API: %w", err)
	case <-ctx.Done():
	}
	stop() // streams are hijacked connections: Shutdown does not know them
	grace, cancel := context.WithTimeout(context.Background(), s.cfg.WriteTimeout)
	defer cancel()
	if down := server.Shutdown(grace); down != nil {
		err = errors.Join(err, fmt.Errorf("shutting the API down: %w", down), server.Close())
	}
	s.streams.Wait()
	return err
}
