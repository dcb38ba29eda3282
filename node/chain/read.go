package chain

import (
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Network returns the network of the chain.
func (m *Manager) Network() *consensus.Network { return m.net }

// Tip returns the state of the best chain.
func (m *Manager) Tip() consensus.State {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.tip.State
}

// Changed returns a channel that is closed at the next change of the tip. Take
// it before asking for the tip, and no change is missed.
func (m *Manager) Changed() <-chan struct{} {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.changed
}

// View returns the tip and, as of the same instant, those of the outpoints
// that are unspent.
func (m *Manager) View(outpoints []types.OutPoint) (consensus.State, consensus.Coins, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.fresh(); err != nil {
		return consensus.State{}, nil, err
	}
	coins, err := m.store.Coins(outpoints)
	return m.tip.State, coins, err
}

// State returns the state after any stored block, also one that is not on the
// best chain or has proved invalid.
func (m *Manager) State(id types.Hash) (consensus.State, bool, error) {
	e, ok, err := m.store.Entry(id)
	return e.State, ok, err
}

// Header returns the header of any stored block.
func (m *Manager) Header(id types.Hash) (types.SignedHeader, bool, error) {
	e, ok, err := m.store.Entry(id)
	return e.Header, ok, err
}

// Block returns a stored block; of blocks that proved invalid at once only the
// header is kept.
func (m *Manager) Block(id types.Hash) (*types.Block, bool, error) { return m.store.Block(id) }

// BestID returns the id of the best chain's block at a height.
func (m *Manager) BestID(height uint32) (types.Hash, bool, error) { return m.store.BestID(height) }

// InvalidReason returns the rule that a block or an ancestor of it breaks, with
// the detail; false when it is not known to be invalid.
func (m *Manager) InvalidReason(id types.Hash) (string, bool, error) {
	e, ok, err := m.store.Entry(id)
	if err != nil || !ok || e.Invalid == "" {
		return "", false, err
	}
	return invalidity(&e).Error(), true, nil
}

// Update is one block as subscribers see it. Applied, its Diff removes Spent
// and adds Created; reverted, the other way round.
type Update struct {
	Block  *types.Block
	State  consensus.State // after the block
	Parent consensus.State
	Diff   consensus.Diff
}

// UpdatesSince returns the way from block id, the last one a subscriber has
// seen, to the tip: first what to revert, newest first, then what to apply,
// oldest first, together at most max blocks. A subscriber asks again from the
// last block it has followed (the parent of the last reverted one, or the last
// applied one) until nothing comes, then waits for Changed. Start with the
// network's ID, the genesis block, or with any block the subscriber remembers.
// The error wraps ErrUnknownBlock when id was never on the best chain.
func (m *Manager) UpdatesSince(id types.Hash, max int) (reverted, applied []Update, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.fresh(); err != nil {
		return nil, nil, err
	}
	at, ok, err := m.store.Entry(id)
	if err != nil {
		return nil, nil, err
	}
	if !ok || !at.HasUndo {
		return nil, nil, fmt.Errorf("%w: %s", ErrUnknownBlock, id)
	}
	for len(reverted) < max {
		best, _, err := m.store.BestID(at.State.Height)
		if err != nil {
			return nil, nil, err
		}
		if best == at.State.ID {
			break
		}
		parent, err := m.parentOf(&at)
		if err != nil {
			return nil, nil, err
		}
		u, err := m.update(&parent, &at)
		if err != nil {
			return nil, nil, err
		}
		reverted, at = append(reverted, u), parent
	}
	applied, err = m.updatesAfter(at, max-len(reverted))
	return reverted, applied, err
}

// updatesAfter returns up to max blocks of the best chain after e, which is on it.
func (m *Manager) updatesAfter(e Entry, max int) (list []Update, err error) {
	for len(list) < max && e.State.Height < m.tip.State.Height {
		id, _, err := m.store.BestID(e.State.ChildHeight())
		if err != nil {
			return nil, err
		}
		next, err := m.entry(id)
		if err != nil {
			return nil, err
		}
		u, err := m.update(&e, &next)
		if err != nil {
			return nil, err
		}
		list, e = append(list, u), next
	}
	return list, nil
}

// update reads what a connected block changed.
func (m *Manager) update(parent, e *Entry) (Update, error) {
	b, err := m.stored(e)
	if err != nil {
		return Update{}, err
	}
	spent, ok, err := m.store.Spent(e.State.ID)
	if err != nil {
		return Update{}, err
	}
	if !ok {
		return Update{}, fmt.Errorf("undo record of block %s at height %d is missing: check the chain with \"qcity chain verify\"", e.State.ID, e.State.Height)
	}
	return Update{Block: b, State: e.State, Parent: parent.State, Diff: consensus.Undo(&parent.State, b, spent)}, nil
}

// TipStatus is what is known of a branch, in the words of Bitcoin's getchaintips.
type TipStatus string

// The statuses.
const (
	TipActive       TipStatus = "active"        // end of the best chain
	TipValidFork    TipStatus = "valid-fork"    // was on the best chain
	TipValidHeaders TipStatus = "valid-headers" // stored, never connected
	TipInvalid      TipStatus = "invalid"       // it or an ancestor breaks a rule
)

// TipInfo describes a block that no other builds on.
type TipInfo struct {
	Height       uint32
	ID           types.Hash
	BranchLength uint32 // blocks since the best chain; 0 for its own tip
	Status       TipStatus
}

// Tips returns the ends of all branches, in the order they were first seen.
func (m *Manager) Tips() ([]TipInfo, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	leaves, err := m.store.Leaves()
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(leaves))
	for i, id := range leaves {
		if entries[i], err = m.entry(id); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		if a.Sequence < b.Sequence {
			return -1
		}
		return 1
	})
	tips := make([]TipInfo, len(entries))
	for i := range entries {
		e := &entries[i]
		_, branch, err := m.branch(e)
		if err != nil {
			return nil, err
		}
		tips[i] = TipInfo{Height: e.State.Height, ID: e.State.ID, BranchLength: uint32(len(branch)), Status: m.status(e)}
	}
	return tips, nil
}

func (m *Manager) status(e *Entry) TipStatus {
	switch {
	case e.State.ID == m.tip.State.ID:
		return TipActive
	case e.Invalid != "":
		return TipInvalid
	case e.HasUndo:
		return TipValidFork
	}
	return TipValidHeaders
}
