package sha256d

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"

	"qcitycoin.org/qcity/miner/work"
)

// genesis is Bitcoin's first header: the best-known SHA-256d proof of work.
var genesis = func() (h work.Header) {
	merkle := [32]byte{
		0x3b, 0xa3, 0xed, 0xfd, 0x7a, 0x7b, 0x12, 0xb2, 0x7a, 0xc7, 0x2c, 0x3e, 0x67, 0x76, 0x8f, 0x61,
		0x7f, 0xc8, 0x1b, 0xc3, 0x88, 0x8a, 0x51, 0x32, 0x3a, 0x9f, 0xb8, 0xaa, 0x4b, 0x1e, 0x5e, 0x4a,
	}
	binary.LittleEndian.PutUint32(h[0:], 1)
	copy(h[36:], merkle[:])
	binary.LittleEndian.PutUint32(h[68:], 1231006505)
	binary.LittleEndian.PutUint32(h[72:], 0x1d00ffff)
	return h
}()

const genesisNonce = 2083236893

// scanCase is one scan whose complete answer is known.
type scanCase struct {
	name  string
	work  Work
	first uint32
	n     int
	want  []Hit
}

// SelfTest proves a kernel on a fresh engine: Bitcoin's genesis header, then
// random headers with one, the kernel's own and the largest number of versions,
// easy and exact targets, odd lengths and both ends of the nonce space, all
// against crypto/sha256. The error says what went wrong first. It takes
// some twenty milliseconds.
func SelfTest(k Kernel) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("kernel %s failed its self test: %v", k.Name, r)
		}
	}()
	s := NewScanner(k)
	for _, c := range selfTestCases(k.Lanes) {
		if err := s.Prepare(&c.work); err != nil {
			return fmt.Errorf("kernel %s failed its self test: %s: %w", k.Name, c.name, err)
		}
		hashes, got := s.Scan(c.first, c.n, nil)
		if want := uint64(c.n) * uint64(len(c.work.Versions)); hashes != want {
			return fmt.Errorf("kernel %s failed its self test: %s: counted %d hashes instead of %d", k.Name, c.name, hashes, want)
		}
		sortHits(got)
		if !slices.Equal(got, c.want) {
			return fmt.Errorf("kernel %s failed its self test: %s: found %d headers instead of the %d right ones", k.Name, c.name, len(got), len(c.want))
		}
	}
	return nil
}

func selfTestCases(lanes int) []scanCase {
	cases := genesisCases(lanes)
	// A fixed seed: a self test that fails must fail again.
	rng := rand.New(rand.NewPCG(1, genesisNonce))
	for _, count := range slices.Compact([]int{1, max(lanes, 2), MaxVersions}) {
		for _, n := range []int{1, 15, 16, 17, 67} {
			for _, first := range []uint32{0, rng.Uint32N(1 << 31), uint32(NonceSpace - uint64(n))} {
				cases = append(cases, randomCases(rng, count, first, n)...)
			}
		}
	}
	return cases
}

// genesisCases look for one known needle from every side.
func genesisCases(lanes int) []scanCase {
	target := work.TargetFromBig(new(big.Int).Lsh(big.NewInt(0xffff), 208)) // compact 1d00ffff
	needle := []Hit{{Version: 1, Nonce: genesisNonce}}
	one := Work{Header: genesis, Versions: []uint32{1}, Target: target}
	rolled := Work{Header: genesis, Versions: versionsFrom(1, max(lanes, 2)), Target: target}
	full := Work{Header: genesis, Versions: versionsFrom(1, MaxVersions), Target: target}
	return []scanCase{
		{"genesis header", one, genesisNonce - 100, 300, needle},
		{"genesis header, that nonce alone", one, genesisNonce, 1, needle},
		{"genesis header, range starting with it", one, genesisNonce, 33, needle},
		{"genesis header, range ending with it", one, genesisNonce - 32, 33, needle},
		{"genesis header, range ending before it", one, genesisNonce - 33, 33, nil},
		{"genesis header, range starting after it", one, genesisNonce + 1, 33, nil},
		{"genesis header among rolled versions", rolled, genesisNonce - 20, 40, needle},
		{"genesis header among sixteen versions", full, genesisNonce - 20, 40, needle},
	}
}

// randomCases make a random header and ask for it with several targets. The
// exact ones are the smallest hash of the range (found) and one less (not).
func randomCases(rng *rand.Rand, versions int, first uint32, n int) []scanCase {
	var h work.Header
	for i := range h {
		h[i] = byte(rng.Uint32())
	}
	w := Work{Header: h, Versions: versionsFrom(rng.Uint32()&^work.VersionMask, versions)}
	hashes := allHashes(&w, first, n)
	best := lowest(hashes)
	targets := []struct {
		name   string
		target work.Target
	}{
		{"every hash counts", work.MaxTarget},
		{"one hash in 4", work.TargetFromBig(new(big.Int).Lsh(big.NewInt(1), 254))},
		{"exactly the best hash", work.TargetFromBig(best)},
		{"just below the best hash", work.TargetFromBig(new(big.Int).Sub(best, big.NewInt(1)))},
		{"no hash counts", work.Target{}},
	}
	cases := make([]scanCase, len(targets))
	for i, t := range targets {
		w.Target = t.target
		name := fmt.Sprintf("random header, %d versions, %d nonces from %d, %s", versions, n, first, t.name)
		cases[i] = scanCase{name, w, first, n, meeting(t.target, hashes)}
	}
	return cases
}

// hashed is a header of a Work with its hash.
type hashed struct {
	Hit
	hash [32]byte
}

// allHashes hashes a range with crypto/sha256 alone.
func allHashes(w *Work, first uint32, n int) []hashed {
	all := make([]hashed, 0, n*len(w.Versions))
	h := w.Header
	for _, version := range w.Versions {
		binary.LittleEndian.PutUint32(h[0:], version)
		for i := range uint32(n) {
			binary.LittleEndian.PutUint32(h[76:], first+i)
			all = append(all, hashed{Hit{version, first + i}, h.Hash()})
		}
	}
	return all
}

// meeting returns the headers whose hashes meet a target, sorted.
func meeting(target work.Target, hashes []hashed) []Hit {
	var hits []Hit
	for _, h := range hashes {
		if target.Met(h.hash) {
			hits = append(hits, h.Hit)
		}
	}
	sortHits(hits)
	return hits
}

// lowest returns the smallest hash as the number it is.
func lowest(hashes []hashed) *big.Int {
	best := work.MaxTarget
	for _, h := range hashes {
		slices.Reverse(h.hash[:])
		if t := work.Target(h.hash); best.Easier(t) {
			best = t
		}
	}
	return best.Big()
}

func sortHits(hits []Hit) {
	slices.SortFunc(hits, func(a, b Hit) int {
		if a.Nonce != b.Nonce {
			return int(int64(a.Nonce) - int64(b.Nonce))
		}
		return int(int64(a.Version) - int64(b.Version))
	})
}

// versionsFrom rolls the lowest n of the bits that may be rolled over base.
func versionsFrom(base uint32, n int) []uint32 {
	versions := make([]uint32, n)
	for i := range versions {
		versions[i] = base | uint32(i)<<5 // BIP 323: bits 5 and up
	}
	return versions
}
