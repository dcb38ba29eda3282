package consensus

import (
	"encoding/binary"
	"fmt"

	"qcitycoin.org/qcity/node/types"
)

// The rules about a single attestation (C7).
const (
	RuleAttestTarget   Rule = "attest-target"    // target is not at the height of a slot
	RuleAttestSource   Rule = "attest-source"    // source is neither a slot nor genesis, or not below the target
	RuleAttestGenesis  Rule = "attest-genesis"   // source at height 0 is not this network's genesis block
	RuleAttestSet      Rule = "attest-set"       // names another electorate than the target's
	RuleAttestIndex    Rule = "attest-index"     // index is none of a voter
	RuleAttestDisabled Rule = "attest-disabled"  // the voter's key was disabled before the target (C10)
	RuleAttestSig      Rule = "attest-signature" // signature does not verify
)

// Checkpoint names the signed block of a slot, or the genesis block at height 0.
type Checkpoint struct {
	Height uint32
	ID     types.Hash
}

// Link is what a validator votes for: that the chain of Target is the one to
// follow from Source, which is certified. Set is the id of the Electorate of
// Target. A Link is comparable.
type Link struct {
	Set            types.Hash
	Source, Target Checkpoint
}

const (
	// LinkBytes is the size of an encoded Link: the set id, then height and id
	// of source and target.
	LinkBytes = 32 + 2*(4+32)
	// AttestationBytes is the size of an encoded Attestation.
	AttestationBytes = LinkBytes + 1 + 64
)

// AppendTo appends the 104 bytes of the link.
func (l *Link) AppendTo(b []byte) []byte {
	b = append(b, l.Set[:]...)
	for _, c := range []Checkpoint{l.Source, l.Target} {
		b = binary.LittleEndian.AppendUint32(b, c.Height)
		b = append(b, c.ID[:]...)
	}
	return b
}

// DecodeFrom reads what AppendTo writes.
func (l *Link) DecodeFrom(d *types.Decoder) {
	*l = Link{
		Set:    d.Hash(),
		Source: Checkpoint{Height: d.Uint32(), ID: d.Hash()},
		Target: Checkpoint{Height: d.Uint32(), ID: d.Hash()},
	}
}

// Digest returns what a validator of the network with this id signs to vote
// for l. Hashes enter in internal order.
func (l *Link) Digest(network types.Hash) types.Hash {
	return types.TaggedHash("qcity/poo/attest", network[:], l.AppendTo(make([]byte, 0, LinkBytes)))
}

// Check applies the rules about a link that need no chain. That both ends are
// signed blocks and the target descends from the source is for those to see
// who hold the headers.
func (l *Link) Check(n *Network) error {
	if !n.IsSlot(l.Target.Height) {
		return broken(RuleAttestTarget, "height %d is no slot", l.Target.Height)
	}
	if h := l.Source.Height; (h != 0 && !n.IsSlot(h)) || h >= l.Target.Height {
		return broken(RuleAttestSource, "source height %d: want 0 or a slot below %d", h, l.Target.Height)
	}
	if l.Source.Height == 0 && l.Source.ID != n.ID {
		return broken(RuleAttestGenesis, "source is %s, the genesis block %s", l.Source.ID, n.ID)
	}
	return nil
}

// checkUnder is Check, and that l was made under this electorate.
func (l *Link) checkUnder(n *Network, e *Electorate) error {
	if err := l.Check(n); err != nil {
		return err
	}
	if l.Set != e.id {
		return broken(RuleAttestSet, "made under set %s, want %s", l.Set, e.id)
	}
	return nil
}

// Attestation is one validator's vote for a link (C7).
type Attestation struct {
	Link
	Index     uint8    // position of the voter in the electorate
	Signature [64]byte // r ‖ s over Digest, big-endian, low-S
}

// Verify checks everything about an attestation that needs no chain: the form
// of its link, that it was made under e, the electorate of its target, and the
// signature.
func (a *Attestation) Verify(n *Network, e *Electorate) error {
	if err := a.checkUnder(n, e); err != nil {
		return err
	}
	return e.verify(a.Index, a.Digest(n.ID), a.Signature)
}

// AppendTo appends the 169 bytes of the attestation: the link, the index and
// the signature.
func (a *Attestation) AppendTo(b []byte) []byte {
	b = append(a.Link.AppendTo(b), a.Index)
	return append(b, a.Signature[:]...)
}

// DecodeFrom reads what AppendTo writes. An index that no voter can have fails.
func (a *Attestation) DecodeFrom(d *types.Decoder) {
	a.Link.DecodeFrom(d)
	a.Index = d.Uint8()
	if a.Index >= MaxVoters {
		d.Fail(fmt.Errorf("voter index %d: want less than %d", a.Index, MaxVoters))
	}
	a.Signature = [64]byte{}
	copy(a.Signature[:], d.Bytes(len(a.Signature)))
}

// DecodeAttestation reads an attestation that fills b exactly.
func DecodeAttestation(b []byte) (Attestation, error) {
	d := types.NewDecoder(b)
	var a Attestation
	a.DecodeFrom(d)
	if err := d.Finish(); err != nil {
		return Attestation{}, fmt.Errorf("attestation: %w", err)
	}
	return a, nil
}
