package signer

import (
	"encoding/hex"
	"io/fs"
	"maps"
	"os"
	"slices"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
)

// JournalStatus describes a journal.
type JournalStatus struct {
	Path       string `json:"path"`
	FileID     string `json:"fileID"` // random, 32 hexadecimal digits
	Records    uint64 `json:"records"`
	Highest    uint32 `json:"highest"`    // highest claim of any key on a block
	LastSigned uint32 `json:"lastSigned"` // highest height with a sealed block, 0 if none
	Torn       int64  `json:"torn"`       // bytes of an interrupted record cut off at the start
}

// Status describes the journal.
func (j *Journal) Status() JournalStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := JournalStatus{
		Path: j.path, FileID: hex.EncodeToString(j.mem.fileID[:]), Records: j.mem.records,
		LastSigned: j.mem.lastSealed, Torn: j.log.TornBytes(),
	}
	for m := range maps.Values(j.mem.keys) {
		s.Highest = max(s.Highest, m.highest)
	}
	return s
}

// Keys returns the keys the journal was made for, in no order.
func (j *Journal) Keys() []types.PublicKey {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Keys(j.mem.keys))
}

// JournalView is a journal as somebody sees it who may only look.
type JournalView struct {
	Status JournalStatus
	Marks  []KeyMarks
	// Refusal is why a signer would not start with it; nil: it would.
	Refusal error
}

// ViewJournal looks at a journal, also while a signer uses it. It changes nothing.
// The record that is just being written may be missing.
func ViewJournal(path string, network types.Hash) (*JournalView, error) {
	d := disk{fs: readOnly{}, place: thisMachine.place}
	j, seen, err := loadJournal(d, path, network, nil)
	if err != nil {
		return nil, err
	}
	v := &JournalView{Status: j.Status(), Marks: j.mem.marks(), Refusal: j.checkPlace(seen)}
	return v, j.log.Close()
}

// readOnly is the real file system without any way to change it: files are not
// locked, and writes are dropped.
type readOnly struct{}

func (readOnly) OpenFile(name string, _ int, _ fs.FileMode) (durable.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return readOnlyFile{f}, nil
}

func (readOnly) Rename(string, string) error { return nil }
func (readOnly) Remove(string) error         { return nil }
func (readOnly) SyncDir(string) error        { return nil }

type readOnlyFile struct{ *os.File }

func (f readOnlyFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (readOnlyFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (readOnlyFile) Truncate(int64) error                   { return nil }
func (readOnlyFile) Sync() error                            { return nil }
func (readOnlyFile) Lock() error                            { return nil }
