package chain

import (
	"errors"
	"fmt"
)

// load reads the tip from the store, and weighs it.
func (m *Manager) load() error {
	id, ok, err := m.store.Tip()
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("store has no tip")
	}
	if id == m.tip.State.ID {
		m.stale = nil
		return nil
	}
	e, err := m.entry(id)
	if err != nil {
		return err
	}
	if m.tally == nil { // opening
		m.tip = e
		return nil
	}
	if err := m.setTip(e); err != nil {
		return err
	}
	m.stale = nil
	return nil
}

// setTip weighs the end of the best chain, and makes it the tip.
func (m *Manager) setTip(e Entry) error {
	c, ok, err := m.highest(&path{fork: e})
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("best chain lacks the final slot: check it with \"qcity chain verify\"")
	}
	if e.State.ID != m.tip.State.ID || c != m.certified {
		m.ring()
	}
	switch {
	case e.State.ID == m.tip.State.ID:
	case e.Header.PrevBlock != m.tip.State.ID, m.mayAnchor(&e.State):
		m.unsettled = true // what is final may be on this chain only
	}
	m.tip, m.certified, m.weight = e, c, e.State.Weight(c.Height)
	return nil
}

// weighTip brings the weight of the best chain up to date.
func (m *Manager) weighTip() error { return m.setTip(m.tip) }

// ring tells whoever waits that the best chain changed, or what is known of it.
func (m *Manager) ring() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// commit commits b, with whatever is proven and not stored yet, and follows the
// tip to wherever the store has it then: a failed commit may be there all the
// same.
func (m *Manager) commit(b Batch) error {
	b.Certificates = m.newCertificates()
	m.recent = nil
	err := m.store.Commit(b)
	if err == nil {
		m.storedVotes(&b)
		m.noteLeaf(b.Entries)
	} else {
		m.leaves = nil
	}
	if lerr := m.load(); lerr != nil {
		m.stale = errors.Join(err, lerr)
		return m.stale
	}
	return err
}

// fresh reports whether the tip in memory is the stored one.
func (m *Manager) fresh() error {
	if m.stale != nil {
		return fmt.Errorf("state of the store is not known since a write failed: %w", m.stale)
	}
	return nil
}

// refresh reads the tip anew if it is not known to be the stored one, and tries
// again what has failed before. Only the former is a condition of anything else:
// one side chain that cannot be read must not keep all other blocks out.
func (m *Manager) refresh() error {
	if m.stale != nil {
		if err := m.load(); err != nil {
			return err
		}
	}
	err := m.follow()
	if err != nil && !m.failing {
		m.log.Error("best chain cannot be followed, trying again", "error", err)
	}
	m.failing = err != nil
	return m.fresh()
}
