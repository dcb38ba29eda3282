package pool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"qcitycoin.org/qcity/internal/durable"
)

const (
	// maxUnwritten bounds what is kept of batches that cannot be written, in
	// bytes. Beyond that single shares are lost from the journal; the sums are not.
	maxUnwritten = 32 << 20
	// retryEvery is the pause after a failure.
	retryEvery = time.Second
	// hanging is how long a write may take before it counts as a failure.
	hanging = 5 * time.Second
)

// journal writes batches into segments. Its lock is taken before that of the
// books.
type journal struct {
	fs   FS
	cfg  Config
	log  *slog.Logger
	free sync.Pool // *[]byte, buffers of batches

	mu        sync.Mutex   // held while the disk is at work
	file      *durable.Log // nil: a new segment is needed before anything can be written
	segs      []segment    // oldest first; the last one is the newest whole one
	unwritten []batch
	retryAt   time.Time
	closed    bool

	statMu sync.Mutex // never held while the disk is at work
	stats  JournalStats
}

type segment struct {
	n     uint64
	size  int64
	start time.Time
}

// JournalStats says how the journal fares.
type JournalStats struct {
	// Failing is since when what is booked is not durable; zero: it is.
	Failing time.Time
	Err     string // why
	// Durable is the instant up to which everything is on disk.
	Durable time.Time
	// Missing is how many shares were counted, and are not in the journal one by
	// one, because it could not be written for too long. Since the start.
	Missing  uint64
	Segments int
	Bytes    int64
}

// buffer returns an empty buffer for a batch.
func (j *journal) buffer() []byte {
	if b, ok := j.free.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, sealAt+1024)
}

// Journal says how the journal fares; nothing for books in memory. It never
// waits for the disk.
func (b *Books) Journal() JournalStats {
	if b.journal == nil {
		return JournalStats{}
	}
	j := b.journal
	j.statMu.Lock()
	defer j.statMu.Unlock()
	s := j.stats
	if s.Failing.IsZero() && time.Since(s.Durable) > hanging {
		s.Failing, s.Err = s.Durable, "the disk does not answer, or the books are not run"
	}
	return s
}

// Run flushes at every FlushInterval until ctx ends, and then once more. A
// failing disk does not end it: see Journal. The error is that of the last flush.
func (b *Books) Run(ctx context.Context) error {
	ticker := time.NewTicker(b.cfg.FlushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return b.Flush()
		case <-ticker.C:
			_ = b.Flush() // it is in Journal and in the log
		}
	}
}

// Flush writes what is booked so far and returns nil when all of it is durable.
func (b *Books) Flush() error {
	if b.journal == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.drain()
		return nil
	}
	j := b.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return fmt.Errorf("the books in %s: %w", j.cfg.Dir, fs.ErrClosed)
	}
	now := time.Now()
	b.mu.Lock()
	b.drain()
	b.recordRefused()
	b.seal()
	b.hand(j)
	if b.lost.batches > 0 {
		// What was dropped is missing in this segment: the next begins with a snapshot.
		j.release()
		j.retryAt = time.Time{}
		b.missing(now, j)
	}
	var snapshot []byte
	if j.snapshotDue(now, b.seen.size()) {
		snapshot = b.snapshot(j)
	}
	b.mu.Unlock()
	return j.write(now, snapshot)
}

// hand gives the sealed batches to the journal, as many as it keeps.
func (b *Books) hand(j *journal) {
	j.unwritten = append(j.unwritten, b.sealed...)
	b.sealed, b.sealedBytes = nil, 0
	bytes := 0
	for i := range j.unwritten {
		bytes += len(j.unwritten[i].b)
	}
	j.unwritten = bound(j.unwritten, j.cfg.maxUnwritten, &bytes, &b.lost)
}

// missing records that shares are not in the journal. The caller holds b.mu.
func (b *Books) missing(now time.Time, j *journal) {
	lost := b.lost
	b.lost = loss{}
	e := b.record(now.UnixMilli(), evMissing)
	e.num(lost.shares + lost.noted)
	e.missing += lost.shares + lost.noted
	b.seal()
	b.hand(j)
	j.statMu.Lock()
	defer j.statMu.Unlock()
	j.stats.Missing += lost.shares
}

// snapshotDue says whether a new segment is to begin. seen is the number of
// shares a snapshot would have to repeat: soon after a new parent it is small.
func (j *journal) snapshotDue(now time.Time, seen int) bool {
	if now.Before(j.retryAt) {
		return false
	}
	if j.file == nil {
		return true
	}
	s := &j.segs[len(j.segs)-1]
	return s.size >= j.cfg.SegmentBytes && (seen < 4096 || s.size >= 2*j.cfg.SegmentBytes) ||
		now.Sub(s.start) >= min(24*time.Hour, j.cfg.Retention/4)
}

