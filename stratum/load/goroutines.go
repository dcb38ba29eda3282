package load

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"
)

// squadSize is how many connections share a lock and a pacer in this engine.
const squadSize = 256

// teller is one connection of the portable engine: a goroutine that reads, and
// the squad's pacer, which writes shares and probes as well.
type teller struct {
	c    *conn
	mu   sync.Mutex // orders writes; taken before the squad's lock
	conn net.Conn   // squad's lock
}

// startGoroutines runs each connection in a goroutine of its own: it works for
// TLS and on every system, and costs more.
func startGoroutines(r *run, wg *sync.WaitGroup) error {
	limit := r.cfg.InFlight
	if limit == 0 {
		limit = r.cfg.Connections
	}
	places := make(chan struct{}, limit)
	for from := 0; from < r.cfg.Connections; from += squadSize {
		var numbers []int32
		for n := from; n < min(from+squadSize, r.cfg.Connections); n++ {
			numbers = append(numbers, int32(n))
		}
		r.squads = append(r.squads, newSquad(r, numbers))
	}
	for _, sq := range r.squads {
		tellers := make([]*teller, len(sq.conns))
		for i := range tellers {
			tellers[i] = &teller{c: &sq.conns[i]}
		}
		ctx, cancel := context.WithCancel(context.Background())
		for _, t := range tellers {
			wg.Go(func() { t.run(ctx, places) })
		}
		wg.Go(func() {
			defer cancel()
			sq.lead(tellers)
		})
	}
	return nil
}

// lead does what comes by time for the squad, until the run ends.
func (sq *squad) lead(tellers []*teller) {
	r := sq.run
	swept, probed := false, int64(0)
	byNumber := func(c *conn) *teller { return tellers[int(c.number)%squadSize] }
	sweep := func(now int64) {
		if swept {
			return
		}
		swept = true
		sq.sweep(now, func(c *conn, reason string) {
			c.fail(now, reason)
			byNumber(c).close()
		})
	}
	for r.phase.Load() != phaseEnd {
		time.Sleep(time.Millisecond)
		if r.phase.Load() != phaseHold {
			continue
		}
		now := clock()
		var write []*teller
		sq.mu.Lock()
		sweep(now)
		if r.cfg.Stalled > 0 && now-probed >= probeEvery {
			probed = now
			for _, t := range tellers {
				if t.c.deaf && t.c.state == holding {
					t.c.authorize(idProbe)
					write = append(write, t)
				}
			}
		}
		if r.cfg.Shares.any() {
			sq.pace(now, clock, func(c *conn) { write = append(write, byNumber(c)) })
		}
		sq.mu.Unlock()
		for _, t := range write {
			t.flush()
		}
	}
	sq.mu.Lock()
	defer sq.mu.Unlock()
	sweep(clock())
	for _, t := range tellers {
		if tcp, ok := netConn(t.conn).(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // as the other engine
		}
		t.close()
	}
}

func netConn(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// close hangs up; the squad's lock is held.
func (t *teller) close() {
	if t.conn != nil {
		_ = netConn(t.conn).Close() // a TLS farewell could block
	}
}

func (t *teller) run(ctx context.Context, places chan struct{}) {
	c, r := t.c, t.c.sq.run
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return
	}
	placed := true
	defer func() {
		if placed {
			<-places
		}
	}()
	if !t.begin() {
		return
	}
	conn, err := dial(ctx, r, c.deaf)
	now := clock()
	c.sq.mu.Lock()
	if err != nil || c.state == closed {
		if err == nil {
			_ = conn.Close()
		} else {
			c.fail(now, c.state.during(reasonOf(err)))
		}
		c.sq.mu.Unlock()
		return
	}
	t.conn = conn
	c.connected()
	c.sq.mu.Unlock()
	t.flush()
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		now := clock()
		c.sq.mu.Lock()
		c.feed(now, buf[:n])
		if err != nil && c.state != closed && r.phase.Load() != phaseEnd {
			c.fail(now, c.state.during(reasonOf(err)))
		}
		c.sq.refill(c)
		state, write := c.state, c.out != nil
		if tcp, ok := conn.LocalAddr().(*net.TCPAddr); ok && state == holding && c.deaf {
			local := tcp.AddrPort()
			c.sq.deafLocal[netip.AddrPortFrom(local.Addr().Unmap(), local.Port())] = true
		}
		c.sq.mu.Unlock()
		if err != nil || state == closed {
			_ = netConn(conn).Close()
			return
		}
		if write {
			t.flush()
		}
		if state == holding && placed {
			<-places
			placed = false
		}
		if state == holding && c.deaf {
			<-ctx.Done() // reads no more; the pacer's probes learn the end
			return
		}
	}
}

// begin marks the connection as under way, unless the storm is over.
func (t *teller) begin() bool {
	c, r := t.c, t.c.sq.run
	c.sq.mu.Lock()
	defer c.sq.mu.Unlock()
	if c.state != idle || r.phase.Load() != phaseStorm {
		return false
	}
	r.begun.Add(1)
	c.begun, c.state = clock(), connecting
	if r.cfg.Shares.any() && !c.deaf {
		c.m = newMining(workerName(r.cfg.Worker, c.number))
	}
	return true
}

func dial(ctx context.Context, r *run, deaf bool) (net.Conn, error) {
	d := net.Dialer{Timeout: r.cfg.Timeout}
	raw, err := d.DialContext(ctx, "tcp", r.remote.String())
	if err != nil {
		return nil, err
	}
	if tcp, ok := raw.(*net.TCPConn); ok && deaf {
		_ = tcp.SetReadBuffer(4096)
	}
	if !r.cfg.TLS {
		return raw, nil
	}
	host, _, _ := net.SplitHostPort(r.cfg.Address)
	t := tls.Client(raw, &tls.Config{
		ServerName: host,
		// A pool's port is loaded here, no secret is told to it.
		InsecureSkipVerify: !r.cfg.TLSVerify,
		ClientSessionCache: nil, // every miner is another one
	})
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return t, nil
}

// writeTimeout ends a connection that takes no data.
const writeTimeout = 10 * time.Second

// flush writes what is waiting.
func (t *teller) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	sq := t.c.sq
	sq.mu.Lock()
	out := t.c.out
	t.c.out = nil
	conn := t.conn
	sq.mu.Unlock()
	if len(out) == 0 || conn == nil {
		return
	}
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := conn.Write(out)
	now := clock()
	sq.mu.Lock()
	defer sq.mu.Unlock()
	if err != nil && t.c.state != closed && sq.run.phase.Load() != phaseEnd {
		t.c.fail(now, t.c.state.during(reasonOf(err)))
		t.close()
	}
	if len(sq.spare) < 64 {
		sq.spare = append(sq.spare, out[:0])
	}
}
