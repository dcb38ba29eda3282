package miner

import (
	"encoding/binary"

	"qcitycoin.org/qcity/miner/work"
)

const (
	versionShift = 5       // lowest bit of work.VersionMask
	versionCount = 1 << 24 // values its 24 adjoining bits can take

	counterBits = 48
	maxWorkers  = 1 << (64 - counterBits)
)

// cursor deals one worker the headers it is to search, as pairs of an
// extranonce and a group of header versions; each pair stands for all 2^32
// nonces. Versions are used up first, because kernels like many of them and a
// new extranonce costs a new Merkle root.
//
// The extranonce is work.LocalPrefix ‖ worker (2 bytes) ‖ counter (6 bytes). The
// counter is never set back, not even for a new job: two templates may differ
// in nothing, and then a counter that began anew would hash the same headers
// again. It starts at random, because the same can happen after a restart, or
// on two machines that mine to the same key.
type cursor struct {
	worker  uint16
	counter uint64
	group   uint32 // next group of versions
	lanes   uint32 // versions in a group, 1 … sha256d.MaxVersions
}

// next returns the next pair; the versions are base with the rollable bits set
// anew, written over versions.
func (c *cursor) next(base uint32, versions []uint32) (extranonce [work.ExtranonceSize]byte, group []uint32) {
	if (c.group+1)*c.lanes > versionCount {
		c.skip()
	}
	copy(extranonce[:], work.LocalPrefix[:])
	rest := uint64(c.worker)<<counterBits | c.counter&(1<<counterBits-1)
	binary.BigEndian.PutUint64(extranonce[work.PrefixSize:], rest)

	group = versions[:0]
	for i := range c.lanes {
		group = append(group, base&^work.VersionMask|(c.group*c.lanes+i)<<versionShift)
	}
	c.group++
	return extranonce, group
}

// skip goes on to the next extranonce.
func (c *cursor) skip() {
	c.counter++
	c.group = 0
}

// The constants above are work.VersionMask, taken apart; this does not compile
// when they are not.
var _ = [1]struct{}{}[(versionCount-1)<<versionShift^work.VersionMask]
