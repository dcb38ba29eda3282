// Package chain keeps the best chain: it decides where a block belongs, moves
// the tip, reorganises, remembers what proved invalid, and tells subscribers
// what changed (UpdatesSince). What is valid and what is better is decided by
// node/consensus alone; what survives a crash is the business of a Store.
//
// Every call of AddBlock ends in at most one Commit, which holds everything
// the block changed: the block itself, and the whole reorganisation it caused.
// So the stored tip is at any instant the best of all stored blocks that are
// not known to be invalid, and there is nothing to repair at the start.
package chain
