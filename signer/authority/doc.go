// Package authority is a change of the validator set as the officers of several
// boxes handle it: a proposal file that travels from hand to hand and collects
// signatures, what it says in plain words, and the rules under which a signer
// puts its key under it. What the chain makes of it is package consensus's.
//
// It is pure but for Sign, which is given a journal and a token.
//
//   - A proposal has one form to the byte; copies with different signatures
//     combine to the same file in whatever order (TestCombineLaws).
//   - Whoever signs has checked every rule of RulesOf, each of which is tested to
//     refuse alone (TestRules).
//   - For one number of a set a key signs one set: the journal's claim comes
//     before the token, as with blocks and votes (TestSign).
package authority
