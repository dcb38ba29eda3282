package chain

import (
	"cmp"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
)

// proven are the certified and the final slots of a tally, ascending. They are
// kept so as certificates come: where nothing is final for long, as on the way to a
// release's checkpoint, looking through all of them for each would take ever longer.
type proven struct {
	certified []consensus.Checkpoint // the root first
	final     []consensus.Checkpoint // without the root
	source    uint32                 // highest one of a certificate, counted or waiting
}

// recount reads both lists from the tally.
func (p *proven) recount(t *consensus.Tally) {
	p.certified = t.CertifiedSlots()
	slices.Reverse(p.certified)
	p.final = slices.DeleteFunc(slices.Clone(p.certified), func(c consensus.Checkpoint) bool { return c == t.Root() || !t.Final(c) })
}

// note follows a certificate that the tally was given.
func (p *proven) note(t *consensus.Tally, l consensus.Link) {
	p.source = max(p.source, l.Source.Height)
	if !t.Certified(l.Target) {
		return // it waits for its source
	}
	if _, known := slices.BinarySearchFunc(p.certified, l.Target, compareSlots); !known {
		if l.Target.Height <= p.source {
			p.recount(t) // others may have waited for this one
			return
		}
		p.certified = insertSlot(p.certified, l.Target)
	}
	if l.Source != t.Root() && t.Final(l.Source) {
		p.final = insertSlot(p.final, l.Source)
	}
}

func insertSlot(list []consensus.Checkpoint, c consensus.Checkpoint) []consensus.Checkpoint {
	i, known := slices.BinarySearchFunc(list, c, compareSlots)
	if known {
		return list
	}
	return slices.Insert(list, i, c)
}

func compareSlots(a, b consensus.Checkpoint) int {
	return cmp.Or(cmp.Compare(a.Height, b.Height), a.ID.Compare(b.ID))
}
