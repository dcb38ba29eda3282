package chain

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// ErrUnknownTarget means that the block a vote is for is not stored. The vote
// may be added again when it is.
var ErrUnknownTarget = errors.New("block voted for is not known")

// AddAttestation counts a vote, and follows what it certifies: the best chain
// may change. added is false when it was counted before. The error is a
// *consensus.RuleError when the vote is at fault, of rule vote-floor or
// vote-limit when it only comes too late or too often, ErrUnknownTarget, or a
// failure of the store. If the store failed and added is true, the vote counts,
// and what follows from it is tried again.
func (m *Manager) AddAttestation(a consensus.Attestation) (added bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refresh(); err != nil {
		return false, err
	}
	if m.tally.Has(a) {
		return false, nil
	}
	voters, err := m.electorate(&a.Link, func(e *consensus.Electorate) error { return m.verify(&a, e) })
	if err != nil {
		return false, err
	}
	if added, err = m.tally.Add(a, voters); err != nil || !added {
		if errors.Is(err, consensus.RuleVoteLimit) {
			m.spent[turn{voters.Keys()[a.Index], a.Target.Height}] = err
		}
		return added, err
	}
	if target, ok, err := m.store.Entry(a.Target.ID); err == nil && ok {
		m.hear(voters.Keys()[a.Index], target.State.Time)
	}
	m.counted(a.Link)
	return true, m.follow()
}

// turn is a height at which a key may vote.
type turn struct {
	key    types.PublicKey
	height uint32
}

// verify is Verify, but for one more vote of a key that has had all it may have
// for a height: such votes cost a thief nothing, and nobody is to blame for them.
func (m *Manager) verify(a *consensus.Attestation, e *consensus.Electorate) error {
	if keys := e.Keys(); int(a.Index) < len(keys) {
		if err := m.spent[turn{keys[a.Index], a.Target.Height}]; err != nil {
			return err
		}
	}
	return a.Verify(m.net, e)
}

// AddCertificate counts the votes of a certificate, as AddAttestation does.
func (m *Manager) AddCertificate(c consensus.Certificate) (added bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refresh(); err != nil {
		return false, err
	}
	if added, err = m.addCertificate(c, func(e *consensus.Electorate) error { return c.Verify(m.net, e) }); err != nil || !added {
		return added, err
	}
	return true, m.follow()
}

func (m *Manager) addCertificate(c consensus.Certificate, verify func(*consensus.Electorate) error) (added bool, err error) {
	if old, ok := m.certificates[c.Link]; ok && c.Signers&^old.Signers == 0 {
		return false, nil
	}
	voters, err := m.electorate(&c.Link, verify)
	if err != nil {
		return false, err
	}
	if added, err = m.tally.AddCertificate(c, voters); added {
		m.counted(c.Link)
	}
	return added, err
}

// electorate returns who may vote for a link, after checking what takes the
// chain: that both ends are signed blocks, the target a descendant of the source.
// Looking for the source may mean a long walk, so signatures are verified before.
func (m *Manager) electorate(l *consensus.Link, verify func(*consensus.Electorate) error) (*consensus.Electorate, error) {
	if err := l.Check(m.net); err != nil {
		return nil, err
	}
	if root := m.tally.Root(); l.Source != root && l.Source.Height <= root.Height {
		return nil, &consensus.RuleError{Rule: consensus.RuleVoteFloor, Detail: fmt.Sprintf("source at height %d, final is %d", l.Source.Height, root.Height)}
	}
	parent, err := m.targetParent(l)
	if err != nil {
		return nil, err
	}
	voters := parent.State.Voters()
	if err := verify(voters); err != nil {
		return nil, err
	}
	source, err := m.ancestor(&parent, l.Source.Height)
	if err != nil {
		return nil, err
	}
	if source.State.ID != l.Source.ID || (l.Source.Height > 0 && !source.Header.IsSigned()) {
		return nil, &consensus.RuleError{Rule: consensus.RuleAttestSource, Detail: fmt.Sprintf("%s is no signed block below %s", l.Source.ID, l.Target.ID)}
	}
	return voters, nil
}

