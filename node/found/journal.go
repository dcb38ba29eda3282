package found

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
)

// journal is the file of the open records. It is small, and so is written whole,
// each time anew: there is nothing to repair after a crash, none of its records
// outlives its use, and a disk that was full once is no reason to trust it less
// the next time.
type journal struct {
	fs   durable.FS
	path string
}

// save makes the file hold these records, each with its frame, durably.
func (j journal) save(records [][]byte) error {
	data := header()
	for _, r := range records {
		data = append(data, r...)
	}
	return durable.WriteFileOn(j.fs, j.path, data, 0o600)
}

// load reads the records, oldest first. A file that is damaged is put aside, and
// what can be read of it is used: the chain judges every block again. The error
// means that nothing can be said about the file.
func (j journal) load(log *slog.Logger) ([]Record, error) {
	records, err := j.read(j.path)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, errDamaged):
		aside := j.path + ".damaged"
		log.Error("the journal of found blocks is damaged: what can be read of it is used, the file is kept for you to look at", "file", aside, "records", len(records), "err", err)
		if err := j.fs.Rename(j.path, aside); err != nil {
			log.Error("the damaged journal of found blocks could not be put aside", "err", err)
		}
	default:
		return nil, err
	}
	// A process killed between writing the file's successor and giving it its name
	// has left the newest record there. Whatever of it is whole is good.
	late, err := j.read(j.path + ".tmp")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Debug("unfinished journal of found blocks", "records", len(late), "err", err)
	}
	seen := make(map[types.Hash]bool)
	var list []Record
	for _, r := range append(records, late...) {
		if id := r.Block.Header.ID(); !seen[id] {
			seen[id] = true
			list = append(list, r)
		}
	}
	return list, nil
}

// errDamaged marks a file whose content is wrong, against one that cannot be read.
var errDamaged = errors.New("damaged")

func (j journal) read(path string) ([]Record, error) {
	data, err := durable.ReadFileOn(j.fs, path)
	if err != nil {
		return nil, fmt.Errorf("reading the journal of found blocks: %w", err)
	}
	records, err := parse(data)
	switch {
	case errors.Is(err, errVersion):
		err = fmt.Errorf("reading the journal of found blocks, %s: %w", path, err)
	case err != nil:
		err = fmt.Errorf("%s is %w: %w", path, errDamaged, err)
	}
	return records, err
}
