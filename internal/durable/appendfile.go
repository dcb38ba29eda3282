package durable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"sync"
)

// Options say what a record file holds. They are the same at every opening.
type Options struct {
	Kind      [4]byte     // what is inside, readable: "JRNL", "BLKS"
	Version   uint16      // of the payloads' format
	MaxRecord int         // longest payload, in bytes; a damaged length never allocates more
	Perm      fs.FileMode // of a new file; zero means 0600
	FS        FS          // nil: the real one
}

func (o Options) withDefaults() (Options, error) {
	if o.MaxRecord <= 0 || o.MaxRecord > math.MaxInt32 {
		return o, fmt.Errorf("longest record %d is not in 1…%d", o.MaxRecord, math.MaxInt32)
	}
	if o.Perm == 0 {
		o.Perm = 0o600
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	return o, nil
}

// AppendFile is a file of checksummed records that only grows at its end. Its
// records are durable after Sync. It holds an exclusive lock while open.
// It is safe for concurrent use.
//
// After a crash, whatever lies beyond the last Sync may be there, be missing
// or be damaged. The caller, who knows how far it had synced, calls Truncate
// with that size and goes on.
type AppendFile struct {
	path string
	o    Options
	f    File

	mu     sync.RWMutex
	size   int64
	buf    []byte
	broken error // set once a failure left the content unknown
}

// CreateAppendFile makes an empty record file, durable with its name, and
// opens it. A file that already holds a header or records is refused
// (fs.ErrExist); one that a crash left unfinished is made anew.
func CreateAppendFile(path string, o Options) (*AppendFile, error) {
	a, err := openLocked(path, o, os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", path, explain(err))
	}
	if err := a.writeHeader(); err != nil {
		return nil, fmt.Errorf("creating %s: %w", path, explain(errors.Join(err, a.f.Close())))
	}
	return a, nil
}

// OpenAppendFile opens a record file that exists (fs.ErrNotExist otherwise)
// and checks its header, not its records.
func OpenAppendFile(path string, o Options) (*AppendFile, error) {
	a, err := openLocked(path, o, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	if err := a.openHeader(); err != nil {
		return nil, errors.Join(err, a.f.Close())
	}
	return a, nil
}

func openLocked(path string, o Options, flag int) (*AppendFile, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	f, err := o.FS.OpenFile(path, os.O_RDWR|flag, o.Perm)
	if err != nil {
		return nil, err
	}
	a := &AppendFile{path: path, o: o, f: f}
	if err = f.Lock(); err == nil {
		a.size, err = f.Size()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

// unfinished reports whether the file is what a crash during its creation
// leaves: no whole header, hence no record.
func (a *AppendFile) unfinished() (bool, error) {
	if a.size != headerSize {
		return a.size < headerSize, nil
	}
	var h [headerSize]byte
	_, err := a.f.ReadAt(h[:], 0)
	return h == [headerSize]byte{}, err
}

func (a *AppendFile) writeHeader() error {
	fresh, err := a.unfinished()
	if err != nil {
		return err
	}
	if !fresh {
		return fmt.Errorf("%w and is not empty", fs.ErrExist)
	}
	if err := a.f.Truncate(0); err != nil {
		return err
	}
	if _, err := a.f.WriteAt(makeHeader(a.o), 0); err != nil {
		return err
	}
	a.size = headerSize
	return a.syncAll()
}

func (a *AppendFile) readHeader() error {
	unfinished, err := a.unfinished()
	if err != nil {
		return fmt.Errorf("opening %s: %w", a.path, err)
	}
	if unfinished {
		return &CorruptError{a.path, 0, "its header is missing; it never held a record if its creation was interrupted"}
	}
	var h [headerSize]byte
	if _, err := a.f.ReadAt(h[:], 0); err != nil {
		return fmt.Errorf("opening %s: %w", a.path, err)
	}
	return checkHeader(a.path, h[:], a.o)
}

func (a *AppendFile) openHeader() error {
	if err := a.readHeader(); err != nil {
		return err
	}
	// A process that was killed may have written what we now read from the
	// page cache, or named the file, without having synced it.
	if err := a.syncAll(); err != nil {
		return fmt.Errorf("opening %s: %w", a.path, explain(err))
	}
	return nil
}

func (a *AppendFile) syncAll() error {
	if err := a.f.Sync(); err != nil {
		return err
	}
	return a.o.FS.SyncDir(filepath.Dir(a.path))
}

// Append writes one record of 1 … MaxRecord bytes at the end and returns its
// offset. The record is durable after the next Sync. When the disk is full
// (ErrDiskFull) the file is as it was before and stays usable; after any other
// failure every later call returns that error, and the file must be reopened.
func (a *AppendFile) Append(payload []byte) (offset int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.append(payload)
}

func (a *AppendFile) append(payload []byte) (int64, error) {
	if a.broken != nil {
		return 0, a.broken
	}
	if len(payload) == 0 || len(payload) > a.o.MaxRecord {
		return 0, fmt.Errorf("appending to %s: record of %d bytes is not in 1…%d", a.path, len(payload), a.o.MaxRecord)
	}
	offset := a.size
	a.buf = appendFrame(a.buf[:0], offset, payload)
	n, err := a.f.WriteAt(a.buf, offset)
	if err == nil && n < len(a.buf) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return 0, a.undoAppend(err)
	}
	a.size += int64(len(a.buf))
	return offset, nil
}

// undoAppend cuts off what a failed write may have left.
func (a *AppendFile) undoAppend(cause error) error {
	err := explain(cause)
	cut := a.f.Truncate(a.size)
	if cut == nil && errors.Is(err, ErrDiskFull) {
		return fmt.Errorf("appending to %s: %w", a.path, err)
	}
	return a.breakOff("appending to", errors.Join(err, cut))
}

func (a *AppendFile) breakOff(doing string, err error) error {
	a.broken = fmt.Errorf("%s %s (the file must be opened anew): %w", doing, a.path, explain(err))
	return a.broken
}

// Sync makes every record appended so far durable. If it fails, every later
// call fails.
func (a *AppendFile) Sync() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sync()
}

func (a *AppendFile) sync() error {
	if a.broken != nil {
		return a.broken
	}
	if err := a.f.Sync(); err != nil {
		return a.breakOff("syncing", err)
	}
	return nil
}

// ReadAt returns the payload of the record at offset, as Append returned it.
// An unreadable record is a *CorruptError.
func (a *AppendFile) ReadAt(offset int64) ([]byte, error) {
	a.mu.RLock()
	size, broken := a.size, a.broken
	a.mu.RUnlock()
	if broken != nil {
		return nil, broken
	}
	if offset < headerSize || offset >= size {
		return nil, fmt.Errorf("reading %s: no record can be at offset %d of %d bytes", a.path, offset, size)
	}
	payload, err := readRecord(io.NewSectionReader(a.f, offset, size-offset), offset, size, a.o.MaxRecord)
	if err != nil {
		return nil, a.readFailure(offset, err)
	}
	return payload, nil
}

func (a *AppendFile) readFailure(offset int64, err error) error {
	var d *damage
	if errors.As(err, &d) {
		return &CorruptError{a.path, offset, d.reason}
	}
	return fmt.Errorf("reading %s at offset %d: %w", a.path, offset, err)
}

// Record is one record as Records yields it. The payload belongs to the caller.
type Record struct {
	Offset  int64
	Payload []byte
}

// Records yields the records from offset (FirstOffset for all) to the end the
// file has when the loop starts. It ends with the first error.
func (a *AppendFile) Records(offset int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		a.mu.RLock()
		size, broken := a.size, a.broken
		a.mu.RUnlock()
		if broken != nil {
			yield(Record{}, broken)
			return
		}
		if offset < headerSize || offset > size {
			yield(Record{}, fmt.Errorf("reading %s: no record can be at offset %d of %d bytes", a.path, offset, size))
			return
		}
		r := bufio.NewReaderSize(io.NewSectionReader(a.f, offset, size-offset), int(min(size-offset, 1<<16)))
		for at := offset; at < size; {
			payload, err := readRecord(r, at, size, a.o.MaxRecord)
			if err != nil {
				yield(Record{}, a.readFailure(at, err))
				return
			}
			if !yield(Record{at, payload}, nil) {
				return
			}
			at += frameSize + int64(len(payload))
		}
	}
}

// Truncate cuts the file back to size, which must be the offset of a record or
// the end, and makes that durable.
func (a *AppendFile) Truncate(size int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != nil {
		return a.broken
	}
	if size < headerSize || size > a.size {
		return fmt.Errorf("truncating %s: size %d is not in %d…%d", a.path, size, headerSize, a.size)
	}
	if err := a.f.Truncate(size); err != nil {
		return a.breakOff("truncating", err)
	}
	a.size = size
	return a.sync()
}

// Size returns the file's length in bytes: the offset of the next record.
func (a *AppendFile) Size() int64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.size
}

// Close releases the file and its lock. It does not sync.
func (a *AppendFile) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if errors.Is(a.broken, fs.ErrClosed) {
		return nil
	}
	a.broken = fmt.Errorf("%s: %w", a.path, fs.ErrClosed)
	return a.f.Close()
}
