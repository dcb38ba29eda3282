package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"strconv"

	"qcitycoin.org/qcity/internal/durable"
)

// Options are for tests and special needs; the zero value is right elsewhere.
type Options struct {
	// FileSize, in bytes, is what a file may grow to before the next one is
	// begun. Zero: 64 MiB, some 130,000 entries. Only a writer asks.
	FileSize int64
	FS       durable.FS // nil: the real one
}

// defaultFileSize keeps a file small enough to be copied by hand, and the newest
// one, which every start reads, quickly read.
const defaultFileSize = 64 << 20

// maxRecord bounds a record, in bytes: the texts of an entry may grow sixfold by
// their escapes.
const maxRecord = 32 + 6*(MaxActor+MaxDetail) + 1024

func (o Options) durable() durable.Options {
	return durable.Options{Kind: [4]byte{'A', 'U', 'D', 'T'}, Version: format, MaxRecord: maxRecord, Perm: 0o600, FS: o.FS}
}

// filePath is the path of the nth file of a log, from 1.
func filePath(path string, n int) string {
	if n == 1 {
		return path
	}
	return path + "." + strconv.Itoa(n)
}

// Reader reads a log from one end to the other, also while it is being written: it takes no
// lock and changes nothing. It checks all it reads.
type Reader struct {
	path       string
	o          Options
	file       int   // number of the file to go on in
	offset     int64 // and where
	chain      chain
	unfinished int64
}

// NewReader returns a reader that begins with the first record of the log at path.
func NewReader(path string, o Options) *Reader {
	return &Reader{path: path, o: o, file: 1, offset: durable.FirstOffset}
}

// readFrom returns a reader that begins with the header of the nth file, which
// it takes on trust.
func readFrom(path string, o Options, n int) *Reader {
	r := NewReader(path, o)
	r.file, r.chain.anywhere = n, n > 1
	return r
}

// Records yields what is there; called again, what came since. An error ends it:
// *Broken, ErrMissing, that of ctx, or that of a disk that cannot be read.
func (r *Reader) Records(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for more := true; more; {
			var err error
			if more, err = r.readFile(ctx, yield); err != nil {
				yield(Record{}, err)
				return
			}
		}
	}
}

// Unfinished returns how many bytes of a record that was never acknowledged
// follow the last one.
func (r *Reader) Unfinished() int64 { return r.unfinished }

// readFile yields what the file holds from offset on. more says that the next
// file must be read.
func (r *Reader) readFile(ctx context.Context, yield func(Record, error) bool) (more bool, err error) {
	// Asked first: the file before one that has begun is complete.
	nextBegun, err := begun(r.path, r.o, r.file+1)
	if err != nil {
		return false, err
	}
	path := filePath(r.path, r.file)
	f, err := durable.OpenReader(path, r.o.durable())
	switch {
	case errors.Is(err, fs.ErrNotExist) && r.chain.closed:
		return false, r.broken(fmt.Sprintf("the file is missing, but %s says that the log goes on in it", filepath.Base(filePath(r.path, r.file-1))))
	case errors.Is(err, fs.ErrNotExist):
		return false, missing(r.path)
	case err != nil:
		return false, err
	}
	defer f.Close()
	r.unfinished = 0
	if r.file > 1 && f.Size() <= durable.FirstOffset && !nextBegun {
		return false, r.end(r.file) // it was made, nothing was written there yet
	}
	for raw, err := range f.Records(r.offset) {
		if err == nil {
			err = ctx.Err()
		}
		var record Record
		if err == nil {
			record, err = r.take(path, raw)
		}
		if err != nil {
			if err = r.explain(err, nextBegun); err == nil {
				err = r.end(r.file + 1)
			}
			return false, err
		}
		if !yield(record, nil) {
			return false, nil
		}
	}
	switch {
	case r.offset == durable.FirstOffset && r.file == 1:
		return false, r.broken(interrupted)
	case r.offset == durable.FirstOffset && nextBegun:
		return false, r.broken(r.nothing(r.file))
	case r.offset == durable.FirstOffset:
		return false, r.end(r.file)
	case r.chain.closed:
		r.file, r.offset = r.file+1, durable.FirstOffset
		return true, nil
	case nextBegun:
		return false, r.broken(fmt.Sprintf("the file ends without the entry that closes it, but %s goes on: records are missing between the two", filepath.Base(filePath(r.path, r.file+1))))
	}
	return false, r.end(r.file + 1)
}

const interrupted = "the log has no first record: its creation was interrupted"

// end is where nothing was found in the nth file: then there must be none after it.
func (r *Reader) end(n int) error {
	after, err := begun(r.path, r.o, n+1)
	if err != nil || !after {
		return err
	}
	// Asked last: it may have begun a moment ago, and then so may the one after it.
	if now, err := begun(r.path, r.o, n); err != nil || now {
		return err
	}
	r.file, r.offset = n, durable.FirstOffset
	return r.broken(r.nothing(n))
}

