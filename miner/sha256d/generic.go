package sha256d

import (
	"encoding/binary"
	"math/bits"

	"qcitycoin.org/qcity/miner/work"
)

// generic is SHA-256d written out for this one shape of message (FIPS 180-4;
// the header is two blocks, the second hash one). What it saves:
//
//   - the first 64 bytes are hashed once per version (midstate);
//   - of the second block only the last of four message words is the nonce, so
//     its first three rounds and the first two schedule words are done ahead;
//   - when the target's top 32 bits are zero, a hash can only qualify if the
//     digest's last word is zero. That word is settled after round 60 of 64,
//     and all but one in 2^32 hashes stop there.
type generic struct {
	prepared
	target work.Target
}

// state is the working variables a … h, or a chaining value.
type state [8]uint32

func (e *generic) Prepare(w *Work) {
	e.target = w.Target
	e.prepare(w)
}

func (e *generic) Scan(first uint32, n int, hits []Hit) []Hit {
	var m1, m2 [64]uint32
	copy(m1[:], e.tail[:])
	m2[8], m2[15] = 0x80000000, 8*32
	for i := range uint32(n) {
		nonce := first + i
		m1[3] = nonceWord(nonce)
		extend(&m1, 18, 64) // the same for every version
		for lane := range e.lanes {
			h := add(rounds(e.ahead[lane], &m1, 3, 64), e.mid[lane])
			copy(m2[:8], h[:])
			if e.qualifies(&m2) {
				hits = append(hits, Hit{e.versions[lane], nonce})
			}
		}
	}
	return hits
}

// qualifies hashes the first digest in m[0:8] again and compares with the
// target.
func (e *generic) qualifies(m *[64]uint32) bool {
	extend(m, 16, 61)
	s := rounds(iv, m, 0, 61)
	if e.top == 0 {
		// e after round 60 moves on unchanged and is h after round 63.
		return s[4]+iv[7] == 0
	}
	extend(m, 61, 64)
	s = add(rounds(s, m, 61, 64), iv)
	var digest [32]byte
	for i, v := range s {
		binary.BigEndian.PutUint32(digest[4*i:], v)
	}
	return e.target.Met(digest)
}

// extend computes message schedule words from … to−1 (FIPS 180-4, 6.2.2 step 1).
func extend(m *[64]uint32, from, to int) {
	for i := from; i < to; i++ {
		x, y := m[i-15], m[i-2]
		s0 := bits.RotateLeft32(x, -7) ^ bits.RotateLeft32(x, -18) ^ x>>3
		s1 := bits.RotateLeft32(y, -17) ^ bits.RotateLeft32(y, -19) ^ y>>10
		m[i] = m[i-16] + s0 + m[i-7] + s1
	}
}

// rounds runs rounds from … to−1 (FIPS 180-4, 6.2.2 step 3).
func rounds(s state, m *[64]uint32, from, to int) state {
	a, b, c, d, e, f, g, h := s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
	for i := from; i < to; i++ {
		t := h + k[i&63] + m[i&63] + (g ^ e&(f^g)) +
			(bits.RotateLeft32(e, -6) ^ bits.RotateLeft32(e, -11) ^ bits.RotateLeft32(e, -25))
		u := (a&b ^ c&(a^b)) +
			(bits.RotateLeft32(a, -2) ^ bits.RotateLeft32(a, -13) ^ bits.RotateLeft32(a, -22))
		h, g, f, e, d, c, b, a = g, f, e, d+t, c, b, a, t+u
	}
	return state{a, b, c, d, e, f, g, h}
}

func add(s, t state) state {
	for i := range s {
		s[i] += t[i]
	}
	return s
}

// iv and k are the fractional bits of the square and cube roots of the first
// primes (FIPS 180-4, 5.3.3 and 4.2.2).
var (
	iv = state{
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	}
	k = [64]uint32{
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
		0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
		0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
		0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
		0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
		0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
		0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
	}
)
