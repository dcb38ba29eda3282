package consensus

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/types"
)

// What a Tally refuses to hold. Neither says that the vote is bad.
const (
	RuleVoteFloor Rule = "vote-floor" // the link does not start at the tally's root or above it
	RuleVoteLimit Rule = "vote-limit" // the validator has votes enough for this height, and they conflict already
)

// votesPerHeight is how many votes of one validator for one target height a
// Tally takes one by one. An honest validator makes one; two are evidence.
const votesPerHeight = 2

// Evidence is two votes of one validator that no honest one makes both of.
// Conflict(A.Link, B.Link) says why.
type Evidence struct{ A, B Attestation }

// Tally counts the votes of one validator set and answers what they certify
// and make final (C7). The answers depend on which votes it was given, not on
// their order, and another vote never takes back an answer.
//
// It trusts its caller that votes are verified (Attestation.Verify,
// Certificate.Verify) and that the caller knows both blocks of a link as
// signed blocks, or genesis, the target a descendant of the source. The latter
// also bounds its memory: for each height above the root where the caller
// knows a slot, there are votesPerHeight votes of each validator, plus those in
// certificates, to which a majority had to put its name.
//
// A Tally is not safe for concurrent use.
type Tally struct {
	set            types.Hash
	size           int
	step           uint32 // heights from one slot to the next
	certify, final int
	root           Checkpoint
	links          map[Link]*Certificate // every vote, by link; below the quorum it is a certificate in the making
	from           map[Checkpoint][]Link // the keys of links, by source
	certified      map[Checkpoint]bool
	votes          [][]Link           // of each validator
	evidence       map[uint8]Evidence // the first pair of each offender
}

// NewTally returns a tally of the votes of set. root counts as certified and
// every other checkpoint must be linked to it: it is the genesis block, or a
// final slot of which the caller has kept the proof.
func NewTally(n *Network, set ValidatorSet, root Checkpoint) *Tally {
	size := len(set.Keys)
	return newTally(n.N, set, root, CertifyQuorum(size), FinalQuorum(size))
}

func newTally(step uint32, set ValidatorSet, root Checkpoint, certify, final int) *Tally {
	return &Tally{
		set: set.ID(), size: len(set.Keys), step: step, certify: certify, final: final, root: root,
		links:     make(map[Link]*Certificate),
		from:      make(map[Checkpoint][]Link),
		certified: map[Checkpoint]bool{root: true},
		votes:     make([][]Link, len(set.Keys)),
		evidence:  make(map[uint8]Evidence),
	}
}

// Root returns the checkpoint all counting starts from.
func (t *Tally) Root() Checkpoint { return t.root }

// Add counts a verified attestation. It reports whether the vote was new. A
// vote that conflicts with an earlier one of the same validator counts too, or
// the result would depend on the order: see Evidence. After votesPerHeight of
// them for one target height it is refused (RuleVoteLimit) and counts only as
// part of a certificate.
func (t *Tally) Add(a Attestation) (added bool, err error) {
	if err := t.accepts(a.Link, a.Index); err != nil {
		return false, err
	}
	if t.has(a) {
		return false, nil
	}
	same := 0
	for _, l := range t.votes[a.Index] {
		if l.Target.Height == a.Target.Height {
			same++
		}
	}
	if same >= votesPerHeight {
		return false, broken(RuleVoteLimit, "validator %d has %d votes for height %d", a.Index, same, a.Target.Height)
	}
	t.insert(a)
	return true, nil
}

// AddCertificate counts the attestations of a verified certificate, and
// reports whether any was new. No limit applies: a majority stands behind it.
func (t *Tally) AddCertificate(c Certificate) (added bool, err error) {
	list := c.Attestations()
	for _, a := range list {
		if err := t.accepts(a.Link, a.Index); err != nil {
			return false, err
		}
	}
	for _, a := range list {
		if !t.has(a) {
			t.insert(a)
			added = true
		}
	}
	return added, nil
}

// accepts refuses votes of other sets, of nobody, and below the root.
func (t *Tally) accepts(l Link, index uint8) error {
	if l.Set != t.set {
		return broken(RuleAttestSet, "made under set %s, counted are votes of %s", l.Set, t.set)
	}
	if int(index) >= t.size {
		return broken(RuleAttestIndex, "index %d in a set of %d", index, t.size)
	}
	if l.Source.Height >= l.Target.Height {
		return broken(RuleAttestSource, "source height %d is not below target height %d", l.Source.Height, l.Target.Height)
	}
	if !t.above(l) {
		return broken(RuleVoteFloor, "source %s at height %d, counting starts from %s at %d", l.Source.ID, l.Source.Height, t.root.ID, t.root.Height)
	}
	return nil
}

