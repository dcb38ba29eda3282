package chain

import (
	"errors"
	"fmt"
	"strings"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// refuseChild remembers the header of a block on an invalid one, so that what
// builds on it is recognised as well. Every such header has cost its full work,
// or is among the few that one key may sign at a slot.
func (m *Manager) refuseChild(parent *Entry, b *types.Block) error {
	e := newEntry(parent, b)
	e.Invalid, e.Detail, e.InvalidBlock = parent.Invalid, parent.Detail, parent.InvalidBlock
	if err := m.commit(Batch{Entries: []Entry{e}}); err != nil {
		return fmt.Errorf("marking block %s invalid: %w", e.State.ID, err)
	}
	m.countTwin(&parent.State, &e)
	return ancestorError(&e)
}

// refuseNew remembers a block that can never be valid.
func (m *Manager) refuseNew(parent *Entry, b *types.Block, cause error) error {
	if !consensus.BlamesBlock(cause) {
		return cause
	}
	e := newEntry(parent, b)
	m.countTwin(&parent.State, &e)
	return m.refuse(&e, &e, true, cause)
}

// invalidity returns the remembered error of an entry, nil if it has none.
func invalidity(e *Entry) error {
	switch {
	case e.Invalid == "":
		return nil
	case e.InvalidBlock == e.State.ID:
		return ruleError(e)
	}
	return ancestorError(e)
}

// ancestorError is for blocks that build on e or on what e builds on.
func ancestorError(e *Entry) error {
	return fmt.Errorf("%w: %s: %w", ErrInvalidAncestor, e.InvalidBlock, ruleError(e))
}

func ruleError(e *Entry) *consensus.RuleError {
	return &consensus.RuleError{Rule: e.Invalid, Detail: e.Detail}
}

// maxDetail bounds what is remembered of an error; some quote whole scripts.
const maxDetail = 300

// refuse ends a reorganisation to e that failed at bad, e or an ancestor of
// it. If bad is proven invalid, it and all that builds on it are marked. fresh
// says that e is not stored.
//
// The best chain stays, and no other candidate has to be tried at once: all
// others were weighed against the best chain when they arrived or last gained,
// and it has only become better since.
func (m *Manager) refuse(e, bad *Entry, fresh bool, cause error) error {
	rule, ok := consensus.RuleOf(cause)
	switch {
	case !ok:
		return fmt.Errorf("connecting block %s: %w", bad.State.ID, cause)
	case !consensus.BlamesBlock(cause) && fresh && bad.State.ID == e.State.ID:
		return cause
	case !consensus.BlamesBlock(cause):
		// The cause is not wrapped: nobody may blame the new block for it.
		return fmt.Errorf("stored block %s (%s) is damaged: %v; check the chain with \"qcity chain verify\"",
			bad.State.ID, m.store.Where(bad.State.ID), cause)
	}
	detail := strings.TrimPrefix(cause.Error(), string(rule)+": ")
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") + "…"
	}
	list, err := m.condemned(e, bad, fresh)
	if err != nil {
		return errors.Join(err, fmt.Errorf("marking block %s invalid (%v)", bad.State.ID, cause))
	}
	for i := range list {
		list[i].Invalid, list[i].Detail, list[i].InvalidBlock = rule, detail, bad.State.ID
	}
	m.log.Warn("block is invalid", "id", bad.State.ID, "height", bad.State.Height, "rule", rule, "detail", detail, "descendants", len(list)-1)
	if err := m.commit(Batch{Entries: list}); err != nil {
		return fmt.Errorf("marking block %s invalid (%v): %w", bad.State.ID, cause, err)
	}
	if bad.State.ID == e.State.ID {
		return cause
	}
	return ancestorError(&list[0])
}

// condemned returns what is to be marked when bad has proved invalid: itself
// first, what builds on it, and the new block e.
func (m *Manager) condemned(e, bad *Entry, fresh bool) ([]Entry, error) {
	if fresh && bad.State.ID == e.State.ID {
		return []Entry{*e}, nil // nothing builds on what is new
	}
	above, err := m.descendants(bad)
	list := append([]Entry{*bad}, above...)
	if fresh {
		list = append(list, *e)
	}
	return list, err
}

// descendants returns the stored blocks that build on e, which is on no best chain.
func (m *Manager) descendants(e *Entry) ([]Entry, error) {
	leaves, err := m.store.Leaves()
	if err != nil {
		return nil, err
	}
	var list []Entry
	seen := make(map[types.Hash]bool)
	for _, id := range leaves {
		if id == m.tip.State.ID {
			continue
		}
		at, err := m.entry(id)
		if err != nil {
			return nil, err
		}
		var above []Entry
		for at.State.Height > e.State.Height && !seen[at.State.ID] {
			above = append(above, at)
			if at, err = m.parentOf(&at); err != nil {
				return nil, err
			}
		}
		if at.State.ID != e.State.ID && !seen[at.State.ID] {
			continue
		}
		for i := range above {
			seen[above[i].State.ID] = true
		}
		list = append(list, above...)
	}
	return list, nil
}
