package load

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/miner/work"
)

// engines runs a test with each of them.
func engines(t *testing.T, f func(t *testing.T, cfg Config)) {
	t.Run("epoll", func(t *testing.T) { f(t, Config{Threads: 2, pause: 1}) }) // on Linux; elsewhere the other one
	t.Run("goroutines", func(t *testing.T) { f(t, Config{goroutines: true, pause: 1}) })
}

// runUntil runs the load until a condition on its progress is met.
func runUntil(t *testing.T, cfg Config, done func(Progress) bool) *Result {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := cfg.Progress
	cfg.Progress = func(p Progress) {
		if before != nil {
			before(p)
		}
		if done(p) {
			cancel()
		}
	}
	res, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestStormReasons: every way not to get a job is counted under its reason.
func TestStormReasons(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		const each = 7
		behaviours := []func(c *poolConn){
			func(c *poolConn) { // good, with a job before the answer to authorize
				q, _ := c.expect("mining.subscribe")
				c.subscribed(q)
				q, _ = c.expect("mining.authorize")
				c.job("a", 0, true)
				c.say(`{"id":%s,"error":null,"result":true}`, q.ID)
				c.untilGone()
			},
			func(c *poolConn) { _, _ = c.next(); _ = c.Close() },
			func(c *poolConn) { _, _ = c.next(); c.reset() },
			func(c *poolConn) {
				q, _ := c.next()
				c.say(`{"id":%s,"result":null,"error":[20,"no room for 77 more",null]}`, q.ID)
				c.untilGone()
			},
			func(c *poolConn) {
				q, _ := c.next()
				c.subscribed(q)
				q, _ = c.next()
				c.say(`{"id":%s,"result":false,"error":{"code":24,"message":"who?"}}`, q.ID)
				c.untilGone()
			},
			func(c *poolConn) { _, _ = c.next(); c.say("220 mail.example ESMTP"); c.untilGone() },
			func(c *poolConn) { c.untilGone() },
			func(c *poolConn) { c.login(); c.untilGone() },
			func(c *poolConn) {
				c.login()
				_, _ = c.Write(bytes.Repeat([]byte("x"), maxLine+1))
				c.untilGone()
			},
		}
		p := startPool(t, nil, func(n int, c *poolConn) { behaviours[n%len(behaviours)](c) })
		cfg.Address, cfg.Connections = "stratum+tcp://"+p.addr(), each*len(behaviours)
		res := runUntil(t, cfg, func(p Progress) bool { return p.Holding == each && p.Failed == 6*each })
		want := map[string]int{
			"no answer to mining.subscribe: closed by the pool":     each,
			"no answer to mining.subscribe: reset by the pool":      each,
			"mining.subscribe refused: 20 no room for # more":       each,
			`mining.authorize refused: {"code":#,"message":"who?"}`: each,
			"not a Stratum line: # mail.example ESMTP":              each,
			"a line of more than 262144 bytes":                      each,
			"no answer to mining.subscribe until the interruption":  each,
			"no job until the interruption":                         each,
		}
		if diff := cmp.Diff(want, res.Storm.Reasons); diff != "" {
			t.Errorf("reasons (-want +got):\n%s", diff)
		}
		if res.Storm.Holding != each || res.Storm.Failed != 8*each || res.Complete || res.Junk != each {
			t.Errorf("%+v, complete %t, junk %d", res.Storm, res.Complete, res.Junk)
		}
	})
}

// TestTimeout: what has no job in time has failed, and the run is complete.
func TestTimeout(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		p := startPool(t, nil, func(_ int, c *poolConn) {
			if c.login() {
				c.untilGone()
			}
		})
		cfg.Address, cfg.Connections, cfg.Timeout, cfg.Duration = p.addr(), 3, time.Second, -1
		res, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"no job within 1s": 3}; !cmp.Equal(want, res.Storm.Reasons) || !res.Complete {
			t.Errorf("reasons %v, complete %t", res.Storm.Reasons, res.Complete)
		}
	})
}