func (r *Reader) nothing(n int) string {
	return fmt.Sprintf("nothing is in the file, but there is %s", filepath.Base(filePath(r.path, n+1)))
}

// take makes a record of what the file holds and moves on.
func (r *Reader) take(path string, raw durable.Record) (Record, error) {
	record, err := r.chain.addPayload(raw.Payload)
	if err != nil {
		return Record{}, r.broken(err.Error())
	}
	record.File, record.Offset = path, raw.Offset
	r.offset = raw.Offset + recordSize(raw.Payload)
	return record, nil
}

// recordSize is what a payload takes in a file, in bytes.
func recordSize(payload []byte) int64 { return 8 + int64(len(payload)) }

// explain turns an error about a file into the place where the log is broken,
// or into nil where it merely ends.
func (r *Reader) explain(err error, nextBegun bool) error {
	var damaged *durable.CorruptError
	var torn *durable.UnfinishedError
	var version *durable.VersionError
	switch {
	case errors.As(err, &torn) && !nextBegun && r.chain.started:
		r.unfinished = torn.Bytes
		return nil
	case errors.As(err, &torn) && !nextBegun:
		return r.broken(interrupted)
	case errors.As(err, &torn):
		return r.broken("the file ends within this record")
	case errors.As(err, &damaged):
		r.offset = damaged.Offset
		return r.broken(damaged.Reason)
	case errors.As(err, &version):
		r.offset = 0
		return r.broken(version.Error() + ", unless the number is damaged")
	}
	return err
}

func (r *Reader) broken(reason string) error {
	return &Broken{Seq: r.chain.next(), File: filePath(r.path, r.file), Offset: r.offset, Reason: reason}
}

// begun reports whether the nth file exists and has a first record, good or not.
func begun(path string, o Options, n int) (bool, error) {
	_, ok, err := firstRecord(path, o, n)
	var version *durable.VersionError
	if errors.Is(err, ErrBroken) || errors.As(err, &version) {
		return true, nil // whoever reads it will say so
	}
	return ok, err
}

// firstRecord returns the header of the nth file; ok is false if there is no
// such file or nothing was finished in it.
func firstRecord(path string, o Options, n int) (h Header, ok bool, err error) {
	r := readFrom(path, o, n)
	r.chain.anywhere = true
	f, err := durable.OpenReader(filePath(path, n), o.durable())
	if errors.Is(err, fs.ErrNotExist) {
		return h, false, nil
	}
	if err != nil {
		return h, false, err
	}
	defer f.Close()
	if f.Size() <= durable.FirstOffset {
		return h, false, nil
	}
	for raw, err := range f.Records(durable.FirstOffset) {
		var version *durable.VersionError
		var torn *durable.UnfinishedError
		switch {
		case errors.As(err, &version):
			return h, false, err // a newer program's file is not a broken one
		case errors.As(err, &torn):
			return h, false, nil
		case err != nil:
			return h, false, r.explain(err, false)
		}
		record, err := r.take(filePath(path, n), raw)
		if err != nil {
			return h, false, err
		}
		return *record.Header, true, nil
	}
	return h, false, nil
}

// headers returns those of all files that have begun, in their order.
func headers(path string, o Options) ([]Header, error) {
	var list []Header
	for {
		h, ok, err := firstRecord(path, o, len(list)+1)
		if err != nil || !ok {
			return list, err
		}
		list = append(list, h)
	}
}

// fileOf returns the number of the file that holds the record seq.
func fileOf(list []Header, seq uint64) int {
	n := 1
	for n < len(list) && list[n].Seq <= seq {
		n++
	}
	return n
}

// From returns a reader that begins with the header of the file that holds the
// record seq; what is before that file it takes on trust.
func From(path string, seq uint64, o Options) (*Reader, error) {
	list, err := headers(path, o)
	if err != nil {
		return nil, err
	}
	return readFrom(path, o, fileOf(list, seq)), nil
}

// Last returns the last n records, or all, and the reader that found them, which
// goes on behind them. With an error they are the last ones before it.
func Last(ctx context.Context, path string, n int, o Options) (last []Record, r *Reader, err error) {
	list, err := headers(path, o)
	if err != nil && !errors.Is(err, ErrBroken) {
		return nil, nil, err
	}
	for file := max(1, len(list)); ; file-- {
		r, last = readFrom(path, o, file), nil
		for record, err := range r.Records(ctx) {
			if err != nil {
				return tailOf(last, n), r, err
			}
			if last = append(last, record); len(last) > 2*n+1000 {
				last = tailOf(last, n)
			}
		}
		if last = tailOf(last, n); len(last) == n || file == 1 {
			return last, r, nil
		}
	}
}

func tailOf(list []Record, n int) []Record {
	return append([]Record(nil), list[max(0, len(list)-n):]...)
}

func missing(path string) error {
	return fault(ErrMissing, "the audit log %s is missing: restore it from where it was moved to; if it is lost for good, or was never made, begin a new one with `qcity audit create`", path)
}
