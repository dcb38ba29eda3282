package chain

// better reports whether the chain that ends in e is to replace the best chain
// (C8): more signed slots, then more work; then the tie rules at the first slot
// where they differ; else what was seen first stays.
func (m *Manager) better(e *Entry) (bool, error) {
	if c := e.State.Compare(&m.tip.State); c != 0 {
		return c > 0, nil
	}
	c, err := m.breakTie(*e, m.tip)
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
