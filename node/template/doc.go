// Package template turns the tip of the chain and the transactions that wait
// into the next block: a Job that miners solve, or a Proposal that a validator
// signs. Builder makes one; Source keeps the newest published, says why it
// changed, and makes a block again of what a miner found.
//
// Every block is checked with consensus.ValidateBody, the validator the network
// will use, before anybody spends work or a signature on it.
package template
