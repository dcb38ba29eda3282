package consensus

import "qcitycoin.org/qcity/node/types"

// Proposal is what a validator is shown when it is asked to sign a slot: enough
// to check every rule about the header and the CoinOnline, and the parent's
// proof of work, without holding the chain.
type Proposal struct {
	Height     uint32
	Index      uint8 // validator that is to sign
	Parent     types.Header
	Header     types.Header
	CoinOnline *types.Transaction
	Branch     []types.Hash // Merkle siblings of the CoinOnline, leaf first
}

// NewProposal cuts out of an unsigned slot block what validator index has to
// see. parent is the header of the state the block follows.
func NewProposal(s *State, parent types.Header, b *types.Block, index uint8) Proposal {
	return Proposal{
		Height:     s.ChildHeight(),
		Index:      index,
		Parent:     parent,
		Header:     b.Header,
		CoinOnline: b.Transactions[0],
		Branch:     types.MerkleBranch(b.TxIDs()),
	}
}

// maxBranch is longer than the Merkle branch of any block of MaxBlockBytes.
const maxBranch = 24

// ValidateProposal checks a proposal against the rules of the network. The
// parent of a slot is a mined block, so its own hash proves that work went
// into it; ASERT ties the proposal's bits to height and parent time.
func (n *Network) ValidateProposal(p *Proposal) error {
	if !n.IsSlot(p.Height) {
		return broken(RuleNotASlot, "height %d is no multiple of %d", p.Height, n.N)
	}
	target, err := types.CompactToTarget(p.Parent.Bits)
	if err != nil || target.Gt(&n.powLimit) {
		return broken(RuleBits, "parent's bits %08x", p.Parent.Bits)
	}
	if id := p.Parent.ID(); !types.HashMeets(id, &target) {
		return broken(RuleWork, "parent %s does not meet its own target", id)
	}
	parent := State{Network: n, Height: p.Height - 1, ID: p.Parent.ID(), Time: p.Parent.Time}
	if err := ValidateSlotHeader(&parent, &p.Header, p.Index); err != nil {
		return err
	}
	if p.CoinOnline == nil {
		return broken(RuleNoCoinbase, "proposal without a CoinOnline")
	}
	if len(p.Branch) > maxBranch || types.FoldBranch(p.CoinOnline.ID(), p.Branch) != p.Header.MerkleRoot {
		return broken(RuleMerkleRoot, "header does not commit to the CoinOnline")
	}
	return ValidateCoinOnline(&parent, p.CoinOnline, p.Index, nil)
}

// Digest returns what the validator signs.
func (n *Network) Digest(p *Proposal) types.Hash {
	return SlotDigest(n.ID, n.setID, p.Height, p.Header.ID())
}
