package server

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum/pool"
)

func TestConfig(t *testing.T) {
	if err := (Config{}).WithDefaults().Check(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	for name, set := range map[string]func(*Config){
		"MaxSessions":       func(c *Config) { c.MaxSessions = -1 },
		"LineLimit":         func(c *Config) { c.LineLimit = 10 },
		"SubscribeTimeout":  func(c *Config) { c.SubscribeTimeout = time.Millisecond },
		"KeepJobs":          func(c *Config) { c.KeepJobs = 1 },
		"ResumeFor":         func(c *Config) { c.ResumeFor = -1 },
		"share difficulty ": func(c *Config) { c.Difficulty.Min = -1 },
	} {
		var cfg Config
		set(&cfg)
		_, err := New(cfg, pool.New(time.Now(), pool.Config{}), newPipeListener(), work.NewFeed(), &chain{}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestOneConnectionTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := easyConfig()
		cfg.MaxSessions = 2
		r := startRig(t, cfg)
		defer r.stop()
		a, b := r.dial(), r.dial()
		third := r.dial()
		text, err := io.ReadAll(third)
		if !strings.Contains(string(text), "full (2 connections)") || err != nil {
			t.Errorf("the third connection got %q, %v", text, err)
		}
		_ = a.Close()
		synctest.Wait()
		c := r.client()
		if m := c.call("mining.ping", "[]"); string(m.Result) != `"pong"` {
			t.Errorf("after one left: %s", m.Error)
		}
		_ = b.Close()
	})
}

func TestWhoStaysAndWhoGoes(t *testing.T) {
	for name, tc := range map[string]struct {
		send string
		stay bool
		says string
	}{
		"says nothing":             {"", false, "no mining.subscribe within 30s"},
		"half a line":              {`{"id":1,"method":"mining.sub`, false, "no mining.subscribe within 30s"},
		"pings but never subs":     {`{"id":1,"method":"mining.ping"}` + "\n", false, "no mining.subscribe"},
		"subscribed, then silent":  {`{"id":1,"method":"mining.subscribe"}` + "\n", false, "no mining.authorize within 10m0s"},
		"ready, half a line":       {`{"id":1,"method":"mining.subscribe"}` + "\n" + `{"id":2,"method":"mining.authorize","params":["w"]}` + "\n{", false, "a line was not finished within 1m0s"},
		"ready, then silent":       {`{"id":1,"method":"mining.subscribe"}` + "\n" + `{"id":2,"method":"mining.authorize","params":["w"]}` + "\n", true, `"result"`},
		"a line without end":       {strings.Repeat("x", 20_000), false, "line too long"},
		"a long line with the end": {strings.Repeat("x", 20_000) + "\n", false, "line too long"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startRig(t, easyConfig())
				defer r.stop()
				conn := r.dial()
				go func() { _, _ = io.WriteString(conn, tc.send) }()
				_ = conn.SetReadDeadline(time.Now().Add(time.Hour))
				text, err := io.ReadAll(conn)
				if stayed := err != nil; stayed != tc.stay || !strings.Contains(string(text), tc.says) {
					t.Errorf("stayed %v (%v), heard %q", stayed, err, text)
				}
				_ = conn.Close()
			})
		})
	}
}

func TestWorkerNamesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig(), pool.Config{MaxWorkers: 3})
		defer r.stop()
		a, b := r.client(), r.client()
		authorize := func(c *client, name string) int {
			return c.call("mining.authorize", fmt.Sprintf("[%q]", name)).code()
		}
		for _, name := range []string{"a1", "a2", "a1", "a2"} {
			if code := authorize(a, name); code != 0 {
				t.Fatalf("%s: code %d", name, code)
			}
		}
		if authorize(b, "b1") != 0 {
			t.Fatal("b1 refused")
		}
		if code := authorize(a, "a3"); code != 24 {
			t.Errorf("a name too many, all connected: code %d", code)
		}
		_ = b.conn.Close()
		synctest.Wait()
		if code := authorize(a, "a3"); code != 0 {
			t.Errorf("the place of a worker that left was not given away: code %d", code)
		}
		if code := authorize(a, strings.Repeat("n", 200)); code != 20 {
			t.Errorf("a name of 200 bytes: code %d", code)
		}
		var names []string
		for _, w := range r.srv.Stats().Workers {
			names = append(names, w.Name)
		}
		if got := strings.Join(names, " "); got != "a1 a2 a3" {
			t.Errorf("accounts: %s", got)
		}
	})
}

