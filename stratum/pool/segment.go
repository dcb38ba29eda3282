package pool

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"qcitycoin.org/qcity/internal/durable"
)

// maxRecord bounds a record: a batch with the largest note in it.
const maxRecord = 8 << 20

// segmentOptions describe the files of the journal.
func segmentOptions(fsys durable.FS) durable.Options {
	return durable.Options{Kind: [4]byte{'P', 'O', 'O', 'L'}, Version: 1, MaxRecord: maxRecord, FS: fsys}
}

const segmentPrefix = "books."

func segmentPath(dir string, n uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%s%08d", segmentPrefix, n))
}

// segments lists the numbers of the segments in dir, lowest first.
func segments(fsys FS, dir string) ([]uint64, error) {
	names, err := fsys.Names(dir)
	if err != nil {
		return nil, fmt.Errorf("list the books in %s: %w", dir, err)
	}
	var list []uint64
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, segmentPrefix)
		n, err := strconv.ParseUint(digits, 10, 63)
		if ok && err == nil && len(digits) >= 8 {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}

// errUnfinished says that a segment does not hold its snapshot: its making was
// interrupted, and the one before it is the newest.
var errUnfinished = errors.New("this segment was never finished")

// head reads when a segment begins and how long it is.
func head(fsys FS, path string) (start time.Time, size int64, err error) {
	r, err := durable.OpenReader(path, segmentOptions(fsys))
	if err != nil {
		return start, 0, err
	}
	size = r.Size()
	for record, readErr := range r.Records(durable.FirstOffset) {
		if err = readErr; err == nil {
			start, err = startOf(record.Payload)
		}
		return start, size, errors.Join(err, r.Close())
	}
	return start, size, errors.Join(errUnfinished, r.Close())
}
