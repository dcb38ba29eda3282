package sha256d

import (
	"crypto/sha256"
	"encoding/binary"

	simd "github.com/minio/sha256-simd"

	"qcitycoin.org/qcity/miner/work"
)

// whole hashes the full 80 bytes for every nonce with somebody else's SHA-256.
// It is the yardstick of the table, not a fast kernel: three compressions and
// two calls per header.
type whole struct {
	sum      func(h *work.Header) [32]byte
	header   work.Header
	target   work.Target
	versions [MaxVersions]uint32
	lanes    int
}

func stdlibSum(h *work.Header) [32]byte { return h.Hash() }

func simdSum(h *work.Header) [32]byte {
	first := simd.Sum256(h[:])
	return simd.Sum256(first[:])
}

// The two packages must agree on the digest type for simdSum to be a drop-in.
var _ [sha256.Size]byte = [simd.Size]byte{}

func (e *whole) Prepare(w *Work) {
	e.header, e.target = w.Header, w.Target
	e.lanes = copy(e.versions[:], w.Versions)
}

func (e *whole) Scan(first uint32, n int, hits []Hit) []Hit {
	for _, version := range e.versions[:e.lanes] {
		binary.LittleEndian.PutUint32(e.header[0:], version)
		for i := range uint32(n) {
			binary.LittleEndian.PutUint32(e.header[76:], first+i)
			if e.target.Met(e.sum(&e.header)) {
				hits = append(hits, Hit{version, first + i})
			}
		}
	}
	return hits
}
