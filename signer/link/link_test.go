package link

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newTestIdentity(tb testing.TB) *Identity {
	tb.Helper()
	id, err := CreateIdentity(filepath.Join(tb.TempDir(), "identity"))
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// rig is a node's port and what a signer needs to dial it.
type rig struct {
	tb           testing.TB
	node, signer *Identity
	address      string
	listener     *Listener
	log          *record
}

func newRig(tb testing.TB) *rig {
	r := &rig{tb: tb, node: newTestIdentity(tb), signer: newTestIdentity(tb), log: new(record)}
	r.listen(r.signer.Pin())
	return r
}

// listen starts a node's port; stop ends it.
func (r *rig) listen(pins ...Pin) (stop func()) {
	r.tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.tb.Fatal(err)
	}
	r.address = l.Addr().String()
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.listener = NewListener(l, ListenerConfig{Identity: r.node, Pins: pins, Log: log})
	return start(r.tb, r.listener.Run)
}

// start runs something until the test ends or stop is called.
func start(tb testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// record is a log that is read while it is written.
type record struct {
	mu   sync.Mutex
	text []byte
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, b...)
	return len(b), nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}

// dialer is a daemon that answers every line with the same line.
func (r *rig) dialer(change func(*DialerConfig)) (d *Dialer, stop func()) {
	c := DialerConfig{Address: r.address, Identity: r.signer, Pin: r.node.Pin(), Serve: echo, Log: quiet()}
	if change != nil {
		change(&c)
	}
	d = NewDialer(c)
	return d, start(r.tb, d.Run)
}

func echo(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		if _, err := conn.Write(line); err != nil {
			return
		}
	}
}

func patience(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

func (r *rig) dial() net.Conn {
	r.tb.Helper()
	conn, err := r.listener.Dial(patience(r.tb), r.signer.Pin())
	if err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() { conn.Close() })
	return conn
}

func ask(tb testing.TB, conn net.Conn, line string) {
	tb.Helper()
	if err := askOnce(conn, line); err != nil {
		tb.Fatal(err)
	}
}

func askOnce(conn net.Conn, line string) error {
	go func() { _, _ = io.WriteString(conn, line+"\n") }()
	got, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if got != line+"\n" {
		return errors.New("got " + got)
	}
	return nil
}

// askUntil asks on new connections until one answers.
func (r *rig) askUntil(line string) {
	r.tb.Helper()
	for askOnce(r.dial(), line) != nil {
	}
}

func TestLink(t *testing.T) {
	r := newRig(t)
	d, stop := r.dialer(nil)
	conns := make([]net.Conn, 5)
	for i := range conns {
		conns[i] = r.dial()
		ask(t, conns[i], "hello")
	}
	long := strings.Repeat("x", 1<<20)
	for _, conn := range conns {
		ask(t, conn, long)
	}
	if st := d.Status(); st.Connections != len(conns) || st.Since.IsZero() {
		t.Fatalf("status %+v", st)
	}
	if !strings.Contains(conns[0].RemoteAddr().String(), "127.0.0.1:") {
		t.Fatalf("remote address %s", conns[0].RemoteAddr())
	}
	stop()
	if _, err := conns[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("after the signer's end: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.listener.Dial(ctx, r.signer.Pin()); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "is not connected") {
		t.Fatalf("without a signer: %v", err)
	}
}

// TestRestarts: either side goes and comes back; the other finds it again.
func TestRestarts(t *testing.T) {
	r := newRig(t)
	_, stopSigner := r.dialer(nil)
	r.askUntil("first")
	stopSigner()
	_, stopSigner = r.dialer(nil)
	r.askUntil("signer is back")
	stopSigner()

	// Another node in the place of the first, whose connections end.
	stopNode := r.listen(r.signer.Pin())
	old := r.listener
	var place atomic.Value
	place.Store(r.address)
	r.dialer(func(c *DialerConfig) {
		c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, place.Load().(string))
		}
	})
	r.askUntil("first node")
	stopNode()
	if _, err := old.Dial(patience(t), r.signer.Pin()); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("a listener that has ended: %v", err)
	}
	r.listen(r.signer.Pin())
	place.Store(r.address)
	r.askUntil("node is back")
}

// TestTwoSigners: each way to dial leads to the signer whose pin it is.
func TestTwoSigners(t *testing.T) {
	r := newRig(t)
	second := newTestIdentity(t)
	r.listen(r.signer.Pin(), second.Pin())
	serve := func(name string) func(context.Context, net.Conn) {
		return func(_ context.Context, conn net.Conn) { _, _ = conn.Write([]byte(name + "\n")) }
	}
	r.dialer(func(c *DialerConfig) { c.Serve = serve("first") })
	r.dialer(func(c *DialerConfig) { c.Serve, c.Identity = serve("second"), second })
	for i, dial := range r.listener.Dials() {
		for range 3 {
			conn, err := dial(patience(t))
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(conn)
			line := ""
			for line == "" || line == "\n" { // pulses
				// A connection wakes its other side with what is written first.
				_, _ = conn.Write([]byte("who?\n"))
				if line, err = lines.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			if want := []string{"first\n", "second\n"}[i]; line != want {
				t.Fatalf("dial %d led to %q", i, line)
			}
			_ = conn.Close()
		}
	}
}
