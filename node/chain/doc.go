// Package chain keeps the best chain: it decides where a block belongs, counts
// votes, moves the tip, reorganises, remembers what proved invalid, and tells
// subscribers what changed (UpdatesSince). What is valid and what is better is
// decided by node/consensus alone; what survives a crash is the business of a
// Store.
//
// Whatever comes in, a block, a vote, or the end of a wait, the tip is then the
// best of all stored blocks that are not known to be invalid, not parked
// (park.go), and not below the final slot. Each change is one Commit: a block
// with the whole reorganisation it caused, new certificates, a final slot. So
// there is nothing to repair at the start, only to weigh again.
package chain