// targetParent returns the parent of the block that a link is for, a signed one.
func (m *Manager) targetParent(l *consensus.Link) (Entry, error) {
	target, ok, err := m.store.Entry(l.Target.ID)
	if err != nil {
		return Entry{}, err
	}
	if !ok {
		return Entry{}, fmt.Errorf("%w: %s", ErrUnknownTarget, l.Target.ID)
	}
	if target.State.Height != l.Target.Height || !target.Header.IsSigned() || target.Invalid != "" {
		return Entry{}, &consensus.RuleError{Rule: consensus.RuleAttestTarget, Detail: fmt.Sprintf("%s is no valid signed block of height %d", l.Target.ID, l.Target.Height)}
	}
	return m.parentOf(&target)
}

// ancestor returns the block of e's chain at a height. It walks no further than
// to the best chain.
func (m *Manager) ancestor(e *Entry, height uint32) (Entry, error) {
	p, err := m.path(e)
	if err != nil {
		return Entry{}, err
	}
	if i := int(height) - int(p.fork.State.Height) - 1; i >= 0 {
		return p.up[i], nil
	}
	id, ok, err := m.store.BestID(height)
	if err == nil && !ok {
		err = fmt.Errorf("best chain lacks height %d: check it with \"qcity chain verify\"", height)
	}
	if err != nil {
		return Entry{}, err
	}
	return m.entry(id)
}

// counted notes new votes for a link. Short of a quorum they change nothing.
func (m *Manager) counted(l consensus.Link) {
	if c, ok := m.tally.Certificate(l); ok && c.Signers != m.certificates[l].Signers {
		m.unstored[l] = true
		m.unsettled = true
		m.proven.note(m.tally, l)
	}
}

// newCertificates returns what is proven and not stored yet.
func (m *Manager) newCertificates() []consensus.Certificate {
	var list []consensus.Certificate
	for l := range m.unstored {
		if c, ok := m.tally.Certificate(l); ok {
			list = append(list, c)
		} else {
			delete(m.unstored, l) // a final slot has made it useless
		}
	}
	return list
}

// storedVotes follows a commit that worked.
func (m *Manager) storedVotes(b *Batch) {
	for _, c := range b.Certificates {
		m.certificates[c.Link] = c
		delete(m.unstored, c.Link)
	}
	for _, l := range b.Forget {
		delete(m.certificates, l)
	}
}

// follow does what votes and reorganisations lead to: it moves to the chain that
// is best now, lets finality rise, and stores what is proven. When it fails it
// is tried again, by the next call and by Run.
func (m *Manager) follow() error {
	if !m.unsettled {
		return nil
	}
	if err := m.fresh(); err != nil {
		return err
	}
	err := m.weighTip()
	for _, step := range []func() error{m.settle, m.finalise, m.anchor, m.storeRest} {
		if err == nil {
			err = step()
		}
	}
	m.unsettled = err != nil
	if retry := m.now().Add(clockCheck); err != nil && retry.Before(m.parkedUntil) {
		m.parkedUntil = retry
	}
	if m.parkedUntil != noTime {
		m.wakeRun()
	}
	return err
}

// storeRest stores the certificates that went with nothing else.
func (m *Manager) storeRest() error {
	if len(m.unstored) == 0 {
		return nil
	}
	if err := m.commit(Batch{}); err != nil {
		return fmt.Errorf("storing certificates: %w", err)
	}
	return nil
}

// Standing returns the best chain and what is proven of it, as of one moment.
func (m *Manager) Standing() consensus.Standing {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return consensus.Standing{Tip: m.tip.State, Certified: m.certified, Final: m.tally.Root()}
}

// Certificates returns the certificates that are kept, by ascending target: what
// a new peer should know.
func (m *Manager) Certificates() []consensus.Certificate {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return sortedCertificates(m.certificates)
}

func sortedCertificates(set map[consensus.Link]consensus.Certificate) []consensus.Certificate {
	return slices.SortedFunc(maps.Values(set), func(a, b consensus.Certificate) int {
		return cmp.Or(cmp.Compare(a.Target.Height, b.Target.Height), bytes.Compare(a.Link.AppendTo(nil), b.Link.AppendTo(nil)))
	})
}
