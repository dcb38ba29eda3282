package load

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// engine drives the connections of a run.
type engine struct {
	name  string
	start func(*run, *sync.WaitGroup) error
}

// pickEngine takes epoll where it can: a thread for each CPU and no goroutine
// for a connection, so that the tool takes little from a pool beside it.
func pickEngine(cfg *Config) engine {
	if cfg.TLS || cfg.goroutines {
		return engine{"goroutines", startGoroutines}
	}
	return engine{"epoll", startLoops}
}

// loop is one epoll instance with the connections of its squad.
type loop struct {
	sq      *squad
	ep      int
	fds     []int32 // by index of the squad's conns; -1: closed
	blocked []bool  // has output that the socket did not take
	started int
	events  []unix.EpollEvent
	in      *receiver
	sources *sources
	probed  int64
	swept   bool
	held    bool // the storm is over
	waited  bool // reading was put off for what is read now
}

func startLoops(r *run, wg *sync.WaitGroup) error {
	n := min(r.cfg.Threads, r.cfg.Connections)
	src := newSources(r.remote, r.cfg.Connections)
	var loops []*loop
	for i := range n {
		ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			for _, l := range loops {
				_ = unix.Close(l.ep)
			}
			return fmt.Errorf("epoll: %w", err)
		}
		var numbers []int32
		for c := i; c < r.cfg.Connections; c += n {
			numbers = append(numbers, int32(c))
		}
		l := &loop{
			sq: newSquad(r, numbers), ep: ep, fds: make([]int32, len(numbers)), blocked: make([]bool, len(numbers)),
			events: make([]unix.EpollEvent, 128), in: newReceiver(), sources: src,
		}
		for i := range l.fds {
			l.fds[i] = -1
		}
		loops = append(loops, l)
		r.squads = append(r.squads, l.sq)
	}
	for _, l := range loops {
		wg.Go(l.run)
	}
	return nil
}

// connectsPerTurn is how many connections are begun between two looks at the
// ones that are there.
const connectsPerTurn = 32

func (l *loop) run() {
	r := l.sq.run
	for {
		phase := r.phase.Load()
		if phase == phaseEnd {
			l.sweep()
			l.shut()
			return
		}
		timeout := 20
		l.sq.mu.Lock()
		if phase == phaseStorm && l.connectSome() {
			timeout = 0
		}
		if phase == phaseHold && l.turn() {
			timeout = 0
		} else if r.cfg.Shares.any() {
			timeout = min(timeout, 1)
		}
		l.sq.mu.Unlock()
		l.held = phase == phaseHold
		if l.waited {
			timeout = 0
		}
		n, err := unix.EpollWait(l.ep, l.events, timeout)
		l.putOff(n)
		now := clock()
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(fmt.Sprintf("epoll_wait: %v", err)) // not for any reason a caller can mend
		}
		l.sq.mu.Lock()
		for i := range max(n, 0) {
			l.event(now, &l.events[i])
		}
		l.sq.mu.Unlock()
	}
}

// putOff waits before the first of many connections is read. Their arrivals
// are stamped already, and a pool on the same machine has its CPUs for itself
// meanwhile, as if the miners were elsewhere. n is the number of connections
// that can be read; with 0 all are.
func (l *loop) putOff(n int) {
	switch {
	case n <= 0:
		l.waited = false
	case !l.waited && l.held && l.sq.stamped && !l.sq.run.cfg.Shares.any() && l.sq.run.cfg.ReadDelay > 0:
		time.Sleep(l.sq.run.cfg.ReadDelay)
		l.waited = true
	}
}

// turn does what comes by time after the storm, and reports whether there is
// more to do at once.
func (l *loop) turn() bool {
	now := clock()
	l.sweep()
	if l.sq.run.cfg.Stalled > 0 && now-l.probed >= probeEvery {
		l.probed = now
		l.probe()
	}
	if !l.sq.run.cfg.Shares.any() {
		return false
	}
	return l.sq.pace(now, clock, func(c *conn) { l.flush(now, l.index(c)) })
}

// sweep ends what has no job when the storm is over.
func (l *loop) sweep() {
	if l.swept {
		return
	}
	l.swept = true
	l.started = len(l.fds)
	now := clock()
	l.sq.sweep(now, func(c *conn, reason string) { l.end(now, l.index(c), reason) })
}

// index finds a connection's place: numbers were dealt out in turns.
func (l *loop) index(c *conn) int { return int(c.number) / len(l.sq.run.squads) }

