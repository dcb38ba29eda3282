// Package authority is a change of the validator set as the officers of several
// boxes handle it: a proposal file that travels from hand to hand and collects
// signatures, what it says in plain words, and the rules under which a signer
// puts its key under it. What the chain makes of it is package consensus's.
//
// It is pure: signing is package signer's (Service.SignSetChange).
//
//   - A proposal has one form to the byte; copies with different signatures
//     combine to the same file in whatever order (TestCombineLaws).
//   - Whoever signs has checked every rule about the set and about signing, each
//     of which is tested to refuse alone (TestRules).
package authority
