package pool

import (
	"errors"
	"fmt"
	"time"

	"qcitycoin.org/qcity/stratum/pool/canon"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

// Flags of a snapshot's parts.
const (
	partFirst = 1 << iota
	partLast
)

// partSize is how much of a snapshot one record holds at most, in bytes.
const partSize = 1 << 20

// parts cuts a snapshot into records: 'S' ‖ flags ‖ bytes, the first with the
// time in milliseconds in front.
func parts(now time.Time, snapshot []byte) (records [][]byte) {
	snapshot = append(appendTime(nil, now), snapshot...)
	for first := byte(partFirst); first != 0 || len(snapshot) > 0; first = 0 {
		n := min(len(snapshot), partSize)
		flags := first
		if n == len(snapshot) {
			flags |= partLast
		}
		records = append(records, append([]byte{recSnapshot, flags}, snapshot[:n]...))
		snapshot = snapshot[n:]
	}
	return records
}

// loader rebuilds a state from the records of a segment, in their order.
type loader struct {
	limits reward.Limits
	seen   *Seen              // nil: not wanted
	each   func(*event) error // nil, or told of every event, also of those a snapshot holds already

	state    state
	begun    bool
	complete bool      // the snapshot is there
	start    time.Time // of the segment
	batches  int
	snapshot []byte
}

func (l *loader) record(payload []byte) error {
	switch {
	case payload[0] == recSnapshot && !l.complete:
		return l.part(payload[1:])
	case payload[0] == recBatch && l.complete:
		l.batches++
		return readBatch(payload[1:], l.event)
	}
	return fmt.Errorf("a record of kind %q is not in its place", payload[0])
}

func (l *loader) part(b []byte) error {
	if len(b) == 0 || (b[0]&partFirst != 0) == l.begun {
		return errors.New("a part of the snapshot is missing")
	}
	l.begun = true
	l.snapshot = append(l.snapshot, b[1:]...)
	if b[0]&partLast == 0 {
		return nil
	}
	r := canon.NewReader(l.snapshot)
	l.start = readTime(r)
	var err error
	if l.state, err = readState(r, l.limits); err != nil {
		return fmt.Errorf("the snapshot: %w", err)
	}
	if l.seen != nil {
		l.seen.Reset(l.state.parent)
	}
	for range r.Count(32) {
		if hash := r.Hash(); l.seen != nil {
			l.seen.Add(hash)
		}
	}
	l.complete, l.snapshot = true, nil
	return r.Done()
}

func (l *loader) event(e *event) error {
	if l.each != nil {
		if err := l.each(e); err != nil {
			return err
		}
	}
	switch {
	case e.seq <= l.state.seq: // the snapshot has it
		return nil
	case e.seq > l.state.seq+1:
		return fmt.Errorf("event %d follows event %d", e.seq, l.state.seq)
	}
	l.state.seq = e.seq
	if l.seen != nil {
		switch e.kind {
		case evShare, evBlock:
			l.seen.Add(e.share.Hash)
		case evParent:
			l.seen.Reset(e.hash)
		}
	}
	return l.state.apply(e)
}

// apply makes an event of the journal happen again.
func (s *state) apply(e *event) (err error) {
	w := s.byID[e.worker]
	if w == nil && e.worker != 0 && e.kind != evWorker {
		return fmt.Errorf("event %d is of worker %d, who is not known", e.seq, e.worker)
	}
	switch e.kind {
	case evShare, evBlock:
		s.share(e.at, w, &e.share)
	case evReject:
		s.reject(e.at, w, e.reason, e.count)
	case evParent:
		s.parent = e.hash
	case evTarget:
		s.setTarget(e.hash)
	case evWorker:
		s.define(e.at, e.worker, e.name, e.payee)
	case evForget:
		if w != nil {
			s.forget(w)
		}
	case evIssued:
		s.issue(e.prefix)
	case evReturned:
		delete(s.prefixes, e.prefix.Extranonce1)
	case evFound:
		_, err = s.ledger.Found(e.found)
	case evSettled:
		_, err = s.ledger.Settle(e.hash, e.state)
	case evRules:
		err = s.ledger.SetRules(e.rules)
	}
	if err != nil {
		return fmt.Errorf("event %d: %w", e.seq, err)
	}
	return nil
}
