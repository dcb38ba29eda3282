// Package interchange is the form in which what a signer remembers moves to
// another signer: a JSON document that lists, for each key, what it signed or may
// have signed. It is modelled on EIP-3076 (https://eips.ethereum.org/EIPS/eip-3076);
// docs/watermarks.md has it field by field.
//
// It is pure: no files, no clock. A signer's journal writes documents
// (Journal.Export) and takes them in (Journal.Import). The rules of reading one:
//
//   - The maximum counts. A document only ever forbids.
//   - What is not told apart by a digest conflicts with everything at its height.
//   - Nothing at or below the highest height listed is signed. That includes
//     every gap between listed heights, and everything below the lowest.
package interchange

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Strategy says how much of its history an exporter wrote.
type Strategy string

// The two legal strategies.
const (
	// Complete: everything the exporter knows.
	Complete Strategy = "complete"
	// Minimal: of each key only the latest block, vote and set change.
	Minimal Strategy = "minimal"
)

// Document is what one signer knows of its keys.
type Document struct {
	Network  types.Hash // id of the network
	Journal  [16]byte   // file id of the journal that wrote it
	Strategy Strategy
	Keys     []Key
}

// Key is what is known of one key. In every list a height (or number) occurs
// once, and they ascend.
type Key struct {
	PublicKey types.PublicKey
	// Floor is a height up to which the key may have signed what is not listed.
	Floor      uint32
	Blocks     []Block
	Votes      []Vote
	SetChanges []SetChange
}

// Block is a block the key signed, or was about to sign.
type Block struct {
	Height uint32
	Digest *types.Hash // what was signed; nil: any block at this height may have been
	// Signature is the one released, r ‖ s. nil: not known, or none was made.
	Signature *[64]byte
}

// Vote is a vote the key cast, or was about to cast.
type Vote struct {
	Source, Target uint32 // heights
	// Link is the vote as it was; nil: only its heights are known.
	Link      *consensus.Link
	Signature *[64]byte
}

// SetChange is the set that the key signed, or was about to sign, as number
// Number, the successor of set Number − 1.
type SetChange struct {
	Number    uint32
	Digest    *types.Hash // consensus.SetChangeDigest; nil: any set may have been signed
	Signature *[64]byte
}

// Highest returns the highest height up to which the key may have signed a block,
// and that up to which it may have signed a vote's target, floors included.
func (k *Key) Highest() (block, vote uint32) {
	block, vote = k.Floor, k.Floor
	for _, b := range k.Blocks {
		block = max(block, b.Height)
	}
	for _, v := range k.Votes {
		vote = max(vote, v.Target)
	}
	return block, vote
}

// Find returns what the document has of a key, nil if nothing.
func (d *Document) Find(key types.PublicKey) *Key {
	for i := range d.Keys {
		if d.Keys[i].PublicKey == key {
			return &d.Keys[i]
		}
	}
	return nil
}

// Only returns a document about these keys alone, and the keys it leaves out.
func (d *Document) Only(keys []types.PublicKey) (only *Document, others []types.PublicKey) {
	c := *d
	c.Keys = nil
	for _, k := range d.Keys {
		if slices.Contains(keys, k.PublicKey) {
			c.Keys = append(c.Keys, k)
		} else {
			others = append(others, k.PublicKey)
		}
	}
	return &c, others
}

// Minimal returns the document cut down to strategy Minimal. As one signer
// releases one block signature at a height, whichever of its keys made it, the
// last block of every key is at least as high as that of any other.
func (d *Document) Minimal() *Document {
	m := *d
	m.Strategy = Minimal
	m.Keys = make([]Key, len(d.Keys))
	top := uint32(0)
	for i := range d.Keys {
		m.Keys[i] = d.Keys[i].latest()
		if b := m.Keys[i].Blocks; len(b) > 0 {
			top = max(top, b[0].Height)
		}
	}
	for i := range m.Keys {
		k := &m.Keys[i]
		if block, _ := k.Highest(); block < top {
			k.Blocks = []Block{{Height: top}}
		}
	}
	return &m
}

// latest returns the last of each list; none of what it forbids gets lost.
func (k *Key) latest() Key {
	m := Key{PublicKey: k.PublicKey, Floor: k.Floor}
	if n := len(k.Blocks); n > 0 {
		m.Blocks = []Block{k.Blocks[n-1]}
	}
	if n := len(k.SetChanges); n > 0 {
		m.SetChanges = []SetChange{k.SetChanges[n-1]}
	}
	if len(k.Votes) == 0 {
		return m
	}
	others, last := k.Votes[:len(k.Votes)-1], k.Votes[len(k.Votes)-1]
	for _, v := range others {
		if last.Contradicts(v) {
			last.Signature = nil // not to be handed out again
		}
		last = last.covering(v)
	}
	m.Votes = []Vote{last}
	return m
}

// Contradicts reports whether a key that voted one of them must not vote the
// other, as far as is known.
func (v Vote) Contradicts(o Vote) bool {
	if v.Link != nil && o.Link != nil {
		return consensus.Conflict(*v.Link, *o.Link) != nil
	}
	if v.Target > o.Target {
		v, o = o, v
	}
	return v.Target == o.Target || o.Source <= v.Source
}

