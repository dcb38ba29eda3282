package load

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Tip is a change of the chain's tip as its source tells it.
type Tip struct {
	// Prev is the new tip's hash as it stands in mining.notify (64 hex digits in
	// Stratum's word order), or empty if unknown: then the change belongs to the
	// first broadcast that follows.
	Prev string
	// Nano is when it changed, in Unix nanoseconds of this machine's clock.
	Nano int64
}

const (
	settleTime  = 10 * time.Second       // a broadcast is waited for so long
	tipLateness = 200 * time.Millisecond // word of its tip's change travels on another way
	lastGrace   = time.Second            // a broadcast the run ends in had no chance before
)

// cast is one broadcast: the arrivals of the first job on a new tip.
type cast struct {
	key      uint64
	prev     string
	expected int // connections that should get it

	mu    sync.Mutex
	times []int64
	first int64 // smallest of times
	over  bool  // counted; later arrivals are missing
}

// board keeps the broadcasts of a run.
type board struct {
	seed      maphash.Seed
	listening *atomic.Int64
	newest    atomic.Pointer[cast]

	old atomic.Uint64 // the newest key in before

	mu      sync.Mutex
	before  []uint64 // tips that somebody had before broadcasts counted, the newest of them
	counts  bool     // broadcasts count: the storm is over
	open    []*cast  // oldest first
	done    []Broadcast
	all     histogram
	tips    []Tip // not matched yet, oldest first
	tipNs   []int64
	missing int
}

func newBoard(listening *atomic.Int64) *board {
	return &board{seed: maphash.MakeSeed(), listening: listening}
}

// key stands for a previous hash; it is never 0.
func (b *board) key(prev []byte) uint64 { return maphash.Bytes(b.seed, prev) | 1 }

// arrived notes that a connection got the first job on a tip.
func (b *board) arrived(key uint64, prev []byte, now int64) {
	c := b.newest.Load()
	if c == nil || c.key != key {
		if c = b.find(key, prev, now); c == nil {
			return
		}
	}
	c.mu.Lock()
	if !c.over {
		c.times = append(c.times, now)
		c.first = min(c.first, now)
	}
	c.mu.Unlock()
}

// find returns the broadcast of a tip, a new one if nobody else had it.
func (b *board) find(key uint64, prev []byte, now int64) *cast {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.IndexFunc(b.open, func(c *cast) bool { return c.key == key }); i >= 0 {
		return b.open[i]
	}
	if !b.counts {
		b.remember(key)
		return nil
	}
	if slices.Contains(b.before, key) {
		return nil
	}
	expected := int(b.listening.Load())
	c := &cast{key: key, prev: string(prev), expected: expected, times: make([]int64, 0, expected+expected/64), first: now}
	b.open = append(b.open, c)
	b.newest.Store(c)
	return c
}

// begun notes that somebody has his first job, on this tip: if others get it
// once broadcasts count, it is too late to say who was first.
func (b *board) begun(key uint64) {
	if b.old.Load() != key {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.counts {
			b.remember(key)
		}
	}
}

func (b *board) remember(key uint64) {
	b.old.Store(key)
	if !slices.Contains(b.before, key) {
		if b.before = append(b.before, key); len(b.before) > 64 {
			b.before = b.before[1:]
		}
	}
}

// start makes broadcasts count from now on.
func (b *board) start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts = true
}

// tip notes a change of the tip.
func (b *board) tip(t Tip) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tips = append(b.tips, t); len(b.tips) > 256 {
		b.tips = b.tips[1:]
	}
}

// settle counts the broadcasts that are complete or have had their time; with
// end, all that had lastGrace, and drops the others. It reports whether any is
// still open.
func (b *board) settle(now int64, end bool) (open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = slices.DeleteFunc(b.open, func(c *cast) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		age, complete := time.Duration(now-c.first), len(c.times) >= c.expected
		switch {
		case end && !complete && age < lastGrace:
		case end, age >= settleTime, complete && age >= tipLateness:
			b.count(c)
		default:
			return false
		}
		c.over = true
		return true
	})
	return len(b.open) > 0
}

// count books a broadcast. Both locks are held.
func (b *board) count(c *cast) {
	for i := range c.times {
		c.times[i] -= c.first
		b.all.add(c.times[i])
	}
	bc := Broadcast{
		At: time.Unix(0, c.first).UTC(), Prev: c.prev,
		Expected: c.expected, Reached: len(c.times), FanOut: percentilesOf(c.times),
	}
	for i := len(b.tips) - 1; i >= 0; i-- {
		if t := b.tips[i]; t.Prev != c.prev && (t.Prev != "" || t.Nano > c.first) {
			continue
		}
		d := c.first - b.tips[i].Nano
		x := ms(d)
		bc.TipToFirst = &x
		b.tipNs = append(b.tipNs, d)
		b.tips = b.tips[i+1:] // those before it led to no broadcast
		break
	}
	b.missing += max(0, c.expected-len(c.times))
	b.done = append(b.done, bc)
}

// stop makes new broadcasts not count any more.
func (b *board) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts = false
}

// number is how many broadcasts were counted.
func (b *board) number() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.done)
}

func (b *board) fill(out *Broadcasts) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*out = Broadcasts{Count: len(b.done), Missing: b.missing, FanOut: b.all.percentiles(), List: append([]Broadcast{}, b.done...)}
	var p99 []float64
	for _, c := range b.done {
		p99 = append(p99, c.FanOut.P99)
	}
	if slices.Sort(p99); len(p99) > 0 {
		out.P99 = Spread{p99[0], p99[len(p99)/2], p99[len(p99)-1]}
	}
	if len(b.tipNs) > 0 {
		p := percentilesOf(b.tipNs)
		out.TipToFirst = &p
	}
}
