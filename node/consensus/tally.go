package consensus

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
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

// Evidence is two votes of one key that no honest validator makes both of.
// Conflict(A.Link, B.Link) says why. Their electorates may differ.
type Evidence struct{ A, B Attestation }

// Tally counts votes and answers what they certify and make final (C7). The
// answers depend on which votes it was given, not on their order, and another
// vote never takes back an answer.
//
// It trusts its caller that votes are verified (Attestation.Verify,
// Certificate.Verify) under the electorate of their target, which is the same at
// every call, and that the caller knows both blocks of a link as signed blocks,
// or genesis, the target a descendant of the source. The latter also bounds its
// memory: for each height above the root where the caller knows a slot, there
// are votesPerHeight votes of each key, plus those in certificates, to which a
// majority had to put its name.
//
// A Tally is not safe for concurrent use.
type Tally struct {
	step      uint32 // heights from one slot to the next
	root      Checkpoint
	links     map[Link]*ballot      // every vote, by link
	from      map[Checkpoint][]Link // the keys of links, by source
	certified map[Checkpoint]bool
	votes     map[types.PublicKey][]Link
	evidence  map[types.PublicKey]Evidence // the first pair of each offender
}

// ballot is the votes for one link, below the quorum a certificate in the making.
type ballot struct {
	Certificate
	voters *Electorate
}

// NewTally returns a tally of votes. root counts as certified and every other
// checkpoint must be linked to it: it is the genesis block, or a final slot of
// which the caller has kept the proof.
func NewTally(n *Network, root Checkpoint) *Tally { return newTally(n.N, root) }

func newTally(step uint32, root Checkpoint) *Tally {
	return &Tally{
		step: step, root: root,
		links:     make(map[Link]*ballot),
		from:      make(map[Checkpoint][]Link),
		certified: map[Checkpoint]bool{root: true},
		votes:     make(map[types.PublicKey][]Link),
		evidence:  make(map[types.PublicKey]Evidence),
	}
}

// Root returns the checkpoint all counting starts from.
func (t *Tally) Root() Checkpoint { return t.root }

// Add counts a verified attestation. It reports whether the vote was new. A
// vote that conflicts with an earlier one of the same key counts too, or
// the result would depend on the order: see Evidence. After votesPerHeight of
// them for one target height it is refused (RuleVoteLimit) and counts only as
// part of a certificate.
func (t *Tally) Add(a Attestation, voters *Electorate) (added bool, err error) {
	if err := t.accepts(a.Link, a.Index, voters); err != nil {
		return false, err
	}
	if t.Has(a) {
		return false, nil
	}
	same := 0
	for _, l := range t.votes[voters.keys[a.Index]] {
		if l.Target.Height == a.Target.Height {
			same++
		}
	}
	if same >= votesPerHeight {
		return false, broken(RuleVoteLimit, "voter %d has %d votes for height %d", a.Index, same, a.Target.Height)
	}
	t.insert(a, voters)
	return true, nil
}

// AddCertificate counts the attestations of a verified certificate, and
// reports whether any was new. No limit applies: a majority stands behind it.
func (t *Tally) AddCertificate(c Certificate, voters *Electorate) (added bool, err error) {
	list := c.Attestations()
	for _, a := range list {
		if err := t.accepts(a.Link, a.Index, voters); err != nil {
			return false, err
		}
	}
	for _, a := range list {
		if !t.Has(a) {
			t.insert(a, voters)
			added = true
		}
	}
	return added, nil
}

