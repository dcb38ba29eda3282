package node

import (
	"sync"

	"qcitycoin.org/qcity/node/types"
)

// verified remembers the transactions whose signatures this node has checked,
// the newest up to a bound, so that a block of transactions from the mempool
// connects without checking them again.
type verified struct {
	mu    sync.Mutex
	known map[types.Hash]struct{}
	ring  []types.Hash // in order of arrival; next is overwritten
	next  int
}

// maxVerified bounds the memory: about 100 bytes each, several full blocks.
const maxVerified = 1 << 16

func newVerified() *verified { return &verified{known: make(map[types.Hash]struct{})} }

func (v *verified) add(id types.Hash) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.known[id]; ok {
		return
	}
	v.known[id] = struct{}{}
	if len(v.ring) < maxVerified {
		v.ring = append(v.ring, id)
		return
	}
	delete(v.known, v.ring[v.next])
	v.ring[v.next] = id
	v.next = (v.next + 1) % maxVerified
}

func (v *verified) has(id types.Hash) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.known[id]
	return ok
}
