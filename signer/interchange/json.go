package interchange

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Format and Version say in a document what it is. A document of another version
// is refused; a journal keeps the documents it took in, so version 1 stays readable.
const (
	Format  = "qcity-watermarks"
	Version = 1
)

// MaxBytes bounds a document. A minimal one has less than 2 KiB for each key.
const MaxBytes = 64 << 20

// The document as JSON has it; docs/watermarks.md explains each field.
type (
	wireDocument struct {
		Metadata *wireMetadata `json:"metadata"`
		Keys     *[]wireKey    `json:"keys"`
	}
	wireMetadata struct {
		Format   string     `json:"format"`
		Version  number     `json:"version"`
		Network  types.Hash `json:"network"`
		Journal  digits     `json:"journal"`
		Strategy Strategy   `json:"strategy"`
	}
	wireKey struct {
		PublicKey  types.PublicKey `json:"publicKey"`
		Floor      *number         `json:"floor"`
		Blocks     *[]wireEntry    `json:"blocks"`
		Votes      *[]wireVote     `json:"votes"`
		SetChanges *[]wireEntry    `json:"setChanges"`
	}
	wireEntry struct {
		Height    *number     `json:"height,omitempty"` // of a block
		Number    *number     `json:"number,omitempty"` // of a set
		Digest    *types.Hash `json:"digest,omitempty"`
		Signature *digits     `json:"signature,omitempty"`
	}
	wireVote struct {
		Source    *wireCheckpoint `json:"source"`
		Target    *wireCheckpoint `json:"target"`
		Set       *types.Hash     `json:"set,omitempty"`
		Digest    *types.Hash     `json:"digest,omitempty"`
		Signature *digits         `json:"signature,omitempty"`
	}
	wireCheckpoint struct {
		Height *number     `json:"height"`
		ID     *types.Hash `json:"id,omitempty"`
	}
)

// number is a uint32 written without fraction or exponent.
type number uint32

func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil {
		return fmt.Errorf("%s: want a whole number from 0 to 4294967295", b)
	}
	*n = number(v)
	return nil
}

// digits are bytes in lower-case hexadecimal.
type digits []byte

func (d digits) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d), nil }

func (d *digits) UnmarshalText(text []byte) (err error) {
	*d, err = hex.DecodeString(string(text))
	return err
}

// Parse reads a document about the network with this id, every slotEvery-th
// block of which is a slot. Anything unexpected is one error that says where it
// is. Signatures are not verified (Verify).
func Parse(b []byte, network types.Hash, slotEvery uint32) (*Document, error) {
	d, err := parse(b, network, slotEvery)
	if err != nil {
		return nil, fmt.Errorf("watermarks: %w", err)
	}
	return d, nil
}

func parse(b []byte, network types.Hash, slotEvery uint32) (*Document, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%d bytes, at most %d are read: export with --minimal", len(b), MaxBytes)
	}
	if err := checkMembers(b); err != nil {
		return nil, err
	}
	var w wireDocument
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return nil, fmt.Errorf("no document of this format: %w", err)
	}
	if w.Metadata == nil || w.Keys == nil {
		return nil, errors.New("metadata and keys are needed, one is missing")
	}
	d, err := w.Metadata.document(network)
	if err != nil {
		return nil, err
	}
	seen := make(map[types.PublicKey]bool)
	for i := range *w.Keys {
		k, err := (*w.Keys)[i].key(d, slotEvery)
		if err == nil && seen[k.PublicKey] {
			err = fmt.Errorf("%s is listed twice", k.PublicKey)
		}
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		seen[k.PublicKey] = true
		d.Keys = append(d.Keys, k)
	}
	d.sort()
	return d, nil
}

func (m *wireMetadata) document(network types.Hash) (*Document, error) {
	switch {
	case m.Format != Format:
		return nil, fmt.Errorf("metadata.format is %q, want %q", m.Format, Format)
	case m.Version != Version:
		return nil, fmt.Errorf("metadata.version is %d, this program reads %d: use the program version that reads it", m.Version, Version)
	case m.Network != network:
		return nil, fmt.Errorf("metadata.network is %s, this is network %s: name the document of this network", m.Network, network)
	case len(m.Journal) != 16:
		return nil, fmt.Errorf("metadata.journal has %d bytes, want a file id of 16", len(m.Journal))
	case m.Strategy != Complete && m.Strategy != Minimal:
		return nil, fmt.Errorf("metadata.strategy is %q, want %q or %q", m.Strategy, Complete, Minimal)
	}
	return &Document{Network: network, Journal: [16]byte(m.Journal), Strategy: m.Strategy}, nil
}

