package tables

// The hybrid kernels do most rounds with SHA-NI, one lane at a time, and the
// message schedule in vectors, sixteen lanes at a time. The last rounds of the
// first hash are done in vectors as well, to relieve the SHA unit.
//
// A unit is sixteen hashes, worked off in four quarters: lane i of quarter q
// comes to stand in lane 4q+i of a vector. Six units are under way at any time,
// each in another stage:
//
//  1. the first hash by SHA-NI but for its last rounds, from a set and the tail's
//     schedule to Digests;
//  2. that, turned into vectors: States;
//  3. the first hash's last rounds, in vectors;
//  4. the hash value before is added; Words and Pairs of the second hash begin;
//  5. the rest of the second hash's schedule, in vectors;
//  6. the second hash by SHA-NI, from Pairs.
//
// sha256rnds2 keeps the working variables in two registers, which are written
// here as they lie in memory: f e b a and h g d c.

// StagesBehind is how many units lie between a unit's first stage and its
// answer.
const StagesBehind = 5

// Quarters of a unit and lanes of a quarter.
const (
	Quarters = 4
	Lanes4   = 4
)

// MaxSets is how many sets of sixteen versions share one nonce.
const MaxSets = 4

// HybridSet is what belongs to sixteen versions.
type HybridSet struct {
	FEBA [Lanes4][Quarters]V4 // tail: after round 3; a and e lack the nonce
	HGDC [Lanes4][Quarters]V4
	Mid  [8]V16 // hash value after the first block
}

// HybridJob is what all nonces of a work share.
type HybridJob struct {
	Sets [MaxSets]HybridSet

	TailPairs   [7][2]uint32 // tail: K + W of rounds 4 … 17, two by two
	SecondPairs [3][2]uint32 // second hash: of rounds 9 … 14
	SecondFEBA  V4           // second hash: after round 0; a and e lack W0
	SecondHGDC  V4

	K4   [8]V4 // K of rounds 0 … 7
	KW8  V4    // second hash: K + W of round 8
	KW15 V4    // the same of round 15
	K16  V4
	IV7  V4 // last word of the initial hash value
	Top  V4 // the target's most significant 32 bits
	Swap V4 // shuffle that reverses the bytes of every word
}

// Digests are a unit's results of the first hash, as SHA-NI leaves them.
type Digests [2][Lanes4][Quarters]V4 // f e b a; h g d c

// WordRows is the number of words in the second hash's schedule. Those after 60
// are not used, nor always computed.
const WordRows = 65

// PairRows is the number of rows in a table of the second hash's schedule: for
// W0, for rounds 1 … 8, and for rounds 15 … 64.
const PairRows = 1 + 4 + 25

// HybridScratch is a hybrid kernel's working memory. Stages follow each other
// through it so that one reads a quarter before another writes it again.
type HybridScratch struct {
	Nonce [1]V16     // the next nonces, as numbers, in the order of PairIndex
	Ring  [1][16]V16 // the last 16 message words of the tail
	// Tail is the schedule of the tail for sixteen nonces, and for those before.
	Tail [2][TailRows][2]V16

	Digests [2]Digests
	States  [2][8]V16 // a … h
	Words   [64]V16   // message words of the second hash; 8 … 15 are constant
	K       [64]V16   // round constants, which are read along with them
	Pairs   [2][PairRows][2]V16

	Stages Stages

	// Hits holds, for each quarter with a candidate, how many quarters were left
	// when it was seen, that one included.
	Hits [Quarters * MaxUnits]uint32
}

// Stages are the addresses with which a call goes on where the last one ended.
type Stages struct {
	SetBefore  [3]uintptr // the sets of the last units, newest first
	TailBefore [2]uintptr // the same of their pairs in Tail
	Digests    [2]uintptr // of stage 1; of stage 2
	States     [2]uintptr // of stages 2 and 4; of stage 3
	Pairs      [2]uintptr // of stage 5; of stages 4 and 6
}
