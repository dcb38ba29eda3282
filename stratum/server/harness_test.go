package server

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
)

// pipeListener hands out the server ends of in-memory connections, so that
// whole conversations run on the fake clock of testing/synctest.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3333} }

// chain is a submitter that checks every solution against its job, byte by byte.
type chain struct {
	mu      sync.Mutex
	jobs    map[uint64]*work.Job
	blocks  []work.Solution
	verdict work.Outcome
	err     error
}

func (c *chain) SubmitSolution(ctx context.Context, s work.Solution) (work.Outcome, [32]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return work.Rejected, [32]byte{}, ctx.Err()
	}
	job := c.jobs[s.JobID]
	if job == nil {
		return work.Rejected, [32]byte{}, fmt.Errorf("solution of job %d, which was never published", s.JobID)
	}
	header := job.Header(s)
	id := header.Hash()
	if !job.Target.Met(id) || job.CheckVersion(s.Version) != nil {
		return work.Rejected, id, errors.New("not a block")
	}
	c.blocks = append(c.blocks, s)
	return c.verdict, id, c.err
}

func (c *chain) found() []work.Solution {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]work.Solution(nil), c.blocks...)
}

// rig is a running server with a feed and a chain.
type rig struct {
	t     testing.TB
	srv   *Server
	ln    *pipeListener
	feed  *work.Feed
	chain *chain
	jobs  uint64
	stop  func()
}

