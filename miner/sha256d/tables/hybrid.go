package tables

// The hybrid kernels do the rounds with SHA-NI, one lane at a time, and the
// message schedule in vectors, sixteen lanes at a time.
//
// A unit is sixteen hashes, worked off in four quarters: lane i of quarter q
// comes to stand in lane 4q+i of a vector. Four units are under way at any
// time, each in another stage (see Stages).
//
// sha256rnds2 keeps the working variables in two registers, which are written
// here as they lie in memory: f e b a and h g d c.

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

// HybridJob is what all nonces of a work share. C is a constant as the vectors
// take it.
type HybridJob[C Words] struct {
	Sets [MaxSets]HybridSet

	TailPairs   [7][2]uint32 // tail: K + W of rounds 4 … 17, two by two
	SecondPairs [3][2]uint32 // second hash: of rounds 9 … 14
	SecondFEBA  V4           // second hash: after round 0; a and e lack W0
	SecondHGDC  V4

	K4   [8]V4 // K of rounds 0 … 7
	KW8  V4    // second hash: K + W of round 8
	IV7  V4    // last word of the initial hash value
	Top  V4    // the target's most significant 32 bits
	Swap V16   // shuffle that reverses the bytes of every word

	K [64]C // round constants
}

// PairRows is the number of rows in a table of the second hash's schedule: for
// W0, for rounds 1 … 8, and for rounds 15 … 62; the two after 60 are not used.
const PairRows = 1 + 4 + 24

// HybridScratch is a hybrid kernel's working memory.
type HybridScratch struct {
	Nonce [1]V16           // the next nonces, as numbers, in the order of PairIndex
	Ring  [1][16]V16       // the last 16 message words of the tail
	Tail  [TailRows][2]V16 // the tail's schedule for sixteen nonces

	// Digests takes the result of the first hash, f e b a before h g d c, of a
	// unit while the one before is read.
	Digests [2][2][Lanes4][Quarters]V4
	Words   [2][64]V16 // message words of the second hash; 8 … 15 are constant
	Pairs   [3][PairRows][2]V16

	// Stages are the addresses that the stages of the pipeline go on with; a
	// call leaves them for the next.
	Stages Stages

	// Hits holds, for each quarter with a candidate, how many quarters were left
	// when it was seen, that one included.
	Hits [Quarters * MaxUnits]uint32
}

// Stages are what the units under way read and write, all within HybridScratch
// and HybridJob:
//
//  1. the first hash, from Set and the table Tail to DigestsOut;
//  2. DigestsIn is turned into vectors and becomes the first eight words of the
//     second hash, by way of the Mid of SetBefore, in WordsOut and PairsA;
//  3. the rest of the schedule, in Words and PairsB;
//  4. the second hash, from PairsC.
type Stages struct {
	Set, SetBefore         uintptr
	DigestsOut, DigestsIn  uintptr
	WordsOut, Words        uintptr
	PairsA, PairsB, PairsC uintptr
}
