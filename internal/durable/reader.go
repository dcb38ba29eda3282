package durable

import (
	"errors"
	"fmt"
	"iter"
	"os"
)

// Reader reads a record file while another process may be writing it: it
// takes no lock and changes nothing.
type Reader struct{ file *AppendFile }

// UnfinishedError is how a Reader meets the end of a Log in the middle of a
// record: it was never acknowledged. Either it is being written just now, or a
// crash interrupted it and the next OpenLog cuts it off.
type UnfinishedError struct {
	Path   string
	Offset int64 // of the record
	Bytes  int64 // that are there from Offset on
}

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("%s ends in %d bytes, at offset %d, of a record that was never acknowledged", e.Path, e.Bytes, e.Offset)
}

// OpenReader opens a record file that exists (fs.ErrNotExist otherwise), as far
// as it goes now. Its content is not looked at.
func OpenReader(path string, o Options) (*Reader, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	f, err := o.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	a := &AppendFile{path: path, o: o, f: f}
	if a.size, err = f.Size(); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, errors.Join(err, f.Close()))
	}
	return &Reader{a}, nil
}

// Size returns the length the file had when it was opened, in bytes.
func (r *Reader) Size() int64 { return r.file.Size() }

// Records checks the header and yields the records from offset (FirstOffset for
// all) to the end. It ends with the first error: *UnfinishedError where OpenLog
// would cut the file, *CorruptError for any other damage.
func (r *Reader) Records(offset int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := r.file.readHeader(); err != nil {
			yield(Record{}, err)
			return
		}
		for record, err := range r.file.Records(offset) {
			var damaged *CorruptError
			if errors.As(err, &damaged) {
				var n int64
				if n, err = r.file.tornTail(damaged); err == nil {
					err = &UnfinishedError{r.file.path, damaged.Offset, n}
				}
			}
			if !yield(record, err) {
				return
			}
		}
	}
}

// Close releases the file.
func (r *Reader) Close() error { return r.file.Close() }
