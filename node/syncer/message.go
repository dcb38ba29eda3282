package syncer

import (
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Message is what peers tell each other: a Block, an Attestation, a
// Certificate, an Ask, a Tip or a Verdict. Nobody changes one once it is sent.
type Message interface{ message() }

// Block is a whole block.
type Block struct {
	Block *types.Block
	// Asked says that it is part of an answer; others may come in between.
	Asked bool
}

// Attestation is one validator's vote.
type Attestation struct{ Vote consensus.Attestation }

// Certificate is the votes of a majority.
type Certificate struct{ Certificate consensus.Certificate }

// Ask wants the blocks of the receiver's best chain that follow the first
// block of the locator that is on it, then the newest certificates and votes,
// and a Tip as the end of the answer.
type Ask struct {
	// Locator are blocks of the asking side, newest first, at most MaxLocator. The
	// genesis block goes without saying.
	Locator []types.Hash
}

// Tip is the last block of the sender's best chain, said now and then, so that
// whoever missed something asks.
type Tip struct {
	Checkpoint consensus.Checkpoint
	Ends       bool // an answer: one said in between must not pass for its end
}

// Verdict answers a block (P16). It is for people and meters: nothing follows
// from it.
type Verdict struct {
	Block types.Hash
	Rule  string // that the block breaks; empty: accepted
}

// UnknownParent is the Rule of a Verdict on a block whose parent is missing.
const UnknownParent = "unknown-parent"

// MaxLocator bounds a locator. With steps that double, it reaches back to genesis
// from any height there is.
const MaxLocator = 64

func (Block) message()       {}
func (Attestation) message() {}
func (Certificate) message() {}
func (Ask) message()         {}
func (Tip) message()         {}
func (Verdict) message()     {}
