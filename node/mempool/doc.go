// Package mempool keeps the transactions that are valid but in no block yet:
// the policy and limits of one node over the rules of package consensus.
//
// A Pool follows its chain by pulling: it knows the block it stands on, and
// before it answers anything that depends on the tip it asks the chain for the
// way from there. Nobody has to deliver events in order, a pool can never be
// ahead of or beside the chain it validates against, and no goroutine is needed.
//
// What it holds is always a set of transactions that could all be mined: every
// input exists in the chain or is made by another transaction of the pool, none
// is spent twice, and every transaction is valid in the next block. Unlike on
// Bitcoin there is no replacement by fee: what was first seen stays.
package mempool
