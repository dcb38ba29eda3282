package template

import (
	"fmt"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Proposal returns the block that validator index would sign on parent, the
// tip, whose header is header, and what the signer has to see of it. All that
// the block lacks is its VchBlockSig. Its time is the clock's within the
// validator's window, so before that window opens it lies ahead. Calling again
// gives another block: who asked a signer once must keep what he asked for,
// as the signer answers only that again. Errors are as those of Mined.
func (b *Builder) Proposal(parent consensus.State, header types.Header, index uint8, now time.Time) (*types.Block, consensus.Proposal, error) {
	block, err := b.proposed(&parent, header, index, now)
	if err != nil {
		return nil, consensus.Proposal{}, fmt.Errorf("proposal at height %d by validator %d: %w", parent.ChildHeight(), index, err)
	}
	return block, consensus.NewProposal(&parent, header, block, index), nil
}

func (b *Builder) proposed(parent *consensus.State, header types.Header, index uint8, now time.Time) (*types.Block, error) {
	if header.ID() != parent.ID {
		return nil, fmt.Errorf("header %s is not the parent's, %s", header.ID(), parent.ID)
	}
	keys := parent.Validators().Keys
	if int(index) >= len(keys) {
		return nil, fmt.Errorf("the set has %d validators, numbered from 0", len(keys))
	}
	from, to := parent.SignedWindow(index)
	slot := types.Header{
		Version: blockVersion, PrevBlock: parent.ID,
		Time: min(max(clock(now), from), to), Bits: parent.NextBits(),
	}
	if err := consensus.ValidateSlotHeader(parent, &slot, index); err != nil {
		return nil, err
	}
	sel, err := b.choose(parent)
	if err != nil {
		return nil, err
	}
	block, err := b.checked(parent, sel, func(sel selection) (*types.Block, error) {
		block := &types.Block{Transactions: append([]*types.Transaction{coinOnline(parent, sel.fees(), keys[index])}, sel.txs...)}
		block.Header = slot
		block.MerkleRoot, _ = types.MerkleRoot(block.TxIDs())
		// Of a VchBlockSig the validator of bodies reads only the index.
		block.VchBlockSig = types.BlockSig{Index: index}.Bytes()
		return block, nil
	})
	if err != nil {
		return nil, err
	}
	block.VchBlockSig = nil
	return block, nil
}