// covering returns v, or a vote at its target that forbids as much as v and
// another one together: sources must be those of both, or above both.
func (v Vote) covering(o Vote) Vote {
	if o.Source < v.Source {
		return v
	}
	if v.Link != nil && o.Link != nil && v.Link.Source == o.Link.Source {
		return v
	}
	if v.Link == nil && o.Source == v.Source {
		return v
	}
	return Vote{Source: max(v.Source, o.Source), Target: v.Target}
}

// Merge returns what all documents say together: floors at their highest, every
// entry, and where two differ at one height an entry that conflicts with
// everything there. It is Minimal if all are. File id and network are the first one's.
func Merge(docs ...*Document) (*Document, error) {
	if len(docs) == 0 {
		return nil, errors.New("merging watermarks: no document is given")
	}
	out := &Document{Network: docs[0].Network, Journal: docs[0].Journal, Strategy: Minimal}
	lists := make(map[types.PublicKey][]Key)
	for _, d := range docs {
		if d.Network != out.Network {
			return nil, fmt.Errorf("merging watermarks: documents of two networks, %s and %s", out.Network, d.Network)
		}
		if d.Strategy != Minimal {
			out.Strategy = Complete
		}
		for _, k := range d.Keys {
			lists[k.PublicKey] = append(lists[k.PublicKey], k)
		}
	}
	for _, list := range lists {
		k := mergeKeys(list)
		if out.Strategy == Minimal {
			k = k.latest()
		}
		out.Keys = append(out.Keys, k)
	}
	out.sort()
	return out, nil
}

func mergeKeys(list []Key) Key {
	out := Key{PublicKey: list[0].PublicKey}
	for _, k := range list {
		out.Floor = max(out.Floor, k.Floor)
		out.Blocks = append(out.Blocks, k.Blocks...)
		out.Votes = append(out.Votes, k.Votes...)
		out.SetChanges = append(out.SetChanges, k.SetChanges...)
	}
	out.Blocks = fold(out.Blocks, func(b Block) uint32 { return b.Height }, func(a, b Block) Block {
		a.Digest, a.Signature = common(a.Digest, b.Digest, a.Signature, b.Signature)
		return a
	})
	out.SetChanges = fold(out.SetChanges, func(s SetChange) uint32 { return s.Number }, func(a, b SetChange) SetChange {
		a.Digest, a.Signature = common(a.Digest, b.Digest, a.Signature, b.Signature)
		return a
	})
	out.Votes = fold(out.Votes, func(v Vote) uint32 { return v.Target }, func(a, b Vote) Vote {
		if a.Link != nil && b.Link != nil && *a.Link == *b.Link {
			a.Signature = first(a.Signature, b.Signature)
			return a
		}
		return Vote{Source: max(a.Source, b.Source), Target: a.Target}
	})
	return out
}

// fold sorts a list by height and makes one of all entries at a height.
func fold[E any](list []E, height func(E) uint32, both func(a, b E) E) (out []E) {
	slices.SortStableFunc(list, func(a, b E) int { return cmp.Compare(height(a), height(b)) })
	for _, e := range list {
		if n := len(out); n > 0 && height(out[n-1]) == height(e) {
			out[n-1] = both(out[n-1], e)
			continue
		}
		out = append(out, e)
	}
	return out
}

// common returns what two entries at a height agree on: nothing, if their
// digests differ.
func common(a, b *types.Hash, sigA, sigB *[64]byte) (*types.Hash, *[64]byte) {
	if a == nil || b == nil || *a != *b {
		return nil, nil
	}
	return a, first(sigA, sigB)
}

// first returns the signature there is. Of two over one digest, both good, the
// smaller one: which document came first must not matter.
func first(a, b *[64]byte) *[64]byte {
	if a == nil || (b != nil && slices.Compare(b[:], a[:]) < 0) {
		return b
	}
	return a
}

// sort brings a document into its canonical order.
func (d *Document) sort() {
	slices.SortFunc(d.Keys, func(a, b Key) int { return cmp.Compare(a.PublicKey.String(), b.PublicKey.String()) })
	for i := range d.Keys {
		k := &d.Keys[i]
		slices.SortFunc(k.Blocks, func(a, b Block) int { return cmp.Compare(a.Height, b.Height) })
		slices.SortFunc(k.Votes, func(a, b Vote) int { return cmp.Compare(a.Target, b.Target) })
		slices.SortFunc(k.SetChanges, func(a, b SetChange) int { return cmp.Compare(a.Number, b.Number) })
	}
}

// Verify checks every signature that is listed. It takes about 0.2 ms for each.
func (d *Document) Verify() error {
	for i := range d.Keys {
		k := &d.Keys[i]
		check := func(what string, at uint32, digest types.Hash, sig *[64]byte) error {
			if sig == nil {
				return nil
			}
			if err := k.PublicKey.Verify(digest, *sig); err != nil {
				return fmt.Errorf("watermarks: the signature of %s on %s %d: %w: the document was changed, export it again", k.PublicKey, what, at, err)
			}
			return nil
		}
		for _, b := range k.Blocks {
			if b.Signature != nil {
				if err := check("block", b.Height, *b.Digest, b.Signature); err != nil {
					return err
				}
			}
		}
		for _, v := range k.Votes {
			if v.Signature != nil {
				if err := check("vote", v.Target, v.Link.Digest(d.Network), v.Signature); err != nil {
					return err
				}
			}
		}
		for _, s := range k.SetChanges {
			if s.Signature != nil {
				if err := check("set change", s.Number, *s.Digest, s.Signature); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
