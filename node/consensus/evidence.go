package consensus

import (
	"encoding/binary"
	"fmt"

	"qcitycoin.org/qcity/node/types"
)

// The rules about evidence (C10).
const (
	RuleEvidenceSet      Rule = "evidence-set"       // made under no set that this chain had lately, or by different keys
	RuleEvidenceKnown    Rule = "evidence-known"     // the key is disabled already
	RuleEvidenceInnocent Rule = "evidence-innocent"  // an honest validator may have signed both
	RuleEvidenceSig      Rule = "evidence-signature" // a signature does not verify
)

// AppendTo appends the 338 bytes of both attestations.
func (e *Evidence) AppendTo(b []byte) []byte { return e.B.AppendTo(e.A.AppendTo(b)) }

// DecodeFrom reads what AppendTo writes.
func (e *Evidence) DecodeFrom(d *types.Decoder) {
	e.A.DecodeFrom(d)
	e.B.DecodeFrom(d)
}

// SlotEvidence is two blocks that one validator signed at one slot.
type SlotEvidence struct {
	Set        types.Hash // id of the set the signatures were made under
	Height     uint32
	Index      uint8 // of the validator in that set
	Blocks     [2]types.Hash
	Signatures [2][64]byte
}

// AppendTo appends the 229 bytes of the evidence.
func (e *SlotEvidence) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(append(b, e.Set[:]...), e.Height)
	b = append(b, e.Index)
	for i := range e.Blocks {
		b = append(append(b, e.Blocks[i][:]...), e.Signatures[i][:]...)
	}
	return b
}

// DecodeFrom reads what AppendTo writes.
func (e *SlotEvidence) DecodeFrom(d *types.Decoder) {
	*e = SlotEvidence{Set: d.Hash(), Height: d.Uint32(), Index: d.Uint8()}
	for i := range e.Blocks {
		e.Blocks[i] = d.Hash()
		copy(e.Signatures[i][:], d.Bytes(64))
	}
}

// voted returns the electorate of this id that a slot known to a had.
func (a *Authority) voted(id types.Hash) *Electorate {
	if a.voters.id == id {
		return a.voters
	}
	for i := range a.Slots {
		if e := a.Slots[i].Voters; e != nil && e.id == id {
			return e
		}
	}
	return nil
}

// signed returns the set of this id that signed a slot known to a.
func (a *Authority) signed(id types.Hash) *ValidatorSet {
	if a.setID == id {
		return &a.Signers
	}
	for i := range a.Slots {
		if e := a.Slots[i].Voters; e != nil && e.sets[0].ID() == id {
			return &e.sets[0]
		}
	}
	return nil
}

// accuse checks that nobody is accused twice.
func (a *Authority) accuse(k types.PublicKey) error {
	if a.IsDisabled(k) {
		return broken(RuleEvidenceKnown, "%s is disabled", k)
	}
	return nil
}

// check returns the key that the evidence proves to be dishonest.
func (e *Evidence) check(n *Network, a *Authority) (types.PublicKey, error) {
	var keys [2]types.PublicKey
	for i, v := range []*Attestation{&e.A, &e.B} {
		voters := a.voted(v.Set)
		if voters == nil || int(v.Index) >= len(voters.keys) {
			return keys[0], broken(RuleEvidenceSet, "no voter %d of a set %s", v.Index, v.Set)
		}
		keys[i] = voters.keys[v.Index]
		if err := v.Link.Check(n); err != nil {
			return keys[0], &RuleError{Rule: RuleEvidenceInnocent, Detail: "a vote that does not count", Cause: err}
		}
	}
	if keys[0] != keys[1] {
		return keys[0], broken(RuleEvidenceSet, "votes of %s and of %s", keys[0], keys[1])
	}
	if err := a.accuse(keys[0]); err != nil {
		return keys[0], err
	}
	if Conflict(e.A.Link, e.B.Link) == nil {
		return keys[0], broken(RuleEvidenceInnocent, "votes for heights %d and %d do not conflict", e.A.Target.Height, e.B.Target.Height)
	}
	for _, v := range []*Attestation{&e.A, &e.B} {
		if err := keys[0].Verify(v.Digest(n.ID), v.Signature); err != nil {
			return keys[0], &RuleError{Rule: RuleEvidenceSig, Detail: fmt.Sprintf("vote for height %d", v.Target.Height), Cause: err}
		}
	}
	return keys[0], nil
}

// check returns the key that the evidence proves to be dishonest.
func (e *SlotEvidence) check(n *Network, a *Authority) (types.PublicKey, error) {
	set := a.signed(e.Set)
	if set == nil || int(e.Index) >= len(set.Keys) {
		return types.PublicKey{}, broken(RuleEvidenceSet, "no validator %d of a set %s", e.Index, e.Set)
	}
	key := set.Keys[e.Index]
	if err := a.accuse(key); err != nil {
		return key, err
	}
	if e.Blocks[0] == e.Blocks[1] {
		return key, broken(RuleEvidenceInnocent, "the same block twice")
	}
	for i, block := range e.Blocks {
		if err := key.Verify(SlotDigest(n.ID, e.Set, e.Height, block), e.Signatures[i]); err != nil {
			return key, &RuleError{Rule: RuleEvidenceSig, Detail: "block " + block.String(), Cause: err}
		}
	}
	return key, nil
}