func (w *wireKey) key(d *Document, slotEvery uint32) (Key, error) {
	if w.PublicKey == (types.PublicKey{}) || w.Floor == nil || w.Blocks == nil || w.Votes == nil || w.SetChanges == nil {
		return Key{}, errors.New("publicKey, floor, blocks, votes and setChanges are needed, one is missing")
	}
	k := Key{PublicKey: w.PublicKey, Floor: uint32(*w.Floor)}
	var blocks, votes, sets order
	for i, e := range *w.Blocks {
		b, err := e.block(slotEvery)
		if err == nil {
			err = blocks.add(b.Height)
		}
		if err != nil {
			return k, fmt.Errorf("blocks[%d]: %w", i, err)
		}
		k.Blocks = append(k.Blocks, b)
	}
	for i, e := range *w.Votes {
		v, err := e.vote(d.Network, slotEvery)
		if err == nil {
			err = votes.add(v.Target)
		}
		if err != nil {
			return k, fmt.Errorf("votes[%d]: %w", i, err)
		}
		k.Votes = append(k.Votes, v)
	}
	for i, e := range *w.SetChanges {
		s, err := e.setChange()
		if err == nil {
			err = sets.add(s.Number)
		}
		if err != nil {
			return k, fmt.Errorf("setChanges[%d]: %w", i, err)
		}
		k.SetChanges = append(k.SetChanges, s)
	}
	if d.Strategy == Minimal && max(len(k.Blocks), len(k.Votes), len(k.SetChanges)) > 1 {
		return k, errors.New("a minimal document lists one block, vote and set change at most")
	}
	return k, nil
}

// order finds heights that occur twice.
type order map[uint32]bool

func (o *order) add(height uint32) error {
	if *o == nil {
		*o = make(order)
	}
	if (*o)[height] {
		return fmt.Errorf("%d is listed twice", height)
	}
	(*o)[height] = true
	return nil
}

func slotHeight(n *number, slotEvery uint32) (uint32, error) {
	if n == nil {
		return 0, errors.New("height is missing")
	}
	if h := uint32(*n); h == 0 || h%slotEvery != 0 {
		return 0, fmt.Errorf("height %d is no slot, those are the multiples of %d", h, slotEvery)
	}
	return uint32(*n), nil
}

func (w *wireEntry) block(slotEvery uint32) (b Block, err error) {
	if w.Number != nil {
		return b, errors.New("a block has no number")
	}
	if b.Height, err = slotHeight(w.Height, slotEvery); err != nil {
		return b, err
	}
	b.Digest, b.Signature, err = w.signed()
	return b, err
}

func (w *wireEntry) setChange() (s SetChange, err error) {
	if w.Height != nil {
		return s, errors.New("a set change has no height")
	}
	if w.Number == nil || *w.Number == 0 {
		return s, errors.New("number of the new set is missing or 0: the first set followed none")
	}
	s.Number = uint32(*w.Number)
	s.Digest, s.Signature, err = w.signed()
	return s, err
}

func (w *wireEntry) signed() (*types.Hash, *[64]byte, error) {
	if w.Digest != nil && w.Digest.IsZero() {
		return nil, nil, errors.New("digest is zero: leave it out if it is not known")
	}
	sig, err := signature(w.Signature, w.Digest)
	return w.Digest, sig, err
}

func signature(d *digits, digest *types.Hash) (*[64]byte, error) {
	switch {
	case d == nil:
		return nil, nil
	case digest == nil:
		return nil, errors.New("signature without a digest")
	case len(*d) != 64:
		return nil, fmt.Errorf("signature has %d bytes, want 64", len(*d))
	}
	return (*[64]byte)(*d), nil
}

