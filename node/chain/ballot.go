package chain

import (
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Vote is what a validator that follows the best chain may vote for (S3).
type Vote struct {
	Link   consensus.Link
	Parent consensus.State // of the target's parent: its Voters vote
	Header types.SignedHeader
}

// Vote returns the vote for the newest signed slot of the best chain, from the
// highest certified slot below it; ok is false when there is none to cast: the
// slot is final, no slot is signed, or the chain is so old that this node must be
// catching up (S4).
func (m *Manager) Vote() (v Vote, ok bool, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	height := m.tip.State.LastSigned
	if height <= m.tally.Root().Height || m.behind() {
		return Vote{}, false, m.fresh()
	}
	if err := m.fresh(); err != nil {
		return Vote{}, false, err
	}
	id, _, err := m.store.BestID(height)
	if err != nil {
		return Vote{}, false, err
	}
	target, err := m.entry(id)
	if err != nil {
		return Vote{}, false, err
	}
	parent, err := m.parentOf(&target)
	if err != nil {
		return Vote{}, false, err
	}
	source, ok, err := m.highest(&path{fork: parent})
	if err != nil || !ok {
		return Vote{}, false, err
	}
	l := consensus.Link{Set: parent.State.Voters().ID(), Source: source, Target: target.State.Checkpoint()}
	return Vote{Link: l, Parent: parent.State, Header: target.Header}, true, nil
}

// Closed reports whether this node's validators must leave the slot after parent
// alone (S4): it is known here for as long as a slot is open to them, or this
// node is catching up. The parent's own time does not count: its maker chose it.
func (m *Manager) Closed(parent *consensus.State) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	open := time.Duration(m.net.SlotCloseSeconds) * time.Second
	return m.behind() || m.now().Sub(m.arrival(parent.ID)) > open
}

// hear notes that a validator signed a slot of this time, or voted for one.
func (m *Manager) hear(k types.PublicKey, slot uint32) {
	m.heard[k] = max(m.heard[k], slot)
}

// Heard returns the validators that signed, or voted for, a slot whose time is
// at or after a time.
func (m *Manager) Heard(since time.Time) []types.PublicKey {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []types.PublicKey
	for k, at := range m.heard {
		if int64(at) >= since.Unix() {
			list = append(list, k)
		}
	}
	return list
}
