package firmwareapi

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// pipes is a listener whose connections have no buffers: a peer that does not
// read stalls the writer at once. Inside synctest its deadlines run on the
// fake clock.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	fail   func() // closes closed, once
}

func newPipes() *pipes {
	p := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
	p.fail = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.fail(); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// subscribe opens a stream.
func (p *pipes) subscribe() (*websocket.Conn, *http.Response, error) {
	d := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) {
		mine, theirs := net.Pipe()
		p.accept <- theirs
		return mine, nil
	}}
	return d.Dial("ws://localhost"+pathStream, nil)
}

func (p *pipes) mustSubscribe(t *testing.T) *websocket.Conn {
	t.Helper()
	conn, _, err := p.subscribe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// running starts a server on pipes; stop ends it and returns what Run would.
func running(s *Server) (p *pipes, stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	p = newPipes()
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, p) }()
	return p, func() error { cancel(); return <-done }
}

func mustPublish(t *testing.T, b *Broadcaster, uptime int64) {
	t.Helper()
	s := fullStatus()
	s.UptimeSeconds = uptime
	if err := b.Publish(s); err != nil {
		t.Fatal(err)
	}
}

// next reads one push and returns its uptime, which numbers the states.
func next(t *testing.T, conn *websocket.Conn) int64 {
	t.Helper()
	kind, message, err := conn.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	var s Status
	if err := json.Unmarshal(message, &s); err != nil || kind != websocket.TextMessage {
		t.Fatalf("message of kind %d: %s: %v", kind, message, err)
	}
	return s.UptimeSeconds
}

// TestStreamStalledSubscriber: one subscriber reads, one does not. The
// publisher and the reader notice nothing, and the stalled one is dropped.
func TestStreamStalledSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := sources()
		s := newServer(src)
		p, stop := running(s)
		stalled, reader := p.mustSubscribe(t), p.mustSubscribe(t)
		mustPublish(t, src.Status, 1)
		for n := int64(1); n <= 100; n++ {
			if got := next(t, reader); got != n {
				t.Fatalf("read state %d, expected %d", got, n)
			}
			start := time.Now()
			mustPublish(t, src.Status, n+1)
			if waited := time.Since(start); waited > 0 {
				t.Fatalf("publishing state %d waited %v", n+1, waited)
			}
		}
		// The fake clock has moved by the pauses between pushes: longer than
		// the patience with the stalled subscriber.
		synctest.Wait()
		if open := len(s.subscribers); open != 1 {
			t.Errorf("%d streams are open, expected the reader's only", open)
		}
		if _, _, err := stalled.ReadMessage(); err == nil {
			t.Error("the stalled subscriber was not dropped")
		}
		_ = reader.Close()
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestStreamSkips: states faster than the rate are skipped, the newest never.
func TestStreamSkips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := sources()
		s := New(Config{PushesPerSecond: 2}, src, newServer(src).log)
		p, stop := running(s)
		mustPublish(t, src.Status, 1)
		conn := p.mustSubscribe(t)
		if got := next(t, conn); got != 1 {
			t.Fatalf("on connecting: state %d", got)
		}
		start := time.Now()
		for n := int64(2); n <= 50; n++ {
			mustPublish(t, src.Status, n)
		}
		if got := next(t, conn); got != 50 {
			t.Errorf("read state %d, expected the newest, 50", got)
		}
		if gap := time.Since(start); gap != time.Second/2 {
			t.Errorf("two pushes lie %v apart, expected half a second", gap)
		}
		_ = conn.Close()
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestStreamGoodbye: the end of the server reaches every subscriber.
func TestStreamGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := sources()
		s := newServer(src)
		p, stop := running(s)
		conn := p.mustSubscribe(t) // before the first status
		ended := make(chan error, 1)
		go func() {
			_, _, err := conn.ReadMessage()
			ended <- err
		}()
		synctest.Wait()
		if err := stop(); err != nil {
			t.Error(err)
		}
		var bye *websocket.CloseError
		if err := <-ended; !errors.As(err, &bye) || bye.Code != websocket.CloseGoingAway {
			t.Errorf("the stream ended with %v", err)
		}
		if len(s.subscribers) != 0 {
			t.Error("the stream is still counted")
		}
	})
}

// TestListenerFails: a server that cannot accept any more says so, and does
// not wait for its subscribers to leave.
func TestListenerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := sources()
		p, stop := running(newServer(src))
		mustPublish(t, src.Status, 1)
		conn := p.mustSubscribe(t)
		next(t, conn)
		ended := make(chan error, 1)
		go func() { _, _, err := conn.ReadMessage(); ended <- err }()
		p.fail()
		if err := <-ended; !websocket.IsCloseError(err, websocket.CloseGoingAway) {
			t.Errorf("the stream ended with %v", err)
		}
		synctest.Wait()
		if err := stop(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestStreamPings: whoever answers pings stays, whoever does not is dropped.
func TestStreamPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := sources()
		s := newServer(src)
		p, stop := running(s)
		alive, dead := p.mustSubscribe(t), p.mustSubscribe(t)
		dead.SetPingHandler(func(string) error { return nil })
		pings := 0
		answer := alive.PingHandler()
		alive.SetPingHandler(func(data string) error { pings++; return answer(data) })
		deadEnded, aliveEnded := make(chan error, 1), make(chan error, 1)
		go func() { _, _, err := dead.ReadMessage(); deadEnded <- err }()
		go func() { _, _, err := alive.ReadMessage(); aliveEnded <- err }()
		<-deadEnded
		time.Sleep(20 * s.cfg.PingInterval) // fake time
		synctest.Wait()
		select {
		case err := <-aliveEnded:
			t.Errorf("the answering subscriber was dropped: %v", err)
		default:
		}
		if pings < 20 || len(s.subscribers) != 1 {
			t.Errorf("%d pings, %d streams open", pings, len(s.subscribers))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		<-aliveEnded
	})
}

func TestStreamLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := sources()
		s := New(Config{MaxSubscribers: 1}, src, newServer(src).log)
		p, stop := running(s)
		first := p.mustSubscribe(t)
		if _, r, err := p.subscribe(); err == nil || r == nil || r.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("second stream: %v, %v", r, err)
		}
		_ = first.Close()
		synctest.Wait()
		second := p.mustSubscribe(t) // its place is free again
		_ = second.Close()
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
