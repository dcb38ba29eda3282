package signer

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
)

// Journal is the daemon's memory of what it signed: an append-only file in
// which every record is durable before anything acts on it. It is never made
// by opening it, and is bound to the place where it lives (place.go). It is safe
// for concurrent use, and locked against other processes.
type Journal struct {
	path string
	disk disk

	mu     sync.Mutex
	log    *durable.Log
	mem    memory
	mark   mark          // of what is in mem
	beside *markFile     // nil: the journal is only read
	failed chan struct{} // closed once the file can no longer be written
	dead   bool

	partSize int // of the parts of an import, in bytes
}

// Claim is the one block a key is to sign at a height.
type Claim struct {
	Height     uint32
	Key        types.PublicKey
	Digest     types.Hash // what the token will be asked to sign
	Header     types.Header
	CoinOnline []byte // serialised, kept for the node's recovery
}

// CreateJournal makes the journal of a network at path, for these keys and no
// others. floor is the highest height any of them may have signed elsewhere: 0
// only for keys that were just made. A journal that exists is refused
// (fs.ErrExist), except one whose creation was interrupted.
func CreateJournal(path string, network types.Hash, keys []types.PublicKey, floor uint32) error {
	return createJournal(thisMachine, path, network, keys, floor)
}

func createJournal(d disk, path string, network types.Hash, keys []types.PublicKey, floor uint32) (err error) {
	if len(keys) == 0 {
		return errors.New("creating a signing journal: no keys are given")
	}
	meta := record{kind: recordMeta, network: network, keys: keys, height: floor}
	_, _ = rand.Read(meta.fileID[:]) // never fails (crypto/rand)
	o := journalOptions(d.fs)
	log, err := durable.CreateLog(path, o)
	if errors.Is(err, fs.ErrExist) {
		log, err = openEmpty(path, o)
	}
	if err != nil {
		return fmt.Errorf("creating a signing journal: %w", err)
	}
	j := newJournal(path, d, log)
	if err = dropMark(d.files(), markPath(path)); err == nil {
		err = j.append(&meta)
	}
	if err == nil {
		err = j.bind()
	}
	return errors.Join(err, j.Close())
}

func newJournal(path string, d disk, log *durable.Log) *Journal {
	return &Journal{path: path, disk: d, log: log, partSize: importPart, failed: make(chan struct{})}
}

// openEmpty opens a journal whose creation ended before its first record.
func openEmpty(path string, o durable.Options) (*durable.Log, error) {
	log, err := durable.OpenLog(path, o)
	if err != nil {
		return nil, err
	}
	for _, err := range log.Records() {
		if err == nil {
			err = fmt.Errorf("%s: %w and is in use: a journal is never made twice", path, fs.ErrExist)
		}
		return nil, errors.Join(err, log.Close())
	}
	return log, nil
}

// OpenJournal opens the journal of this network. Every key must be one it was
// made for. A journal that is missing, damaged, of another network, older than it
// was, or not where it was made, is a TerminalError: the daemon must not sign
// without its past. The last two are of the kinds ErrRolledBack and ErrMoved.
func OpenJournal(path string, network types.Hash, keys []types.PublicKey) (*Journal, error) {
	return openJournal(thisMachine, path, network, keys)
}

func openJournal(d disk, path string, network types.Hash, keys []types.PublicKey) (*Journal, error) {
	j, seen, err := loadJournal(d, path, network, keys)
	if err != nil {
		return nil, err
	}
	err = j.checkPlace(seen)
	if err == nil {
		err = j.settle()
	}
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// loadJournal reads a journal, wherever it lives, and what the mark beside it says.
func loadJournal(d disk, path string, network types.Hash, keys []types.PublicKey) (*Journal, sighting, error) {
	// The mark first: it must not be ahead of a journal that is being written.
	seen, err := readMark(d.files(), markPath(path))
	if err != nil {
		return nil, seen, err
	}
	log, err := durable.OpenLog(path, journalOptions(d.fs))
	if err != nil {
		return nil, seen, explainOpen(path, err)
	}
	j := newJournal(path, d, log)
	if err := errors.Join(j.load(&seen), j.fits(network, keys)); err != nil {
		return nil, seen, &TerminalError{errors.Join(err, log.Close())}
	}
	return j, seen, nil
}

func explainOpen(path string, err error) error {
	var damaged *durable.CorruptError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &TerminalError{fmt.Errorf("the signing journal %s is missing: restore it from where it was moved to; make a new one only if these keys never signed, or with a floor above everything they signed: %w", path, err)}
	case errors.As(err, &damaged):
		return &TerminalError{fmt.Errorf("the signing journal cannot be read: keep the file, and make a new one with a floor above everything these keys signed: %w", err)}
	}
	return fmt.Errorf("opening the signing journal: %w", err)
}