// write puts the batches into the segment and, if there is a snapshot, begins
// a new one with it. The caller holds j.mu.
func (j *journal) write(now time.Time, snapshot []byte) error {
	if j.file != nil {
		if err := j.drain(); err != nil {
			return j.fail(now, err)
		}
		if snapshot == nil {
			return j.succeed(now)
		}
		if err := j.begin(now, snapshot); err != nil {
			if j.file == nil {
				return j.fail(now, err)
			}
			j.retryAt = now.Add(retryEvery)
			j.log.Warn("books: cannot begin a new file, going on with the old one", "err", err)
			return j.succeed(now)
		}
		j.retire(now)
		return j.succeed(now)
	}
	if snapshot == nil { // failed a moment ago
		j.statMu.Lock()
		defer j.statMu.Unlock()
		return errors.New(j.stats.Err)
	}
	if err := j.begin(now, snapshot); err != nil {
		return j.fail(now, err)
	}
	// The snapshot has all of them; they are written for the sake of single shares.
	if err := j.drain(); err != nil {
		return j.fail(now, err)
	}
	return j.succeed(now)
}

// drain writes the batches into the segment.
func (j *journal) drain() error {
	for len(j.unwritten) > 0 {
		b := j.unwritten[0].b
		if err := j.file.Append(b); err != nil {
			return err
		}
		j.segs[len(j.segs)-1].size += int64(len(b)) + 8
		if cap(b) <= 2*sealAt {
			j.free.Put(&b)
		}
		j.unwritten = j.unwritten[1:]
	}
	j.unwritten = nil
	return nil
}

// fail notes that the disk failed. A file that can go on is kept.
func (j *journal) fail(now time.Time, err error) error {
	err = fmt.Errorf("the books in %s cannot be written; mining goes on, and they are kept in memory: %w", j.cfg.Dir, err)
	j.retryAt = now.Add(retryEvery)
	if j.file != nil && j.file.Err() != nil {
		j.release()
	}
	j.statMu.Lock()
	defer j.statMu.Unlock()
	if j.stats.Failing.IsZero() {
		j.stats.Failing = now
		j.log.Error("books: not durable from now on", "err", err)
	}
	j.stats.Err = err.Error()
	return err
}

func (j *journal) succeed(now time.Time) error {
	j.statMu.Lock()
	defer j.statMu.Unlock()
	if !j.stats.Failing.IsZero() {
		j.log.Info("books: durable again", "failed", now.Sub(j.stats.Failing).Round(time.Second).String())
	}
	j.stats.Failing, j.stats.Err, j.stats.Durable = time.Time{}, "", now
	j.stats.Segments, j.stats.Bytes = len(j.segs), 0
	for _, s := range j.segs {
		j.stats.Bytes += s.size
	}
	return nil
}

// release gives the file up; what is durable in it stays.
func (j *journal) release() {
	if j.file != nil {
		_ = j.file.Close()
		j.file = nil
	}
}

// begin makes the next segment with the snapshot at its head. If that fails,
// the segment before it is still the newest.
func (j *journal) begin(now time.Time, snapshot []byte) error {
	n := uint64(1)
	if len(j.segs) > 0 {
		n = j.segs[len(j.segs)-1].n + 1
	}
	path := segmentPath(j.cfg.Dir, n)
	if err := j.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what is left of an earlier attempt: %w", err)
	}
	file, err := durable.CreateLog(path, segmentOptions(j.fs))
	if err != nil {
		return err
	}
	size := durable.FirstOffset
	for _, record := range parts(now, snapshot) {
		if err := file.Append(record); err != nil {
			return errors.Join(err, file.Close(), j.undo(path))
		}
		size += int64(len(record)) + 8
	}
	j.release()
	j.file = file
	j.segs = append(j.segs, segment{n, size, now})
	return nil
}

// undo removes a segment that was not finished. As long as that is not certain,
// nothing more goes into the one before it: a crash could find this one whole.
func (j *journal) undo(path string) error {
	err := j.fs.Remove(path)
	if err == nil {
		err = j.fs.SyncDir(j.cfg.Dir)
	}
	if err != nil {
		j.release()
	}
	return err
}

// retire deletes segments whose shares are too old or too many. What they add
// to the sums is in the newest one's snapshot.
func (j *journal) retire(now time.Time) {
	var bytes int64
	for _, s := range j.segs {
		bytes += s.size
	}
	for len(j.segs) > 1 && (now.Sub(j.segs[1].start) > j.cfg.Retention || bytes > j.cfg.MaxBytes) {
		if err := j.fs.Remove(segmentPath(j.cfg.Dir, j.segs[0].n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			j.log.Warn("books: cannot delete an old file", "err", err)
			return
		}
		bytes -= j.segs[0].size
		j.segs = j.segs[1:]
	}
}

// Shut flushes and closes the files. What is booked later stays in memory.
func (b *Books) Shut() error {
	if b.journal == nil {
		return nil
	}
	err := b.Flush()
	j := b.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	j.release()
	return err
}
