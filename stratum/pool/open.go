package pool

import (
	"errors"
	"fmt"
	"os"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/stratum/pool/canon"
)

// Open opens durable books in cfg.Dir, or begins them. What a crash left
// unfinished at their end is cut off. Run, or Flush, writes them; Shut closes
// them. Nobody else can open them meanwhile, and everybody may read them.
func Open(now time.Time, cfg Config) (*Books, error) {
	b, err := newBooks(now, cfg)
	if err != nil {
		return nil, err
	}
	cfg = b.cfg
	if _, real := cfg.FS.(osFS); real {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("open the books: %w", err)
		}
	}
	j := &journal{fs: cfg.FS, cfg: cfg, log: cfg.Log}
	if err := b.load(j, now); err != nil {
		return nil, err
	}
	b.journal = j
	j.stats.Durable = now
	if b.state.ledger.Rules() != cfg.Rules {
		if err := b.changeRules(now); err != nil {
			return nil, err
		}
	}
	if err := b.Flush(); err != nil {
		j.release()
		return nil, err
	}
	return b, nil
}

// load reads the newest whole segment, if there is one.
func (b *Books) load(j *journal, now time.Time) error {
	numbers, err := segments(j.fs, j.cfg.Dir)
	if err != nil {
		return err
	}
	for len(numbers) > 0 {
		n := numbers[len(numbers)-1]
		path := segmentPath(j.cfg.Dir, n)
		size, err := b.loadSegment(j, path)
		if err == nil {
			j.list(numbers, size, now)
			return nil
		}
		if !errors.Is(err, errUnfinished) {
			return fmt.Errorf("open the books: %w", err)
		}
		j.log.Info("books: a file was never finished, going on with the one before", "file", path)
		numbers = numbers[:len(numbers)-1] // begin removes it
	}
	return nil
}

func (b *Books) loadSegment(j *journal, path string) (size int64, err error) {
	r, err := durable.OpenReader(path, segmentOptions(j.fs))
	if err != nil {
		return 0, err
	}
	size = r.Size()
	if err := r.Close(); err != nil {
		return 0, err
	}
	if size <= durable.FirstOffset {
		return 0, errUnfinished
	}
	file, err := durable.OpenLog(path, segmentOptions(j.fs))
	if err != nil {
		var damaged *durable.CorruptError
		if errors.As(err, &damaged) {
			err = fmt.Errorf("%w; put back a copy of it, or move it away: the books then go on from the file before it, without what only this one knew", err)
		}
		return 0, err
	}
	l := loader{limits: b.cfg.Limits, seen: NewSeen(b.cfg.DuplicateEntries)}
	for record, readErr := range file.Records() {
		if err = readErr; err == nil {
			err = l.record(record.Payload)
		}
		if err != nil {
			return 0, errors.Join(fmt.Errorf("%s at offset %d: %w", path, record.Offset, err), file.Close())
		}
	}
	if !l.complete {
		return 0, errors.Join(errUnfinished, file.Close())
	}
	if torn := file.TornBytes(); torn > 0 {
		size -= torn
		j.log.Info("books: a record that a crash cut short was cut off", "file", path, "bytes", torn)
	}
	b.state, b.seen, j.file = l.state, l.seen, file
	j.segs = []segment{{start: l.start}} // completed by list
	return size, nil
}

// list fills in the table of segments; the last number is the one that is open.
func (j *journal) list(numbers []uint64, size int64, now time.Time) {
	last := segment{numbers[len(numbers)-1], size, j.segs[0].start}
	j.segs = nil
	for _, n := range numbers[:len(numbers)-1] {
		start, size, err := head(j.fs, segmentPath(j.cfg.Dir, n))
		if err != nil {
			start = now // it stays as long as one that was begun now
			j.log.Warn("books: an old file cannot be read", "err", err)
		}
		j.segs = append(j.segs, segment{n, size, start})
	}
	j.segs = append(j.segs, last)
}

func startOf(record []byte) (time.Time, error) {
	if len(record) < 2 || record[0] != recSnapshot || record[1]&partFirst == 0 {
		return time.Time{}, errors.New("it does not begin with a snapshot")
	}
	r := canon.NewReader(record[2:])
	start := readTime(r)
	return start, r.Err()
}

func (b *Books) changeRules(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.cfg.Rules
	if err := b.state.ledger.SetRules(r); err != nil {
		return err
	}
	j := b.record(now.UnixMilli(), evRules)
	j.bytes([]byte{byte(r.Mode)})
	j.num(uint64(r.Fee))
	j.num(r.Factor)
	j.num(uint64(r.MinPayout))
	return nil
}
