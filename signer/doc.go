// Package signer is the validating signer: the daemon that holds a validator's
// keys (through the PKCS#11 worker), decides what may be signed, and remembers
// for ever what it signed.
//
// What it promises, and the tests that check it:
//
//   - It never signs a digest it was handed. A request for a block carries the
//     parent's header, the header, the CoinOnline and its Merkle branch; one for a
//     vote the link and the signed header of its target. The daemon checks them
//     with the same pure rules every node uses, under the validator sets they
//     name, and derives the digest itself (TestPolicy, TestVotePolicy, TestSetChange).
//   - For one height and one key it signs one block and casts one vote, and
//     releases one signature for each: the same request again returns the same
//     bytes, any other is refused (TestSignSlot, TestAttest, TestJournalForgets,
//     TestJournalForgetsVotes).
//   - Heights strictly increase, those of blocks and those of the targets of votes
//     (S1), and the source of a vote is that of the last one or strictly higher
//     (S2), in whatever sets a key votes (TestVotesModel, TestSetChange).
//   - One daemon releases one block signature per height, however many keys it
//     holds (policy one-signature-per-slot, TestConcurrentRivals). With votes it is
//     otherwise: each of its keys votes.
//   - A block is signed while its slot is open by the daemon's clock (S4). A vote
//     never expires; neither may be for a header in the future (TestVoteForOldBlock).
//   - The order is parse → policy → claim + fsync → the cluster's claim → token →
//     verify → the cluster's seal → seal + fsync → audit log + fsync → release, so a crash or a power cut at any instant can delay a signature
//     but never lead to a second one. A vote that was claimed counts as cast, and
//     may be asked for again (TestJournalProperty, TestFaultAtEveryCall, TestKill,
//     TestOpenVoteMayBeAskedAgain, TestClusterFailures).
//   - What the audit log does not have is not released, and signed blocks carry the
//     log's end (TestAuditBeforeRelease, TestAnchor).
//   - Halted, it neither signs nor releases, over restarts, until two people resume
//     it. It halts by itself when a signature does not verify, when the cluster fell
//     back, and when the chain shows more of a key than is known here (TestHalt,
//     TestBadSignatureIsNotReleased, TestClusterFailures, TestSeen).
//   - Up to its floor a key may have signed what the journal does not know of. No
//     block and no target of a vote is at the floor or below, and no source below
//     it: the last source before may have been any there (TestVoteFloor). A claim
//     that is still open when the floor reaches it is not finished here
//     (TestFloorClosesOpenClaims).
//   - Without its journal, or with that of another network, it does not start.
//     Only CreateJournal makes one; lost state is never taken for an empty past
//     (TestJournalRefusesToStart). Old journals stay readable (TestRecordFormat).
//   - With a copy of its journal, one restored from a backup, or one behind what
//     the chain shows, it does not start (TestPlace, TestKilledMark, TestMarkLife, TestFloor).
//   - What one journal knows another takes in, whole or not at all, and only ever
//     forbids more for it. What the one refuses the other does, too (TestMove,
//     TestMoveProperty, TestImportIsAtomic, TestInterchangeVectors).
//   - For one number a key signs one successor set, and numbers strictly increase
//     (TestSetChangeRules, TestSignSetChange).
//   - A wrong PIN is tried once, whatever is killed meanwhile: a PIN that the
//     token never accepted is shown to it only after that was written to disk
//     (pins.json). A PIN that it accepted before, from a file, never needs a person
//     (TestSoftHSMWrongPIN, TestSoftHSMLoginCutOff, TestLoginFaultsWithoutDates).
//   - A token that is pulled and put back signs again by itself, after its key was
//     judged anew (TestSoftHSMTokensComeBack, TestKeyFaults).
//
// What it cannot see is the node's to check: that the sets of a request are those
// in force, that a vote's target descends from its source, and that the source is
// certified (S3). A node that lies about these can make a key sign what nobody
// counts, and spend its heights, but never two signatures that conflict. That no
// other signer holds the key (S5) is the operator's.
//
// The node talks to it over a Unix socket (Server, Client). The claim-first order
// and the interchange ideas are those of EIP-3076
// (https://eips.ethereum.org/EIPS/eip-3076): the maximum counts, missing history is
// never assumed to be empty.
package signer
