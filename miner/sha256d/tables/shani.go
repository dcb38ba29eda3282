package tables

// The SHA-NI kernels compute the message schedule with SHA-NI as well, four
// words at a time. A unit is four lanes; its stages are
//
//  0. the tail's schedule, if lanes are nonces; versions of one nonce share a
//     schedule, which is computed before;
//  1. the first hash;
//  2. the schedule of the second hash;
//  3. the second hash.
//
// Each stage of an iteration reads what the one before left in the last
// iteration, and all change places afterwards: see ShaScratch.Halves.

// ShaLanes is the number of lanes in a unit.
const ShaLanes = 4

// ShaStagesBehind is how many units lie between a unit's first hash and its
// answer. With nonces it is one more.
const ShaStagesBehind = 2

// ShaVersion is what belongs to one version; the order of the working variables
// is SHA-NI's.
type ShaVersion struct {
	FEBA, HGDC       V4 // tail: after round 3; a and e lack the nonce
	MidFEBA, MidHGDC V4 // hash value after the first block
}

// ShaJob is what all nonces of a work share.
type ShaJob struct {
	Versions [HybridVersions]ShaVersion

	K [16]V4 // round constants

	Tail     V4    // the tail's words 0 … 2
	TailRest [3]V4 // its words 4 … 15
	Rest     [2]V4 // words 8 … 15 of the second hash

	SecondFEBA V4 // second hash: after round 0; a and e lack W0
	SecondHGDC V4

	High V4 // all ones in word 3
	Odd  V4 // all ones in words 1 and 3
	IV7  V4 // last word of the initial hash value
	Top  V4 // the target's most significant 32 bits
	Swap V4 // shuffle that reverses the bytes of every word
	Step V4 // what Nonce moves on by
}

// ShaHalf is what stages hand on.
type ShaHalf struct {
	Start  [ShaLanes]V4         // by 0 for 1: nonce in words 1 and 3
	Tail   [ShaLanes][64]uint32 // by 0 for 1: K + W of the tail
	Words  [ShaLanes][2]V4      // by 1 for 2: the first hash, words 0 … 7 of the second
	First  [ShaLanes]V4         // by 2 for 3: W0 in words 1 and 3
	Second [ShaLanes][64]uint32 // by 2 for 3: K + W of the second hash
}

// ShaTails is how many nonces' schedules are computed at a time for versions.
const ShaTails = 16

// ShaTail is the tail's schedule of one nonce.
type ShaTail struct {
	Words [64]uint32 // K + W
	Start V4         // nonce in words 1 and 3
}

// ShaScratch is a SHA-NI kernel's working memory.
type ShaScratch struct {
	Nonce  V4 // the next nonces, as numbers
	Halves [2]ShaHalf
	Out    uintptr           // address of the half that is written next
	_      uintptr           // keeps Tails on their boundary
	Tails  [ShaTails]ShaTail // by stage 0 for versions

	// Hits holds, for each unit with a candidate, how many units were left when
	// it was seen, that one included.
	Hits [MaxUnits]uint32
}