// connectSome begins connections, and reports whether there are more to begin.
func (l *loop) connectSome() bool {
	r := l.sq.run
	for range connectsPerTurn {
		if l.started == len(l.fds) {
			return false
		}
		if f := int64(r.cfg.InFlight); f > 0 && r.begun.Load()-r.settled.Load() >= f {
			return false
		}
		l.connect(l.started)
		l.started++
	}
	return true
}

func (l *loop) connect(i int) {
	c := &l.sq.conns[i]
	r := l.sq.run
	r.begun.Add(1)
	c.begun = clock()
	c.state = connecting
	if r.cfg.Shares.any() && !c.deaf {
		c.m = newMining(workerName(r.cfg.Worker, c.number))
	}
	fd, err := l.dial(c)
	if err != nil {
		c.fail(c.begun, reasonOf(err))
		return
	}
	l.fds[i] = int32(fd)
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(i)}
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		l.end(clock(), i, "epoll: "+err.Error())
	}
}

// event takes one event of epoll.
func (l *loop) event(now int64, ev *unix.EpollEvent) {
	i := int(ev.Fd)
	if l.fds[i] < 0 {
		return
	}
	c := &l.sq.conns[i]
	if c.state == connecting {
		if ev.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			l.end(now, i, c.state.during(l.socketError(i)))
			return
		}
		if ev.Events&unix.EPOLLOUT == 0 {
			return
		}
		c.connected()
		l.flush(now, i)
	} else if ev.Events&unix.EPOLLOUT != 0 && l.blocked[i] {
		l.flush(now, i)
	}
	if c.deaf && c.state == holding {
		if ev.Events&(unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLRDHUP) != 0 {
			l.end(now, i, l.socketError(i))
		}
		return
	}
	if l.fds[i] >= 0 && ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		l.read(now, i, ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0)
	}
}

// read takes what is there. A read that does not fill the buffer emptied the
// socket, and what comes later makes another event; but not an end that came
// with this one.
func (l *loop) read(now int64, i int, ends bool) {
	c := &l.sq.conns[i]
	for {
		n, stamp, err := l.in.read(int(l.fds[i]))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			l.end(now, i, c.state.during(reasonOf(err)))
			return
		case n == 0:
			l.end(now, i, c.state.during(reasonClosed))
			return
		}
		if stamp > 0 {
			l.sq.stamped = true
			if l.held && !l.waited {
				l.sq.lag.add(clock() - stamp)
			}
			now = stamp
		}
		c.feed(now, l.in.buf[:n])
		if c.state == closed { // for a reason of the conversation
			l.close(i)
			return
		}
		l.sq.refill(c)
		if c.out != nil && !l.blocked[i] {
			l.flush(now, i)
		}
		if c.deaf && c.state == holding {
			l.sq.deafLocal[localAddr(int(l.fds[i]))] = true
			return
		}
		if l.fds[i] < 0 || n < len(l.in.buf) && !ends {
			return
		}
		now = clock()
	}
}

// flush writes what is waiting.
func (l *loop) flush(now int64, i int) {
	c := &l.sq.conns[i]
	for len(c.out) > 0 && l.fds[i] >= 0 {
		n, err := unix.Write(int(l.fds[i]), c.out)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			l.blocked[i] = true
			return
		case err != nil:
			l.end(now, i, c.state.during(reasonOf(err)))
			return
		default:
			c.out = c.out[:copy(c.out, c.out[n:])]
		}
	}
	l.blocked[i] = false
	c.written()
}

// end gives a connection up.
func (l *loop) end(now int64, i int, reason string) {
	l.sq.conns[i].fail(now, reason)
	l.close(i)
}

func (l *loop) close(i int) {
	if l.fds[i] >= 0 {
		_ = unix.Close(int(l.fds[i]))
		l.fds[i] = -1
	}
}

// shut ends all connections with a reset: a closing handshake would keep each
// local port busy for a minute, and the next run needs them.
func (l *loop) shut() {
	for i, fd := range l.fds {
		if fd >= 0 {
			_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			l.close(i)
		}
	}
	_ = unix.Close(l.ep)
}

// probe sends a line on each connection that stopped reading. Only so does it
// learn that the pool closed it: word of that waits behind the data that it
// does not read.
func (l *loop) probe() {
	now := clock()
	for i := range l.sq.conns {
		if c := &l.sq.conns[i]; c.deaf && c.state == holding && !l.blocked[i] {
			c.authorize(idProbe)
			l.flush(now, i)
		}
	}
}

func (l *loop) socketError(i int) string {
	n, err := unix.GetsockoptInt(int(l.fds[i]), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && n == 0 {
		return reasonClosed
	}
	if err == nil {
		err = unix.Errno(n)
	}
	return reasonOf(err)
}
