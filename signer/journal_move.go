package signer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/interchange"
)

// Import is what an import did.
type Import struct {
	// Before and After are the marks of every key of the journal, in one order.
	Before []KeyMarks `json:"before"`
	After  []KeyMarks `json:"after"`
	// Ignored are the document's keys that the journal was not made for.
	Ignored []types.PublicKey `json:"ignored"`
	// Changed is false when the journal knew all of it before.
	Changed bool `json:"changed"`
}

// Import takes in what another signer knows, durably, and as a whole or, after a
// crash, not at all. It only forbids: no mark or floor ever sinks. A document that
// names none of the journal's keys, belongs to another network, or has a
// signature that does not verify, is an error, and changes nothing.
func (j *Journal) Import(doc *interchange.Document) (*Import, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if doc.Network != j.mem.network {
		return nil, fmt.Errorf("importing watermarks: they are of network %s, the journal is of %s", doc.Network, j.mem.network)
	}
	if err := doc.Verify(); err != nil {
		return nil, fmt.Errorf("importing: %w", err)
	}
	in := &Import{Before: j.mem.marks()}
	doc, in.Ignored = doc.Only(slices.Collect(maps.Keys(j.mem.keys)))
	if len(doc.Keys) == 0 {
		return nil, errors.New("importing watermarks: the document names none of the journal's keys: export from the signer that had them")
	}
	// What is written must be readable for ever, wherever the document came from.
	text := doc.Encode()
	doc, err := interchange.Parse(text, j.mem.network, 1)
	if err != nil {
		return nil, fmt.Errorf("importing: %w", err)
	}
	if in.Changed = j.mem.clone().applyImport(doc); in.Changed {
		if err := j.appendImport(text); err != nil {
			return nil, err
		}
	}
	in.After = j.mem.marks()
	return in, nil
}

func (j *Journal) appendImport(doc []byte) error {
	parts := slices.Collect(slices.Chunk(doc, j.partSize))
	for i, data := range parts {
		if err := j.append(&record{kind: recordImport, part: uint32(i), left: uint32(len(parts) - 1 - i), data: data}); err != nil {
			return err
		}
	}
	return nil
}

// Export returns what the journal knows of its keys: everything, or the least
// that forbids no less.
func (j *Journal) Export(minimal bool) (*interchange.Document, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	h := history{keys: make(map[types.PublicKey]*interchange.Key)}
	h.docs = append(h.docs, &interchange.Document{Network: j.mem.network, Journal: j.mem.fileID, Strategy: interchange.Complete})
	for k, own := range j.mem.keys {
		h.keys[k] = &interchange.Key{PublicKey: k, Floor: own.floor}
	}
	for raw, err := range j.log.Records() {
		var r record
		if err == nil {
			r, err = decodeRecord(raw.Payload)
		}
		if err == nil {
			err = h.add(&r)
		}
		if err != nil {
			return nil, failed(ErrInternal, err, "reading the signing journal")
		}
	}
	for _, k := range h.keys {
		h.docs[0].Keys = append(h.docs[0].Keys, *k)
	}
	doc, err := interchange.Merge(h.docs...)
	if err != nil {
		return nil, failed(ErrInternal, err, "putting the history of the signing journal together")
	}
	// No key signs at or below the oldest height that memory dropped.
	for i := range doc.Keys {
		k := &doc.Keys[i]
		if block, _ := k.Highest(); block < j.mem.forgotten {
			k.Blocks = append(k.Blocks, interchange.Block{Height: j.mem.forgotten})
		}
		// What an import contradicted is not handed out here, nor by the next signer.
		for n := range k.Votes {
			if v := j.mem.keys[k.PublicKey].vote(k.Votes[n].Target); v != nil && v.seal == nil {
				k.Votes[n].Signature = nil
			}
		}
	}
	if minimal {
		doc = doc.Minimal()
	}
	return doc, nil
}

// history collects a journal's own entries and the documents it took in.
type history struct {
	keys      map[types.PublicKey]*interchange.Key
	docs      []*interchange.Document // of which the first is the journal's own
	importing []byte
}

func (h *history) add(r *record) error {
	k := h.keys[r.key]
	switch r.kind {
	case recordClaim:
		k.Blocks = append(k.Blocks, interchange.Block{Height: r.height, Digest: &r.digest})
	case recordVote:
		k.Votes = append(k.Votes, interchange.Vote{Source: r.link.Source.Height, Target: r.link.Target.Height, Link: &r.link})
	case recordSet:
		k.SetChanges = append(k.SetChanges, interchange.SetChange{Number: r.height, Digest: &r.digest})
	case recordSeal:
		return sealLast(k.Blocks, func(b *interchange.Block) (uint32, **[64]byte) { return b.Height, &b.Signature }, r)
	case recordVoteSeal:
		return sealLast(k.Votes, func(v *interchange.Vote) (uint32, **[64]byte) { return v.Target, &v.Signature }, r)
	case recordSetSeal:
		return sealLast(k.SetChanges, func(s *interchange.SetChange) (uint32, **[64]byte) { return s.Number, &s.Signature }, r)
	case recordImport:
		if r.part == 0 {
			h.importing = nil
		}
		if h.importing = append(h.importing, r.data...); r.left > 0 {
			return nil
		}
		doc, err := interchange.Parse(h.importing, h.docs[0].Network, 1)
		if err != nil {
			return err
		}
		h.docs = append(h.docs, doc)
	}
	return nil
}

