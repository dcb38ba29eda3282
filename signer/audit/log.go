package audit

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"sync"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
)

// Log is an audit log open for writing. It is never made by opening it. It is
// safe for concurrent use, and locked against other processes.
type Log struct {
	path string
	o    Options

	mu      sync.Mutex
	file    *durable.Log // the newest
	offset  int64        // its length
	chain   chain
	headers []Header // of all files
	marks   []int64  // offsets in the newest file of its records 0, markEvery, 2·markEvery …
	torn    int64
	failed  chan struct{}
	dead    bool
}

// markEvery is how many records HashAt reads at most.
const markEvery = 64

// Create begins a log at path. One that exists is refused (fs.ErrExist), except
// one whose creation was interrupted.
func Create(path string, network types.Hash, o Options) error {
	for _, n := range []int{1, 2} {
		switch found, err := begun(path, o, n); {
		case err != nil:
			return fmt.Errorf("creating an audit log: %w", err)
		case found:
			return fmt.Errorf("creating an audit log: %s: %w: a log is never made twice, move the old one away first, all its files, and keep it", filePath(path, n), fs.ErrExist)
		}
	}
	file, err := createFile(path, o)
	if err != nil {
		return fmt.Errorf("creating an audit log: %w", err)
	}
	h := newHeader()
	h.Network = network
	payload := (&Record{JSON: h.appendTo(nil)}).payload()
	if err := errors.Join(file.Append(payload), file.Close()); err != nil {
		return fmt.Errorf("creating an audit log: %w", err)
	}
	return nil
}

// createFile makes an empty file, or opens one whose creation went that far.
func createFile(path string, o Options) (*durable.Log, error) {
	file, err := durable.CreateLog(path, o.durable())
	if !errors.Is(err, fs.ErrExist) {
		return file, err
	}
	if file, err = durable.OpenLog(path, o.durable()); err != nil {
		return nil, err
	}
	for range file.Records() {
		return nil, errors.Join(fmt.Errorf("%s: %w and is in use", path, fs.ErrExist), file.Close())
	}
	return file, nil
}

func newHeader() (h Header) {
	_, _ = rand.Read(h.File[:]) // never fails (crypto/rand)
	return h
}

// Open opens the log of this network. A log that is missing (ErrMissing), damaged
// (ErrBroken, *Broken) or of another network (ErrNetwork) is refused: it needs a
// person. The newest file is checked whole, of the others that they are there and
// how they begin; Verify checks everything.
func Open(path string, network types.Hash, o Options) (*Log, error) {
	if o.FileSize == 0 {
		o.FileSize = defaultFileSize
	}
	list, err := headers(path, o)
	switch {
	case err != nil:
		return nil, explainOpen(path, err)
	case len(list) == 0:
		return nil, notBegun(path, o)
	}
	for i, h := range list {
		if h.Network != network {
			return nil, wrongNetwork(filePath(path, i+1), h.Network, network)
		}
		if i > 0 && (h.Continues != list[i-1].File || h.Seq <= list[i-1].Seq) {
			return nil, explainOpen(path, &Broken{h.Seq, filePath(path, i+1), durable.FirstOffset, "the file does not go on from the one before: put the files back as they were"})
		}
	}
	// A file that holds nothing can only be the last one, see rotate.
	if gap, err := begun(path, o, len(list)+2); err != nil || gap {
		return nil, explainOpen(path, cmp.Or(err, firstFault(path, o, len(list))))
	}
	newest := filePath(path, len(list))
	file, err := durable.OpenLog(newest, o.durable())
	if err != nil {
		return nil, explainOpen(path, locate(path, o, len(list), err))
	}
	l := &Log{path: path, o: o, file: file, torn: file.TornBytes(), headers: list, failed: make(chan struct{}), offset: durable.FirstOffset}
	l.chain.anywhere = len(list) > 1
	err = l.load(newest)
	if err == nil && l.chain.closed {
		err = l.finishRotation()
	}
	if err != nil {
		return nil, errors.Join(explainOpen(path, err), l.file.Close())
	}
	return l, nil
}

