package pool

import "sync"

// Seen is a pool-wide table of share hashes. The key is the hash of the whole
// header, so that shares which differ only in their version bits are different,
// and spellings of one share are the same. It holds two generations: the older
// one is dropped when the newer is half of the limit.
type Seen struct {
	mu       sync.Mutex
	half     int
	now, old map[[32]byte]struct{}
	parent   [32]byte
}

// NewSeen returns an empty table of at most limit hashes.
func NewSeen(limit int) *Seen {
	return &Seen{half: max(1, limit/2), now: map[[32]byte]struct{}{}, old: map[[32]byte]struct{}{}}
}

// Reset makes room when the parent block changes. Shares of the parent before may
// still come in for a moment, those of any earlier one are stale and need no memory.
func (s *Seen) Reset(parent [32]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if parent != s.parent {
		s.parent = parent
		s.now, s.old = map[[32]byte]struct{}{}, s.now
	}
}

// Add reports whether hash is new, and remembers it.
func (s *Seen) Add(hash [32]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, dup := s.now[hash]; dup {
		return false
	}
	if _, dup := s.old[hash]; dup {
		return false
	}
	if len(s.now) >= s.half {
		s.now, s.old = s.old, s.now
		clear(s.now)
	}
	s.now[hash] = struct{}{}
	return true
}

// all returns what is remembered, the older generation first.
func (s *Seen) all() [][32]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([][32]byte, 0, len(s.old)+len(s.now))
	for _, generation := range []map[[32]byte]struct{}{s.old, s.now} {
		for hash := range generation {
			list = append(list, hash)
		}
	}
	return list
}

// size is how many hashes are remembered.
func (s *Seen) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.old) + len(s.now)
}

// Forget makes hash new again.
func (s *Seen) Forget(hash [32]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.now, hash)
	delete(s.old, hash)
}
