package load

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// phases of a run, in order.
const (
	phaseStorm int32 = iota
	phaseHold
	phaseEnd
)

// run is one run under way.
type run struct {
	cfg    Config
	remote *net.TCPAddr
	board  *board
	squads []*squad

	phase       atomic.Int32
	stormStart  int64
	holdStart   atomic.Int64
	sweepReason string // set before phase leaves phaseStorm

	begun, settled, failed, holdingNow, lost atomic.Int64
	listening                                atomic.Int64
	last                                     atomic.Int64 // the latest first job
}

// clock is the time in Unix nanoseconds: the tool, the kernel's stamps and
// another process on the machine all tell it the same.
func clock() int64 { return time.Now().UnixNano() }

// Run puts the pool under load. When ctx ends early, it returns what was
// measured until then, marked as not complete, and no error.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	remote, err := net.ResolveTCPAddr("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("the pool's address %q: %w", cfg.Address, err)
	}
	if err := needFiles(cfg.Connections + 64); err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, remote: remote}
	r.board = newBoard(&r.listening)
	pool, err := openProcesses(cfg.PIDs)
	if err != nil {
		return nil, err
	}
	return r.measure(ctx, pool)
}

// isDeaf spreads the stalled connections evenly over all.
func (r *run) isDeaf(n int32) bool {
	f := r.cfg.Stalled
	return int64(float64(n+1)*f) > int64(float64(n)*f)
}

func (r *run) lastHold(now int64) {
	for {
		old := r.last.Load()
		if now <= old || r.last.CompareAndSwap(old, now) {
			return
		}
	}
}

func (r *run) measure(ctx context.Context, pool processes) (*Result, error) {
	engine := pickEngine(&r.cfg)
	res := &Result{
		Target: r.cfg.Address, Began: time.Now().UTC(), Lost: map[string]int{},
		Setup: Setup{
			Connections: r.cfg.Connections, Stalled: r.cfg.Stalled, Seconds: max(r.cfg.Duration, 0).Seconds(),
			Shares: r.cfg.Shares.String(), TLS: r.cfg.TLS, Engine: engine.name,
			Clock: "tool", ReadDelayMs: ms(int64(r.cfg.ReadDelay)), CPUs: runtime.NumCPU(),
		},
	}
	u := meter{pool: pool}
	u.before = pool.usage()
	r.stormStart = clock()
	var wg sync.WaitGroup
	if err := engine.start(r, &wg); err != nil {
		return nil, err
	}
	tipsDone := make(chan struct{})
	go r.watchTips(ctx, tipsDone)

	res.Complete = r.storm(ctx)
	u.stormed = pool.usage()
	res.Complete = res.Complete && wait(ctx, r.cfg.pause)
	u.rested = pool.usage()
	r.enter(phaseHold)
	if res.Complete && r.cfg.Duration > 0 {
		res.Complete = r.hold(ctx)
	}
	u.end = pool.usage()
	ended := clock()
	queued := r.queued()
	r.enter(phaseEnd)
	wg.Wait()
	close(tipsDone)
	r.board.settle(clock(), true)
	r.fill(res, &u, ended)
	if res.Stalled != nil {
		res.Stalled.Queued = queued
	}
	res.notes()
	return res, nil
}

// queued says what waits in the pool's sockets for those who stopped reading;
// nil if that is not known. It must be asked while they are open.
func (r *run) queued() *Queued {
	all := map[netip.AddrPort]bool{}
	for _, sq := range r.squads {
		sq.mu.Lock()
		maps.Copy(all, sq.deafLocal)
		sq.mu.Unlock()
	}
	if len(all) == 0 {
		return nil
	}
	b := queuedFor(r.remote.Port, all)
	if len(b) == 0 {
		return nil
	}
	return &Queued{Sockets: len(b), Median: b[len(b)/2], Max: b[len(b)-1]}
}

func (r *run) enter(phase int32) {
	if phase == phaseHold {
		r.holdStart.Store(clock())
	}
	r.phase.Store(phase)
}

// storm waits until every connection has a job or failed, and reports whether
// it came to its end.
func (r *run) storm(ctx context.Context) bool {
	r.sweepReason = fmt.Sprintf("within %v", r.cfg.Timeout)
	deadline := time.NewTimer(r.cfg.Timeout)
	defer deadline.Stop()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; r.settled.Load() < int64(r.cfg.Connections); n++ {
		if n%100 == 0 {
			r.progress("connecting", r.stormStart, r.cfg.Timeout)
		}
		select {
		case <-ctx.Done():
			r.sweepReason = "until the interruption"
			return false
		case <-deadline.C:
			return true
		case <-ticker.C:
		}
	}
	return true
}

