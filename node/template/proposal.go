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
// as the signer answers only that again. own are records that the block carries
// whatever the chain has for it. Errors are as those of Mined.
func (b *Builder) Proposal(parent consensus.State, header types.Header, index uint8, now time.Time, own ...consensus.Record) (*types.Block, consensus.Proposal, error) {
	block, err := b.proposed(&parent, header, index, now, own)
	if err != nil {
		return nil, consensus.Proposal{}, fmt.Errorf("proposal at height %d by validator %d: %w", parent.ChildHeight(), index, err)
	}
	return block, consensus.NewProposal(&parent, header, block, index), nil
}

func (b *Builder) proposed(parent *consensus.State, header types.Header, index uint8, now time.Time, own []consensus.Record) (*types.Block, error) {
	if header.ID() != parent.ID {
		return nil, fmt.Errorf("header %s is not the parent's, %s", header.ID(), parent.ID)
	}
	if keys := parent.Validators().Keys; int(index) >= len(keys) {
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
	room := int(parent.Network.MaxBlockBytes)/recordShare - len(consensus.EncodeRecords(own))
	records := b.chain.Records(parent, room)
	records = records[:min(len(records), consensus.MaxRecords-len(own))]
	block, err := b.slotBlock(parent, slot, index, append(records, own...))
	if _, rule := consensus.RuleOf(err); rule && len(records) > 0 {
		// A mistake of the chain: no record may keep a slot from being signed.
		b.log.Error("a slot's block is invalid, trying without records", "height", parent.ChildHeight(), "records", len(records), "err", err)
		block, err = b.slotBlock(parent, slot, index, own)
	}
	return block, err
}

// slotBlock completes a header to a block without VchBlockSig.
func (b *Builder) slotBlock(parent *consensus.State, slot types.Header, index uint8, records []consensus.Record) (*types.Block, error) {
	key, room := parent.Validators().Keys[index], len(consensus.EncodeRecords(records))
	sel, err := b.choose(parent, room)
	if err != nil {
		return nil, err
	}
	block, err := b.checked(parent, room, sel, func(sel selection) (*types.Block, error) {
		block := &types.Block{Transactions: append([]*types.Transaction{coinOnline(parent, sel.fees(), key, records)}, sel.txs...)}
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
