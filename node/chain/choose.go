package chain

import (
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// path is a chain that ends in a stored or new block: the last block it shares
// with the best chain, and what stands above that, ascending.
type path struct {
	fork Entry
	up   []Entry
}

// end returns the last block of the path.
func (p *path) end() *Entry {
	if len(p.up) == 0 {
		return &p.fork
	}
	return &p.up[len(p.up)-1]
}

// path returns the path to e, which need not be stored itself. That to the side
// block stored last is remembered: a long branch comes block by block, and need
// not be walked down for each.
func (m *Manager) path(e *Entry) (path, error) {
	if r := m.recent; r != nil && r.end().State.ID == e.State.ID {
		return *r, nil
	}
	fork, up, err := m.branch(e)
	return path{fork, up}, err
}

// contains reports whether a checkpoint, which is at most as high as the path,
// lies on it.
func (m *Manager) contains(p *path, c consensus.Checkpoint) (bool, error) {
	if c.Height > p.fork.State.Height {
		i := int(c.Height - p.fork.State.Height - 1)
		return i < len(p.up) && p.up[i].State.ID == c.ID, nil
	}
	id, ok, err := m.store.BestID(c.Height)
	return ok && id == c.ID, err
}

// allowed reports whether a path holds what every chain has to hold: the final
// slot, and the checkpoint of the release once it is as high (L7).
func (m *Manager) allowed(p *path) (bool, error) {
	must := []consensus.Checkpoint{m.tally.Root()}
	if r := m.net.Release; r != nil && r.Height <= p.end().State.Height {
		must = append(must, r.Checkpoint())
	}
	for _, c := range must {
		if c.Height > p.end().State.Height {
			return false, nil
		}
		if on, err := m.contains(p, c); err != nil || !on {
			return false, err
		}
	}
	return true, nil
}

// highest returns the highest certified slot of a path; ok is false when it is
// not allowed, whatever is certified on it.
func (m *Manager) highest(p *path) (c consensus.Checkpoint, ok bool, err error) {
	if ok, err := m.allowed(p); err != nil || !ok {
		return consensus.Checkpoint{}, false, err
	}
	for _, c := range slices.Backward(m.proven.certified) {
		if c.Height > p.end().State.Height {
			continue
		}
		if on, err := m.contains(p, c); err != nil || on {
			return c, on, err
		}
	}
	return consensus.Checkpoint{}, false, nil
}

// weigh returns what fork choice compares of a path (C8); ok is that of highest.
func (m *Manager) weigh(p *path) (w consensus.Weight, ok bool, err error) {
	c, ok, err := m.highest(p)
	return p.end().State.Weight(c.Height), ok, err
}

// better reports whether a path is to replace the best chain, of which tip is
// the end: by weight, then by the tie rules at the first slot where they differ;
// else what was seen first stays.
func (m *Manager) better(p *path) (bool, error) {
	w, ok, err := m.weigh(p)
	if err != nil || !ok {
		return false, err
	}
	if c := w.Compare(m.weight); c != 0 {
		return c > 0, nil
	}
	c, err := m.breakTie(*p.end(), m.tip)
	return c > 0, err
}

// breakTie walks both chains down to their fork. The last slots passed on the
// way are the first that differ.
func (m *Manager) breakTie(a, b Entry) (int, error) {
	var slotA, slotB Entry
	var err error
	for a.State.ID != b.State.ID {
		down, slot := &a, &slotA
		if b.State.Height > a.State.Height {
			down, slot = &b, &slotB
		}
		if m.net.IsSlot(down.State.Height) {
			*slot = *down
		}
		if *down, err = m.parentOf(down); err != nil {
			return 0, err
		}
	}
	if slotA.State.Height != slotB.State.Height || slotA.State.Height == 0 {
		return 0, nil // only one of the chains has reached a slot, or none
	}
	parent, err := m.parentOf(&slotA)
	if err != nil {
		return 0, err
	}
	return parent.State.BreakTie(&slotA.Header, &slotB.Header), nil
}

// settle moves to the best of all stored chains. That takes looking at all of
// them, and is needed only when something else than a new block has made one
// better: votes, time, or a block that proved invalid.
func (m *Manager) settle() error {
	for {
		best, err := m.challenger()
		if err != nil || best == nil {
			return err
		}
		_, err = m.reorganise(best, nil)
		if _, bad := consensus.RuleOf(err); err != nil && !bad {
			return err
		}
		// What proved invalid is marked now, and no challenger any more.
	}
}

// openLeaves returns where a chain may be followed to from here: the valid ends
// of all branches above the final slot. Those below it, and what a thief with a
// key has signed there, are not looked at again and again.
func (m *Manager) openLeaves() (map[types.Hash]uint32, error) {
	if m.leaves != nil {
		return m.leaves, nil
	}
	list, err := m.store.Leaves()
	if err != nil {
		return nil, err
	}
	leaves := make(map[types.Hash]uint32)
	for _, id := range list {
		e, err := m.entry(id)
		for err == nil && e.Invalid != "" {
			e, err = m.parentOf(&e)
		}
		if err != nil {
			return nil, err
		}
		if e.State.Height > m.tally.Root().Height {
			leaves[e.State.ID] = e.State.Height
		}
	}
	m.leaves = leaves
	return leaves, nil
}

// noteLeaf keeps openLeaves up to date with a commit.
func (m *Manager) noteLeaf(entries []Entry) {
	if m.leaves == nil || len(entries) == 0 {
		return
	}
	e := &entries[0]
	_, known := m.leaves[e.State.ID]
	switch {
	case len(entries) > 1 || known:
		m.leaves = nil // blocks were marked invalid
	case e.Invalid == "":
		delete(m.leaves, e.Header.PrevBlock)
		m.leaves[e.State.ID] = e.State.Height
	}
}

// challenger returns the best chain that is better than the current one, or nil.
func (m *Manager) challenger() (best *path, err error) {
	leaves, err := m.openLeaves()
	if err != nil {
		return nil, err
	}
	var weight consensus.Weight
	m.parkedUntil = noTime
	for id := range leaves {
		if id == m.tip.State.ID {
			continue
		}
		p, err := m.candidate(id)
		if err != nil {
			return nil, err
		}
		if p == nil {
			continue
		}
		w, ok, err := m.weigh(p)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if best != nil {
			c := w.Compare(weight)
			if c == 0 {
				if c, err = m.breakTie(*p.end(), *best.end()); err != nil {
					return nil, err
				}
			}
			if c < 0 || (c == 0 && p.end().Sequence > best.end().Sequence) {
				continue
			}
		} else if yes, err := m.better(p); err != nil {
			return nil, err
		} else if !yes {
			continue
		}
		best, weight = p, w
	}
	return best, nil
}

// candidate returns the longest part of a leaf's chain that may become the best
// chain now, nil if there is none above the fork.
func (m *Manager) candidate(leaf types.Hash) (*path, error) {
	e, err := m.entry(leaf)
	if err != nil {
		return nil, err
	}
	p, err := m.path(&e)
	if err != nil || len(p.up) == 0 {
		return nil, err
	}
	if ok, err := m.allowed(&p); err != nil || !ok {
		if err == nil {
			delete(m.leaves, leaf) // and never will be
		}
		return nil, err
	}
	if err := m.park(&p); err != nil || len(p.up) == 0 {
		return nil, err
	}
	return &p, nil
}
