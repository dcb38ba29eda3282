package load

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"
)

// squad is the part of the connections that one thread drives, with the
// figures they gather. The lock is the thread's while it works; others take it
// to read figures.
type squad struct {
	run *run

	mu    sync.Mutex
	conns []conn
	spare [][]byte

	waits       []int64 // nanoseconds from connect to first job
	failures    map[string]int
	lost        map[string]int
	deafReasons map[string]int
	deafClosed  []int64
	deafLocal   map[netip.AddrPort]bool // of those that are open
	junk        int
	stray       int
	reconnects  int
	blurred     int
	stamped     bool // the kernel stamps arrivals

	sent     uint64
	accepted uint64
	rejects  map[reject]uint64
	answers  histogram
	lag      histogram
	cursor   int // of sharing
	quota    int64
}

func newSquad(r *run, numbers []int32) *squad {
	sq := &squad{
		run: r, conns: make([]conn, len(numbers)),
		failures: map[string]int{}, lost: map[string]int{}, deafReasons: map[string]int{},
		rejects: map[reject]uint64{}, deafLocal: map[netip.AddrPort]bool{},
	}
	for i, n := range numbers {
		sq.conns[i] = conn{sq: sq, number: n, deaf: r.isDeaf(n)}
	}
	return sq
}

// The most hashes one call searches for a share: an engine has other
// connections to read.
const searchBudget = 4096

// share makes up to n shares of a connection and reports how many it made.
func (sq *squad) share(now int64, c *conn, n int) int {
	if c.state != holding || c.deaf {
		return 0
	}
	made := 0
	for n = min(n, c.m.room(sq.run.cfg.Window)); made < n && c.m.find(searchBudget); made++ {
		c.out = c.m.submit(now, c.buffer(), c.m.worker)
	}
	sq.sent += uint64(made)
	return made
}

// refill keeps a connection's window full when shares go out as fast as they
// can: when half of it is answered, the other half goes out in one write.
func (sq *squad) refill(c *conn) {
	if sq.run.cfg.Shares.Max && sq.run.phase.Load() == phaseHold && c.m != nil {
		if room := c.m.room(sq.run.cfg.Window); room >= (sq.run.cfg.Window+1)/2 {
			sq.share(clock(), c, room)
		}
	}
}

// pace sends the shares that are due and calls flush for each connection that
// has some, until the time slice is over. It reports whether more could go out
// at once.
func (sq *squad) pace(now int64, clock func() int64, flush func(*conn)) (more bool) {
	cfg := &sq.run.cfg
	if len(sq.conns) == 0 {
		return false
	}
	due := int64(1) << 62
	if !cfg.Shares.Max {
		part := float64(len(sq.conns)) / float64(cfg.Connections)
		due = int64(cfg.Shares.Rate*part*float64(now-sq.run.holdStart.Load())/1e9) - sq.quota
	}
	const slice = 1e6 // ns
	began := now
	for range sq.conns {
		if due <= 0 {
			return false
		}
		c := &sq.conns[sq.cursor]
		sq.cursor = (sq.cursor + 1) % len(sq.conns)
		if c.state != holding || c.deaf {
			continue
		}
		n := cfg.Batch
		if cfg.Shares.Max {
			if n = c.m.room(cfg.Window); n < (cfg.Window+1)/2 {
				continue
			}
		}
		if made := sq.share(now, c, int(min(int64(n), due))); made > 0 {
			due -= int64(made)
			sq.quota += int64(made)
			flush(c)
			more = true
		}
		if now = clock(); now-began > slice {
			return true
		}
	}
	return more
}

// sweep ends what is not holding a job when the storm is over.
func (sq *squad) sweep(now int64, end func(*conn, string)) {
	for i := range sq.conns {
		if c := &sq.conns[i]; c.state < holding {
			end(c, c.state.missing()+" "+sq.run.sweepReason)
		}
	}
}

func workerName(pattern string, n int32) string {
	return strings.ReplaceAll(pattern, "%d", strconv.Itoa(int(n)))
}
