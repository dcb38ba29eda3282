// Package pool keeps the books of a Stratum port: which worker found which
// share, what was refused and why, how fast everybody hashes, and what the
// blocks that were found owe to whom. It knows nothing of connections or of the
// wire. With a directory the books are durable: see Open.
package pool

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

// Config bounds the books. Zero fields mean the defaults named here.
type Config struct {
	// MaxWorkers is the largest number of worker names; when it is reached, the
	// name unused for longest makes room. Default 16,384.
	MaxWorkers int
	// DuplicateEntries bounds the table of seen shares (32 bytes and map
	// overhead each). Only shares of the current parent and of the one before
	// are in it, and of those at least the newest half of this number. Default 262,144.
	DuplicateEntries int

	// Rules divide the rewards. Default: all is the operator's.
	Rules reward.Rules
	// Limits bound the memory for accounts and blocks.
	Limits reward.Limits
	// Payable says whether an account's name is an address that can be paid. The
	// work of others is the operator's. Default: none can.
	Payable func(account string) bool

	// Dir is the directory of the journal, which Open makes if it is missing.
	Dir string
	// Retention is how long single shares are kept. Default 7 days.
	Retention time.Duration
	// MaxBytes bounds the journal; beyond it the oldest shares go earlier.
	// Default 4 GiB, at least four segments.
	MaxBytes int64
	// SegmentBytes is about how long one file of the journal gets. Default 64 MiB.
	SegmentBytes int64
	// FlushInterval is how long a share waits at most until it is written.
	// Default 250 ms.
	FlushInterval time.Duration
	// FS is the file system of the journal. Default: the real one.
	FS FS
	// Log is told once when the journal cannot be written, and when it can again.
	// Default: nobody.
	Log *slog.Logger

	maxUnwritten int // smaller in tests
}

// FS is what the journal asks of a file system.
type FS interface {
	durable.FS
	// Names lists the files in a directory.
	Names(dir string) ([]string, error)
}