func TestNamesAreShownPrintable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		c := r.client()
		c.call("mining.authorize", `["a\u001b[31m"]`)
		c.call("mining.subscribe", `["agent\u0007"]`)
		st := r.srv.Stats()
		if st.Workers[0].Name != "a?[31m" || st.Sessions[0].UserAgent != "agent?" {
			t.Errorf("%q, %q", st.Workers[0].Name, st.Sessions[0].UserAgent)
		}
	})
}

func TestPrefixesAreUnique(t *testing.T) {
	now := time.Now()
	p := newPrefixes(now, pool.New(now, pool.Config{}))
	for range 1000 {
		e := p.fresh()
		if e == work.LocalPrefix {
			t.Fatal("the local prefix was handed out")
		}
		p.park(e, parked{closed: now}, 100)
		if len(p.parked) > 100 || len(p.live) != 0 {
			t.Fatalf("%d parked, %d live", len(p.parked), len(p.live))
		}
	}
	p.expire(now.Add(2*time.Minute), time.Minute)
	if len(p.parked) != 0 {
		t.Errorf("%d parked after their time", len(p.parked))
	}
}

func TestFreshPrefixAvoidsTakenOnes(t *testing.T) {
	p := newPrefixes(time.Now(), pool.New(time.Now(), pool.Config{}))
	p.random = strings.NewReader("live" + "park" + "\x00\x00\x00\x00" + "live" + "park" + "free")
	if e := p.fresh(); string(e[:]) != "live" {
		t.Fatalf("%q", e)
	}
	e := p.fresh()
	p.park(e, parked{}, 10)
	if e := p.fresh(); string(e[:]) != "free" {
		t.Errorf("%q, but local, live and parked prefixes are taken", e)
	}
}

// Shutdown closes every connection, and a block on its way is still delivered.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		r.publish(1, work.TargetFromDifficulty(startDifficulty))
		c := r.client()
		c.login("x")
		s := c.valid(c.job)
		r.chain.mu.Lock() // the chain is busy
		c.send(`{"id":99,"method":"mining.submit","params":` + s.params() + `}`)
		stopped := make(chan struct{})
		go func() { r.stop(); close(stopped) }()
		for range c.lines { // until the server hangs up
		}
		select {
		case <-stopped:
			t.Error("Run ended before the block was delivered")
		default:
		}
		r.chain.mu.Unlock()
		<-stopped
		if len(r.chain.found()) != 1 {
			t.Error("the block was lost in the shutdown")
		}
	})
}

func TestListenerFailureEndsRun(t *testing.T) {
	ln := newPipeListener()
	srv, err := New(Config{}, pool.New(time.Now(), pool.Config{}), ln, work.NewFeed(), &chain{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := srv.Run(t.Context()); err == nil {
		t.Error("Run returned nil though its listener was closed under it")
	}
}

// tcpRig is a server on a real socket: everything else runs in memory.
func tcpRig(t *testing.T) net.Conn {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, feed: work.NewFeed(), chain: &chain{jobs: map[uint64]*work.Job{}}}
	if r.srv, err = New(easyConfig(), pool.New(time.Now(), pool.Config{}), ln, r.feed, r.chain, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	r.publish(1, hard)
	go func() { _ = r.srv.Run(t.Context()) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestJobOverTCP(t *testing.T) {
	conn := tcpRig(t)
	_, _ = io.WriteString(conn, `{"id":1,"method":"mining.subscribe"}`+"\n"+`{"id":2,"method":"mining.authorize","params":["w"]}`+"\n")
	in := bufio.NewScanner(conn)
	for in.Scan() {
		if strings.Contains(in.Text(), "mining.notify\",\"params\":[\"") {
			return
		}
	}
	t.Errorf("no job came: %v", in.Err())
}

// The last words arrive even though the server has not read all the input.
func TestLastWordsOverTCP(t *testing.T) {
	conn := tcpRig(t)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\n"+strings.Repeat("X-Header: "+strings.Repeat("x", 200)+"\r\n", 100)+"\r\n")
	text, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(text), "speaks Stratum V1") {
		t.Errorf("heard %q, %v", text, err)
	}
}
