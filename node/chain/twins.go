package chain

import (
	"fmt"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

const (
	// freeTwins is how many blocks of one key at one slot are stored as they come:
	// an honest validator makes one, and two are evidence.
	freeTwins = 2
	// twinInterval is how often one more is stored after that. A stolen key can
	// sign any number at no cost, and must not fill the disk; but miners may have
	// built on any of them, so that a node that lacks it must get it in the end.
	twinInterval = time.Minute
)

// signedSlot is what is remembered of a key's blocks at a slot that is not final.
type signedSlot struct {
	set, id types.Hash // of the first
	sig     types.BlockSig
	count   int // of those that were stored, invalid ones too
	last    time.Time
}

// signer returns the key that signed a block after parent, whose header was
// found valid; false for a mined block.
func signer(parent *consensus.State, h *types.SignedHeader) (types.PublicKey, types.BlockSig, bool) {
	sig, err := types.ParseBlockSig(h.VchBlockSig)
	if err != nil {
		return types.PublicKey{}, sig, false
	}
	return parent.Validators().Keys[sig.Index], sig, true
}

// twin notes who signed a header, which was found valid; whether the rest of the
// block is does not matter. Another one that the same key signed at the same
// slot makes evidence against it (C10), and after too many the error is
// RuleTwinLimit, for now.
func (m *Manager) twin(parent *consensus.State, h *types.SignedHeader) error {
	key, sig, signed := signer(parent, h)
	height := parent.ChildHeight()
	if !signed || height <= m.tally.Root().Height {
		return nil
	}
	this := signedSlot{set: parent.ValidatorSetID(), id: h.Header.ID(), sig: sig}
	first, seen := m.twins[height][key]
	if !seen {
		var err error
		if first, err = m.bestSigned(height, this); err != nil {
			return err
		}
		if m.twins[height] == nil {
			m.twins[height] = make(map[types.PublicKey]signedSlot)
		}
		m.twins[height][key] = first
	}
	if first.id != this.id && first.set == this.set && m.accused[key] == nil {
		m.log.Error("a validator signed two blocks at one slot", "height", height, "validator", key)
		m.accused[key] = &consensus.SlotEvidence{
			Set: this.set, Height: height, Index: sig.Index,
			Blocks: [2]types.Hash{first.id, this.id}, Signatures: [2][64]byte{first.sig.Signature, sig.Signature},
		}
	}
	if first.count < m.freeTwins || m.now().Sub(first.last) >= twinInterval {
		return nil
	}
	return &consensus.RuleError{Rule: consensus.RuleTwinLimit, Detail: fmt.Sprintf("%d blocks of %s at slot %d are stored: another one may come every %v", first.count, key, height, twinInterval)}
}

// bestSigned returns the best chain's block at a height if the validator of this
// one signed it, which may have been before this process started; else this.
func (m *Manager) bestSigned(height uint32, this signedSlot) (signedSlot, error) {
	id, ok, err := m.store.BestID(height)
	if err != nil || !ok {
		return this, err
	}
	e, err := m.entry(id)
	if err != nil {
		return this, err
	}
	parent, err := m.parentOf(&e)
	if err != nil {
		return this, err
	}
	_, sig, signed := signer(&parent.State, &e.Header)
	if !signed || sig.Index != this.sig.Index || parent.State.ValidatorSetID() != this.set {
		return this, nil
	}
	return signedSlot{set: this.set, id: id, sig: sig, count: 1, last: m.now()}, nil
}

// countTwin counts a signed block that was stored.
func (m *Manager) countTwin(parent *consensus.State, e *Entry) {
	key, _, signed := signer(parent, &e.Header)
	if !signed {
		return
	}
	m.hear(key, e.State.Time)
	if s, seen := m.twins[e.State.Height][key]; seen {
		s.count++
		s.last = m.now()
		m.twins[e.State.Height][key] = s
	}
}
