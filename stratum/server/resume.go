package server

import (
	"crypto/rand"
	"io"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
)

// parked is what a closed session leaves for its miner's return.
type parked struct {
	closed     time.Time
	difficulty float64 // as steered, before the network's cap
	jobs       jobRing
	last       sentJob
	lapsed     []lapsed
	past       []pastTarget
}

// prefixes hands out extranonce1 values: unique among live and parked
// sessions, and never this machine's own.
type prefixes struct {
	live   map[[work.PrefixSize]byte]*session
	parked map[[work.PrefixSize]byte]parked
	random io.Reader // crypto/rand's, which never fails; another in tests
	books  *pool.Books
}

// newPrefixes knows what the books remember of the time before a crash: those
// miners may resume, too, but for their jobs.
func newPrefixes(now time.Time, books *pool.Books) prefixes {
	p := prefixes{
		live: map[[work.PrefixSize]byte]*session{}, parked: map[[work.PrefixSize]byte]parked{},
		random: rand.Reader, books: books,
	}
	for _, was := range books.Prefixes() {
		p.parked[was.Extranonce1] = parked{closed: now, difficulty: was.Difficulty}
	}
	return p
}

// forget makes a prefix free for anybody.
func (p *prefixes) forget(e [work.PrefixSize]byte) {
	delete(p.parked, e)
	p.books.Returned(e)
}

// fresh takes a random unused prefix: an extranonce1 that cannot be foreseen
// cannot be occupied by somebody else. The caller enters who has it.
func (p *prefixes) fresh() [work.PrefixSize]byte {
	for {
		var e [work.PrefixSize]byte
		_, _ = io.ReadFull(p.random, e[:])
		_, waiting := p.parked[e]
		if _, taken := p.live[e]; e != work.LocalPrefix && !taken && !waiting {
			p.live[e] = nil
			return e
		}
	}
}

// parsePrefix reads a session id.
func parsePrefix(id []byte) (e [work.PrefixSize]byte, ok bool) {
	ok = len(id) == stratum.SessionIDSize && stratum.ParseBytes(e[:], id) == nil
	return e, ok
}

// resume takes a prefix, if it is parked. The caller enters who has it.
func (p *prefixes) resume(now time.Time, e [work.PrefixSize]byte, keep time.Duration) (parked, bool) {
	was, ok := p.parked[e]
	if !ok || now.Sub(was.closed) > keep {
		return parked{}, false
	}
	delete(p.parked, e)
	p.live[e] = nil
	return was, true
}

// park frees a live prefix and remembers its session; beyond limit an old
// parked session is forgotten: the oldest of a sample, so that ten thousand
// miners who leave at once cost little.
func (p *prefixes) park(e [work.PrefixSize]byte, was parked, limit int) {
	delete(p.live, e)
	if len(p.parked) >= limit {
		var oldest [work.PrefixSize]byte
		var when time.Time
		sampled := 0
		for k, v := range p.parked {
			if when.IsZero() || v.closed.Before(when) {
				oldest, when = k, v.closed
			}
			if sampled++; sampled == 16 {
				break
			}
		}
		p.forget(oldest)
	}
	p.parked[e] = was
}

// expire forgets parked sessions that nobody came back for.
func (p *prefixes) expire(now time.Time, keep time.Duration) {
	for k, v := range p.parked {
		if now.Sub(v.closed) > keep {
			p.forget(k)
		}
	}
}