// above reports whether a link may still decide anything: nothing is linked
// past a final slot (docs/votes.md, "Why two conflicting slots cannot be final").
func (t *Tally) above(l Link) bool { return l.Source == t.root || l.Source.Height > t.root.Height }

func (t *Tally) has(a Attestation) bool {
	c := t.links[a.Link]
	return c != nil && c.Signers>>a.Index&1 == 1
}

// insert counts a new vote and follows what it certifies.
func (t *Tally) insert(a Attestation) {
	t.accuse(a)
	t.votes[a.Index] = append(t.votes[a.Index], a.Link)
	c := t.links[a.Link]
	if c == nil {
		c = &Certificate{Link: a.Link}
		t.links[a.Link] = c
		t.from[a.Source] = append(t.from[a.Source], a.Link)
	}
	c.insert(a.Index, a.Signature)
	if t.certified[a.Source] && !t.certified[a.Target] && len(c.Signatures) >= t.certify {
		t.spread(a.Target)
	}
}

// accuse keeps the first pair of votes of a validator that conflict.
func (t *Tally) accuse(a Attestation) {
	if _, known := t.evidence[a.Index]; known {
		return
	}
	for _, l := range t.votes[a.Index] {
		if Conflict(l, a.Link) != nil {
			t.evidence[a.Index] = Evidence{A: t.vote(l, a.Index), B: a}
			return
		}
	}
}

// vote returns the attestation of a link by a validator that made it.
func (t *Tally) vote(l Link, index uint8) Attestation {
	list := t.links[l].Attestations()
	return list[slices.IndexFunc(list, func(a Attestation) bool { return a.Index == index })]
}

// spread marks c certified, and all that thereby has a certificate from a
// certified source.
func (t *Tally) spread(c Checkpoint) {
	for todo := []Checkpoint{c}; len(todo) > 0; {
		c, todo = todo[0], todo[1:]
		t.certified[c] = true
		for _, l := range t.from[c] {
			if !t.certified[l.Target] && len(t.links[l].Signatures) >= t.certify {
				todo = append(todo, l.Target)
			}
		}
	}
}

// Certified reports whether c is the root or has a certificate from a
// certified source.
func (t *Tally) Certified(c Checkpoint) bool { return t.certified[c] }

// Final reports whether c is certified and FinalQuorum validators attest the
// link from it to one block at the next slot.
func (t *Tally) Final(c Checkpoint) bool {
	return t.certified[c] && slices.ContainsFunc(t.from[c], func(l Link) bool {
		return l.Target.Height-c.Height == t.step && len(t.links[l].Signatures) >= t.final
	})
}

// Certificates returns the certificates from certified sources, by ascending
// target height; those of one height have a fixed order.
func (t *Tally) Certificates() []Certificate {
	var list []Certificate
	for l, c := range t.links {
		if t.certified[l.Source] && len(c.Signatures) >= t.certify {
			list = append(list, Certificate{Link: l, Signers: c.Signers, Signatures: slices.Clone(c.Signatures)})
		}
	}
	slices.SortFunc(list, func(a, b Certificate) int {
		if c := cmp.Compare(a.Target.Height, b.Target.Height); c != 0 {
			return c
		}
		return bytes.Compare(a.Link.AppendTo(nil), b.Link.AppendTo(nil))
	})
	return list
}

// Evidence returns one pair of conflicting votes of each validator that made
// any, by ascending index.
func (t *Tally) Evidence() []Evidence {
	var list []Evidence
	for i := range t.votes {
		if e, ok := t.evidence[uint8(i)]; ok {
			list = append(list, e)
		}
	}
	return list
}

// Prune makes a final checkpoint the new root and forgets what lies below it:
// votes that do not start at it or above it. What is certified above stays so,
// and evidence is kept.
func (t *Tally) Prune(c Checkpoint) error {
	if !t.Final(c) {
		return fmt.Errorf("%s at height %d is not final: prune only below a final slot", c.ID, c.Height)
	}
	t.root = c
	for l := range t.links {
		if !t.above(l) {
			delete(t.links, l)
			delete(t.from, l.Source) // all links from one source go together
		}
	}
	for i, votes := range t.votes {
		t.votes[i] = slices.DeleteFunc(votes, func(l Link) bool { return !t.above(l) })
	}
	for other := range t.certified {
		if other != c && other.Height <= c.Height {
			delete(t.certified, other)
		}
	}
	return nil
}