// notBegun says what to do about a log without a first record.
func notBegun(path string, o Options) error {
	f, err := durable.OpenReader(path, o.durable())
	if errors.Is(err, fs.ErrNotExist) {
		return missing(path)
	}
	if err != nil {
		return explainOpen(path, err)
	}
	return errors.Join(fault(ErrMissing, "the audit log %s is empty because its creation was interrupted: create it again", path), f.Close())
}

// locate finds the record in the nth file that err, a damage, is about.
func locate(path string, o Options, n int, err error) error {
	var damaged *durable.CorruptError
	if !errors.As(err, &damaged) {
		return err
	}
	return cmp.Or(firstFault(path, o, n), err)
}

// firstFault reads from the nth file on and returns what is wrong first.
func firstFault(path string, o Options, n int) error {
	for _, err := range readFrom(path, o, n).Records(context.Background()) {
		if err != nil {
			return err
		}
	}
	return nil
}

func explainOpen(path string, err error) error {
	if errors.Is(err, ErrBroken) {
		return fmt.Errorf("%w. Nothing was changed; `qcity audit verify` says how far the log is good. Keep the files of %s as they are and put back a good copy, or move them all away and begin a new log with `qcity audit create`", err, path)
	}
	if errors.Is(err, ErrMissing) || errors.Is(err, ErrWrite) {
		return err
	}
	return fmt.Errorf("opening the audit log: %w", err)
}

// load reads the newest file.
func (l *Log) load(path string) error {
	for raw, err := range l.file.Records() {
		if err != nil {
			return err
		}
		if _, err := l.chain.addPayload(raw.Payload); err != nil {
			return &Broken{l.chain.next(), path, raw.Offset, err.Error()}
		}
		l.passed(raw.Payload)
	}
	return nil
}

// passed notes that the record last taken by the chain lies at offset.
func (l *Log) passed(payload []byte) {
	if (l.chain.head.Seq-l.base())%markEvery == 0 {
		l.marks = append(l.marks, l.offset)
	}
	l.offset += recordSize(payload)
}

// base is the number of the newest file's header.
func (l *Log) base() uint64 { return l.headers[len(l.headers)-1].Seq }

