package tables

// The sha2 kernels use the SHA-256 instructions of ARMv8. A V4 here is four
// consecutive words of one hash: sha256h and sha256h2 do four rounds at a time,
// and keep the working variables in two registers, a b c d and e f g h.
//
// A unit is SHA2Ways hashes side by side: nonces of one version, or versions
// with one nonce. They start where the first varying word has been added into
// constants: after round 3 of the tail, which adds the nonce to a and e, and
// after round 0 of the second hash, which adds W0. Both have sixty rounds to
// go: 4 … 63 of the tail, and 1 … 60, with which the decision falls, of the
// second hash. That hash's words are therefore counted in fours from 1 on.

// SHA2Ways is how many hashes run side by side, 1 to 4: enough of them to keep
// the SHA unit busy, which needs several cycles for an instruction.
const SHA2Ways = 4

// SHA2Sets is the most sets of SHA2Ways versions that share a nonce.
const SHA2Sets = (HybridVersions + SHA2Ways - 1) / SHA2Ways

// SHA2Version is what belongs to one version, a b c d and e f g h.
type SHA2Version struct {
	Ahead [2]V4 // tail: after round 3; a and e lack the nonce
	Mid   [2]V4 // hash value after the first block
}

// SHA2Job is what all nonces of a work share.
type SHA2Job struct {
	Sets [SHA2Sets][SHA2Ways]SHA2Version

	Words [4]V4  // tail: message words 0 … 15; the nonce is zero
	KW1   [3]V4  // tail: K + W of rounds 4 … 15
	K1    [12]V4 // tail: K of rounds 16 … 63
	U1    [3]V4  // tail: the terms from words t−16 and t−15 of words 20 … 31, all constant

	Head [2]V4  // second hash: a … h after round 0; a and e lack W0
	W8   V4     // second hash: words 8 … 11
	W9   V4     // second hash: words 9 … 12, all zero
	W13  V4     // second hash: words 13 … 16; 16, which varies, is zero
	K2   [15]V4 // second hash: K of rounds 1 … 60

	Step V4 // what Nonce moves on by
	IV7  V4 // last word of the initial hash value
	Top  V4 // the target's most significant 32 bits
}

// SHA2Tail is the schedule of the tail for one nonce.
type SHA2Tail struct {
	Nonce V4     // word 3 and three zeros
	KW    [12]V4 // K + W of rounds 16 … 63
}

// SHA2Scratch is a sha2 kernel's working memory.
type SHA2Scratch struct {
	Nonce V4                 // the next nonces, as numbers
	Tails [SHA2Ways]SHA2Tail // for the nonces before

	// Hits holds, for each unit with a candidate, how many units were left when
	// it was seen, that one included.
	Hits [MaxUnits]uint32
}