func (j *Journal) load(seen *sighting) error {
	for raw, err := range j.log.Records() {
		if err != nil {
			return fmt.Errorf("reading the signing journal: %w", err)
		}
		r, err := decodeRecord(raw.Payload)
		if err == nil {
			err = j.mem.apply(&r)
		}
		j.mark.next(raw.Payload)
		seen.compare(&j.mark)
		if err != nil {
			return fmt.Errorf("the signing journal %s makes no sense at offset %d: keep the file, and make a new one with a floor above everything these keys signed: %w", j.path, raw.Offset, err)
		}
	}
	if j.mem.records == 0 {
		return fmt.Errorf("the signing journal %s is empty because its creation was interrupted: create it again", j.path)
	}
	return nil
}

func (j *Journal) fits(network types.Hash, keys []types.PublicKey) error {
	if j.mem.records == 0 {
		return nil // load has said so
	}
	j.mark.fileID = j.mem.fileID
	if j.mem.network != network {
		return fmt.Errorf("the signing journal %s belongs to network %s, this is network %s: correct the path of the journal or the network", j.path, j.mem.network, network)
	}
	for _, k := range keys {
		if j.mem.keys[k] == nil {
			return fmt.Errorf("the signing journal %s was not made for key %s: name the journal that was, or add the key with `qcity watermark init --add`", j.path, k)
		}
	}
	return nil
}

// append writes one record, durably, and then lets memory know of it.
func (j *Journal) append(r *record) error {
	if j.dead {
		return failed(ErrInternal, nil, "the signing journal %s failed earlier: start the signer again", j.path)
	}
	payload := r.encode()
	if err := j.log.Append(payload); err != nil {
		// A full disk changed nothing and may end; anything else leaves open what
		// the file holds, so nothing more is signed until it is read again.
		if !errors.Is(err, durable.ErrDiskFull) || j.log.Err() != nil {
			j.die()
		}
		return failed(ErrInternal, err, "writing the signing journal failed, nothing is released")
	}
	if err := j.mem.apply(r); err != nil {
		j.die()
		return failed(ErrInternal, err, "the signing journal took a record against its own rules: please report this")
	}
	j.mark.fileID = j.mem.fileID
	j.mark.next(payload)
	j.beside.write(j.mark)
	return nil
}

func (j *Journal) die() {
	if !j.dead {
		j.dead = true
		close(j.failed)
	}
}

// Claim reserves the height for the claim, durably, or returns the Refusal that
// forbids it. The seal is not nil when this very claim was signed before: then
// it is the answer. Otherwise the token may be asked, even where an earlier
// attempt may have asked it already: what it made was not released.
func (j *Journal) Claim(c *Claim) (seal *[64]byte, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	own := j.mem.keys[c.Key]
	if own == nil {
		return nil, refuse(RuleKeyNotHeld, "the journal was not made for key %s", c.Key)
	}
	if old := j.mem.find(c.Height, c.Key); old != nil {
		return again(old, c, own.floor)
	}
	if c.Height <= own.highest {
		return nil, refuse(RuleWatermark, "height %d, but validator %s claimed height %d already", c.Height, c.Key, own.highest)
	}
	if floor := max(own.floor, j.mem.forgotten); c.Height <= floor {
		return nil, refuse(RuleFloor, "height %d is not above the floor %d of %s", c.Height, floor, c.Key)
	}
	if err := j.yield(c.Height); err != nil {
		return nil, err
	}
	return nil, j.append(&record{
		kind: recordClaim, height: c.Height, key: c.Key,
		digest: c.Digest, header: c.Header, coinOnline: c.CoinOnline,
	})
}

// again answers a claim on a height the key has claimed before. What is still
// open is not signed any more once the floor has reached it: the floor says that
// something there may have been signed elsewhere.
func again(old *SlotRecord, c *Claim, floor uint32) (*[64]byte, error) {
	switch {
	case old.State == Abandoned:
		return nil, refuse(RuleAbandoned, "validator %s gave up height %d for another key of this signer", c.Key, c.Height)
	case old.State == Imported && old.Digest.IsZero():
		return nil, refuse(RuleDoubleSign, "an import says that validator %s may have signed any block at height %d", c.Key, c.Height)
	case old.State == Imported && old.Digest != c.Digest:
		return nil, refuse(RuleDoubleSign, "an import says that validator %s signed another block at height %d", c.Key, c.Height)
	case old.Digest != c.Digest:
		return nil, refuse(RuleDoubleSign, "validator %s has %s block %s at height %d, asked for block %s", c.Key, old.State, old.Block, c.Height, c.Header.ID())
	case old.sealed(c.Digest):
		sig := [64]byte(old.Signature)
		return &sig, nil
	case old.State == Imported:
		return nil, refuse(RuleElsewhere, "an import says that validator %s claimed this block at height %d with another signer, which has the signature if there is one", c.Key, c.Height)
	case c.Height <= floor:
		return nil, refuse(RuleFloor, "height %d was claimed before the floor of %s rose to %d", c.Height, c.Key, floor)
	}
	return nil, nil
}

