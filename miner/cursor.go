package miner

import (
	"encoding/binary"

	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

const (
	versionShift = 5       // lowest bit of work.VersionMask
	versionCount = 1 << 24 // values its 24 adjoining bits can take

	counterBits = 48
	maxWorkers  = 1 << (64 - counterBits)
)

// cursor deals one worker the headers it is to hash: for a pair of an extranonce
// and a group of versions one range of nonces after the other, then the next
// group, and once the versions are used up the next extranonce. Versions come
// before extranonces, because a new extranonce costs a new Merkle root.
//
// The extranonce is work.LocalPrefix ‖ worker (2 bytes) ‖ counter (6 bytes).
//
// A cursor only ever moves forward, and knows nothing of jobs: a new job is
// hashed from where the last one was left. So nothing is skipped at a job
// switch, and nothing is hashed twice even if two jobs, or two header times,
// differ in nothing. The counter starts at random, because the same can happen
// after a restart, or on two machines that mine to the same key.
type cursor struct {
	worker  uint16
	counter uint64
	version uint32 // first of the group, counted from 0
	width   uint32 // versions in the group, 1 … sha256d.MaxVersions
	nonce   uint64 // the next one, 0 … sha256d.NonceSpace
}

// setWidth changes how many versions a group has. What is left of the present
// group is passed over: a kernel that got fewer versions than it likes until
// all nonces are through would be slow for minutes.
func (c *cursor) setWidth(width int) {
	width = max(1, min(width, sha256d.MaxVersions, versionCount))
	if uint32(width) == c.width {
		return
	}
	if c.width > 0 && c.nonce > 0 {
		c.version, c.nonce = c.version+c.width, 0
	}
	c.width = uint32(width)
}

// pair returns what the next nonces belong to: an extranonce, and base with the
// rollable bits set anew, written over versions.
func (c *cursor) pair(base uint32, versions []uint32) (extranonce [work.ExtranonceSize]byte, group []uint32) {
	if c.nonce == sha256d.NonceSpace {
		c.version, c.nonce = c.version+c.width, 0
	}
	if c.version+c.width > versionCount {
		c.counter++
		c.version, c.nonce = 0, 0
	}
	copy(extranonce[:], work.LocalPrefix[:])
	rest := uint64(c.worker)<<counterBits | c.counter&(1<<counterBits-1)
	binary.BigEndian.PutUint64(extranonce[work.PrefixSize:], rest)

	group = versions[:0]
	for i := range c.width {
		group = append(group, base&^work.VersionMask|(c.version+i)<<versionShift)
	}
	return extranonce, group
}

// take deals the next nonces of the pair, as many as make up the given number of
// hashes; n is 0 when the pair is used up.
func (c *cursor) take(hashes int) (first uint32, n int) {
	left := sha256d.NonceSpace - c.nonce
	n = int(min(uint64(max(1, hashes/int(c.width))), left))
	first = uint32(c.nonce)
	c.nonce += uint64(n)
	return first, n
}

// The constants above are work.VersionMask, taken apart; this does not compile
// when they are not.
var _ = [1]struct{}{}[(versionCount-1)<<versionShift^work.VersionMask]
