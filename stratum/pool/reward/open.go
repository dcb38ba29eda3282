package reward

// OpenBlock is a found block that is not confirmed.
type OpenBlock struct {
	ID     [32]byte
	Height uint32
	State  State
}

// Open returns the blocks that may still change, oldest first.
func (l *Ledger) Open() []OpenBlock {
	var open []OpenBlock
	for _, b := range l.blocks {
		if b.state != Confirmed {
			open = append(open, OpenBlock{b.found.ID, b.found.Height, b.state})
		}
	}
	return open
}
