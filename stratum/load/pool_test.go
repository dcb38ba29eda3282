package load

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// fakePool is a pool that behaves as a test says. It shares no code with the
// tool: it reads lines with encoding/json and hashes with the standard library.
type fakePool struct {
	t  *testing.T
	ln net.Listener
	// serve talks to a client; n counts the connections from 0.
	serve func(n int, c *poolConn)

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func startPool(t *testing.T, ln net.Listener, serve func(n int, c *poolConn)) *fakePool {
	t.Helper()
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	p := &fakePool{t: t, ln: ln, serve: serve}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *fakePool) addr() string { return p.ln.Addr().String() }

func (p *fakePool) accept() {
	for n := 0; ; n++ {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
		p.wg.Go(func() { p.serve(n, &poolConn{Conn: c, t: p.t, n: n, in: bufio.NewReader(c)}) })
	}
}

// poolConn is the pool's end of a connection.
type poolConn struct {
	net.Conn
	t      *testing.T
	in     *bufio.Reader
	mu     sync.Mutex // orders writes
	worker string
	n      int
}

// request is what a miner sends.
type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params []string        `json:"params"`
}

// next reads a request; ok is false when the client is gone.
func (c *poolConn) next() (q request, ok bool) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return q, false
	}
	if err := json.Unmarshal([]byte(line), &q); err != nil {
		c.t.Errorf("the tool sent %q: %v", line, err)
		return q, false
	}
	return q, true
}

// expect reads the request that has to come next.
func (c *poolConn) expect(method string) (request, bool) {
	q, ok := c.next()
	if ok && q.Method != method {
		c.t.Errorf("the tool sent %s, want %s", q.Method, method)
	}
	return q, ok
}

func (c *poolConn) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintf(c.Conn, format+"\n", args...)
}

// subscribed answers mining.subscribe.
func (c *poolConn) subscribed(q request) {
	c.say(`{"id":%s,"result":[[["mining.notify","x"]],%q,6],"error":null}`, q.ID, c.extranonce1())
}

func (c *poolConn) extranonce1() string { return fmt.Sprintf("0a0b%04x", c.n) }

// login goes through subscribe and authorize.
func (c *poolConn) login() bool {
	q, ok := c.expect("mining.subscribe")
	if !ok {
		return false
	}
	c.subscribed(q)
	if q, ok = c.expect("mining.authorize"); !ok {
		return false
	}
	c.worker = q.Params[0]
	c.say(`{"id":%s,"result":true,"error":null}`, q.ID)
	return true
}

// tipHash is a made-up previous hash as it stands in a job.
func tipHash(n int) string { return fmt.Sprintf("%064x", n+1) }

const coinbase1, coinbase2 = "01020304", "aabbccddee"

var branch = []string{strings.Repeat("11", 32), strings.Repeat("c3", 32)}

func (c *poolConn) job(id string, tip int, clean bool) {
	c.say(`{"params":[%q,%q,%q,%q,[%q,%q],"20000000","1d00ffff","6553f100",%t],"method":"mining.notify","id":null}`,
		id, tipHash(tip), coinbase1, coinbase2, branch[0], branch[1], clean)
}

func (c *poolConn) reset() {
	raw := c.Conn
	if t, ok := raw.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	_ = raw.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// untilGone reads until the client hangs up.
func (c *poolConn) untilGone() {
	for {
		if _, ok := c.next(); !ok {
			return
		}
	}
}

// shareHash is the hash of a submitted header (internal order), for jobs of tip.
func (c *poolConn) shareHash(tip int, p []string) [32]byte {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			c.t.Errorf("%q: %v", s, err)
		}
		return b
	}
	double := func(b []byte) []byte {
		first := sha256.Sum256(b)
		second := sha256.Sum256(first[:])
		return second[:]
	}
	leaf := double(unhex(coinbase1 + c.extranonce1() + p[2] + coinbase2))
	for _, b := range branch {
		leaf = double(append(leaf, unhex(b)...))
	}
	header := unhex("00000020")
	prev := unhex(tipHash(tip))
	for i := 0; i < 32; i += 4 {
		header = append(header, prev[i+3], prev[i+2], prev[i+1], prev[i])
	}
	header = append(header, leaf...)
	for _, word := range []string{p[3], "1d00ffff", p[4]} {
		header = binary.LittleEndian.AppendUint32(header, binary.BigEndian.Uint32(append(unhex(word), 0, 0, 0, 0)))
	}
	return [32]byte(double(header))
}