func (w *wireVote) vote(network types.Hash, slotEvery uint32) (v Vote, err error) {
	if w.Source == nil || w.Target == nil || w.Source.Height == nil {
		return v, errors.New("source and target with their heights are needed, one is missing")
	}
	if v.Target, err = slotHeight(w.Target.Height, slotEvery); err != nil {
		return v, fmt.Errorf("target: %w", err)
	}
	if v.Source = uint32(*w.Source.Height); v.Source%slotEvery != 0 || v.Source >= v.Target {
		return v, fmt.Errorf("source height %d: want 0 or a slot below the target's height %d", v.Source, v.Target)
	}
	parts := [...]bool{w.Source.ID != nil, w.Target.ID != nil, w.Set != nil, w.Digest != nil}
	if parts == [4]bool{} {
		_, err = signature(w.Signature, nil)
		return v, err
	}
	if parts != [4]bool{true, true, true, true} {
		return v, errors.New("source.id, target.id, set and digest: give all of them or none")
	}
	v.Link = &consensus.Link{
		Set:    *w.Set,
		Source: consensus.Checkpoint{Height: v.Source, ID: *w.Source.ID},
		Target: consensus.Checkpoint{Height: v.Target, ID: *w.Target.ID},
	}
	if digest := v.Link.Digest(network); digest != *w.Digest {
		return v, fmt.Errorf("digest is %s, that of this vote is %s", w.Digest, digest)
	}
	v.Signature, err = signature(w.Signature, w.Digest)
	return v, err
}

// Encode writes the one canonical form: equal documents give equal bytes. Keys
// are in the order of their text, each entry is on a line of its own.
func (d *Document) Encode() []byte {
	d.sort()
	b := []byte("{\n  \"metadata\": ")
	b = appendJSON(b, wireMetadata{Format: Format, Version: Version, Network: d.Network, Journal: d.Journal[:], Strategy: d.Strategy})
	b = append(b, ",\n  \"keys\": ["...)
	for i := range d.Keys {
		k := &d.Keys[i]
		b = append(comma(b, i), "\n    {\n      \"publicKey\": "...)
		b = appendJSON(b, k.PublicKey)
		b = strconv.AppendUint(append(b, ",\n      \"floor\": "...), uint64(k.Floor), 10)
		b = append(b, ",\n      \"blocks\": "...)
		b = appendList(b, k.Blocks, func(e Block) any {
			return wireEntry{Height: ptr(e.Height), Digest: e.Digest, Signature: sigDigits(e.Signature)}
		})
		b = append(b, ",\n      \"votes\": "...)
		b = appendList(b, k.Votes, func(v Vote) any { return wireOf(v, d.Network) })
		b = append(b, ",\n      \"setChanges\": "...)
		b = appendList(b, k.SetChanges, func(e SetChange) any {
			return wireEntry{Number: ptr(e.Number), Digest: e.Digest, Signature: sigDigits(e.Signature)}
		})
		b = append(b, "\n    }"...)
	}
	return append(b, "\n  ]\n}\n"...)
}

func wireOf(v Vote, network types.Hash) wireVote {
	w := wireVote{Source: &wireCheckpoint{Height: ptr(v.Source)}, Target: &wireCheckpoint{Height: ptr(v.Target)}}
	if v.Link != nil {
		digest := v.Link.Digest(network)
		w.Source.ID, w.Target.ID, w.Set, w.Digest = &v.Link.Source.ID, &v.Link.Target.ID, &v.Link.Set, &digest
	}
	w.Signature = sigDigits(v.Signature)
	return w
}

func appendList[E any](b []byte, list []E, wire func(E) any) []byte {
	b = append(b, '[')
	for i, e := range list {
		b = appendJSON(append(comma(b, i), "\n        "...), wire(e))
	}
	if len(list) > 0 {
		b = append(b, "\n      "...)
	}
	return append(b, ']')
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return b
}

func appendJSON(b []byte, v any) []byte {
	j, err := json.Marshal(v)
	if err != nil {
		panic("watermarks are always JSON: " + err.Error())
	}
	return append(b, j...)
}

func ptr(n uint32) *number { return (*number)(&n) }

func sigDigits(sig *[64]byte) *digits {
	if sig == nil {
		return nil
	}
	d := digits(sig[:])
	return &d
}
