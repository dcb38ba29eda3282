package consensus

import (
	"fmt"
	"math/bits"
	"slices"

	"qcitycoin.org/qcity/node/types"
)

// MaxVoters bounds the keys that may vote on one slot: those of two validator
// sets together. A certificate names its signers by the bits of 32.
const MaxVoters = 32

// CertifyQuorum returns how many of n validators make a certificate: a
// majority, M = ⌊n/2⌋ + 1.
func CertifyQuorum(n int) int { return n/2 + 1 }

// FinalQuorum returns how many of n validators, n odd, must attest the link
// from a certified slot to the next one to make it final: n − M + 2. So many
// share at least two validators with every majority, and one malicious key
// cannot be all of what two conflicting decisions have in common. A set of one
// can certify but never finalise: 2 of 1 do not exist.
func FinalQuorum(n int) int { return n - CertifyQuorum(n) + 2 }

// Electorate is who may vote on a slot: the validator set in force and, while
// authority passes to another set, that one as well. A quorum is then a quorum
// of each, so that whatever either set alone decides shares voters with it
// (docs/votes.md, "Handing authority over"). It is immutable.
type Electorate struct {
	sets     []ValidatorSet
	disabled uint32 // bit i: Keys()[i] may not vote any more (C10)
	id       types.Hash
	keys     []types.PublicKey
	quorums  []quorum
}

// quorum is what one set asks for.
type quorum struct {
	members        uint32
	certify, final int
}

// NewElectorate returns the electorate of a validator set and, unless it is
// nil, of the set that follows it. Both must have passed the rules about sets.
func NewElectorate(set ValidatorSet, next *ValidatorSet, disabled []types.PublicKey) *Electorate {
	sets := []ValidatorSet{set}
	if next != nil {
		sets = append(sets, *next)
	}
	return newElectorate(sets, disabled, CertifyQuorum, FinalQuorum)
}

func newElectorate(sets []ValidatorSet, disabled []types.PublicKey, certify, final func(int) int) *Electorate {
	e := &Electorate{sets: sets, id: sets[0].ID()}
	for _, set := range sets {
		q := quorum{certify: certify(len(set.Keys)), final: final(len(set.Keys))}
		for _, k := range set.Keys {
			i := slices.Index(e.keys, k)
			if i < 0 {
				i, e.keys = len(e.keys), append(e.keys, k)
			}
			q.members |= 1 << i
		}
		e.quorums = append(e.quorums, q)
	}
	for i, k := range e.keys {
		if slices.Contains(disabled, k) {
			e.disabled |= 1 << i
		}
	}
	if len(sets) > 1 {
		next := sets[1].ID()
		e.id = types.TaggedHash("qcity/validators/joint", e.id[:], next[:])
	}
	return e
}

// ID returns what votes of this electorate name it by: the set's id, or
// Tagged("qcity/validators/joint", ids of both sets).
func (e *Electorate) ID() types.Hash { return e.id }

// Sets returns the set in force and, during a handover, the one that follows.
func (e *Electorate) Sets() []ValidatorSet { return e.sets }

// Keys returns the voters by index: the keys of the set in force in their
// order, then those of the following set that are not among them. The caller
// must not change it.
func (e *Electorate) Keys() []types.PublicKey { return e.keys }

// Index returns the index of a key, false if it may not vote.
func (e *Electorate) Index(k types.PublicKey) (uint8, bool) {
	i := slices.Index(e.keys, k)
	return uint8(max(i, 0)), i >= 0 && e.disabled>>i&1 == 0
}

// Certifies reports whether these voters, bit i for index i, are a majority of
// each set.
func (e *Electorate) Certifies(signers uint32) bool {
	return e.reach(signers, func(q quorum) int { return q.certify })
}

// Finalises reports whether these voters make the source of their link final:
// FinalQuorum of each set.
func (e *Electorate) Finalises(signers uint32) bool {
	return e.reach(signers, func(q quorum) int { return q.final })
}

func (e *Electorate) reach(signers uint32, need func(quorum) int) bool {
	for _, q := range e.quorums {
		if bits.OnesCount32(signers&q.members&^e.disabled) < need(q) {
			return false
		}
	}
	return true
}

// check tells whether there is a voter with this index who may vote.
func (e *Electorate) check(index uint8) error {
	switch {
	case int(index) >= len(e.keys):
		return broken(RuleAttestIndex, "index %d of %d voters", index, len(e.keys))
	case e.disabled>>index&1 == 1:
		return broken(RuleAttestDisabled, "voter %d, %s", index, e.keys[index])
	}
	return nil
}

// verify checks the signature of the voter at index over a digest.
func (e *Electorate) verify(index uint8, digest types.Hash, sig [64]byte) error {
	if err := e.check(index); err != nil {
		return err
	}
	if err := e.keys[index].Verify(digest, sig); err != nil {
		return &RuleError{Rule: RuleAttestSig, Detail: fmt.Sprintf("voter %d, %s", index, e.keys[index]), Cause: err}
	}
	return nil
}

// disabledKeys returns the voters that may not vote any more.
func (e *Electorate) disabledKeys() (list []types.PublicKey) {
	for i, k := range e.keys {
		if e.disabled>>i&1 == 1 {
			list = append(list, k)
		}
	}
	return list
}
