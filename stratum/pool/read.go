package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

// View is what books on disk say, read without touching them.
type View struct {
	// Until is the time of the last event; zero if there is none.
	Until time.Time
	state state
}

// Read reads the books in dir, whether they are open elsewhere or not. What
// their owner has not written yet, a quarter of a second's worth, is not seen.
// The error wraps fs.ErrNotExist if there are no books.
func Read(ctx context.Context, dir string) (*View, error) {
	return read(ctx, osFS{durable.OS()}, dir)
}

func read(ctx context.Context, fsys FS, dir string) (*View, error) {
	for try := 0; ; try++ {
		v, err := readNewest(ctx, fsys, dir)
		// The owner may have deleted a segment since it was listed, which takes a newer one.
		if try == 3 || !errors.Is(err, errGone) {
			return v, err
		}
	}
}

var errGone = errors.New("it was deleted meanwhile")

func readNewest(ctx context.Context, fsys FS, dir string) (*View, error) {
	numbers, err := segments(fsys, dir)
	if err != nil {
		return nil, err
	}
	for _, n := range slices.Backward(numbers) {
		v := &View{}
		l := loader{each: func(e *event) error { v.Until = e.at; return ctx.Err() }}
		switch err := readSegment(fsys, segmentPath(dir, n), &l); {
		case errors.Is(err, errUnfinished):
			continue
		case err != nil:
			return nil, err
		}
		v.state = l.state
		if v.Until.IsZero() {
			v.Until = l.start
		}
		return v, nil
	}
	return nil, fmt.Errorf("no books in %s: %w", dir, fs.ErrNotExist)
}

// readSegment feeds a segment to a loader. One whose snapshot is not whole is errUnfinished.
func readSegment(fsys FS, path string, l *loader) (err error) {
	r, err := durable.OpenReader(path, segmentOptions(fsys))
	if errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if r.Size() <= durable.FirstOffset {
		return errUnfinished
	}
	for record, err := range r.Records(durable.FirstOffset) {
		var torn *durable.UnfinishedError
		if errors.As(err, &torn) {
			break // is being written just now, or was when the power went
		}
		if err == nil {
			err = l.record(record.Payload)
		}
		if err != nil {
			return fmt.Errorf("%s at offset %d: %w", path, record.Offset, err)
		}
	}
	if !l.complete {
		return errUnfinished
	}
	return nil
}

// Stats returns the total and every worker, by name.
func (v *View) Stats(now time.Time) (ShareStats, []WorkerStats) { return v.state.stats(now) }

// Report says who is owed what.
func (v *View) Report() reward.Report { return v.state.ledger.Report() }

// Rules returns how rewards are divided.
func (v *View) Rules() reward.Rules { return v.state.ledger.Rules() }

// ByAccount sums workers up by account, sorted by its name. Their names are
// those of the accounts.
func ByAccount(workers []WorkerStats) []WorkerStats {
	sums := map[string]*WorkerStats{}
	for i := range workers {
		w := &workers[i]
		name := Account(w.Name)
		a := sums[name]
		if a == nil {
			a = &WorkerStats{Name: name, ShareStats: ShareStats{Rejected: map[string]uint64{}}}
			sums[name] = a
		}
		a.Sessions += w.Sessions
		a.add(&w.ShareStats)
	}
	list := make([]WorkerStats, 0, len(sums))
	for _, a := range sums {
		list = append(list, *a)
	}
	slices.SortFunc(list, func(a, b WorkerStats) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (s *ShareStats) add(o *ShareStats) {
	s.Accepted += o.Accepted
	for reason, n := range o.Rejected {
		s.Rejected[reason] += n
	}
	s.Difficulty += o.Difficulty
	s.Best = max(s.Best, o.Best)
	s.Blocks += o.Blocks
	if o.LastShare.After(s.LastShare) {
		s.LastShare = o.LastShare
	}
	s.HashRate.Minute += o.HashRate.Minute
	s.HashRate.TenMinutes += o.HashRate.TenMinutes
	s.HashRate.Hour += o.HashRate.Hour
}

// ShareRecord is one accepted share of the journal.
type ShareRecord struct {
	Time   time.Time
	Worker string // "" if none
	Share
	Weight uint64 // hashes it stands for: reward.Weight of its difficulty
	// Missing, if not 0, is how many shares about this time are counted and not
	// in the journal; all else is empty then.
	Missing uint64
}

// Shares yields the single shares that are kept in dir, oldest first, each
// once. It skips files that end before since. progress, which may be nil, is
// told how many of how many files are read.
func Shares(ctx context.Context, dir string, since time.Time, progress func(done, of int), yield func(*ShareRecord) error) error {
	return shares(ctx, osFS{durable.OS()}, dir, since, progress, yield)
}

func shares(ctx context.Context, fsys FS, dir string, since time.Time, progress func(done, of int), yield func(*ShareRecord) error) error {
	numbers, err := segments(fsys, dir)
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		return fmt.Errorf("no books in %s: %w", dir, fs.ErrNotExist)
	}
	var last uint64              // event
	names := map[uint32]string{} // of workers that made room meanwhile, too
	for i, n := range numbers {
		if progress != nil {
			progress(i, len(numbers))
		}
		if i+1 < len(numbers) && endsBefore(fsys, segmentPath(dir, numbers[i+1]), since) {
			continue
		}
		l := loader{limits: reward.Limits{}}
		l.each = func(e *event) error {
			if e.seq <= last {
				return ctx.Err()
			}
			last = e.seq
			if e.kind == evWorker {
				names[e.worker] = e.name
			}
			s, ok := shareOf(&l.state, names, e)
			if !ok {
				return nil
			}
			return errors.Join(ctx.Err(), yield(&s))
		}
		err := readSegment(fsys, segmentPath(dir, n), &l)
		if err != nil && !errors.Is(err, errUnfinished) && !errors.Is(err, errGone) {
			return err
		}
	}
	return nil
}

// endsBefore says that the segment before this one has nothing since then.
func endsBefore(fsys FS, next string, since time.Time) bool {
	start, _, err := head(fsys, next)
	return err == nil && start.Before(since)
}

func shareOf(s *state, names map[uint32]string, e *event) (ShareRecord, bool) {
	switch e.kind {
	case evShare, evBlock:
		r := ShareRecord{Time: e.at, Worker: names[e.worker], Share: e.share, Weight: reward.Weight(e.share.Difficulty)}
		if w := s.byID[e.worker]; w != nil {
			r.Worker = w.name
		}
		return r, true
	case evMissing:
		return ShareRecord{Time: e.at, Missing: e.count}, true
	}
	return ShareRecord{}, false
}