func TestNobodyListens(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Address, cfg.Connections, cfg.Duration = ln.Addr().String(), 5, -1
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		res, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"no connection: refused, nothing listens there": 5}; !cmp.Equal(want, res.Storm.Reasons) {
			t.Errorf("reasons %v", res.Storm.Reasons)
		}
	})
}

// TestInFlight: never more connections are on their way than allowed.
func TestInFlight(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		var now, most atomic.Int64
		p := startPool(t, nil, func(n int, c *poolConn) {
			if x := now.Add(1); x > most.Load() {
				most.Store(x)
			}
			c.login()
			now.Add(-1)
			c.job("a", 0, true)
			c.untilGone()
		})
		cfg.Address, cfg.Connections, cfg.InFlight, cfg.Duration, cfg.Threads = p.addr(), 60, 4, -1, 1
		res, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if res.Storm.Holding != 60 || most.Load() > 4 {
			t.Errorf("%d hold a job, %d at once", res.Storm.Holding, most.Load())
		}
	})
}

// crowd is a fake pool's logged-in clients.
type crowd struct {
	mu  sync.Mutex
	all []*poolConn
}

func (g *crowd) join(c *poolConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, c)
}

func (g *crowd) each(f func(i int, c *poolConn)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, c := range g.all {
		f(i, c)
	}
}

// TestBroadcasts: only the first clean job on a new tip counts, for everybody
// who reads; and tips are matched.
func TestBroadcasts(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		const n = 40
		var g crowd
		p := startPool(t, nil, func(_ int, c *poolConn) {
			if c.login() {
				c.job("first", 0, true)
				g.join(c)
				c.untilGone()
			}
		})
		tips := make(chan Tip, 1)
		tips <- Tip{Prev: tipHash(2), Nano: time.Now().UnixNano()}
		cfg.Address, cfg.Connections, cfg.Stalled, cfg.Tips, cfg.ReadDelay = p.addr(), n, 0.1, tips, 50*time.Millisecond
		var once, twice sync.Once
		cfg.Progress = func(p Progress) {
			if p.Phase == "measuring" {
				once.Do(func() {
					g.each(func(_ int, c *poolConn) {
						c.job("1", 1, true)
						c.job("2", 1, false)
						c.job("3", 1, true) // the same tip again
						c.job("4", 9, false)
						c.job("5", 2, true)
						c.say(`{"id":null,"method":"client.show_message","params":["hello"]}`)
						c.say(`{"id":null,"method":"client.reconnect","params":[]}`)
						c.say(`{"id":4711,"result":true,"error":null}`)
					})
				})
			}
			if p.Broadcasts == 2 {
				twice.Do(func() {
					g.each(func(_ int, c *poolConn) { _ = c.Close() })
				})
			}
		}
		res := runUntil(t, cfg, func(p Progress) bool { return p.Lost == n*9/10 && p.Holding == 0 })
		b := res.Broadcasts
		if b.Count != 2 || b.Missing != 0 || len(b.List) != 2 {
			t.Fatalf("%+v", b)
		}
		for i, c := range b.List {
			if c.Prev != tipHash(i+1) || c.Expected != n*9/10 || c.Reached != c.Expected || (c.TipToFirst != nil) != (i == 1) {
				t.Errorf("broadcast %d: %+v", i, c)
			}
		}
		if want := map[string]int{"closed by the pool": n * 9 / 10}; !cmp.Equal(want, res.Lost) {
			t.Errorf("lost %v", res.Lost)
		}
		if s := res.Stalled; s == nil || s.Connections != n/10 || s.Closed != n/10 {
			t.Errorf("stalled %+v", s)
		}
		if res.Reconnects != n*9/10 || res.Stray != n*9/10 || res.Junk != 0 {
			t.Errorf("%d reconnects, %d stray, %d junk", res.Reconnects, res.Stray, res.Junk)
		}
	})
}

// TestShares: every share is a good one and only sent once, and every answer is
// counted as what it is.
func TestShares(t *testing.T) {
	for name, rate := range map[string]Rate{"max": {Max: true}, "at a rate": {Rate: 4000}} {
		t.Run(name, func(t *testing.T) {
			engines(t, func(t *testing.T, cfg Config) { testShares(t, cfg, rate) })
		})
	}
}

