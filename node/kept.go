package node

import (
	"bytes"
	"errors"
	"fmt"

	"qcitycoin.org/qcity/node/types"
)

// Proposals keeps the blocks of a slot across a crash: a node killed after its
// signer has signed must ask again with the very same block, as the signer
// will never sign another one at that height.
type Proposals interface {
	SaveProposal(height uint32, kept []byte) error
	Proposal(height uint32) (kept []byte, ok bool, err error)
}

// keptBlocks are the blocks this box has asked its signer to sign at one
// height, oldest first: one for each validator and each parent. All stay until
// the chain is past the height, as the tip may come back to an earlier parent
// and a key whose answer was lost may be asked again after another.
type keptBlocks []*types.Block

// maxKept bounds them: several times what one box has in keys.
const maxKept = 16

var errKeptUnreadable = errors.New("kept proposals cannot be read")

func loadKept(store Proposals, height uint32) (keptBlocks, error) {
	raw, ok, err := store.Proposal(height)
	if err != nil {
		return nil, fmt.Errorf("read kept proposals: %w", err)
	}
	if !ok {
		return nil, nil
	}
	var k keptBlocks
	for d := types.NewDecoder(raw); d.Remaining() > 0; {
		b, err := types.DecodeBlock(d.VarBytes())
		if err := errors.Join(d.Err(), err); err != nil {
			return nil, fmt.Errorf("%w: height %d: %w", errKeptUnreadable, height, err)
		}
		k = append(k, b)
	}
	return k, nil
}

func (k keptBlocks) save(store Proposals, height uint32) error {
	var raw []byte
	for _, b := range k {
		raw = types.AppendVarBytes(raw, b.Bytes())
	}
	if err := store.SaveProposal(height, raw); err != nil {
		return fmt.Errorf("keep proposal: %w", err)
	}
	return nil
}

// find returns the block kept for a validator on a parent, or nil.
func (k keptBlocks) find(parent types.Hash, index uint8) *types.Block {
	for _, b := range k {
		if b.PrevBlock == parent && bytes.Equal(b.VchBlockSig, placeholder(index)) {
			return b
		}
	}
	return nil
}

func (k keptBlocks) add(b *types.Block) keptBlocks {
	return append(k[max(0, len(k)+1-maxKept):], b)
}

// placeholder stands for the signature of a validator in a block it has not
// signed yet.
func placeholder(index uint8) []byte { return types.BlockSig{Index: index}.Bytes() }
