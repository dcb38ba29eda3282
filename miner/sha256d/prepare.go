package sha256d

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// prepared is what all nonces of a Work share, one version in each lane.
type prepared struct {
	versions [MaxVersions]uint32
	lanes    int
	mid      [MaxVersions]state // after the first 64 bytes
	ahead    [MaxVersions]state // mid, three rounds into the tail
	tail     [18]uint32         // the tail's words and 16, 17 of its schedule; [3] is the nonce
	top      uint32             // the target's most significant 32 bits
}

func (p *prepared) prepare(w *Work) {
	p.top = binary.BigEndian.Uint32(w.Target[:4])
	p.lanes = copy(p.versions[:], w.Versions)

	var m [64]uint32
	for i := range 3 {
		m[i] = binary.BigEndian.Uint32(w.Header[64+4*i:])
	}
	m[4], m[15] = 0x80000000, 8*80 // padding; length in bits
	extend(&m, 16, 18)
	copy(p.tail[:], m[:18])
	tail := m

	h := w.Header
	for lane, version := range w.Versions {
		binary.LittleEndian.PutUint32(h[0:], version)
		for i := range 16 {
			m[i] = binary.BigEndian.Uint32(h[4*i:])
		}
		extend(&m, 16, 64)
		p.mid[lane] = add(rounds(iv, &m, 0, 64), iv)
		p.ahead[lane] = rounds(p.mid[lane], &tail, 0, 3)
	}
}

// afterRound3 returns the tail's working variables after round 3; a and e lack
// the nonce.
func (p *prepared) afterRound3(lane int) state {
	m := [64]uint32{} // word 3 is zero
	return rounds(p.ahead[lane], &m, 3, 4)
}

// round0 returns the second hash's working variables after round 0; a and e
// lack word 0.
func round0() state {
	m := [64]uint32{}
	return rounds(iv, &m, 0, 1)
}

// constantTerms returns the sum of those terms of schedule word t that are the
// same in all lanes.
func constantTerms(m *[64]uint32, constant func(t int) bool, t int) uint32 {
	var only [64]uint32
	for _, i := range []int{t - 2, t - 7, t - 15, t - 16} {
		if constant(i) {
			only[i] = m[i]
		}
	}
	extend(&only, t, t+1)
	return only[t]
}

// fillConstants sets what does not depend on the version.
func fillConstants[C, V tables.Words](job *tables.Job[C, V], p *prepared) {
	var tail [64]uint32
	copy(tail[:], p.tail[:])
	for t := range 64 {
		job.K[t] = tables.Splat[C](k[t])
		if t >= 4 && t < 18 {
			job.KW1[t] = tables.Splat[C](k[t] + tail[t])
		}
		if t >= 18 {
			u := constantTerms(&tail, func(i int) bool { return i != 3 && i < 18 }, t)
			job.U1[t] = tables.Splat[C](u)
		}
	}
	fillSecond(&job.U2, &job.KW2)
	head := round0()
	for i, x := range head {
		job.Head[i] = tables.Splat[C](x)
	}
	for t := 1; t < 4; t++ { // h of round t is g, f, e of the state after round 0, shifted
		job.Early2[t] = tables.Splat[C](k[t] + head[8-t])
	}
	job.IV7 = tables.Splat[C](iv[7])
	job.Top = tables.Splat[C](p.top)
	for lane := range tables.Lanes[V]() {
		tables.Set(&job.Swap, lane, swapLane(lane))
	}
}

// fillSecond sets what is constant of the second hash's schedule.
func fillSecond[C tables.Words](u2, kw2 *[64]C) {
	var second [64]uint32
	second[8], second[15] = 0x80000000, 8*32
	for t := 8; t < 16; t++ {
		kw2[t] = tables.Splat[C](k[t] + second[t])
	}
	for t := 16; t < 64; t++ {
		u2[t] = tables.Splat[C](constantTerms(&second, func(i int) bool { return i >= 8 && i < 16 }, t))
	}
}

// swapLane is one lane of pshufb's shuffle that reverses the bytes of every
// word. It counts bytes within 128 bits.
func swapLane(lane int) uint32 { return 0x00010203 + uint32(lane%4)*0x04040404 }

// fillLane puts one version into one lane.
func fillLane[C, V tables.Words](job *tables.Job[C, V], p *prepared, lane, version int) {
	ahead := p.afterRound3(version)
	for i := range 8 {
		tables.Set(&job.Mid[i], lane, p.mid[version][i])
		tables.Set(&job.Ahead[i], lane, ahead[i])
	}
	for t := 4; t < 7; t++ {
		tables.Set(&job.Early1[t], lane, ahead[11-t]+k[t]+p.tail[t])
	}
}

// aligned returns memory for a T on a boundary of 64 bytes, which vector loads
// want. T must not hold pointers: the garbage collector does not look there.
func aligned[T any]() *T {
	const line = 64
	size := unsafe.Sizeof(*new(T))
	b := make([]byte, size+line)
	off := (line - uintptr(unsafe.Pointer(&b[0]))%line) % line
	return (*T)(unsafe.Pointer(&b[off]))
}

// nonceWord is the tail's word 3 for a nonce: the header is little-endian.
func nonceWord(nonce uint32) uint32 { return bits.ReverseBytes32(nonce) }
