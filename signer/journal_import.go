package signer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/interchange"
)

// RuleElsewhere: another signer claimed this very thing, as an import says. If it
// made a signature, that is the one there is.
const RuleElsewhere Rule = "claimed-elsewhere"

// FloorSource says where the height of a floor came from.
type FloorSource string

// The sources of a floor.
const (
	FloorInit     FloorSource = "init"   // given when the journal was made
	FloorAdded    FloorSource = "added"  // given when the key was added
	FloorRaised   FloorSource = "raised" // by a command, or by what was found on the chain
	FloorImported FloorSource = "import"
)

// importPart is how much of a document a record takes, in bytes.
const importPart = 64_000

// pendingImport collects the parts of a document.
type pendingImport struct {
	parts, left uint32
	data        []byte
}

func (m *memory) applyImportPart(r *record) error {
	p := &m.pending
	if r.part == 0 {
		*p = pendingImport{left: r.left + 1}
	}
	if r.part != p.parts || r.left+1 != p.left {
		return fmt.Errorf("part %d of an import, %d before the last, is in the wrong place", r.part, r.left)
	}
	p.parts, p.left, p.data = p.parts+1, r.left, append(p.data, r.data...)
	if p.left > 0 {
		return nil
	}
	doc, err := interchange.Parse(p.data, m.network, 1)
	if err != nil {
		return err
	}
	m.pending = pendingImport{}
	m.applyImport(doc)
	return nil
}

// applyImport takes in what a document says of the journal's keys. It only ever
// forbids more. It reports whether that was anything new.
func (m *memory) applyImport(doc *interchange.Document) (changed bool) {
	for i := range doc.Keys {
		k := &doc.Keys[i]
		own := m.keys[k.PublicKey]
		if own == nil {
			continue
		}
		if m.only == 0 {
			changed = own.raise(k.Floor, FloorImported) || changed
			for _, s := range k.SetChanges {
				changed = own.importSetChange(s) || changed
			}
		}
		for _, b := range k.Blocks {
			if m.only == 0 || m.only == b.Height {
				changed = m.importBlock(own, k.PublicKey, b) || changed
			}
		}
		for _, v := range k.Votes {
			if m.only == 0 || m.only == v.Target {
				changed = own.importVote(v) || changed
			}
		}
	}
	return changed
}

func (m *memory) importBlock(own *marks, key types.PublicKey, b interchange.Block) bool {
	raised := b.Height > own.highest
	own.highest = max(own.highest, b.Height)
	if b.Signature != nil {
		own.sealed = max(own.sealed, b.Height)
	}
	old := m.find(b.Height, key)
	switch {
	case old == nil:
		if b.Height <= m.forgotten {
			return raised
		}
		m.giveUp(b.Height)
		s := &SlotRecord{Height: b.Height, Key: key, State: Imported}
		if b.Digest != nil {
			s.Digest = *b.Digest
		}
		if b.Signature != nil {
			s.Signature = b.Signature[:]
		}
		m.remember(s)
		return true
	case b.Digest == nil || old.Digest != *b.Digest:
		if old.State == Imported && old.Digest.IsZero() {
			return false
		}
		// Also a signature of our own: it may never have left.
		old.State, old.Digest, old.Signature = Imported, types.Hash{}, nil
		m.giveUp(b.Height)
		return true
	case b.Signature == nil || len(old.Signature) > 0 || old.State == Abandoned:
		return false
	}
	old.Signature = b.Signature[:]
	if old.State == Claimed {
		old.State = Sealed
	}
	return true
}

// giveUp abandons the open claim on a height that another key has signed elsewhere.
func (m *memory) giveUp(height uint32) {
	for _, s := range m.slots[height] {
		if s.State == Claimed {
			s.State = Abandoned
		}
	}
}