// yield makes room at a height for a new key (policy one-signature-per-slot):
// a seal of another key stays, a mere claim is given up for ever.
func (j *Journal) yield(height uint32) error {
	other := j.mem.active(height)
	if other == nil {
		return nil
	}
	switch other.State {
	case Sealed:
		return refuse(RuleOnePerSlot, "height %d was signed by %s of this signer, block %s", height, other.Key, other.Block)
	case Imported:
		return refuse(RuleOnePerSlot, "an import says that height %d was signed by %s of this signer", height, other.Key)
	}
	return j.append(&record{kind: recordAbandon, height: height, key: other.Key})
}

// Seal records the signature of an open claim, durably, and returns the one to
// release: the first seal wins, and repeats return it. The caller has verified sig.
func (j *Journal) Seal(height uint32, key types.PublicKey, sig [64]byte) ([64]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	old := j.mem.find(height, key)
	switch {
	case old == nil:
		return [64]byte{}, failed(ErrInternal, nil, "height %d has no claim of %s", height, key)
	case old.State == Abandoned:
		return [64]byte{}, refuse(RuleAbandoned, "validator %s gave up height %d for another key of this signer", key, height)
	case len(old.Signature) > 0:
		return [64]byte(old.Signature), nil
	case old.State == Imported:
		return [64]byte{}, refuse(RuleElsewhere, "an import says that validator %s signed at height %d with another signer", key, height)
	}
	if err := j.append(&record{kind: recordSeal, height: height, key: key, signature: sig}); err != nil {
		return [64]byte{}, err
	}
	return sig, nil
}

// RaiseFloor forbids a key every height up to and including this one, durably:
// for what is learnt elsewhere, such as its own signatures on the chain. Votes it
// allows from a source at the floor or above (marks.mayVote). A floor never sinks.
func (j *Journal) RaiseFloor(key types.PublicKey, height uint32) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	own := j.mem.keys[key]
	if own == nil {
		return refuse(RuleKeyNotHeld, "the journal was not made for key %s", key)
	}
	if height <= own.floor {
		return nil
	}
	return j.append(&record{kind: recordFloor, height: height, key: key})
}

// scan reads from the file what memory has dropped: the records of one old height.
func (j *Journal) scan(height uint32) (m memory, err error) {
	m.only = height
	for raw, err := range j.log.Records() {
		if err != nil {
			return memory{}, failed(ErrInternal, err, "reading the signing journal")
		}
		r, err := decodeRecord(raw.Payload)
		if err == nil && r.concerns(height) {
			err = m.apply(&r)
		}
		if err != nil {
			return memory{}, failed(ErrInternal, err, "reading the signing journal")
		}
	}
	return m, nil
}

func (j *Journal) slot(height uint32) ([]*SlotRecord, error) {
	if height > j.mem.forgotten {
		return j.mem.slots[height], nil
	}
	m, err := j.scan(height)
	return m.slots[height], err
}

// Sealed returns the signature released for this digest, if there is one.
func (j *Journal) Sealed(height uint32, key types.PublicKey, digest types.Hash) (sig [64]byte, ok bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	list, err := j.slot(height)
	for _, s := range list {
		if s.Key == key && s.sealed(digest) {
			return [64]byte(s.Signature), true, nil
		}
	}
	return sig, false, err
}

// Slot returns the claim or seal at a height that was not abandoned; ok is
// false when there is none. What was imported has no block and is not returned.
func (j *Journal) Slot(height uint32) (s SlotRecord, ok bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	list, err := j.slot(height)
	for _, s := range list {
		if s.State == Claimed || s.State == Sealed {
			return *s, true, nil
		}
	}
	return SlotRecord{}, false, err
}

// Failed is closed once the file can no longer be written. The daemon then ends
// and must be started again, which reads what the file really holds.
func (j *Journal) Failed() <-chan struct{} { return j.failed }

// Close releases the file and its lock.
func (j *Journal) Close() error { return errors.Join(j.beside.close(), j.log.Close()) }
