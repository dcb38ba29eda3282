package pool

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"qcitycoin.org/qcity/stratum/pool/canon"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

// appendState appends the whole state; docs/pool.md has the fields. Equal
// states have equal bytes.
func (s *state) appendState(dst []byte) []byte {
	num := func(v uint64) { dst = binary.AppendUvarint(dst, v) }
	num(s.seq)
	num(uint64(s.lastID))
	dst = append(dst, s.parent[:]...)
	dst = append(dst, s.target[:]...)
	dst = s.total.append(dst)
	num(uint64(len(s.byID)))
	for _, id := range slices.Sorted(maps.Keys(s.byID)) {
		w := s.byID[id]
		num(uint64(id))
		dst = canon.AppendBytes(dst, w.name)
		dst = canon.AppendBytes(dst, w.payee)
		dst = appendTime(dst, w.used)
		dst = w.tally.append(dst)
	}
	list := s.sortedPrefixes()
	num(uint64(len(list)))
	for i := range list {
		dst = appendTime(dst, list[i].Issued)
		b := batch{b: dst}
		b.prefix(&list[i])
		dst = b.b
	}
	return s.ledger.AppendState(dst)
}

// readState reads what appendState wrote.
func readState(r *canon.Reader, limits reward.Limits) (state, error) {
	s := newState(nil)
	s.seq, s.lastID = r.Uvarint(), readID(r)
	s.parent, s.target = r.Hash(), r.Hash()
	s.total = readTally(r)
	for range r.Count(16) {
		w := &Worker{id: readID(r), name: r.String(MaxName), payee: r.String(MaxName), used: readTime(r), tally: readTally(r)}
		if s.byID[w.id] != nil || s.workers[w.name] != nil {
			r.Fail(errors.New("a worker is there twice"))
		}
		s.byID[w.id], s.workers[w.name] = w, w
	}
	for range r.Count(7) {
		p := Prefix{Issued: readTime(r)}
		readPrefix(r, &p)
		s.prefixes[p.Extranonce1] = p
	}
	var err error
	if r.Err() == nil {
		s.ledger, err = reward.ReadState(r, limits)
	}
	return s, errors.Join(r.Err(), err)
}

// Times are milliseconds since 1970, plus 1; 0 is no time.
func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, 0)
	}
	return binary.AppendUvarint(dst, uint64(max(0, t.UnixMilli()))+1)
}

func readTime(r *canon.Reader) time.Time {
	ms := r.Amount()
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms - 1).UTC()
}

func (t *tally) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, t.accepted)
	dst = append(dst, byte(len(t.rejected)))
	for _, n := range t.rejected {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = canon.AppendFloat(dst, t.credit)
	dst = canon.AppendFloat(dst, t.best)
	dst = binary.AppendUvarint(dst, t.blocks)
	dst = appendTime(dst, t.last)
	dst = appendTime(dst, t.rate.start)
	dst = appendTime(dst, t.rate.last)
	for _, sum := range t.rate.sums {
		dst = canon.AppendFloat(dst, sum)
	}
	return dst
}

func readTally(r *canon.Reader) (t tally) {
	t.accepted = r.Uvarint()
	n := int(r.Byte()) // an earlier version may know fewer reasons
	if n > len(t.rejected) {
		r.Failf("%d reasons of refusals: use the program version that wrote them", n)
		return t
	}
	for i := range n {
		t.rejected[i] = r.Uvarint()
	}
	t.credit, t.best, t.blocks, t.last = r.Float(), r.Float(), r.Uvarint(), readTime(r)
	t.rate.start, t.rate.last = readTime(r), readTime(r)
	for i := range t.rate.sums {
		t.rate.sums[i] = r.Float()
	}
	return t
}

// snapshot books and records what waits, and encodes the state and the table
// of seen shares: no event that the state contains comes later. The caller holds b.mu.
func (b *Books) snapshot(j *journal) []byte {
	b.seen.mu.Lock()
	waiting, seen := b.in.take(), b.seen.all()
	b.seen.mu.Unlock()
	for i := range waiting {
		b.book(&waiting[i])
	}
	b.recordRefused()
	b.seal()
	b.hand(j)
	dst := b.state.appendState(nil)
	dst = binary.AppendUvarint(dst, uint64(len(seen)))
	for i := range seen {
		dst = append(dst, seen[i][:]...)
	}
	return dst
}