// accepts refuses votes of other sets, of nobody, and below the root.
func (t *Tally) accepts(l Link, index uint8, voters *Electorate) error {
	if l.Set != voters.id {
		return broken(RuleAttestSet, "made under set %s, the target's is %s", l.Set, voters.id)
	}
	if err := voters.check(index); err != nil {
		return err
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

// Has reports whether a vote was counted.
func (t *Tally) Has(a Attestation) bool {
	b := t.links[a.Link]
	return b != nil && b.Signers>>a.Index&1 == 1
}

// insert counts a new vote and follows what it certifies.
func (t *Tally) insert(a Attestation, voters *Electorate) {
	key := voters.keys[a.Index]
	t.accuse(a, key)
	t.votes[key] = append(t.votes[key], a.Link)
	b := t.links[a.Link]
	if b == nil {
		b = &ballot{Certificate: Certificate{Link: a.Link}, voters: voters}
		t.links[a.Link] = b
		t.from[a.Source] = append(t.from[a.Source], a.Link)
	}
	b.insert(a.Index, a.Signature)
	if t.certified[a.Source] && !t.certified[a.Target] && b.certifies() {
		t.spread(a.Target)
	}
}

func (b *ballot) certifies() bool { return b.voters.Certifies(b.Signers) }

// accuse keeps the first pair of votes of a key that conflict.
func (t *Tally) accuse(a Attestation, key types.PublicKey) {
	if _, known := t.evidence[key]; known {
		return
	}
	for _, l := range t.votes[key] {
		if Conflict(l, a.Link) != nil {
			t.evidence[key] = Evidence{A: t.vote(l, key), B: a}
			return
		}
	}
}

// vote returns the attestation of a link by a key that made it.
func (t *Tally) vote(l Link, key types.PublicKey) Attestation {
	b := t.links[l]
	list := b.Attestations()
	return list[slices.IndexFunc(list, func(a Attestation) bool { return b.voters.keys[a.Index] == key })]
}

// spread marks c certified, and all that thereby has a certificate from a
// certified source.
func (t *Tally) spread(c Checkpoint) {
	for todo := []Checkpoint{c}; len(todo) > 0; {
		c, todo = todo[0], todo[1:]
		t.certified[c] = true
		for _, l := range t.from[c] {
			if !t.certified[l.Target] && t.links[l].certifies() {
				todo = append(todo, l.Target)
			}
		}
	}
}

// Certified reports whether c is the root or has a certificate from a
// certified source.
func (t *Tally) Certified(c Checkpoint) bool { return t.certified[c] }

// Final reports whether c is certified and a final quorum attests the link from
// it to one block at the next slot.
func (t *Tally) Final(c Checkpoint) bool {
	return t.certified[c] && slices.ContainsFunc(t.from[c], func(l Link) bool {
		return l.Target.Height-c.Height == t.step && t.links[l].voters.Finalises(t.links[l].Signers)
	})
}

// CertifiedSlots returns all certified checkpoints, the root last, by descending
// height. There are two of one height only if a validator is dishonest.
func (t *Tally) CertifiedSlots() []Checkpoint {
	return slices.SortedFunc(maps.Keys(t.certified), func(a, b Checkpoint) int {
		return cmp.Or(cmp.Compare(b.Height, a.Height), b.ID.Compare(a.ID))
	})
}

// Certificate returns the votes for a link, if they are enough for a certificate.
func (t *Tally) Certificate(l Link) (Certificate, bool) {
	b := t.links[l]
	if b == nil || !b.certifies() {
		return Certificate{}, false
	}
	return Certificate{Link: l, Signers: b.Signers, Signatures: slices.Clone(b.Signatures)}, true
}

// Certificates returns the certificates from certified sources, by ascending
// target height; those of one height have a fixed order.
func (t *Tally) Certificates() []Certificate {
	var list []Certificate
	for l, b := range t.links {
		if t.certified[l.Source] && b.certifies() {
			list = append(list, Certificate{Link: l, Signers: b.Signers, Signatures: slices.Clone(b.Signatures)})
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

// Evidence returns one pair of conflicting votes of each key that made any, in
// the order of the keys.
func (t *Tally) Evidence() []Evidence {
	keys := slices.SortedFunc(maps.Keys(t.evidence), func(a, b types.PublicKey) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
	list := make([]Evidence, len(keys))
	for i, k := range keys {
		list[i] = t.evidence[k]
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
	for key, votes := range t.votes {
		t.votes[key] = slices.DeleteFunc(votes, func(l Link) bool { return !t.above(l) })
	}
	for other := range t.certified {
		if other != c && other.Height <= c.Height {
			delete(t.certified, other)
		}
	}
	return nil
}
