package node

import (
	"encoding/binary"
	"testing"

	"qcitycoin.org/qcity/node/types"
)

// TestVerifiedForgetsTheOldest: the set is bounded, and what it forgets is
// what came first.
func TestVerifiedForgetsTheOldest(t *testing.T) {
	v := newVerified()
	id := func(i int) (h types.Hash) {
		binary.LittleEndian.PutUint64(h[:], uint64(i))
		return h
	}
	const extra = 10
	for i := range maxVerified + extra {
		v.add(id(i))
		v.add(id(i)) // again changes nothing
	}
	if len(v.known) != maxVerified || len(v.ring) != maxVerified {
		t.Fatalf("%d ids known, %d in order, want %d", len(v.known), len(v.ring), maxVerified)
	}
	for i := range maxVerified + extra {
		if v.has(id(i)) != (i >= extra) {
			t.Fatalf("id %d known: %t", i, v.has(id(i)))
		}
	}
}
