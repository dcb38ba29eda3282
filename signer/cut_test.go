package signer

import (
	"bytes"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/link"
)

// cutter is a proxy that cuts one connection after so many bytes in one
// direction and leaves the others alone.
type cutter struct {
	listener net.Listener
	dial     func() (net.Conn, error)

	mu    sync.Mutex
	armed bool
	up    bool  // towards the server
	after int64 // bytes
	cut   atomic.Bool
}

func newCutter(tb testing.TB, l net.Listener, dial func() (net.Conn, error)) *cutter {
	p := &cutter{listener: l, dial: dial}
	var wg sync.WaitGroup
	tb.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.forward(conn) })
		}
	})
	return p
}

// arm makes the next connection the one that is cut.
func (p *cutter) arm(up bool, after int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed, p.up, p.after = true, up, after
	p.cut.Store(false)
}

func (p *cutter) forward(client net.Conn) {
	defer client.Close()
	server, err := p.dial()
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	mine, up, after := p.armed, p.up, p.after
	p.armed = false
	p.mu.Unlock()
	var wg sync.WaitGroup
	move := func(to, from net.Conn, limited bool) {
		if !limited {
			_, _ = io.Copy(to, from)
		} else if _, err := io.CopyN(to, from, after); err == nil {
			if _, err := from.Read(make([]byte, 1)); err == nil {
				p.cut.Store(true)
			}
		}
		to.Close()
		from.Close()
	}
	wg.Go(func() { move(server, client, mine && up) })
	wg.Go(func() { move(client, server, mine && !up) })
	wg.Wait()
}

// TestCut cuts the connection between node and signer after every byte of a
// request and of its answer. The client asks again by itself; what it gets is the
// one signature there is, and the token made no second one.
//
// Over TLS every 97th byte of what is on the wire is tried, handshake and all;
// QCITY_CUTS=1 tries each.
func TestCut(t *testing.T) {
	step := 97
	if text := os.Getenv("QCITY_CUTS"); text != "" {
		var err error
		if step, err = strconv.Atoi(text); err != nil || step < 1 {
			t.Fatalf("QCITY_CUTS: want a number of bytes, not %q", text)
		}
	}
	for name, c := range map[string]struct {
		linked bool
		step   int
		least  int64 // cuts
	}{"socket": {false, 1, 1000}, "link": {true, step, 20}} {
		t.Run(name, func(t *testing.T) {
			var cuts atomic.Int64
			t.Run("all", func(t *testing.T) {
				const parts = 8
				for part := range parts {
					for _, up := range []bool{true, false} {
						t.Run("", func(t *testing.T) {
							t.Parallel()
							cuts.Add(cutEvery(t, c.linked, up, int64(part*c.step), int64(parts*c.step)))
						})
					}
				}
			})
			t.Logf("%d cuts", cuts.Load())
			if cuts.Load() < c.least {
				t.Errorf("only %d cuts: the proxy does not cut", cuts.Load())
			}
		})
	}
}

// cutEvery cuts after first, first+step … bytes until that is beyond the end.
func cutEvery(t *testing.T, linked, up bool, first, step int64) (cuts int64) {
	b := newBenchIn(t, memoryDir(t))
	ask := b.throughSocket
	if linked {
		b.link = newTestLink(t)
		ask = b.throughLink
	}
	p, client := ask(t)
	for after := first; ; after += step {
		p.arm(up, after)
		c, done := client()
		c.pause = time.Millisecond
		block := b.proposal(testSlot*uint32(cuts+1), 0, 1)
		got, err := c.SignSlot(patience(t), NewRequest(block))
		if err != nil {
			t.Fatalf("after %d bytes: %v", after, err)
		}
		done()
		b.checkSignature(t, block, got)
		again := b.mustSign(t, block)
		if !again.Repeated || !bytes.Equal(again.Signature, got.Signature) || b.token.signed != int(cuts)+1 {
			t.Fatalf("after %d bytes: %+v, then %+v, %d signatures made", after, got, again, b.token.signed)
		}
		if !p.cut.Load() {
			return cuts
		}
		cuts++
	}
}

// memoryDir is a folder in memory, where there is one: what a disk keeps is not the
// matter here.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "qcity-cut-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// throughSocket puts a proxy between client and socket.
func (b *bench) throughSocket(t *testing.T) (*cutter, func() (*Client, func())) {
	d, _ := b.daemon(t, nil)
	path := socketPath(t)
	l := need[net.Listener](t)(net.Listen("unix", path))
	p := newCutter(t, l, func() (net.Conn, error) { return net.Dial("unix", d.socket) })
	return p, func() (*Client, func()) {
		c := NewClient(path, b.network.ID)
		return c, func() { c.Close() }
	}
}

// throughLink puts a proxy between the daemon and the node's port.
func (b *bench) throughLink(t *testing.T) (*cutter, func() (*Client, func())) {
	l := need[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	k := b.link
	p := newCutter(t, l, func() (net.Conn, error) { return net.Dial("tcp", k.listener.Addr().String()) })
	return p, func() (*Client, func()) {
		s := NewServer(ServerConfig{Network: b.network.ID, Backend: b.service, Log: quiet()})
		dialer := link.NewDialer(link.DialerConfig{
			Address: l.Addr().String(), Identity: k.signer, Pin: k.node.Pin(), Serve: s.Serve, Log: quiet(),
		})
		stop := background(t, dialer.Run)
		c := NewDialClient("the link", k.listener.Dials()[0], b.network.ID)
		return c, func() {
			c.Close()
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	}
}
