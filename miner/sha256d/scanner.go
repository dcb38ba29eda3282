package sha256d

import (
	"encoding/binary"
	"fmt"

	"qcitycoin.org/qcity/miner/work"
)

// Scanner drives one engine and vouches for what it reports. It serves one
// goroutine.
type Scanner struct {
	engine   Engine
	header   work.Header
	target   work.Target
	versions int // 0: nothing prepared
}

// NewScanner returns a Scanner on an engine of k's own.
func NewScanner(k Kernel) *Scanner { return &Scanner{engine: k.New()} }

// Prepare makes w the work of the following Scans. It fails, and leaves nothing
// prepared, when w has no versions, too many, or the same one twice.
func (s *Scanner) Prepare(w *Work) error {
	s.versions = 0
	if n := len(w.Versions); n < 1 || n > MaxVersions {
		return fmt.Errorf("work carries %d header versions: give 1 to %d", n, MaxVersions)
	}
	for i, v := range w.Versions {
		for _, u := range w.Versions[:i] {
			if u == v {
				return fmt.Errorf("work carries header version %08x twice", v)
			}
		}
	}
	s.engine.Prepare(w)
	s.header, s.target, s.versions = w.Header, w.Target, len(w.Versions)
	return nil
}

// Scan hashes exactly the n nonces from first on, with every prepared version,
// and appends to hits all headers that meet the target, each re-checked with
// crypto/sha256 against all 256 bits. It returns the number of headers hashed,
// n times the number of versions.
//
// The range may end at the last nonce but must not pass it; that, n < 1 and a
// Scan before a Prepare are bugs of the caller and panic.
func (s *Scanner) Scan(first uint32, n int, hits []Hit) (uint64, []Hit) {
	if s.versions == 0 || n < 1 || uint64(n) > NonceSpace-uint64(first) {
		panic(fmt.Sprintf("sha256d: scan of %d nonces from %d with %d versions prepared", n, first, s.versions))
	}
	known := len(hits)
	hits = s.engine.Scan(first, n, hits)
	good := hits[:known]
	for _, h := range hits[known:] {
		if s.meets(h) {
			good = append(good, h)
		}
	}
	return uint64(n) * uint64(s.versions), good
}

// meets re-checks one candidate with the standard library.
func (s *Scanner) meets(h Hit) bool {
	binary.LittleEndian.PutUint32(s.header[0:], h.Version)
	binary.LittleEndian.PutUint32(s.header[76:], h.Nonce)
	return s.target.Met(s.header.Hash())
}