func testShares(t *testing.T, cfg Config, rate Rate) {
	const n, enough = 4, 400
	var mu sync.Mutex
	seen := map[[32]byte]bool{}
	var good, stale, low, odd int
	target := work.TargetFromDifficulty(1.0 / (1 << 26))
	p := startPool(t, nil, closing(func(c *poolConn) {
		if !c.login() {
			return
		}
		c.say(`{"id":null,"method":"mining.set_difficulty","params":[%s]}`, "0.0000000149011611938476562") // 2^-26
		c.job("j7", 3, true)
		for {
			q, ok := c.next()
			if !ok {
				return
			}
			if q.Method != "mining.submit" || len(q.Params) != 5 || q.Params[0] != c.worker || q.Params[1] != "j7" || len(q.Params[2]) != 12 {
				t.Errorf("the tool sent %+v", q)
				return
			}
			h := c.shareHash(3, q.Params)
			mu.Lock()
			if seen[h] {
				t.Errorf("share %+v was sent twice", q.Params)
			}
			seen[h] = true
			total := len(seen)
			switch {
			case !target.Met(h):
				t.Errorf("hash %x does not meet the target", h)
			case total%7 == 0:
				stale++
				c.say(`{"id":%s,"result":null,"error":[21,"stale: block %d came",null]}`, q.ID, total)
			case total%11 == 0:
				low++
				c.say(`{"id":%s,"result":false,"error":null}`, q.ID)
			case total%13 == 0:
				odd++
				good++
				c.say(`{"id":%s,"result":true,"error":null}`, q.ID)
				c.say(`{"id":%s,"result":true,"error":null}`, q.ID) // again
			default:
				good++
				c.say(`{"id":%s,"result":true,"error":null}`, q.ID)
			}
			mu.Unlock()
			if total >= enough {
				return // every connection ends with its next share
			}
		}
	}))
	cfg.Address, cfg.Connections, cfg.Shares = p.addr(), n, rate
	res := runUntil(t, cfg, func(p Progress) bool { return p.Lost == n })
	s := res.Shares
	mu.Lock()
	defer mu.Unlock()
	if int(s.Accepted) != good || int(s.Answered) != good+stale+low || s.Sent < s.Answered || res.Stray != odd {
		t.Errorf("accepted %d of %d answers to %d; want %d of %d; %d stray, want %d", s.Accepted, s.Answered, s.Sent, good, good+stale+low, res.Stray, odd)
	}
	want := []Rejected{{21, "stale: block # came", uint64(stale)}, {0, "no reason given", uint64(low)}}
	if diff := cmp.Diff(want, s.Rejected); diff != "" {
		t.Errorf("rejected (-want +got):\n%s", diff)
	}
}

// closing ends a connection when its server function returns. What the client
// sent is read first: unread input would turn the close into a reset, which
// may overtake the last answers.
func closing(serve func(*poolConn)) func(int, *poolConn) {
	return func(_ int, c *poolConn) {
		serve(c)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		c.untilGone()
	}
}

// TestTLS: a certificate that nobody signed is taken, unless it is to be verified.
func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	p := startPool(t, ln, func(_ int, c *poolConn) {
		if c.login() {
			c.job("a", 0, true)
			c.untilGone()
		}
	})
	cfg := Config{Address: "stratum+ssl://" + p.addr(), Connections: 6, Duration: -1, pause: 1}
	res, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if res.Storm.Holding != 6 || !res.Setup.TLS {
		t.Errorf("%+v", res.Storm)
	}
	cfg.TLSVerify = true
	if res, err = Run(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for reason, n := range res.Storm.Reasons {
		if n != 6 || !strings.Contains(reason, "certificate") {
			t.Errorf("%d × %s", n, reason)
		}
	}
	if res.Storm.Failed != 6 {
		t.Errorf("%+v", res.Storm)
	}
}

// TestInterrupted: what was measured until then comes back, and no error.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	res, err := Run(ctx, Config{Address: "127.0.0.1:1", Connections: 3})
	if err != nil || res.Complete || res.Storm.Failed != 3 {
		t.Errorf("%+v, %v", res, err)
	}
}
