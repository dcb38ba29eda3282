package signer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
)

// A journal that is copied, or restored from a backup, has forgotten what was
// signed since. Two things show it:
//
// The place, a record in the journal itself: a hash of the machine and of the
// file's inode and birth time. A copy has another inode or birth time, also when
// it was renamed over the original. It lies in the journal because that is the
// thing it speaks of: it cannot be left out, and takes part in what the mark
// covers. Reboots, appending, and renames of the file or of folders above it
// change none of it.
//
// The mark, a small file beside the journal: how many records there were, and
// their hash. An older copy that is written into the same file keeps inode and
// birth time, but is behind the mark. It must lie beside the journal, as what is
// restored would otherwise agree with itself. It is written after each record, and
// made durable only now and then: it may lag after a power cut, which harms
// nobody, but is never ahead. It knows its own place, too, and a new file replaces
// it at every start and every markLife records: a copy of journal and mark that is
// older than that shows, even if it is written into both files.
//
// None of it sees a whole disk or virtual machine set back. Only what others know
// does: Floor.

// Kinds of a refusal to start that say the journal is not what it was.
const (
	// ErrRolledBack: something signed is known that the journal has forgotten.
	ErrRolledBack Kind = "state-rolled-back"
	// ErrMoved: the journal is not the file it was, or not on its machine.
	ErrMoved Kind = "state-moved"
)

// disk is where a journal lives. Tests have others.
type disk struct {
	fs    durable.FS // nil: the real one
	place func(path string) (types.Hash, error)
}

var thisMachine = disk{place: func(path string) (types.Hash, error) { return placeOf(path, machineID()) }}

// machineIDs are where machine-id(5) may be.
var machineIDs = []string{"/etc/machine-id", "/var/lib/dbus/machine-id"}

// machineID returns the machine's id. It is empty where there is none, as in many
// containers: then only the file itself is recognised.
func machineID() string {
	for _, file := range machineIDs {
		b, err := os.ReadFile(file)
		if id := strings.TrimSpace(string(b)); err == nil && len(id) == 32 {
			return id
		}
	}
	return ""
}

// placeOf returns what the place of a file is known by: 16 bytes for the machine
// and 16 for the file on it. The id itself is not for others to read
// (machine-id(5)), and cannot be had from its hash.
func placeOf(path, machine string) (types.Hash, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return types.Hash{}, fmt.Errorf("looking at %s: %w", path, &fs.PathError{Op: "statx", Path: path, Err: err})
	}
	file := binary.LittleEndian.AppendUint64(nil, st.Ino)
	if st.Mask&unix.STATX_BTIME != 0 { // not every file system has it
		file = binary.LittleEndian.AppendUint64(file, uint64(st.Btime.Sec))
		file = binary.LittleEndian.AppendUint32(file, st.Btime.Nsec)
	}
	return makePlace([]byte(machine), file), nil
}

func makePlace(machine, file []byte) types.Hash {
	m := types.TaggedHash("qcity/signer/machine", machine)
	f := types.TaggedHash("qcity/signer/file", m[:], file)
	copy(m[16:], f[:])
	return m
}

// checkPlace compares the journal with its mark and its place.
func (j *Journal) checkPlace(seen sighting) error {
	if err := j.behind(seen); err != nil {
		return &TerminalError{err}
	}
	if j.mem.place.IsZero() {
		return nil // of an earlier version, or its creation was cut short: settle binds it
	}
	if !seen.found {
		return &TerminalError{j.moved("has lost the mark that lies beside it")}
	}
	here, err := j.disk.place(j.path)
	if err != nil {
		return err
	}
	beside, err := j.disk.place(markPath(j.path))
	switch {
	case err != nil:
		return err
	case [16]byte(here[:16]) != [16]byte(j.mem.place[:16]):
		return &TerminalError{j.moved("was written on another machine")}
	case here != j.mem.place:
		return &TerminalError{j.moved("is a copy, or was restored from one")}
	case beside != seen.self:
		return &TerminalError{j.moved("has a mark that was restored from a copy, as it was itself")}
	}
	return nil
}

func (j *Journal) moved(how string) error {
	return failed(ErrMoved, nil, "the signing journal %s %s, and may have forgotten what was signed since: put the original back, or stop every other signer of these keys and run `qcity watermark adopt`", j.path, how)
}

// behind returns why the journal does not continue what its mark has seen.
func (j *Journal) behind(seen sighting) error {
	switch {
	case !seen.found || seen.matched:
		return nil
	case seen.fileID != j.mem.fileID:
		return j.moved(fmt.Sprintf("lies beside the mark of another journal, file id %x", seen.fileID))
	case seen.records > j.mark.records:
		return failed(ErrRolledBack, nil, "the signing journal %s has %d records, its mark has seen %d: an older copy was put in its place; put the newer file back, or stop every other signer of these keys and run `qcity watermark adopt --floor H` with the highest height they may have signed", j.path, j.mark.records, seen.records)
	}
	return failed(ErrRolledBack, nil, "the signing journal %s does not continue what its mark has seen at record %d: a copy that went another way was put in its place; put the right file back, or stop every other signer of these keys and run `qcity watermark adopt --floor H` with the highest height they may have signed", j.path, seen.records)
}

