package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

const (
	// segmentBytes is the size at which a new segment is begun.
	segmentBytes = 128 << 20
	// maxOpen bounds the file handles of old segments.
	maxOpen = 64
	// recordHead is the kind and the id before each payload.
	recordHead = 1 + 32
)

// The kinds of records.
const (
	kindBody byte = 1
	kindUndo byte = 2
)

// segmentOptions leave room for undo records, which can be longer than blocks:
// a coin has up to 60 bytes more than the 41 of the shortest input.
func segmentOptions() durable.Options {
	return durable.Options{Kind: [4]byte{'B', 'L', 'K', 'S'}, Version: 1, MaxRecord: 4 * types.MaxBlockBytes}
}

// segments are the numbered files. Only the last one grows.
type segments struct {
	dir   string
	limit int64

	mu   sync.Mutex
	open map[uint32]*durable.AppendFile
	last uint32
}

func segmentName(n uint32) string { return fmt.Sprintf("blocks-%05d.seg", n) }

func (s *segments) path(n uint32) string { return filepath.Join(s.dir, segmentName(n)) }

// recover opens the last segment in use and, unless readOnly, removes what a
// crash left beyond t.
func (s *segments) recover(t tail, readOnly bool) error {
	if t.commits == 0 && !readOnly {
		return s.startOver()
	}
	s.last = t.segment
	f, err := s.file(t.segment)
	if err != nil {
		return err
	}
	if f.Size() < t.size {
		return fmt.Errorf("%s has %d bytes, the index refers to %d: restore it from a copy, or start with an empty --data directory", s.path(t.segment), f.Size(), t.size)
	}
	if readOnly {
		return nil
	}
	return s.cut(t)
}

// startOver makes the first segment. A crash before the first Commit may have
// left one, or a part of it.
func (s *segments) startOver() error {
	if err := os.Remove(s.path(0)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what was never committed: %w", err)
	}
	return s.create(0)
}

// cut removes everything after t.
func (s *segments) cut(t tail) error {
	for n := t.segment + 1; ; n++ {
		if f, ok := s.open[n]; ok {
			delete(s.open, n)
			if err := f.Close(); err != nil {
				return fmt.Errorf("closing %s: %w", s.path(n), err)
			}
		}
		err := os.Remove(s.path(n))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("removing what was never committed: %w", err)
		}
	}
	s.last = t.segment
	f, err := s.file(t.segment)
	if err != nil || f.Size() == t.size {
		return err
	}
	return f.Truncate(t.size)
}

func (s *segments) create(n uint32) error {
	f, err := durable.CreateAppendFile(s.path(n), segmentOptions())
	if err != nil {
		return err
	}
	s.open[n], s.last = f, n
	return nil
}

// file returns an open segment. The caller holds the lock or is alone.
func (s *segments) file(n uint32) (*durable.AppendFile, error) {
	if f, ok := s.open[n]; ok {
		return f, nil
	}
	if len(s.open) >= maxOpen {
		for old, f := range s.open {
			if old != s.last {
				delete(s.open, old)
				if err := f.Close(); err != nil {
					return nil, fmt.Errorf("closing %s: %w", s.path(old), err)
				}
				break
			}
		}
	}
	f, err := durable.OpenAppendFile(s.path(n), segmentOptions())
	if err != nil {
		return nil, err
	}
	s.open[n] = f
	return f, nil
}

// append writes one record, not yet durable, and returns where it is.
func (s *segments) append(kind byte, id types.Hash, payload []byte) (location, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.file(s.last)
	if err != nil {
		return location{}, err
	}
	if f.Size() >= s.limit {
		if err := f.Sync(); err != nil {
			return location{}, err
		}
		if err := s.create(s.last + 1); err != nil {
			return location{}, err
		}
		f = s.open[s.last]
	}
	b := append(append(make([]byte, 0, recordHead+len(payload)), kind), id[:]...)
	offset, err := f.Append(append(b, payload...))
	return location{s.last, offset}, err
}

// sync makes all records durable and returns where they end.
func (s *segments) sync() (segment uint32, size int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.file(s.last)
	if err != nil {
		return 0, 0, err
	}
	return s.last, f.Size(), f.Sync()
}

// rollBack removes what a failed Commit has appended.
func (s *segments) rollBack(t tail) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut(t)
}

// read returns the payload of a record and checks that it is the one expected.
func (s *segments) read(kind byte, id types.Hash, at location) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.file(at.segment)
	if err != nil {
		return nil, err
	}
	b, err := f.ReadAt(at.offset)
	if err != nil {
		return nil, err
	}
	if len(b) < recordHead || b[0] != kind || types.Hash(b[1:recordHead]) != id {
		return nil, &durable.CorruptError{Path: s.path(at.segment), Offset: at.offset, Reason: fmt.Sprintf("the record is not that of block %s", id)}
	}
	return b[recordHead:], nil
}

// close releases all files.
func (s *segments) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.open {
		errs = append(errs, f.Close())
	}
	clear(s.open)
	return errors.Join(errs...)
}

// encodeSpent writes an undo record's payload.
func encodeSpent(spent []consensus.UTXO) []byte {
	b := types.AppendVarInt(nil, uint64(len(spent)))
	for i := range spent {
		u := &spent[i]
		b = binary.LittleEndian.AppendUint32(append(b, u.OutPoint.TxID[:]...), u.OutPoint.Index)
		b = u.Coin.AppendTo(b)
	}
	return b
}

// minCoin is the least size of an encoded coin with its outpoint.
const minCoin = 36 + 1 + 4 + 4 + 8 + 1

func decodeSpent(b []byte) ([]consensus.UTXO, error) {
	d := types.NewDecoder(b)
	spent := make([]consensus.UTXO, d.Count(minCoin))
	for i := range spent {
		spent[i].OutPoint = types.OutPoint{TxID: d.Hash(), Index: d.Uint32()}
		spent[i].Coin.DecodeFrom(d)
	}
	return spent, d.Finish()
}
