package cluster

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Kind is what a claim is for. Its text is part of the names in etcd.
type Kind string

// The kinds of claim. Those of one key do not touch each other.
const (
	Block     Kind = "block"
	Vote      Kind = "vote"
	SetChange Kind = "set-change"
)

var kinds = []Kind{Block, Vote, SetChange}

// Claim is what a key is about to sign.
type Claim struct {
	Kind Kind
	Key  types.PublicKey
	// Height of the block; of a vote, that of its target; of a set change, the
	// number of the new set.
	Height uint32
	// Source of a vote. Its id belongs to the rule: a source of the same height
	// on another branch is refused (consensus.VoteRecord). Zero for other kinds.
	Source consensus.Checkpoint
	// Digest is what the token will be asked to sign.
	Digest types.Hash
}

// Mark is the highest claim of a key and kind, and its floor.
type Mark struct {
	Kind   Kind
	Key    types.PublicKey
	Height uint32               // 0: none
	Source consensus.Checkpoint // of a vote
	Digest types.Hash
	// Floor: up to here the key may have signed without the cluster knowing of it.
	// Of votes: no source below it.
	Floor uint32
}

// claim returns the claim that m is the mark of.
func (m *Mark) claim() Claim { return Claim{m.Kind, m.Key, m.Height, m.Source, m.Digest} }

// value is the content of a claim, and of the record of a key's last claim,
// in etcd: JSON, so that a person can read it with etcdctl.
type value struct {
	Floor  uint32     `json:"floor,omitempty"`  // last only
	Height uint32     `json:"height,omitempty"` // last only: 0 while there is a floor and no claim
	Digest types.Hash `json:"digest"`
	Source *source    `json:"source,omitempty"` // votes only
}

type source struct {
	Height uint32     `json:"height"`
	ID     types.Hash `json:"id"`
}

func (v *value) encode() string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers and texts only
	}
	return string(b)
}

func (v *value) source() consensus.Checkpoint {
	if v.Source == nil {
		return consensus.Checkpoint{}
	}
	return consensus.Checkpoint{Height: v.Source.Height, ID: v.Source.ID}
}

// decodeValue reads the one form that encode writes.
func decodeValue(b []byte) (v value, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return value{}, err
	}
	if v.encode() != string(b) {
		return value{}, errors.New("not in the form that signers write")
	}
	return v, nil
}

func valueOf(k Kind, digest types.Hash, from consensus.Checkpoint) value {
	v := value{Digest: digest}
	if k == Vote {
		v.Source = &source{from.Height, from.ID}
	}
	return v
}

// encode returns what etcd holds of the claim.
func (c *Claim) encode() string {
	v := valueOf(c.Kind, c.Digest, c.Source)
	return v.encode()
}

func decodeClaim(s slot, height uint32, b []byte) (Claim, error) {
	v, err := decodeValue(b)
	if err == nil && (v.Floor != 0 || v.Height != 0 || (v.Source != nil) != (s.kind == Vote)) {
		err = fmt.Errorf("not a claim of kind %s", s.kind)
	}
	return Claim{s.kind, s.key, height, v.source(), v.Digest}, err
}

func (m *Mark) encode() string {
	v := value{Floor: m.Floor, Height: m.Height}
	if m.Height > 0 {
		rest := valueOf(m.Kind, m.Digest, m.Source)
		v.Digest, v.Source = rest.Digest, rest.Source
	}
	return v.encode()
}

func decodeMark(s slot, b []byte) (Mark, error) {
	v, err := decodeValue(b)
	if err == nil && (v.Height == 0 && (v.Floor == 0 || !v.Digest.IsZero()) || (v.Source != nil) != (s.kind == Vote && v.Height > 0)) {
		err = fmt.Errorf("not the last claim of kind %s", s.kind)
	}
	return Mark{s.kind, s.key, v.Height, v.source(), v.Digest, v.Floor}, err
}

func decodeSeal(b []byte) (sig [64]byte, err error) {
	if len(b) != 128 {
		return sig, fmt.Errorf("a seal of %d characters, want 128", len(b))
	}
	if _, err := hex.Decode(sig[:], b); err != nil {
		return sig, err
	}
	if hex.EncodeToString(sig[:]) != string(b) {
		return sig, errors.New("not in the form that signers write")
	}
	return sig, nil
}

// slot is a key in one kind: what has a last claim of its own.
type slot struct {
	kind Kind
	key  types.PublicKey
}

// names makes the names in etcd:
//
//	PREFIX/NETWORK/asked                       written by every question that claims nothing
//	PREFIX/NETWORK/first                       whose turn it is to try first; under a lease
//	PREFIX/NETWORK/KEY/KIND/last               the highest claim, and the floor
//	PREFIX/NETWORK/KEY/KIND/0000000120/claim   written once
//	PREFIX/NETWORK/KEY/KIND/0000000120/seal    written once
type names struct{ base string }

func newNames(prefix string, network types.Hash) names {
	return names{prefix + "/" + network.String() + "/"}
}

func (n names) asked() string        { return n.base + "asked" }
func (n names) first() string        { return n.base + "first" }
func (n names) slot(s slot) string   { return n.base + s.key.String() + "/" + string(s.kind) + "/" }
func (n names) last(s slot) string   { return n.slot(s) + "last" }
func (n names) claim(c Claim) string { return n.at(c) + "claim" }
func (n names) seal(c Claim) string  { return n.at(c) + "seal" }

func (n names) at(c Claim) string {
	return fmt.Sprintf("%s%010d/", n.slot(slot{c.Kind, c.Key}), c.Height)
}
