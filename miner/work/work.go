// Package work is the vocabulary that block templates, the CPU miner and the
// Stratum server share: what to hash (Job), what was found (Solution) and how
// good it must be (Target). It knows no chain rules and does no I/O.
package work

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// The extranonce inside every coinbase is ExtranonceSize bytes: the first
// PrefixSize name one searcher (a Stratum session, or this machine's CPU
// miner), the rest belongs to that searcher. Disjoint prefixes are what keeps
// two searchers from hashing the same header.
const (
	ExtranonceSize = 12
	PrefixSize     = 4
)

// LocalPrefix is the extranonce prefix of this machine's own CPU miner. The
// Stratum server never hands it to a session.
var LocalPrefix = [PrefixSize]byte{}

// VersionMask holds the header version bits a searcher may roll: bits 5–28
// (BIP 323; a superset of BIP 320's 0x1fffe000). Templates leave them zero.
const VersionMask uint32 = 0x1fffffe0

// Header is a serialised 80-byte block header.
type Header [80]byte

// Hash returns the header's double SHA-256, in internal (little-endian) order.
func (h *Header) Hash() [32]byte {
	first := sha256.Sum256(h[:])
	return sha256.Sum256(first[:])
}

// Job is one block template, cut open where searchers may change it. A Job is
// immutable once published; its ID is never used again. When PrevBlock differs
// from the job before, solutions of that job have become worthless; when it is
// the same, they still make a block.
type Job struct {
	ID     uint64 // rising; unique for the life of the process
	Height uint32
	// Fallback says that Height is a slot: the block only becomes valid once
	// the validators have missed it, and an early solution is held until then.
	Fallback bool

	Version   uint32   // bits in VersionMask are zero
	PrevBlock [32]byte // internal order
	// The coinbase transaction is CoinbasePrefix ‖ extranonce ‖ CoinbaseSuffix.
	CoinbasePrefix []byte
	CoinbaseSuffix []byte
	MerkleBranch   [][32]byte // siblings of the coinbase, leaf first, internal order
	Time           uint32     // proposed header time, seconds
	MinTime        uint32     // earliest header time the chain accepts
	Bits           uint32     // compact target of the chain
	Target         Target     // Bits, expanded

	// Transactions returns what the block holds beside the coinbase, serialised;
	// nil when the job's source does not tell.
	Transactions func() [][]byte

	Reward int64 // what the coinbase pays in all, subsidy and fees, in base units
}

// Solution is one choice of everything a Job leaves open.
type Solution struct {
	JobID      uint64
	Extranonce [ExtranonceSize]byte
	Version    uint32 // the full header version, rolled bits included
	Time       uint32
	Nonce      uint32
	Finder     string // the worker who found it, as it named itself; for the books only
}

// Coinbase returns the serialised coinbase transaction for an extranonce.
func (j *Job) Coinbase(extranonce [ExtranonceSize]byte) []byte {
	b := make([]byte, 0, len(j.CoinbasePrefix)+ExtranonceSize+len(j.CoinbaseSuffix))
	b = append(b, j.CoinbasePrefix...)
	b = append(b, extranonce[:]...)
	return append(b, j.CoinbaseSuffix...)
}

// MerkleRoot returns the Merkle root for an extranonce, in internal order.
func (j *Job) MerkleRoot(extranonce [ExtranonceSize]byte) [32]byte {
	return FoldBranch(doubleSHA256(j.Coinbase(extranonce)), j.MerkleBranch)
}

// HeaderWithRoot assembles the header of a solution whose Merkle root is known.
func (j *Job) HeaderWithRoot(s Solution, root [32]byte) Header {
	var h Header
	binary.LittleEndian.PutUint32(h[0:], s.Version)
	copy(h[4:], j.PrevBlock[:])
	copy(h[36:], root[:])
	binary.LittleEndian.PutUint32(h[68:], s.Time)
	binary.LittleEndian.PutUint32(h[72:], j.Bits)
	binary.LittleEndian.PutUint32(h[76:], s.Nonce)
	return h
}

// Header assembles the header that a solution stands for.
func (j *Job) Header(s Solution) Header {
	return j.HeaderWithRoot(s, j.MerkleRoot(s.Extranonce))
}

// CheckVersion refuses a version that changes bits outside VersionMask.
func (j *Job) CheckVersion(version uint32) error {
	if (version^j.Version)&^VersionMask != 0 {
		return fmt.Errorf("version %08x changes bits outside the rollable mask %08x of job version %08x", version, VersionMask, j.Version)
	}
	return nil
}

// FoldBranch hashes leaf 0 upwards along its siblings.
func FoldBranch(leaf [32]byte, branch [][32]byte) [32]byte {
	var pair [64]byte
	for i := range branch {
		copy(pair[:32], leaf[:])
		copy(pair[32:], branch[i][:])
		leaf = doubleSHA256(pair[:])
	}
	return leaf
}

func doubleSHA256(b []byte) [32]byte {
	first := sha256.Sum256(b)
	return sha256.Sum256(first[:])
}
