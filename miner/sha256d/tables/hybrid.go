package tables

// The hybrid kernels do most rounds with SHA-NI, one lane at a time, and the
// message schedule in vectors. The last rounds of the first hash are done in
// vectors as well, to relieve the SHA unit.
//
// A unit is as many hashes as a vector has lanes: versions with one nonce. Three
// units are under way at any time, each in another stage:
//
//  1. the first hash by SHA-NI, but for its last rounds, from a set of versions
//     and the tail's schedule to Digests;
//  2. in vectors: the first hash's last rounds, the schedule of the second hash,
//     to Pairs;
//  3. the second hash by SHA-NI, from Pairs.
//
// If versions cannot be rolled, a unit is as many nonces of one version. The
// tail's schedule then differs between lanes, and is computed in a stage 0.
//
// sha256rnds2 keeps the working variables in two registers, which are written
// here as they lie in memory: f e b a and h g d c.

// StagesBehind is how many units lie between a unit's first stage and its
// answer, NonceStagesBehind the same with nonces.
const (
	StagesBehind      = 2
	NonceStagesBehind = 3
)

// HybridVersions is how many versions can share one nonce.
const HybridVersions = 64

// hybridSets8 is how many sets that are, of eight versions or more.
const hybridSets8 = HybridVersions / 8

// HybridSet is what belongs to the versions of a unit: V has a lane for each.
// The variables of a lane are a V4, in the order of the lanes.
type HybridSet[V Words] struct {
	FEBA [16]V4 // tail: after round 3; a and e lack the nonce
	HGDC [16]V4
	Mid  [8]V // hash value after the first block
}

// HybridJob is what all nonces of a work share. C is a constant as the vectors
// take it. The order of the fields keeps vectors on their boundaries.
type HybridJob[C, V Words] struct {
	Sets [hybridSets8]HybridSet[V]

	Top  V // the target's most significant 32 bits
	Swap V // shuffle that reverses the bytes of every word

	SecondFEBA V4 // second hash: after round 0; a and e lack W0
	SecondHGDC V4

	K   [64]C // round constants
	U2  [64]C // second hash: the constant terms of word t, summed
	KW2 [64]C // second hash: K + W of rounds 8 and 15
	IV7 C     // last word of the initial hash value

	TailPairs   [7][2]uint32 // tail: K + W of rounds 4 … 17, two by two
	SecondPairs [3][2]uint32 // second hash: of rounds 9 … 14
}

// PairRows is the number of rows in a table of the second hash's schedule: for
// W0, for rounds 1 … 8, and for rounds 15 … 60.
const PairRows = 1 + 4 + 23

// HybridScratch is a hybrid kernel's working memory. T is a vector of nonces.
type HybridScratch[T, V Words] struct {
	Nonce [1]T     // the next nonces, as numbers, in the order of PairIndex
	Ring  [1][16]T // the last 16 message words of the tail
	// Tail is the schedule of the tail for some nonces, and for those before.
	// With nonces, the rows of rounds that are done in vectors hold vectors and
	// no pairs.
	Tail [3][TailRows][2]T

	Digests [2][4]V // f e b a, h g d c: row i has lanes i, 4+i, 8+i, …
	Words   [16]V   // the last message words of the second hash
	Pairs   [2][PairRows][2]V
	Last    V // the last words of the results

	Stages Stages

	// Hits holds, for each unit with a candidate, how many units were left when
	// it was seen, that one included.
	Hits [MaxUnits]uint32
}

// Stages are the addresses with which a call goes on where the last one ended.
type Stages struct {
	Tail0, Tail1, Tail2 uintptr // Tail, of that stage
	Set2                uintptr // the set
	Pairs2, Pairs3      uintptr // Pairs
}