// WithDefaults fills the zero fields.
func (c Config) WithDefaults() Config {
	c.MaxWorkers = cmp.Or(c.MaxWorkers, 16_384)
	c.DuplicateEntries = cmp.Or(c.DuplicateEntries, 1<<18)
	c.Rules.Factor = cmp.Or(c.Rules.Factor, 2000)
	if c.Payable == nil {
		c.Payable = func(string) bool { return false }
	}
	c.Retention = cmp.Or(c.Retention, 7*24*time.Hour)
	c.SegmentBytes = cmp.Or(c.SegmentBytes, 64<<20)
	c.MaxBytes = max(cmp.Or(c.MaxBytes, 4<<30), 4*c.SegmentBytes)
	c.FlushInterval = cmp.Or(c.FlushInterval, 250*time.Millisecond)
	c.maxUnwritten = cmp.Or(c.maxUnwritten, maxUnwritten)
	if c.FS == nil {
		c.FS = osFS{durable.OS()}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Share is an accepted share.
type Share struct {
	Hash       [32]byte // of the whole header, internal order
	Difficulty float64  // what it counts for
	Real       float64  // what its hash would have met
	Block      bool     // it made a block
}

// Books holds every worker's account, the total and the rewards. All methods
// may be called from any goroutine. Those that miners wait for (Open, Close,
// NewParent, Network, Accept, Reject, Issued, Returned, Stats) never wait for a disk.
type Books struct {
	cfg  Config
	seen *Seen
	in   intake

	mu     sync.Mutex // taken before in.mu
	state  state
	nobody Worker    // refusals that belong to no worker
	dirty  []*Worker // those with fresh refusals
	batch  batch     // events that are not sealed yet
	sealed []batch   // full batches that are not handed to the journal
	// sealedBytes is their length. While the disk hangs, the oldest are dropped.
	sealedBytes int
	lost        loss

	journal *journal // nil: in memory only
}

// New returns empty books that are lost with the process.
func New(now time.Time, cfg Config) *Books {
	b, err := newBooks(now, cfg)
	if err != nil { // rules that cannot work: those who may have such use Open
		panic(err)
	}
	return b
}

func newBooks(now time.Time, cfg Config) (*Books, error) {
	cfg = cfg.WithDefaults()
	ledger, err := reward.New(cfg.Rules, cfg.Limits)
	if err != nil {
		return nil, err
	}
	b := &Books{cfg: cfg, seen: NewSeen(cfg.DuplicateEntries), state: newState(ledger)}
	b.state.total.rate.fade(now.Truncate(time.Millisecond))
	return b, nil
}

// Open returns the account of name for one more session, or nil if the table
// is full of workers that are connected, or the name is longer than MaxName.
// Close gives it back.
func (b *Books) Open(now time.Time, name string) *Worker {
	if len(name) > MaxName {
		return nil
	}
	payee := Account(name)
	if !b.cfg.Payable(payee) {
		payee = ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.state.workers[name]
	if w == nil && len(b.state.workers) >= b.cfg.MaxWorkers && !b.evict(now) {
		return nil
	}
	if w == nil || w.payee != payee {
		b.drain() // what w did so far was for its payee of then
		id := b.state.lastID + 1
		if w != nil {
			id = w.id
		}
		at := now.UnixMilli()
		w = b.state.define(time.UnixMilli(at).UTC(), id, name, payee)
		if j := b.record(at, evWorker); j != nil {
			j.num(uint64(id))
			j.text(name)
			j.text(payee)
		}
	}
	w.sessions++
	w.used = now
	return w
}

// evict drops the disconnected account that was unused for longest.
func (b *Books) evict(now time.Time) bool {
	b.drain()
	var oldest *Worker
	for _, w := range b.state.workers {
		if w.sessions == 0 && (oldest == nil || w.used.Before(oldest.used)) {
			oldest = w
		}
	}
	if oldest == nil {
		return false
	}
	b.recordRefused()
	b.state.forget(oldest)
	if j := b.record(now.UnixMilli(), evForget); j != nil {
		j.num(uint64(oldest.id))
	}
	return true
}

// Close ends a session's use of a worker's account.
func (b *Books) Close(w *Worker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.sessions--
}

// Issued notes that a session of these workers has an extranonce1 and a
// difficulty, so that its miner can resume it after a crash. It is called again
// when one of them changes.
func (b *Books) Issued(e1 [4]byte, workers []string, difficulty float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := time.Now().UnixMilli()
	p := Prefix{e1, slices.Clone(workers), difficulty, time.UnixMilli(at).UTC()}
	p.Workers = slices.DeleteFunc(p.Workers, func(name string) bool { return len(name) > MaxName })
	b.state.issue(p)
	if j := b.record(at, evIssued); j != nil {
		j.prefix(&p)
	}
}

// Returned notes that nobody may resume this extranonce1 any more.
func (b *Books) Returned(e1 [4]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.state.prefixes[e1]; !known {
		return
	}
	delete(b.state.prefixes, e1)
	if j := b.record(time.Now().UnixMilli(), evReturned); j != nil {
		j.bytes(e1[:])
	}
}

// Prefixes returns what was issued and not returned, oldest first: after Open,
// what sessions had before the restart.
func (b *Books) Prefixes() []Prefix {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.sortedPrefixes()
}

// Stats returns the total and every account, by name.
func (b *Books) Stats(now time.Time) (ShareStats, []WorkerStats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drain()
	return b.state.stats(now)
}

func (s *state) stats(now time.Time) (ShareStats, []WorkerStats) {
	workers := make([]WorkerStats, 0, len(s.workers))
	for _, w := range s.workers {
		workers = append(workers, WorkerStats{Name: w.name, Sessions: w.sessions, ShareStats: w.tally.stats(now)})
	}
	slices.SortFunc(workers, func(a, b WorkerStats) int { return cmp.Compare(a.Name, b.Name) })
	return s.total.stats(now), workers
}