// startRig runs a server until stop is called; the test must call it.
func startRig(t testing.TB, cfg Config, books ...pool.Config) *rig {
	t.Helper()
	books = append(books, pool.Config{})
	r := &rig{t: t, ln: newPipeListener(), feed: work.NewFeed(), chain: &chain{jobs: map[uint64]*work.Job{}}}
	srv, err := New(cfg, pool.New(time.Now(), books[0]), r.ln, r.feed, r.chain, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.srv = srv
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return r
}

// hard is a block target that no test reaches by luck.
var hard = work.TargetFromDifficulty(1 << 40)

// publish gives the server a job on parent number `parent`.
func (r *rig) publish(parent byte, target work.Target) *work.Job {
	job := r.job(parent, target)
	r.feed.Publish(job)
	return job
}

// job makes a job that the chain knows.
func (r *rig) job(parent byte, target work.Target) *work.Job {
	r.jobs++
	now := uint32(time.Now().Unix())
	job := &work.Job{
		ID: r.jobs, Height: uint32(parent) + 1, Version: 0x20000000, PrevBlock: [32]byte{parent},
		CoinbasePrefix: []byte{1, 2, 3, byte(r.jobs)}, CoinbaseSuffix: []byte{4, 5},
		MerkleBranch: [][32]byte{{7}, {8}}, Time: now, MinTime: now - 30, Bits: 0x1d00ffff, Target: target,
	}
	r.chain.mu.Lock()
	r.chain.jobs[job.ID] = job
	r.chain.mu.Unlock()
	return job
}

// message is any line from the server.
type message struct {
	ID     json.RawMessage   `json:"id"`
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`
	Result json.RawMessage   `json:"result"`
	Error  []json.RawMessage `json:"error"`
}

func (m message) code() int {
	if len(m.Error) == 0 {
		return 0
	}
	var code int
	_ = json.Unmarshal(m.Error[0], &code)
	return code
}

// notify is a job as an independent client reads it: it takes the wire's word
// for everything and shares no code with the server but the target arithmetic.
type notify struct {
	ID                            string
	prev, coinb1, coinb2, version string
	branch                        []string
	bits, ntime                   string
	clean                         bool
	difficulty                    float64
	e1                            string
	size2                         int // of extranonce2
}

// client is a miner that reads everything the server says.
type client struct {
	t      testing.TB
	conn   net.Conn
	lines  chan message // closed when the server hangs up
	e1     string
	size2  int // of extranonce2, in bytes
	diff   float64
	job    notify
	jobs   []notify
	nextID int
	nonce  uint32
}

func (r *rig) dial() net.Conn { return r.dialFrom("192.0.2.1:1000") }

// dialFrom connects from an address.
func (r *rig) dialFrom(remote string) net.Conn {
	here, there := net.Pipe()
	r.ln.conns <- addressed{there, remote}
	return here
}

// addressed is the server's end of a connection from an address.
type addressed struct {
	net.Conn
	remote string
}

func (a addressed) RemoteAddr() net.Addr {
	addr, err := net.ResolveTCPAddr("tcp", a.remote)
	if err != nil {
		panic(err)
	}
	return addr
}

func (r *rig) client() *client { return r.clientFrom("192.0.2.1:1000") }

func (r *rig) clientFrom(remote string) *client { return r.clientOn(r.dialFrom(remote)) }

// clientOn is a miner on an open connection.
func (r *rig) clientOn(conn net.Conn) *client {
	c := &client{t: r.t, conn: conn, lines: make(chan message, 4096)}
	go func() {
		defer close(c.lines)
		in := bufio.NewScanner(c.conn)
		for in.Scan() {
			var m message
			if err := json.Unmarshal(in.Bytes(), &m); err != nil {
				r.t.Errorf("server sent %q: %v", in.Text(), err)
				return
			}
			c.lines <- m
		}
	}()
	return c
}

func (c *client) send(lines ...string) {
	if _, err := c.conn.Write([]byte(strings.Join(lines, "\n") + "\n")); err != nil {
		c.t.Fatalf("cannot send %q: %v", lines, err)
	}
}

// take digests one line of the server.
func (c *client) take(m message) {
	text := func(i int) (s string) {
		if err := json.Unmarshal(m.Params[i], &s); err != nil {
			c.t.Fatalf("notify parameter %d: %v", i, err)
		}
		return s
	}
	switch m.Method {
	case "mining.set_difficulty":
		if err := json.Unmarshal(m.Params[0], &c.diff); err != nil {
			c.t.Fatal(err)
		}
	case "mining.set_extranonce":
		if err := errors.Join(json.Unmarshal(m.Params[0], &c.e1), json.Unmarshal(m.Params[1], &c.size2)); err != nil {
			c.t.Fatal(err)
		}
	case "mining.notify":
		n := notify{
			ID: text(0), prev: text(1), coinb1: text(2), coinb2: text(3),
			version: text(5), bits: text(6), ntime: text(7), difficulty: c.diff, e1: c.e1, size2: c.size2,
		}
		if err := errors.Join(json.Unmarshal(m.Params[4], &n.branch), json.Unmarshal(m.Params[8], &n.clean)); err != nil {
			c.t.Fatal(err)
		}
		for _, old := range c.jobs {
			if old.ID == n.ID {
				c.t.Errorf("job id %s was used twice", n.ID)
			}
		}
		c.job, c.jobs = n, append(c.jobs, n)
	}
}

// await reads until an answer to id comes.
func (c *client) await(id string) message {
	for m := range c.lines {
		c.take(m)
		if m.Method == "" && string(m.ID) == id {
			return m
		}
	}
	c.t.Fatalf("the server hung up before answering %s", id)
	return message{}
}

// call sends a request and returns its answer.
func (c *client) call(method, params string) message {
	c.nextID++
	c.send(fmt.Sprintf(`{"id":%d,"method":%q,"params":%s}`, c.nextID, method, params))
	return c.await(fmt.Sprint(c.nextID))
}

// awaitJob reads until a new job comes.
func (c *client) awaitJob() notify {
	for m := range c.lines {
		c.take(m)
		if m.Method == "mining.notify" {
			return c.job
		}
	}
	c.t.Fatal("the server hung up before a job came")
	return notify{}
}

// login subscribes and authorizes worker "w" and waits for the first job.
func (c *client) login(password string) {
	c.subscribe(`["test/1"]`)
	if m := c.call("mining.authorize", fmt.Sprintf(`["w",%q]`, password)); string(m.Result) != "true" {
		c.t.Fatalf("authorize: %s %s", m.Result, m.Error)
	}
	c.awaitJob()
}

func (c *client) subscribe(params string) {
	var parts []json.RawMessage
	m := c.call("mining.subscribe", params)
	if err := json.Unmarshal(m.Result, &parts); err != nil || len(parts) != 3 {
		c.t.Fatalf("subscribe: %s, %v", m.Result, err)
	}
	if err := errors.Join(json.Unmarshal(parts[1], &c.e1), json.Unmarshal(parts[2], &c.size2)); err != nil || len(c.e1)/2+c.size2 != 12 {
		c.t.Fatalf("subscribe: %s, %v", m.Result, err)
	}
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// share is what a miner submits.
type share struct{ worker, job, e2, ntime, nonce, version string }

func (s share) params() string {
	p := fmt.Sprintf(`[%q,%q,%q,%q,%q`, s.worker, s.job, s.e2, s.ntime, s.nonce)
	if s.version != "" {
		p += fmt.Sprintf(",%q", s.version)
	}
	return p + "]"
}

// hash builds the header from the wire's fields alone, as a device does.
func (c *client) hash(n notify, e2 string, ntime, nonce, bits uint32) [32]byte {
	coinbase := unhex(c.t, n.coinb1+n.e1+e2+n.coinb2)
	leaf := doubleHash(coinbase)
	for _, sibling := range n.branch {
		leaf = doubleHash(append(leaf[:], unhex(c.t, sibling)...))
	}
	version := binary.BigEndian.Uint32(unhex(c.t, n.version))
	header := binary.LittleEndian.AppendUint32(nil, version^bits)
	for i := 0; i < 64; i += 8 {
		word := binary.BigEndian.Uint32(unhex(c.t, n.prev[i:i+8]))
		header = binary.LittleEndian.AppendUint32(header, word)
	}
	header = append(header, leaf[:]...)
	header = binary.LittleEndian.AppendUint32(header, ntime)
	header = binary.LittleEndian.AppendUint32(header, binary.BigEndian.Uint32(unhex(c.t, n.bits)))
	header = binary.LittleEndian.AppendUint32(header, nonce)
	return doubleHash(header)
}

// solve searches a share of n whose hash satisfies want.
func (c *client) solve(n notify, bits uint32, want func([32]byte) bool) share {
	ntime := binary.BigEndian.Uint32(unhex(c.t, n.ntime))
	e2 := fmt.Sprintf("%0*x", 2*n.size2, 0xaa)
	for {
		c.nonce++
		if want(c.hash(n, e2, ntime, c.nonce, bits)) {
			s := share{"w", n.ID, e2, n.ntime, fmt.Sprintf("%08x", c.nonce), ""}
			if bits != 0 {
				s.version = fmt.Sprintf("%08x", bits)
			}
			return s
		}
	}
}

// between returns a test for hashes with lo ≤ difficulty < hi.
func between(lo, hi float64) func([32]byte) bool {
	return func(h [32]byte) bool { d := stratum.HashDifficulty(h); return d >= lo && d < hi }
}

func (c *client) valid(n notify) share { return c.solve(n, 0, between(n.difficulty, 1e300)) }

func doubleHash(b []byte) [32]byte {
	first := sha256.Sum256(b)
	return sha256.Sum256(first[:])
}
