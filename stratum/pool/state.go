package pool

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"qcitycoin.org/qcity/stratum/pool/reward"
)

// maxPrefixes bounds the prefixes that are kept for resuming sessions.
const maxPrefixes = 1 << 16

// state is everything that survives a restart, but for the table of seen
// shares. The same events make the same state, whether they happen now or are
// read from the journal.
type state struct {
	seq      uint64 // events so far
	total    tally
	workers  map[string]*Worker
	byID     map[uint32]*Worker
	lastID   uint32
	parent   [32]byte
	target   [32]byte
	prefixes map[[4]byte]Prefix
	ledger   *reward.Ledger
}

// Prefix is an extranonce1 that a session was given.
type Prefix struct {
	Extranonce1 [4]byte
	Workers     []string
	Difficulty  float64
	Issued      time.Time // when it was given, or last changed
}

func newState(ledger *reward.Ledger) state {
	return state{workers: map[string]*Worker{}, byID: map[uint32]*Worker{}, prefixes: map[[4]byte]Prefix{}, ledger: ledger}
}

func (s *state) share(at time.Time, w *Worker, share *Share) {
	s.total.accept(at, share)
	if w == nil {
		return
	}
	w.tally.accept(at, share)
	w.used = at
	s.ledger.Share(w.payee, reward.Weight(share.Difficulty))
}

func (s *state) reject(at time.Time, w *Worker, r Reason, n uint64) {
	s.total.rejected[r] += n
	if w != nil {
		w.tally.rejected[r] += n
		w.used = at
	}
}

// define makes a worker known, or gives one another payee.
func (s *state) define(at time.Time, id uint32, name, payee string) *Worker {
	w := s.workers[name]
	if w == nil {
		w = &Worker{id: id, name: name}
		w.tally.rate.fade(at)
		s.workers[name], s.byID[id] = w, w
		s.lastID = max(s.lastID, id)
	}
	w.payee, w.used = payee, at
	return w
}

func (s *state) forget(w *Worker) {
	delete(s.workers, w.name)
	delete(s.byID, w.id)
}

func (s *state) setTarget(target [32]byte) {
	s.target = target
	s.ledger.SetNetwork(reward.WorkOfTarget(target))
}

func (s *state) issue(p Prefix) {
	if _, known := s.prefixes[p.Extranonce1]; !known && len(s.prefixes) >= maxPrefixes {
		var oldest *Prefix
		for _, q := range s.prefixes {
			if oldest == nil || q.Issued.Before(oldest.Issued) || q.Issued.Equal(oldest.Issued) && string(q.Extranonce1[:]) < string(oldest.Extranonce1[:]) {
				oldest = &q
			}
		}
		delete(s.prefixes, oldest.Extranonce1)
	}
	s.prefixes[p.Extranonce1] = p
}

func (s *state) sortedPrefixes() []Prefix {
	return slices.SortedFunc(maps.Values(s.prefixes), func(a, b Prefix) int {
		return cmp.Or(a.Issued.Compare(b.Issued), bytes.Compare(a.Extranonce1[:], b.Extranonce1[:]))
	})
}
