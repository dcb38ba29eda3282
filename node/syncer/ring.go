package syncer

// ring is a set that forgets what it has known longest.
type ring[K comparable] struct {
	size  int
	known map[K]struct{}
	order []K
	next  int
}

func newRing[K comparable](size int) *ring[K] {
	return &ring[K]{size: size, known: make(map[K]struct{})}
}

func (r *ring[K]) has(k K) bool {
	_, ok := r.known[k]
	return ok
}

// add reports whether k is new.
func (r *ring[K]) add(k K) bool {
	if r.has(k) {
		return false
	}
	r.known[k] = struct{}{}
	if len(r.order) < r.size {
		r.order = append(r.order, k)
		return true
	}
	delete(r.known, r.order[r.next])
	r.order[r.next] = k
	r.next = (r.next + 1) % r.size
	return true
}
