package chain

// MaxHeld is maxHeld for tests.
const MaxHeld = maxHeld

// VerifyAhead is verifyAhead.
var VerifyAhead = verifyAhead

// AllowTwins lets any key sign as many blocks at a slot as it likes.
func AllowTwins(m *Manager) { m.freeTwins = 1 << 30 }

// Sizes is how many things a manager remembers, by kind.
func Sizes(m *Manager) map[string]int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	twins := 0
	for _, keys := range m.twins {
		twins += len(keys)
	}
	recent := 0
	if m.recent != nil {
		recent = len(m.recent.up)
	}
	return map[string]int{
		"held": len(m.held), "arrivals": len(m.arrivals), "leaves": len(m.leaves), "recent": recent,
		"certificates": len(m.certificates), "unstored": len(m.unstored), "slots": len(m.proven.certified),
		"twins": twins, "spent": len(m.spent), "accused": len(m.accused), "heard": len(m.heard), "evidence": len(m.tally.Evidence()),
	}
}