// settle makes the journal ready to be written: what is not bound yet is bound,
// and the mark has seen all there is.
func (j *Journal) settle() error {
	if j.mem.place.IsZero() {
		return j.bind()
	}
	return j.renewMark()
}

func (j *Journal) renewMark() (err error) {
	if j.beside, err = createMark(j.disk, markPath(j.path), j.mark); err != nil {
		return fmt.Errorf("writing the mark beside the signing journal: %w", durable.Explain(err))
	}
	return nil
}

// bind notes that the journal lives here. The mark is there before, so that a
// bound journal without one was tampered with.
func (j *Journal) bind() error {
	here, err := j.disk.place(j.path)
	if err == nil {
		err = j.renewMark()
	}
	if err == nil {
		err = j.append(&record{kind: recordPlace, digest: here})
	}
	return err
}

func (d disk) files() durable.FS {
	if d.fs == nil {
		return durable.OS()
	}
	return d.fs
}

// mark sums a journal up.
type mark struct {
	fileID  [16]byte
	records uint64
	chain   types.Hash // over all records, in order
	self    types.Hash // the place of the mark file itself
}

func (m *mark) next(payload []byte) {
	m.records++
	m.chain = types.TaggedHash("qcity/signer/mark", m.chain[:], payload)
}

const markHead = "qcity-journal-mark 1 "

// String is the content of a mark file: file id, number of records, hash, place
// and a checksum (CRC-32C), in less than the 512 bytes that a disk writes in one step.
func (m *mark) String() string {
	line := fmt.Sprintf("%s%x %020d %x %x ", markHead, m.fileID, m.records, [32]byte(m.chain), [32]byte(m.self))
	return fmt.Sprintf("%s%08x\n", line, crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli)))
}

func parseMark(text string) (m mark, ok bool) {
	var id, chain, self []byte
	if _, err := fmt.Sscanf(text, markHead+"%x %d %x %x", &id, &m.records, &chain, &self); err != nil || len(id) != 16 || len(chain) != 32 || len(self) != 32 {
		return m, false
	}
	m.fileID, m.chain, m.self = [16]byte(id), types.Hash(chain), types.Hash(self)
	return m, m.String() == text
}

// sighting is a mark as it was found, and whether the journal continues it.
type sighting struct {
	mark
	found, matched bool
}

func (s *sighting) compare(now *mark) {
	if s.found && s.records == now.records && s.chain == now.chain {
		s.matched = true
	}
}

func markPath(journal string) string { return journal + ".mark" }

// A mark file has three slots. The first is written once, and durable before the
// file gets its name. The others are written in turn, unsynced: a write that was
// cut short, and a power cut, leave the first at least.
const (
	markSlot  = 512 // bytes from one to the next
	markSlots = 3
)

// readMark reads a mark. One that cannot be read was being made when its maker
// ended, or was tampered with: it counts as none, which a bound journal refuses.
func readMark(files durable.FS, path string) (s sighting, err error) {
	f, err := files.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("reading the mark beside the signing journal: %w", err)
	}
	for slot := range markSlots {
		b := make([]byte, len((&mark{}).String()))
		if _, err := f.ReadAt(b, int64(slot)*markSlot); err != nil {
			continue
		}
		if m, ok := parseMark(string(b)); ok && (!s.found || m.records > s.records) {
			s.mark, s.found = m, true
		}
	}
	return s, f.Close()
}

// dropMark removes what an earlier journal of this name left.
func dropMark(files durable.FS, path string) error {
	err := files.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = files.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("removing the mark of an earlier journal: %w", err)
	}
	return nil
}

// markLife is how many records a mark file tells of before the next one replaces
// it. It is another file then, and a copy of the one before shows as such.
const markLife = 64

// markFile is the mark of an open journal.
type markFile struct {
	disk disk
	path string
	f    durable.File
	self types.Hash // the file's own place
	last int64      // the slot that was written last
	told int
}

// createMark puts a new mark file in the place of the one there is, in one step.
func createMark(d disk, path string, now mark) (*markFile, error) {
	files, tmp := d.files(), path+".tmp"
	if err := files.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := files.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	m := &markFile{disk: d, path: path, f: f}
	if m.self, err = d.place(tmp); err == nil {
		err = m.put(now, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = files.Rename(tmp, path)
	}
	if err == nil {
		err = files.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

// write updates the mark, if there is a file for it. A mark that could not be
// written lags: the journal itself is whole, so nothing stops for it.
func (m *markFile) write(now mark) {
	if m == nil {
		return
	}
	if m.told++; m.told >= markLife {
		if next, err := createMark(m.disk, m.path, now); err == nil {
			_ = m.f.Close()
			*m = *next
			return
		}
	}
	slot := int64(1)
	if m.last == 1 {
		slot = 2
	}
	if m.put(now, slot) == nil {
		m.last = slot
	}
}

func (m *markFile) put(now mark, slot int64) error {
	now.self = m.self
	_, err := m.f.WriteAt([]byte(now.String()), slot*markSlot)
	return err
}

func (m *markFile) close() error {
	if m == nil {
		return nil
	}
	return errors.Join(durable.Explain(m.f.Sync()), m.f.Close())
}
