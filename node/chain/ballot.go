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

// hear notes that a validator showed itself.
func (m *Manager) hear(k types.PublicKey) { m.heard[k] = m.now() }

// Heard returns the validators that signed a block or a vote which this node
// first saw at or after a time.
func (m *Manager) Heard(since time.Time) []types.PublicKey {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []types.PublicKey
	for k, at := range m.heard {
		if !at.Before(since) {
			list = append(list, k)
		}
	}
	return list
}