// importVote takes in a vote. What contradicts it is closed, even if there is a
// signature: it may never have left.
func (m *marks) importVote(in interchange.Vote) (changed bool) {
	v := &vote{seal: in.Signature, closed: true, blind: in.Link == nil}
	if v.blind {
		v.link.Source.Height, v.link.Target.Height = in.Source, in.Target
	} else {
		v.link = *in.Link
	}
	if v.seal != nil {
		m.voteSealed = max(m.voteSealed, in.Target)
	}
	changed = m.bound(v)
	for _, old := range m.votes {
		if old.blind && v.blind || !in.Contradicts(old.asKnown()) {
			continue
		}
		v.seal = nil
		if old.seal != nil || !old.closed {
			old.seal, old.closed, changed = nil, true, true
		}
	}
	old := m.vote(in.Target)
	switch {
	case old == nil:
		return m.keepVote(v) || changed
	case !v.blind && old.is(v.link):
		if v.seal != nil && old.seal == nil {
			old.seal, changed = v.seal, true
		}
		return changed
	case old.blind && old.link.Source.Height >= in.Source:
		return changed
	}
	source := max(old.link.Source.Height, in.Source)
	old.blind, old.closed = true, true
	old.link = consensus.Link{Source: consensus.Checkpoint{Height: source}, Target: consensus.Checkpoint{Height: in.Target}}
	return true
}

// keepVote puts a vote in its place, unless it is older than all that are kept.
func (m *marks) keepVote(v *vote) bool {
	i, _ := slices.BinarySearchFunc(m.votes, v.link.Target.Height, func(v *vote, h uint32) int { return cmp.Compare(v.link.Target.Height, h) })
	if i == 0 && len(m.votes) == keptSlots {
		return false
	}
	m.votes = slices.Insert(m.votes, i, v)
	if len(m.votes) > keptSlots {
		m.votes = slices.Delete(m.votes, 0, 1)
	}
	return true
}

// bound narrows what the key may vote for by a vote made elsewhere.
func (m *marks) bound(v *vote) bool {
	before, blind := m.voted, m.blind
	source := v.link.Source
	switch first := m.voted.Target.Height == 0; {
	case first || source.Height > m.voted.Source.Height:
		m.voted.Source, m.blind = source, v.blind
	case source.Height == m.voted.Source.Height && (v.blind || source.ID != m.voted.Source.ID):
		m.blind = true
	}
	if v.link.Target.Height > m.voted.Target.Height {
		m.voted.Target = v.link.Target
	}
	return m.voted != before || m.blind != blind
}

// asKnown is the vote as an interchange document has it, without its signature.
func (v *vote) asKnown() interchange.Vote {
	out := interchange.Vote{Source: v.link.Source.Height, Target: v.link.Target.Height}
	if !v.blind {
		out.Link = &v.link
	}
	return out
}

func (m *marks) importSetChange(in interchange.SetChange) bool {
	old := m.setChange(in.Number)
	if old == nil {
		if len(m.sets) == keptSlots && in.Number < m.sets[0].number {
			return false
		}
		s := &setChange{number: in.Number, seal: in.Signature, closed: true}
		if in.Digest != nil {
			s.digest = *in.Digest
		}
		m.keepSet(s)
		return true
	}
	switch {
	case in.Digest == nil || old.digest != *in.Digest:
		if old.digest.IsZero() {
			return false
		}
		old.digest, old.seal, old.closed = types.Hash{}, nil, true
		return true
	case in.Signature == nil || old.seal != nil:
		return false
	}
	old.seal = in.Signature
	return true
}

// clone copies a memory deeply enough to try an import on.
func (m *memory) clone() *memory {
	c := *m
	c.heights = slices.Clone(m.heights)
	c.keys = make(map[types.PublicKey]*marks, len(m.keys))
	for k, own := range m.keys {
		o := *own
		o.votes, o.sets = cloneAll(own.votes), cloneAll(own.sets)
		c.keys[k] = &o
	}
	c.slots = maps.Clone(m.slots)
	for h, list := range c.slots {
		c.slots[h] = cloneAll(list)
	}
	return &c
}

func cloneAll[E any](list []*E) []*E {
	out := make([]*E, len(list))
	for i, e := range list {
		c := *e
		out[i] = &c
	}
	return out
}
