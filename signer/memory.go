package signer

import (
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// keptSlots is how many heights, and how many votes of each key, the journal
// answers for from memory. Older seals are read from the file; older heights are
// never claimed anew.
const keptSlots = 1024

// SlotState is how far the signing of a slot got.
type SlotState string

// The states of a claim.
const (
	Claimed   SlotState = "claimed"   // the token may have been asked; nothing was released
	Sealed    SlotState = "sealed"    // Signature is the one there is, for ever
	Abandoned SlotState = "abandoned" // given up for another key; nothing was or will be released
	// Imported: known from another signer's journal. Digest may be zero, which means
	// that any block may have been signed; there may be a Signature.
	Imported SlotState = "imported"
)

// SlotRecord is what the journal holds of one key at one height.
type SlotRecord struct {
	Height     uint32          `json:"height"`
	Key        types.PublicKey `json:"key"`
	Block      types.Hash      `json:"block"`  // id of the block
	Digest     types.Hash      `json:"digest"` // what was to be signed; shown as a block id is
	Header     Hex             `json:"header"` // 80 bytes
	CoinOnline Hex             `json:"coinOnline"`
	State      SlotState       `json:"state"`
	Signature  Hex             `json:"signature,omitempty"` // r ‖ s, 64 bytes, when sealed
}

// memory is the summary of a journal: what its rules need, in bounded space.
// It changes by apply alone, for a record that was read as for one that was
// just written.
type memory struct {
	network types.Hash
	fileID  [16]byte
	place   types.Hash // where the file was bound to last; zero: nowhere yet
	keys    map[types.PublicKey]*marks
	slots   map[uint32][]*SlotRecord // by height, in the order of the claims
	heights []uint32                 // of slots, ascending
	// forgotten is the highest height dropped from slots.
	forgotten uint32
	// lastSealed is the highest height with a seal.
	lastSealed uint32
	records    uint64
	// pending are the parts of an import that is not complete yet.
	pending pendingImport
	// only, unless it is 0, is the one height whose entries imports are searched for.
	only uint32
}

// marks bound what a key may still sign.
type marks struct {
	floor   uint32 // it may have signed up to here without this journal knowing
	floorBy FloorSource
	highest uint32 // highest claim
	sealed  uint32 // highest seal of a block that is known
	// voted bounds the next vote. Its parts may be of two votes, if some were imported.
	voted consensus.VoteRecord
	// blind: two votes have different sources at the height of voted.Source, or
	// only the height of a source is known. The next source must be above it.
	blind bool
	votes []*vote // the newest, by ascending height of the target
	// voteSealed is the highest target of a vote whose signature is known.
	voteSealed uint32
	sets       []*setChange // the newest, by ascending number
}

func (m *memory) apply(r *record) error {
	if (r.kind == recordMeta) != (m.records == 0) {
		return fmt.Errorf("record of kind %d is in the wrong place", r.kind)
	}
	if r.kind != recordImport {
		m.pending = pendingImport{} // an import that was cut short counts for nothing
	}
	var err error
	switch r.kind {
	case recordMeta:
		m.network, m.fileID = r.network, r.fileID
		m.keys, m.slots = make(map[types.PublicKey]*marks), make(map[uint32][]*SlotRecord)
		err = m.applyKeys(r, FloorInit)
	case recordKeys:
		err = m.applyKeys(r, FloorAdded)
	case recordPlace:
		m.place = r.digest
	case recordImport:
		err = m.applyImportPart(r)
	default:
		err = m.applyOfKey(r)
	}
	if err == nil {
		m.records++
	}
	return err
}

func (m *memory) applyKeys(r *record, by FloorSource) error {
	for _, k := range r.keys {
		if _, err := types.NewPublicKey(k.Algorithm, k.Point[:]); err != nil {
			return err
		}
		if m.keys[k] != nil {
			return fmt.Errorf("key %s is added twice", k)
		}
		m.keys[k] = &marks{floor: r.height, floorBy: by}
	}
	return nil
}

// applyOfKey applies a record that concerns one key.
func (m *memory) applyOfKey(r *record) error {
	own := m.keys[r.key]
	if own == nil {
		return fmt.Errorf("record names key %s, which the journal was not made for", r.key)
	}
	switch r.kind {
	case recordFloor:
		own.raise(r.height, FloorRaised)
		return nil
	case recordVote, recordVoteSeal:
		return m.applyVote(r, own)
	case recordSet, recordSetSeal:
		return own.applySetChange(r)
	}
	return m.applySlot(r, own)
}

// raise lifts the floor; it never sinks.
func (m *marks) raise(height uint32, by FloorSource) (raised bool) {
	if height <= m.floor {
		return false
	}
	m.floor, m.floorBy = height, by
	return true
}

func (m *memory) applySlot(r *record, own *marks) error {
	old := m.find(r.height, r.key)
	if r.kind == recordClaim {
		if old != nil || r.height <= own.highest || r.height <= own.floor || m.active(r.height) != nil {
			return fmt.Errorf("claim on height %d breaks the journal's own rules", r.height)
		}
		own.highest = r.height
		m.remember(&SlotRecord{
			Height: r.height, Key: r.key, Block: r.header.ID(), Digest: r.digest,
			Header: r.header.Bytes(), CoinOnline: r.coinOnline, State: Claimed,
		})
		return nil
	}
	if old == nil || old.State != Claimed {
		return fmt.Errorf("record of kind %d for height %d follows no open claim", r.kind, r.height)
	}
	if r.kind == recordAbandon {
		old.State = Abandoned
		return nil
	}
	old.State, old.Signature = Sealed, r.signature[:]
	m.lastSealed, own.sealed = max(m.lastSealed, r.height), max(own.sealed, r.height)
	return nil
}

func (m *memory) remember(s *SlotRecord) {
	if i, found := slices.BinarySearch(m.heights, s.Height); !found {
		m.heights = slices.Insert(m.heights, i, s.Height)
	}
	m.slots[s.Height] = append(m.slots[s.Height], s)
	if len(m.heights) > keptSlots {
		m.forgotten = max(m.forgotten, m.heights[0])
		delete(m.slots, m.heights[0])
		m.heights = slices.Delete(m.heights, 0, 1)
	}
}

// find returns what key has at height.
func (m *memory) find(height uint32, key types.PublicKey) *SlotRecord {
	for _, s := range m.slots[height] {
		if s.Key == key {
			return s
		}
	}
	return nil
}

// active returns a claim on height that was not abandoned. There is one at most,
// except where imports had some.
func (m *memory) active(height uint32) *SlotRecord {
	for _, s := range m.slots[height] {
		if s.State != Abandoned {
			return s
		}
	}
	return nil
}

// sealed reports whether s has the signature of this digest.
func (s *SlotRecord) sealed(digest types.Hash) bool {
	return len(s.Signature) > 0 && s.Digest == digest
}