// hold measures broadcasts and shares, and reports whether it came to its end.
func (r *run) hold(ctx context.Context) bool {
	r.board.start()
	start := r.holdStart.Load()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		now := clock()
		past := time.Duration(now-start) - r.cfg.Duration
		if past >= 0 {
			r.board.stop()
		}
		if open := r.board.settle(now, false); past >= lastGrace || past >= 0 && !open {
			return true
		}
		if n%4 == 0 {
			r.progress("measuring", start, r.cfg.Duration)
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (r *run) watchTips(ctx context.Context, done <-chan struct{}) {
	for {
		select {
		case t, ok := <-r.cfg.Tips:
			if !ok {
				return
			}
			r.board.tip(t)
		case <-done:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *run) progress(phase string, since int64, of time.Duration) {
	if r.cfg.Progress == nil {
		return
	}
	p := Progress{
		Phase: phase, Elapsed: time.Duration(clock() - since), Of: of, Connections: r.cfg.Connections,
		Holding: int(r.holdingNow.Load()), Failed: int(r.failed.Load()), Lost: int(r.lost.Load()), Broadcasts: r.board.number(),
	}
	for _, sq := range r.squads {
		sq.mu.Lock()
		p.Answers += sq.answers.n
		sq.mu.Unlock()
	}
	r.cfg.Progress(p)
}

// fill gathers the figures of all squads.
func (r *run) fill(res *Result, u *meter, ended int64) {
	var waits, deafClosed []int64
	stalled := Stalled{Reasons: map[string]int{}}
	res.Storm.Reasons = map[string]int{}
	sh := Shares{Rejected: []Rejected{}}
	rejects := map[reject]uint64{}
	var answers, lag histogram
	blurred := 0
	for _, sq := range r.squads {
		waits = append(waits, sq.waits...)
		deafClosed = append(deafClosed, sq.deafClosed...)
		addCounts(res.Storm.Reasons, sq.failures)
		addCounts(res.Lost, sq.lost)
		addCounts(stalled.Reasons, sq.deafReasons)
		res.Junk += sq.junk
		res.Stray += sq.stray
		res.Reconnects += sq.reconnects
		blurred += sq.blurred
		if sq.stamped {
			res.Setup.Clock = "kernel"
		}
		sh.Sent += sq.sent
		sh.Accepted += sq.accepted
		for k, n := range sq.rejects {
			rejects[k] += n
		}
		answers.merge(&sq.answers)
		lag.merge(&sq.lag)
		for i := range sq.conns {
			if sq.conns[i].deaf && sq.conns[i].held != 0 {
				stalled.Connections++
			}
		}
	}
	res.Storm.Holding, res.Storm.Failed = len(waits), int(r.failed.Load())
	if len(waits) > 0 {
		res.Storm.AllMs = ms(r.last.Load() - r.stormStart)
	}
	res.Storm.PerMiner = percentilesOf(waits)
	r.board.fill(&res.Broadcasts)
	if r.cfg.Stalled > 0 {
		stalled.Closed, stalled.ClosedAfter = len(deafClosed), percentilesOf(deafClosed)
		res.Stalled = &stalled
	}
	seconds := 0.0
	if r.cfg.Duration > 0 {
		seconds = float64(ended-r.holdStart.Load()) / 1e9
	}
	if r.cfg.Shares.any() {
		res.Shares = &sh
	}
	u.fill(res, len(waits), seconds)
	res.Tool.Blurred = blurred
	if lag.n > 0 {
		p := lag.percentiles()
		res.Tool.Lag = &p
	}
	if r.cfg.Shares.any() {
		sh.fill(&answers, rejects, seconds, res.Pool)
	}
}

func addCounts(to, from map[string]int) {
	for k, n := range from {
		to[k] += n
	}
}

func (sh *Shares) fill(answers *histogram, rejects map[reject]uint64, seconds float64, pool *PoolUsage) {
	sh.Seconds, sh.Answered, sh.Latency = seconds, answers.n, answers.percentiles()
	for k, n := range rejects {
		sh.Rejected = append(sh.Rejected, Rejected{k.code, k.text, n})
	}
	slices.SortFunc(sh.Rejected, compareRejected)
	if seconds > 0 {
		sh.PerSecond = round1(float64(answers.n) / seconds)
	}
	if pool != nil && pool.HoldCPUMs > 0 {
		x := round1(float64(answers.n) / (pool.HoldCPUMs / 1000))
		sh.PerCPUSecond = &x
	}
}