// finishRotation goes on where a crash interrupted rotate. Then the next file is
// there: it is made before the one in use is closed.
func (l *Log) finishRotation() error {
	path := filePath(l.path, len(l.headers)+1)
	f, err := durable.OpenReader(path, l.o.durable())
	if errors.Is(err, fs.ErrNotExist) {
		return &Broken{l.chain.next(), path, durable.FirstOffset, "the file is missing, but the one before says that the log goes on in it"}
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	return l.rotate(time.Time{})
}

// Append writes an entry and returns its place once it is durable. When the
// disk is full (durable.ErrDiskFull) nothing was written and it may be tried
// again, unless Failed is closed; then, as after any other ErrWrite, the entry may
// or may not be there, and the log must be opened anew. Time is cut to milliseconds; Actor and Detail are cut to
// their limits and made valid UTF-8.
func (l *Log) Append(e Entry) (Head, error) {
	e.tidy()
	if err := e.check(); err != nil {
		return Head{}, fault(ErrEntry, "writing the audit log: %w", err)
	}
	if e.Event == EventRotated {
		return Head{}, fault(ErrEntry, "writing the audit log: the event %s is the log's own", e.Event)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.chain.closed || l.offset >= l.o.FileSize && l.chain.head.Seq > l.base() {
		if err := l.rotate(e.Time); err != nil {
			return Head{}, err
		}
	}
	if err := l.write(l.file, e.appendTo(nil)); err != nil {
		return Head{}, err
	}
	return l.chain.head, nil
}

// Rotate closes the newest file with an entry of this time and goes on in a new one.
// Append does so by itself when a file has reached Options.FileSize.
func (l *Log) Rotate(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rotate(at)
}

// rotate goes on in the next file. Its steps are in an order that shows after a
// crash how far they came, so that a file that is gone is never taken for one
// that was not made yet:
//
//  1. the next file is made, without a record;
//  2. the entry "rotated" closes the file in use;
//  3. the header is written to the next file.
func (l *Log) rotate(at time.Time) error {
	if l.dead {
		return l.failedEarlier()
	}
	path := filePath(l.path, len(l.headers)+1)
	file, err := createFile(path, l.o)
	if err != nil {
		return l.failure(err, errors.Is(err, durable.ErrDiskFull))
	}
	if !l.chain.closed {
		e := Entry{Time: at, Event: EventRotated, Detail: "goes on in " + filepath.Base(path)}
		e.tidy()
		if err := l.write(l.file, e.appendTo(nil)); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	h := newHeader()
	h.Network, h.Continues, h.Seq = l.chain.network, l.chain.file, l.chain.next()
	old := l.file
	closedAt, closedMarks := l.offset, l.marks
	l.headers, l.offset, l.marks = append(l.headers, h), durable.FirstOffset, nil
	if err := l.write(file, h.appendTo(nil)); err != nil {
		l.headers, l.offset, l.marks = l.headers[:len(l.headers)-1], closedAt, closedMarks
		return errors.Join(err, file.Close())
	}
	l.file = file
	return old.Close()
}

// write puts a record at the end of file. It is taken by the same chain that
// checks records when they are read.
func (l *Log) write(file *durable.Log, json []byte) error {
	if l.dead {
		return l.failedEarlier()
	}
	after := l.chain
	record, err := after.add(l.chain.head.Hash, json)
	if err != nil {
		return fault(ErrEntry, "the audit log was to take a record against its own rules, please report this: %w", err)
	}
	payload := record.payload()
	if err := file.Append(payload); err != nil {
		return l.failure(err, file.Err() == nil)
	}
	l.chain = after
	l.passed(payload)
	return nil
}

// failure makes an error of one that kept a record from being written. A disk
// that is full changed nothing and may have space again; anything else leaves open
// what the files hold.
func (l *Log) failure(err error, unchanged bool) error {
	if !unchanged && !l.dead {
		l.dead = true
		close(l.failed)
	}
	return fault(ErrWrite, "writing the audit log failed: %w", err)
}

func (l *Log) failedEarlier() error {
	return fault(ErrWrite, "the audit log %s failed earlier: start the signer again", l.path)
}

// Head returns the last record's place.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.chain.head
}

// HashAt returns the hash of the record seq, as the record after it has it: to be
// compared with an anchor. It is found quickly in the newest file; older files are
// read from their beginning. It proves nothing about the record itself: Verify does.
func (l *Log) HashAt(seq uint64) (types.Hash, error) {
	l.mu.Lock()
	head := l.chain.head
	if seq >= head.Seq {
		l.mu.Unlock()
		if seq == head.Seq {
			return head.Hash, nil
		}
		return types.Hash{}, fault(ErrSequence, "the audit log has no record %d: its last one is %d", seq, head.Seq)
	}
	n, at, offset := l.near(seq + 1)
	l.mu.Unlock()
	f, err := durable.OpenReader(filePath(l.path, n), l.o.durable())
	if err != nil {
		return types.Hash{}, err
	}
	defer f.Close()
	for raw, err := range f.Records(offset) {
		if err != nil {
			return types.Hash{}, explainOpen(l.path, locate(l.path, l.o, n, err))
		}
		if at == seq+1 && len(raw.Payload) >= len(types.Hash{}) {
			return types.Hash(raw.Payload[:len(types.Hash{})]), nil
		}
		at++
	}
	return types.Hash{}, explainOpen(l.path, &Broken{at, filePath(l.path, n), f.Size(), "the file ends before this record"})
}

// near returns the file that holds the record seq, and number and offset of a
// record there from which it can be reached.
func (l *Log) near(seq uint64) (file int, at uint64, offset int64) {
	file = fileOf(l.headers, seq)
	at, offset = l.headers[file-1].Seq, durable.FirstOffset
	if file == len(l.headers) {
		mark := (seq - at) / markEvery
		return file, at + mark*markEvery, l.marks[mark]
	}
	return file, at, offset
}

// Records yields every record of the log, from the first file on, checked.
func (l *Log) Records(ctx context.Context) iter.Seq2[Record, error] {
	return NewReader(l.path, l.o).Records(ctx)
}

// TornBytes returns how many bytes of an interrupted, never acknowledged record
// Open has cut off: worth an entry if not zero.
func (l *Log) TornBytes() int64 { return l.torn }

// Failed is closed once the log can no longer be written. The daemon then ends
// and must be started again, which reads what the files really hold.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Close releases the log and its lock.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
