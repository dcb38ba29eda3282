package signer

import (
	"cmp"
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/types"
)

// The rules about successor sets: for each number a key signs one set, and
// numbers strictly increase.
const (
	// RuleSetDouble: this key has claimed or signed another set of this number.
	RuleSetDouble Rule = "set-change-double"
	// RuleSetRegression: this key has claimed or signed a set of a higher number.
	RuleSetRegression Rule = "set-change-regression"
)

// setChange is a successor set a key claimed.
type setChange struct {
	number uint32
	digest types.Hash // zero: any set may have been signed
	seal   *[64]byte
	closed bool // imported: the token is not asked for it
}

// setChange returns what the key has of a number, if memory has it.
func (m *marks) setChange(number uint32) *setChange {
	i, found := slices.BinarySearchFunc(m.sets, number, func(s *setChange, n uint32) int { return cmp.Compare(s.number, n) })
	if !found {
		return nil
	}
	return m.sets[i]
}

// lastSet returns the highest number claimed, 0 if none.
func (m *marks) lastSet() uint32 {
	if len(m.sets) == 0 {
		return 0
	}
	return m.sets[len(m.sets)-1].number
}

// keepSet puts s in its place and drops the oldest beyond what is kept.
func (m *marks) keepSet(s *setChange) {
	i, _ := slices.BinarySearchFunc(m.sets, s.number, func(s *setChange, n uint32) int { return cmp.Compare(s.number, n) })
	m.sets = slices.Insert(m.sets, i, s)
	if len(m.sets) > keptSlots {
		m.sets = slices.Delete(m.sets, 0, 1)
	}
}

func (m *marks) maySetChange(number uint32) error {
	if last := m.lastSet(); number <= last {
		return refuse(RuleSetRegression, "set %d, but this key claimed a set of number %d already", number, last)
	}
	return nil
}

func (m *marks) applySetChange(r *record) error {
	if r.kind == recordSet {
		if err := m.maySetChange(r.height); err != nil {
			return fmt.Errorf("a set change breaks the journal's own rules: %w", err)
		}
		m.keepSet(&setChange{number: r.height, digest: r.digest})
		return nil
	}
	old := m.setChange(r.height)
	if old == nil || old.seal != nil || old.closed {
		return fmt.Errorf("seal of set %d follows no open claim", r.height)
	}
	sig := r.signature
	old.seal = &sig
	return nil
}

// ClaimSetChange reserves number for one successor set, by the digest that its
// signature is over (consensus.SetChangeDigest), durably, or returns the Refusal
// that forbids it. A seal that is not nil is the answer: this very set was signed
// before. Otherwise the token may be asked, even where it may have been before.
func (j *Journal) ClaimSetChange(key types.PublicKey, number uint32, digest types.Hash) (seal *[64]byte, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	own := j.mem.keys[key]
	if own == nil {
		return nil, refuse(RuleKeyNotHeld, "the journal was not made for key %s", key)
	}
	old := own.setChange(number)
	switch {
	case old == nil:
	case old.digest.IsZero() || old.digest != digest:
		return nil, refuse(RuleSetDouble, "%s has claimed or may have signed another set of number %d", key, number)
	case old.seal == nil && old.closed:
		return nil, refuse(RuleElsewhere, "an import says that %s claimed this set of number %d with another signer, which has the signature if there is one", key, number)
	default:
		return old.seal, nil
	}
	if err := own.maySetChange(number); err != nil {
		return nil, err
	}
	return nil, j.append(&record{kind: recordSet, height: number, key: key, digest: digest})
}

// SealedSetChange returns the signature released for this very set, if there is one.
func (j *Journal) SealedSetChange(key types.PublicKey, number uint32, digest types.Hash) (sig [64]byte, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	own := j.mem.keys[key]
	if own == nil {
		return sig, false
	}
	if old := own.setChange(number); old != nil && old.digest == digest && old.seal != nil {
		return *old.seal, true
	}
	return sig, false
}

// SealSetChange records the signature of the claim on number, durably, and returns
// the one to release: the first seal wins, and repeats return it. The caller has
// verified sig.
func (j *Journal) SealSetChange(key types.PublicKey, number uint32, sig [64]byte) ([64]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var old *setChange
	if own := j.mem.keys[key]; own != nil {
		old = own.setChange(number)
	}
	switch {
	case old == nil:
		return [64]byte{}, failed(ErrInternal, nil, "%s claimed no set of number %d", key, number)
	case old.seal != nil:
		return *old.seal, nil
	case old.closed:
		return [64]byte{}, refuse(RuleElsewhere, "an import says that %s signed set %d with another signer", key, number)
	}
	if err := j.append(&record{kind: recordSetSeal, height: number, key: key, signature: sig}); err != nil {
		return [64]byte{}, err
	}
	return sig, nil
}