// sealLast gives the newest entry at the record's height its signature.
func sealLast[E any](list []E, field func(*E) (uint32, **[64]byte), r *record) error {
	for i := len(list) - 1; i >= 0; i-- {
		if height, sig := field(&list[i]); height == r.height {
			*sig = &r.signature
			return nil
		}
	}
	return fmt.Errorf("seal at %d without a claim", r.height)
}

// AddKeys makes the journal one for these keys, too, durably and all at once.
// floor is the highest height any of them may have signed elsewhere.
func (j *Journal) AddKeys(keys []types.PublicKey, floor uint32) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(keys) == 0 {
		return errors.New("adding keys to the signing journal: none is given")
	}
	seen := make(map[types.PublicKey]bool)
	for _, k := range keys {
		if j.mem.keys[k] != nil || seen[k] {
			return fmt.Errorf("adding keys to the signing journal: it has %s already", k)
		}
		seen[k] = true
		if _, err := types.NewPublicKey(k.Algorithm, k.Point[:]); err != nil {
			return fmt.Errorf("adding keys to the signing journal: %w", err)
		}
	}
	return j.append(&record{kind: recordKeys, height: floor, keys: keys})
}

// Adoption is the word of an operator that a journal may go on at another place.
type Adoption struct {
	// Floor, unless 0, is the highest height that any of the keys may have signed.
	Floor uint32
	// NothingNewer: no signature was made with any of the keys that this journal
	// does not know of. It is not believed where the mark shows the opposite.
	NothingNewer bool
}

// AdoptJournal opens a journal that is not where it was made, or is older than it
// was, raises the floor of all its keys, and binds it to its place. Whatever goes
// wrong, the journal is refused as before or is adopted with its floor.
func AdoptJournal(path string, network types.Hash, a Adoption) (*Journal, error) {
	return adoptJournal(thisMachine, path, network, a)
}

func adoptJournal(d disk, path string, network types.Hash, a Adoption) (*Journal, error) {
	j, seen, err := loadJournal(d, path, network, nil)
	if err != nil {
		return nil, err
	}
	if err = j.mayAdopt(seen, a); err == nil {
		err = j.adopt(a.Floor)
	}
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

func (j *Journal) mayAdopt(seen sighting, a Adoption) error {
	if a.Floor == 0 && !a.NothingNewer {
		return errors.New("adopting a signing journal takes a floor, the highest height its keys may have signed, or the word that nothing newer exists")
	}
	behind := j.behind(seen)
	if !errors.Is(behind, ErrRolledBack) {
		return nil
	}
	known := uint32(0)
	for _, m := range j.mem.marks() {
		known = max(known, m.Block, m.Vote)
	}
	if a.Floor < known || a.Floor == 0 {
		return fmt.Errorf("something newer exists, so that a floor is needed, at height %d or above as the journal itself reaches that: %w", known, behind)
	}
	return nil
}

// adopt has the floors durable before it drops the mark, which is the last that
// shows what happened.
func (j *Journal) adopt(floor uint32) error {
	for _, k := range j.Keys() {
		if err := j.RaiseFloor(k, floor); err != nil {
			return err
		}
	}
	if err := dropMark(j.disk.files(), markPath(j.path)); err != nil {
		return err
	}
	return j.bind()
}

// KeyMarks is what a journal knows of a key, at a glance. 0 means none.
type KeyMarks struct {
	Key         types.PublicKey `json:"key"`
	Floor       uint32          `json:"floor"`
	FloorSource FloorSource     `json:"floorSource"`
	Block       uint32          `json:"block"`       // highest block claimed
	BlockSealed uint32          `json:"blockSealed"` // highest block whose signature is known
	Vote        uint32          `json:"vote"`        // highest target voted for
	VoteSource  uint32          `json:"voteSource"`  // highest source voted from
	VoteSealed  uint32          `json:"voteSealed"`  // highest target of a vote whose signature is known
	SetChange   uint32          `json:"setChange"`   // highest number of a successor set claimed
}

// Marks returns what the journal knows of each key, in the order of the keys' text.
func (j *Journal) Marks() []KeyMarks {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mem.marks()
}

func (m *memory) marks() (list []KeyMarks) {
	for k, own := range m.keys {
		list = append(list, KeyMarks{
			Key: k, Floor: own.floor, FloorSource: own.floorBy,
			Block: own.highest, BlockSealed: own.sealed,
			Vote: own.voted.Target.Height, VoteSource: own.voted.Source.Height, VoteSealed: own.voteSealed,
			SetChange: own.lastSet(),
		})
	}
	slices.SortFunc(list, func(a, b KeyMarks) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	return list
}
