package pool

// sealAt is how long a batch gets before it is closed, in bytes. A batch is
// one record, written and synced in one step; a short one keeps the search for
// the end of a cut record short.
const sealAt = 192 << 10

// record begins an event of the journal, if there is one. The caller, who
// holds b.mu, appends its fields.
func (b *Books) record(at int64, kind byte) *batch {
	if b.journal == nil {
		return nil
	}
	if len(b.batch.b) >= sealAt {
		b.seal()
	}
	b.state.seq++
	b.batch.event(b.state.seq, at, kind)
	return &b.batch
}

// seal closes the current batch.
func (b *Books) seal() {
	if len(b.batch.b) == 0 {
		return
	}
	b.sealed = append(b.sealed, b.batch)
	b.sealedBytes += len(b.batch.b)
	b.batch = batch{b: b.journal.buffer()}
	b.sealed = bound(b.sealed, b.cfg.maxUnwritten, &b.sealedBytes, &b.lost)
}

// loss is what cannot be written one by one any more.
type loss struct {
	batches int
	shares  uint64
	noted   uint64 // shares that a dropped batch said were missing
}

// bound drops the oldest batches beyond a limit in bytes.
func bound(list []batch, limit int, bytes *int, lost *loss) []batch {
	for *bytes > limit {
		*bytes -= len(list[0].b)
		lost.batches++
		lost.shares += list[0].shares
		lost.noted += list[0].missing
		list = list[1:]
	}
	return list
}

// refused counts a refusal that is not in a batch yet.
func (b *Books) refused(w *Worker, r Reason) {
	if b.journal == nil {
		return
	}
	if w == nil {
		w = &b.nobody
	}
	if w.fresh == [reasons]uint32{} {
		b.dirty = append(b.dirty, w)
	}
	w.fresh[r]++
}

// recordRefused puts the refusals since the last time into the batch, as sums.
func (b *Books) recordRefused() {
	for _, w := range b.dirty {
		for r, n := range w.fresh {
			if n == 0 {
				continue
			}
			j := b.record(b.refusedAt(w), evReject)
			j.num(uint64(w.id))
			j.bytes([]byte{byte(r)})
			j.num(uint64(n))
		}
		w.fresh = [reasons]uint32{}
	}
	b.dirty = b.dirty[:0]
}

func (b *Books) refusedAt(w *Worker) int64 {
	if w == &b.nobody || w.used.IsZero() {
		return b.batch.base
	}
	return w.used.UnixMilli()
}
