package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum/pool"
)

// begin runs a server on ln; h is what the one before handed over, or nil.
func begin(t *testing.T, ln net.Listener, books *pool.Books, before *rig, h *Handover) *rig {
	t.Helper()
	return beginWith(t, easyConfig(), ln, books, before, h)
}

func beginWith(t *testing.T, cfg Config, ln net.Listener, books *pool.Books, before *rig, h *Handover) *rig {
	t.Helper()
	r := &rig{t: t, feed: work.NewFeed(), chain: &chain{jobs: map[uint64]*work.Job{}}}
	if before != nil { // the node goes on with the same templates
		r.chain, r.jobs = before.chain, before.jobs
	}
	cfg.FloodBurst = 1 << 20 // a test floods
	var err error
	if r.srv, err = New(cfg, books, ln, r.feed, r.chain, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if h != nil {
		if err := r.srv.Adopt(h); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.srv.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return r
}

// next replaces a server by its successor.
func next(t *testing.T, r *rig, books *pool.Books) *rig {
	t.Helper()
	h, err := r.srv.HandOver()
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	ln, err := ListenerOf(h.FDs[0])
	if err != nil {
		t.Fatal(err)
	}
	return begin(t, ln, books, r, h)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// dialSocket opens a real socket.
func dialSocket(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// dialTCP returns a client on a real socket.
func dialTCP(t *testing.T, address string) *client {
	t.Helper()
	return (&rig{t: t}).clientOn(dialSocket(t, address))
}

// Three servers after another hold one client's connection: it hears one
// unbroken conversation, and shares of every job it ever got count.
func TestHandOver(t *testing.T) {
	ln := listen(t)
	address := ln.Addr().String()
	books := pool.New(time.Now(), pool.Config{})
	r := begin(t, ln, books, nil, nil)
	r.publish(1, hard)
	c, second := dialTCP(t, address), dialTCP(t, address)
	c.login("d=0.0001")
	second.login("x")
	first := c.job
	pending := c.valid(first)
	if m := c.call("mining.submit", c.valid(first).params()); string(m.Result) != "true" {
		t.Fatalf("before: %s", m.Error)
	}
	parkedPrefix := ""
	gone := dialTCP(t, address)
	gone.login("x")
	parkedPrefix = gone.e1
	_ = gone.conn.Close()
	for range gone.lines {
	}
	for generation := range 3 {
		// Half a line is on its way while the server changes.
		line := fmt.Sprintf(`{"id":"half%d","method":"mining.submit","params":%s}`+"\n", generation, pending.params())
		if _, err := io.WriteString(c.conn, line[:40]); err != nil {
			t.Fatal(err)
		}
		r = next(t, r, books)
		if _, err := io.WriteString(c.conn, line[40:]); err != nil {
			t.Fatal(err)
		}
		if m := c.await(fmt.Sprintf("%q", fmt.Sprintf("half%d", generation))); string(m.Result) != "true" {
			t.Fatalf("generation %d: a share of the first job: %s", generation, m.Error)
		}
		if m := c.call("mining.submit", pending.params()); m.code() != 22 {
			t.Errorf("generation %d: the same share again: code %d", generation, m.code())
		}
		pending = c.valid(first)
		r.publish(1, hard) // the same parent: earlier jobs stay good
		if job := c.awaitJob(); job.difficulty != first.difficulty || job.clean {
			t.Errorf("generation %d: job %+v, difficulty was %v", generation, job, first.difficulty)
		}
	}
	if m := second.call("mining.submit", second.valid(second.job).params()); string(m.Result) != "true" {
		t.Errorf("the other client: %s", m.Error)
	}
	back := dialTCP(t, address)
	back.subscribe(fmt.Sprintf(`["test/1",%q]`, parkedPrefix))
	if back.e1 != parkedPrefix {
		t.Errorf("a miner that was away for the change got %s instead of its %s", back.e1, parkedPrefix)
	}
	back.call("mining.authorize", `["w","x"]`)
	if m := back.call("mining.submit", gone.valid(gone.job).params()); string(m.Result) != "true" {
		t.Errorf("its share of a job from before the change: %s", m.Error)
	}
	st := r.srv.Stats()
	if st.Connections != 3 || st.Miners != 3 || st.Total.Accepted != 6 || st.Total.Blocks != 0 {
		t.Errorf("%d connections, %d miners, total %+v", st.Connections, st.Miners, st.Total)
	}
	for _, s := range st.Sessions {
		if s.Extranonce1 == c.e1 && (s.Accepted != 4 || s.Rejected != 3 || s.UserAgent != "test/1" || s.Difficulty != 0.0001) {
			t.Errorf("session %+v", s)
		}
	}
	r.stop()
}

// A client that does not read has answers waiting in the server when it is
// handed over: they come out whole and in order afterwards.
func TestHandOverKeepsWhatIsQueued(t *testing.T) {
	ln := listen(t)
	books := pool.New(time.Now(), pool.Config{})
	r := begin(t, ln, books, nil, nil)
	r.publish(1, hard)
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const calls = 200_000 // more answers than both sockets' buffers hold
	go func() {
		for i := 0; i < calls; i += 100 {
			var b strings.Builder
			for j := range 100 {
				fmt.Fprintf(&b, `{"id":%d,"method":"mining.ping"}`+"\n", i+j)
			}
			if _, err := io.WriteString(conn, b.String()); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	in := bufio.NewReader(conn)
	want := 0
	read := func(n int) {
		for range n {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("after %d answers: %v", want, err)
			}
			if line != fmt.Sprintf(`{"id":%d,"result":"pong","error":null}`+"\n", want) {
				t.Fatalf("answer %d is %q", want, line)
			}
			want++
		}
	}
	read(1)
	for range 5 {
		for { // until the server is stuck, with output that the socket does not take
			ses := r.srv.all()[0]
			ses.mu.Lock()
			stuck := ses.out != nil || ses.writing
			ses.mu.Unlock()
			if stuck {
				break
			}
		}
		r = next(t, r, books)
		read(20_000)
	}
	read(calls - want)
	r.stop()
}

// What cannot be moved is closed, and its miner resumes.
func TestHandOverOfAnotherProgramsState(t *testing.T) {
	ln := listen(t)
	address := ln.Addr().String()
	books := pool.New(time.Now(), pool.Config{})
	r := begin(t, ln, books, nil, nil)
	r.publish(1, hard)
	c := dialTCP(t, address)
	c.login("x")
	h, err := r.srv.HandOver()
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	if _, err := r.srv.HandOver(); err == nil {
		t.Error("handed over twice")
	}
	h.State = []byte("not a state")
	ln, err = ListenerOf(h.FDs[0])
	if err != nil {
		t.Fatal(err)
	}
	srv, err := New(easyConfig(), books, ln, work.NewFeed(), r.chain, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Adopt(h); err == nil || !strings.Contains(err.Error(), "lost") {
		t.Errorf("adopted nonsense: %v", err)
	}
	for range c.lines { // ends: the connection is closed
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	dialTCP(t, address).subscribe(`[]`) // the port still answers
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A miner that comes before there is any work is remembered as well.
func TestResumeBeforeTheFirstJob(t *testing.T) {
	books := pool.New(time.Now(), pool.Config{})
	r := begin(t, listen(t), books, nil, nil)
	c := dialTCP(t, r.srv.ln.Addr().String())
	c.subscribe(`["test/1"]`)
	c.call("mining.authorize", `["w","x"]`)
	for m := range c.lines {
		if m.Method == "mining.set_difficulty" {
			break
		}
	}
	if list := books.Prefixes(); len(list) != 1 || fmt.Sprintf("%x", list[0].Extranonce1) != c.e1 {
		t.Errorf("the books remember %v, not %s", list, c.e1)
	}
	r.stop()
}

// A server that was killed has handed nothing over. What its books remember is
// enough for a miner to go on with the same extranonce1 and difficulty.
func TestResumeAfterACrash(t *testing.T) {
	books := pool.New(time.Now(), pool.Config{})
	r := begin(t, listen(t), books, nil, nil)
	r.publish(1, hard)
	c := dialTCP(t, r.srv.ln.Addr().String())
	c.login("d=0.0001")
	r.stop()
	r = begin(t, listen(t), books, r, nil)
	r.publish(1, hard)
	other := dialTCP(t, r.srv.ln.Addr().String())
	other.login("x")
	again := dialTCP(t, r.srv.ln.Addr().String())
	again.subscribe(fmt.Sprintf(`["test/1",%q]`, c.e1))
	if again.e1 != c.e1 || other.e1 == c.e1 {
		t.Errorf("extranonce1 %s, then %s; another miner's is %s", c.e1, again.e1, other.e1)
	}
	again.call("mining.authorize", `["w","x"]`)
	if job := again.awaitJob(); job.difficulty != c.job.difficulty {
		t.Errorf("difficulty %v, was %v", job.difficulty, c.job.difficulty)
	}
	// Its place is its own again: nobody else can take it.
	thief := dialTCP(t, r.srv.ln.Addr().String())
	thief.subscribe(fmt.Sprintf(`["test/1",%q]`, c.e1))
	if thief.e1 == c.e1 {
		t.Error("two sessions have one extranonce1")
	}
	r.stop()
}
