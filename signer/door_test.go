package signer

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/link"
)

// door is where a server under test is reached.
type door struct {
	socket string // empty: it has dialled us
	dial   func(context.Context) (net.Conn, error)
}

// overBoth runs a test over the Unix socket and over a link that the signer has
// dialled.
func overBoth(t *testing.T, test func(*testing.T, *bench)) {
	for name, linked := range map[string]bool{"socket": false, "link": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if linked {
				b.link = newTestLink(t)
			}
			test(t, b)
		})
	}
}

// testLink is the node's side of a link over TLS on loopback.
type testLink struct {
	node, signer *link.Identity
	listener     *link.Listener
}

func newTestLink(tb testing.TB) *testLink {
	tb.Helper()
	dir := tb.TempDir()
	k := &testLink{node: need[*link.Identity](tb)(link.CreateIdentity(dir + "/node")), signer: need[*link.Identity](tb)(link.CreateIdentity(dir + "/signer"))}
	l := need[net.Listener](tb)(net.Listen("tcp", "127.0.0.1:0"))
	k.listener = link.NewListener(l, link.ListenerConfig{Identity: k.node, Pins: []link.Pin{k.signer.Pin()}, Log: quiet()})
	background(tb, k.listener.Run)
	return k
}

// background runs something until the test ends or stop is called.
func background(tb testing.TB, run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	tb.Cleanup(func() {
		if err := stop(); err != nil {
			tb.Error(err)
		}
	})
	return stop
}

// daemon runs a server for b's service until the test ends or stop is called.
func (b *bench) daemon(tb testing.TB, change func(*ServerConfig, *Server)) (d door, stop func() error) {
	tb.Helper()
	c := ServerConfig{Socket: socketPath(tb), Network: b.network.ID, Backend: b.service, Log: quiet()}
	s := NewServer(c)
	if change != nil {
		change(&c, s)
		peer := s.peer
		s = NewServer(c)
		s.peer = peer
	}
	return b.runServer(tb, s)
}

func (b *bench) runServer(tb testing.TB, s *Server) (d door, stop func() error) {
	tb.Helper()
	if k := b.link; k != nil {
		dialer := link.NewDialer(link.DialerConfig{
			Address: k.listener.Addr().String(), Identity: k.signer, Pin: k.node.Pin(), Serve: s.Serve, Log: quiet(),
		})
		return door{dial: k.listener.Dials()[0]}, background(tb, dialer.Run)
	}
	l, err := listen(s.c.Socket, len(s.c.UIDs) > 0)
	if err != nil {
		tb.Fatal(err)
	}
	stop = background(tb, func(ctx context.Context) error { return s.serve(ctx, l) })
	return door{s.c.Socket, func(context.Context) (net.Conn, error) { return net.Dial("unix", s.c.Socket) }}, stop
}

// socketPath is short, as socket paths must be, in a directory of mode 0700.
func socketPath(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "qs")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir + "/s"
}

func newTestClient(tb testing.TB, d door, network types.Hash) *Client {
	c := NewDialClient("the test's door", d.dial, network)
	if d.socket != "" {
		c = NewClient(d.socket, network)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

func patience(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}
