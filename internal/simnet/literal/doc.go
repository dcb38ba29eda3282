// Package literal is Proof of Online as its source documents have it, taken at
// their word, and a yardstick: attacks that must succeed here and fail on the
// chain that ships, which closes what the documents leave open (docs/protocol.md).
// An attack that fails on both would prove nothing about our rules.
//
// A [Chain] is the block tree of one node. Blocks, keys, transactions and proof of
// work are those of node/types and node/consensus, so that one script attacks
// both. Only what the documents say of slots, and what decides between branches,
// is written anew. The statements have these numbers:
//
//	P1, P2    every nth height is a slot, n = 10
//	P3, P14   validators make the blocks at slots, miners all others
//	P5, P15   the keys are fixed; a receiver checks that the key is one of them
//	P6, P7    the key stands in the CoinOnline, the signature in the header
//	P8        the signature is made over the CoinOnline, and nothing else
//	P9        VchBlockSig has a default, here empty, in an ordinary block
//	P10       an auth block has no proof of work, and nonce 0
//	P11, P12  CoinOnline: one null input; outputs empty, fees to the key, zero
//	P13       no subsidy at a slot
//	P17       ordinary blocks are verified as everywhere
//	P19, P21  a validator signs until the set time after the stamp of the block
//	          before, by its clock, and never later
//	P20       after that an ordinary block may stand at the slot; 2 × 60 s
//	P22       a receiver goes by stamps: block − previous ≤ set time asks for auth
//	          verification, more for ordinary
//	P27       most work wins, as in Bitcoin; a signed block is credited like any
//
// Where they say nothing Bitcoin's rules hold: a block's time is after the median
// of the last eleven and at most two hours ahead of the clock, and the target
// stays for 2016 blocks. They do not say that a CoinOnline holds its height;
// a rule that it must would stop one of the three replays of A4.
//
// What comes of the attacks, as the tests measure it (n = 10; q is the attacker's
// share of the hash power, without any key):
//
//	attack                               literal                   PoO-F
//	A1 secret branch with forged expiry, undone 50 times of 50;    never undone, with and without
//	   q 0.6 and 0.9, payment with 10,   10 to 40 blocks deep;     votes: fewer signed slots, or
//	   20 and 40 confirmations           newcomers follow it, too  rule below-final; nor for newcomers
//	   within one interval, z ≤ 8        undone                    undone, 8 blocks deep at most
//	   validators two minutes late       (P22 needs no lateness)   9 deep, until they sign
//	   rate against node/simulate        within 4 σ                within 4 σ
//	A2 backdated parent                  every slot whose parent   none; a signature is good for 600 s
//	                                     is his                    and replaces the fallback block
//	   backdating all his blocks         (one is enough)           none, even when every block is his
//	A3 fallback block at once            all of 200 slots          none: held, parked until 120 s after
//	                                                               the parent came, replaced even then
//	A4 signature on other transactions,  accepted; undoes the      rule block-signature
//	   on another branch, at another     payment in the slot, or
//	   height                            signs a slot for nothing
//
// Tests run in virtual time and with seeded chance, so that every run is the same.
package literal
