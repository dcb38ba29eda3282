package signer

import (
	"cmp"
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// vote is one vote of a key. Unlike blocks, of which a daemon signs one at a
// height, every key votes.
type vote struct {
	link consensus.Link
	// seal is the signature there is, for ever; nil: the token may have been
	// asked, nothing was released.
	seal *[64]byte
	// closed: the token is not asked for it (again), because it is of another
	// signer's journal, or conflicts with a vote that is.
	closed bool
	// blind: only the heights of the link are known.
	blind bool
}

// is reports whether v is a vote for l, as far as anybody knows.
func (v *vote) is(l consensus.Link) bool { return v != nil && !v.blind && v.link == l }

// vote returns the vote for a target at height, if memory has it.
func (m *marks) vote(height uint32) *vote {
	i, found := slices.BinarySearchFunc(m.votes, height, func(v *vote, h uint32) int { return cmp.Compare(v.link.Target.Height, h) })
	if !found {
		return nil
	}
	return m.votes[i]
}

// mayVote applies S1, S2 and the floor to a new vote. Up to the floor the key
// may have had targets that the journal does not know of. Their sources lay
// below it, so that a source at the floor or above is strictly higher than each
// of them, as S2 wants it, and its target is above all of theirs.
func (m *marks) mayVote(l consensus.Link) error {
	if l.Source.Height < m.floor {
		return refuse(RuleFloor, "source height %d for target height %d, the key's floor is %d: it votes again once a slot at its floor or above is certified", l.Source.Height, l.Target.Height, m.floor)
	}
	if err := m.voted.Allows(l); err != nil {
		return ofChain(err)
	}
	if m.blind && l.Source.Height <= m.voted.Source.Height {
		return refuse(Rule(consensus.RuleVoteSource), "source height %d, want one above %d: this key may have voted from several sources there", l.Source.Height, m.voted.Source.Height)
	}
	return nil
}

func (m *memory) applyVote(r *record, own *marks) error {
	if r.kind == recordVote {
		if err := own.mayVote(r.link); err != nil {
			return fmt.Errorf("a vote breaks the journal's own rules: %w", err)
		}
		if r.digest != r.link.Digest(m.network) {
			return fmt.Errorf("the digest of the vote for height %d is not that of its link", r.height)
		}
		own.voted, own.blind = own.voted.Next(r.link), false
		if len(own.votes) == keptSlots {
			own.votes = slices.Delete(own.votes, 0, 1)
		}
		own.votes = append(own.votes, &vote{link: r.link})
		return nil
	}
	old := own.vote(r.height)
	if old == nil || old.seal != nil || old.closed {
		return fmt.Errorf("seal of a vote for height %d follows no open vote", r.height)
	}
	sig := r.signature
	old.seal = &sig
	own.voteSealed = max(own.voteSealed, r.height)
	return nil
}

// ClaimVote reserves the link for a vote of key, durably, or returns the Refusal
// that forbids it. From then on it counts as a vote, whatever the token does. The
// seal is not nil when this very link was signed before: then it is the answer.
// Otherwise the token may be asked, even where an earlier attempt may have
// asked it already: what it made was not released.
func (j *Journal) ClaimVote(key types.PublicKey, l consensus.Link) (seal *[64]byte, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	own := j.mem.keys[key]
	if own == nil {
		return nil, refuse(RuleKeyNotHeld, "the journal was not made for key %s", key)
	}
	if old := own.vote(l.Target.Height); old.is(l) {
		return old.answer(own)
	}
	if err := own.mayVote(l); err != nil {
		return nil, err
	}
	return nil, j.append(&record{
		kind: recordVote, height: l.Target.Height, key: key, digest: l.Digest(j.mem.network), link: l,
	})
}

// answer is that to a claim of a vote which was claimed before.
func (v *vote) answer(own *marks) (*[64]byte, error) {
	switch {
	case v.seal != nil:
		return v.seal, nil
	case v.closed:
		return nil, refuse(RuleElsewhere, "an import says that the key voted for height %d, or against that vote, with another signer", v.link.Target.Height)
	case v.link.Source.Height < own.floor || v.link.Target.Height <= own.floor:
		return nil, refuse(RuleFloor, "the vote for height %d was claimed before the floor rose to %d", v.link.Target.Height, own.floor)
	}
	return nil, nil
}

// SealVote records the signature of an open vote, durably, and returns the one
// to release: the first seal wins, and repeats return it. The caller has
// verified sig.
func (j *Journal) SealVote(key types.PublicKey, l consensus.Link, sig [64]byte) ([64]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var old *vote
	if own := j.mem.keys[key]; own != nil {
		old = own.vote(l.Target.Height)
	}
	if !old.is(l) {
		return [64]byte{}, failed(ErrInternal, nil, "%s claimed no such vote for height %d", key, l.Target.Height)
	}
	if old.seal != nil {
		return *old.seal, nil
	}
	if old.closed {
		_, err := old.answer(j.mem.keys[key])
		return [64]byte{}, err
	}
	if err := j.append(&record{kind: recordVoteSeal, height: l.Target.Height, key: key, signature: sig}); err != nil {
		return [64]byte{}, err
	}
	return sig, nil
}

// SealedVote returns the signature released for this very vote, if there is one.
func (j *Journal) SealedVote(key types.PublicKey, l consensus.Link) (sig [64]byte, ok bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	own := j.mem.keys[key]
	if own != nil && len(own.votes) == keptSlots && l.Target.Height < own.votes[0].link.Target.Height {
		m, err := j.scan(l.Target.Height)
		if err != nil {
			return sig, false, err
		}
		own = m.keys[key]
	}
	if own == nil {
		return sig, false, nil
	}
	if old := own.vote(l.Target.Height); old.is(l) && old.seal != nil {
		return *old.seal, true, nil
	}
	return sig, false, nil
}

// Last returns the highest heights that a key claimed for a block and for a
// vote's target, 0 if none: no signature of it above them is of this journal.
func (j *Journal) Last(key types.PublicKey) (block, vote uint32) {
	j.mu.Lock()
	defer j.mu.Unlock()
	own := j.mem.keys[key]
	if own == nil {
		return 0, 0
	}
	return own.highest, own.voted.Target.Height
}
