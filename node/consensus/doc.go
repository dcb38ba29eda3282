// Package consensus is what every node must agree on: whether a block may
// follow another (ValidateHeader, Connect), what it changes (Diff), what votes
// prove (Tally), what a chain says of its validators (Authority) and which of
// two chains is better (Weight).
//
// It is pure. It has no clock, no I/O, no goroutine and no logger: the caller
// passes in the coins a block spends and, for the one rule that depends on it,
// the time. A State is a value, "the chain as of a block"; whatever depends on
// the chain is a method of the parent's State and answers for the child, so the
// template builder, the validator and the signer cannot disagree.
//
// The rules are docs/protocol.md; names such as C3 are its rule numbers.
package consensus
