package durable

import (
	"errors"
	"fmt"
	"iter"
)

// Log is a record file that keeps promises: a record that Append has
// acknowledged is there after any crash, in its place. It holds an exclusive
// lock while open and is safe for concurrent use.
type Log struct {
	file *AppendFile
	torn int64
}

// CreateLog makes an empty log and opens it. A file that already holds
// anything is refused (fs.ErrExist).
func CreateLog(path string, o Options) (*Log, error) {
	f, err := CreateAppendFile(path, o)
	if err != nil {
		return nil, err
	}
	return &Log{file: f}, nil
}

// OpenLog opens a log that exists (fs.ErrNotExist otherwise) and checks every
// record. The one record that a crash may have interrupted, which Append never
// acknowledged, is cut off and counted by TornBytes. Any other damage refuses
// to open with a *CorruptError, and changes nothing.
//
// A record whose Append was interrupted or returned an error may nevertheless
// be there, whole.
func OpenLog(path string, o Options) (*Log, error) {
	f, err := OpenAppendFile(path, o)
	if err != nil {
		return nil, err
	}
	l := &Log{file: f}
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, f.f.Close())
	}
	return l, nil
}

func (l *Log) recover() error {
	var corrupt *CorruptError
	last := int64(FirstOffset)
	for r, err := range l.file.Records(FirstOffset) {
		if err == nil {
			last = r.Offset
			continue
		}
		if !errors.As(err, &corrupt) {
			return err
		}
		if err := l.cutTail(corrupt); err != nil {
			return err
		}
		break
	}
	return l.rewrite(last)
}

// rewrite writes what lies at and beyond offset, the last record, once more.
// If its sync failed in an earlier process, the kernel may show it to us and
// yet never write it, because a failed sync leaves pages marked clean. No other
// record can be in that state: after a failed sync nothing more is appended.
func (l *Log) rewrite(offset int64) error {
	a := l.file
	b := make([]byte, a.size-offset)
	if len(b) == 0 {
		return nil
	}
	if _, err := a.f.ReadAt(b, offset); err != nil {
		return a.readFailure(offset, err)
	}
	if _, err := a.f.WriteAt(b, offset); err != nil {
		return fmt.Errorf("opening %s: %w", a.path, explain(err))
	}
	if err := a.f.Sync(); err != nil {
		return fmt.Errorf("opening %s: %w", a.path, explain(err))
	}
	return nil
}

func (l *Log) cutTail(c *CorruptError) error {
	n, err := l.file.tornTail(c)
	if err != nil {
		return err
	}
	l.torn = n
	return l.file.Truncate(c.Offset)
}

// tornTail returns how many bytes a crash left of the record that c reports,
// or c itself, with more of a reason, where no crash explains it.
func (a *AppendFile) tornTail(c *CorruptError) (int64, error) {
	// One byte more than a record can have is enough to tell that it is not one.
	tail := make([]byte, min(a.size-c.Offset, int64(frameSize+a.o.MaxRecord+1)))
	if _, err := a.f.ReadAt(tail, c.Offset); err != nil {
		return 0, a.readFailure(c.Offset, err)
	}
	if why := torn(tail, c.Offset, a.o.MaxRecord); why != "" {
		c.Reason += ", and " + why
		return 0, c
	}
	return int64(len(tail)), nil
}

// TornBytes returns how many bytes of an interrupted, never acknowledged
// record OpenLog has cut off: worth a line in the operator's log if not zero.
func (l *Log) TornBytes() int64 { return l.torn }

// Append writes one record of 1 … MaxRecord bytes and returns nil only once it
// is durable. When the disk is full (ErrDiskFull) before anything was written,
// the log is unchanged and stays usable; after any other failure the record
// may or may not be there after a restart, and every later call returns that
// error until the log is opened anew.
func (l *Log) Append(payload []byte) error {
	l.file.mu.Lock()
	defer l.file.mu.Unlock()
	if _, err := l.file.append(payload); err != nil {
		return err
	}
	return l.file.sync()
}

// Err returns the failure that ended the log, nil while it can be written. A disk
// that was found full at the fsync ends it, too: ErrDiskFull alone does not tell.
func (l *Log) Err() error {
	l.file.mu.RLock()
	defer l.file.mu.RUnlock()
	return l.file.broken
}

// Records yields every record, oldest first, with its offset. It ends with the
// first error.
func (l *Log) Records() iter.Seq2[Record, error] { return l.file.Records(FirstOffset) }

// Close releases the log and its lock.
func (l *Log) Close() error { return l.file.Close() }
