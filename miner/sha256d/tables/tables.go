// Package tables lays out the memory that the generated kernels share with Go.
// The generator takes every offset from these types, so they are the one place
// to change.
//
// Rounds and message words are numbered as in FIPS 180-4, 6.2.2. A header is
// two blocks; the first is the same for all nonces, the second (the tail) holds
// the nonce in word 3. The second hash has one block.
package tables

import "unsafe"

// One 32-bit word of each of 4, 8 or 16 lanes.
type (
	V4  [4]uint32
	V8  [8]uint32
	V16 [16]uint32
)

// Words is what a 32-bit word can look like: alone, to be broadcast by the
// instruction that reads it, or as a vector.
type Words interface{ uint32 | V4 | V8 | V16 }

// Splat returns x in every lane.
func Splat[W Words](x uint32) (w W) {
	for lane := range lanes(&w) {
		lanes(&w)[lane] = x
	}
	return w
}

// Set puts x into one lane.
func Set[W Words](w *W, lane int, x uint32) { lanes(w)[lane] = x }

// Lanes returns the number of lanes of W.
func Lanes[W Words]() int {
	var w W
	return len(lanes(&w))
}

func lanes[W Words](w *W) []uint32 {
	switch w := any(w).(type) {
	case *V4:
		return w[:]
	case *V8:
		return w[:]
	case *V16:
		return w[:]
	case *uint32:
		return unsafe.Slice(w, 1)
	}
	panic("no such word")
}

// Job is what all nonces of a work share. C is a constant in the form in which
// the kernel takes it, one word where an instruction can broadcast it
// (AVX-512), a vector elsewhere. V is a vector of lanes.
type Job[C, V Words] struct {
	Mid    [8]V // hash value after the first block
	Ahead  [8]V // tail: a … h after round 3; a and e lack the nonce
	Early1 [7]V // tail: h + K + W of rounds 4 … 6, all constant

	Swap V // shuffle that reverses the bytes of every word
	Step V // what Nonce moves on by in one unit

	K   [64]C // round constants
	U1  [64]C // tail: the constant terms of word t, summed; 18 … 63
	KW1 [64]C // tail: K + W where W is constant; 4 … 17
	U2  [64]C // second hash: as U1; 16 … 63
	KW2 [64]C // second hash: as KW1; 8 … 15

	Head   [8]C // second hash: a … h after round 0; a and e lack W0
	Early2 [4]C // second hash: h + K of rounds 1 … 3, where h is constant
	IV7    C    // last word of the initial hash value
	Top    C    // the target's most significant 32 bits
}

// Scratch is a kernel's working memory.
type Scratch[V Words] struct {
	Nonce [2]V     // next nonces, as numbers, one vector for each group
	Ring  [2][16]V // the last 16 message words of each group

	// Tail is the schedule of the tail for as many nonces as V has lanes: a row
	// of pairs for each two rounds, see TailRows.
	Tail [TailRows][2]V

	// Hits holds, for each unit with a candidate, how many units were left when
	// it was seen, that one included.
	Hits [MaxUnits]uint32
}

// TailRows is the number of rows in a table of the tail's schedule: one for the
// nonce and one for each two of rounds 18 … 63.
const TailRows = 1 + (64-18)/2

// PairIndex says which pair of a row, counting along memory, belongs to a lane.
// Two vectors make a row, interleaved within 128 bits as unpckldq and unpckhdq
// do.
func PairIndex[V Words](lane int) int { return lane/4*2 + lane%4/2*(Lanes[V]()/2) + lane%2 }

// MaxUnits is the most units one call may ask for.
const MaxUnits = 1024
