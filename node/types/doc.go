// Package types holds the values a Qcity chain is made of and their one
// encoding: hashes, amounts, transactions, output templates, headers, blocks,
// keys and addresses. It knows formats, not rules: what a block must satisfy is
// package consensus.
//
// Transactions are Bitcoin's legacy format byte for byte (no witness), so the
// txid, the Merkle tree, SIGHASH_ALL digests and DER signatures of any Bitcoin
// library are valid here. A header is Bitcoin's 80 bytes; VchBlockSig travels
// behind it, outside the block id (docs/protocol.md, "Blocks").
package types
