// Package signer is the validating signer: the daemon that holds a validator's
// keys (through the PKCS#11 worker), decides what may be signed, and remembers
// for ever what it signed.
//
// What it promises, and what the tests of this package check:
//
//   - It never signs a digest it was handed. A request carries the parent's
//     header, the header, the CoinOnline and its Merkle branch; the daemon checks
//     them with the same pure rules every node uses and derives the digest itself.
//   - For one height and one key it signs one block, and releases one signature:
//     the same request again returns the same bytes, any other is refused.
//   - One daemon releases one signature per height, however many keys it holds
//     (policy one-signature-per-slot).
//   - The order is parse → policy → claim + fsync → token → verify → seal + fsync →
//     release, so a crash or a power cut at any instant can delay a signature
//     but never lead to a second one.
//   - Without its journal, or with that of another network, it does not start.
//     Only CreateJournal makes one; lost state is never taken for an empty past.
//   - A wrong PIN is tried once, whatever is killed meanwhile: a PIN that the
//     token never accepted is shown to it only after that was written to disk
//     (pins.json). A PIN that it accepted before never needs a person.
//
// The node talks to it over a Unix socket (Server, Client). The claim-first order
// and the interchange ideas are those of EIP-3076
// (https://eips.ethereum.org/EIPS/eip-3076): the maximum counts, missing history is
// never assumed to be empty.
package signer
