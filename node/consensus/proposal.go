package consensus

import (
	"github.com/holiman/uint256"

	"qcitycoin.org/qcity/node/types"
)

// Proposal is what a validator is shown when it is asked to sign a slot: enough
// to check every rule about the header and the CoinOnline, and the parent's
// proof of work, without holding the chain.
type Proposal struct {
	Height     uint32
	Set        ValidatorSet // in force at the slot; no keys: that of genesis
	Index      uint8        // validator in Set that is to sign
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
		Set:        s.Validators(),
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
// into it, as much as ASERT asks for at its height and time or a little less;
// and ASERT ties the proposal's bits to height and parent time.
func (n *Network) ValidateProposal(p *Proposal) error {
	if !n.IsSlot(p.Height) {
		return broken(RuleNotASlot, "height %d is no multiple of %d", p.Height, n.N)
	}
	target, err := types.CompactToTarget(p.Parent.Bits)
	if err != nil || target.Gt(&n.powLimit) {
		return broken(RuleBits, "parent's bits %08x", p.Parent.Bits)
	}
	if easiest := n.easiestParent(p.Height, p.Parent.Time); target.Gt(&easiest) {
		return broken(RuleBits, "parent's bits %08x are easier than any the schedule has before height %d and time %d", p.Parent.Bits, p.Height, p.Parent.Time)
	}
	if id := p.Parent.ID(); !types.HashMeets(id, &target) {
		return broken(RuleWork, "parent %s does not meet its own target", id)
	}
	parent := State{Network: n, Height: p.Height - 1, ID: p.Parent.ID(), Time: p.Parent.Time}
	if len(p.Set.Keys) > 0 {
		if err := n.CheckSet(p.Set.Keys); err != nil {
			return &RuleError{Rule: RuleSetKeys, Detail: "proposal", Cause: err}
		}
		parent.Authority = &Authority{Signers: p.Set}
	}
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

// easiestParent bounds the target of a slot's parent of which only the time is
// known: its own parent is older by a second at least, and targets never shrink
// with time. Without it a header that cost a few hashes could have a validator
// sign, and thereby leave behind it, any height ahead of the chain.
func (n *Network) easiestParent(slot, time uint32) uint256.Int {
	grandparent := State{Network: n, Height: max(slot, 2) - 2, Time: max(time, 1) - 1}
	return grandparent.NextTarget()
}

// maxHalvings is how often hash power may double between a network's genesis
// target and the hardest it will ever have. Bitcoin's took 49 of them in its
// first seventeen years.
const maxHalvings = 96

// HighestHeight bounds the heights that a chain can have reached at a time, in
// seconds since 1970: every half-life that it is ahead of its schedule doubles
// the work of a block.
func (n *Network) HighestHeight(now int64) uint64 {
	age := max(0, now-int64(n.GenesisTime)) + int64(n.FutureLimitSeconds)
	return uint64(age+maxHalvings*int64(n.HalfLifeSeconds)) / uint64(n.IntervalSeconds)
}

// Digest returns what the validator signs.
func (n *Network) Digest(p *Proposal) types.Hash {
	return SlotDigest(n.ID, p.signers(n).ID(), p.Height, p.Header.ID())
}

func (p *Proposal) signers(n *Network) ValidatorSet {
	if len(p.Set.Keys) == 0 {
		return n.authority.Signers
	}
	return p.Set
}

// Key returns the key that is to sign, false if the index is not in the set.
func (n *Network) Key(p *Proposal) (types.PublicKey, bool) {
	set := p.signers(n)
	if int(p.Index) >= len(set.Keys) {
		return types.PublicKey{}, false
	}
	return set.Keys[p.Index], true
}

// Ballot is what a validator is shown when it is asked to vote: the link, who
// votes, and the signed header of the target, which another validator's
// signature vouches for. That the target descends from the source, that the
// source is certified and that both are on the best chain is for the node to
// see, which holds the chain (S3).
type Ballot struct {
	Link
	Sets  []ValidatorSet     // the electorate's: one, or two during a handover
	Index uint8              // voter that is to sign
	Block types.SignedHeader // of the target
}

// NewBallot returns the ballot of a voter for a link whose target is the block
// with this header after the state parent.
func NewBallot(parent *State, l Link, target types.SignedHeader, index uint8) Ballot {
	return Ballot{Link: l, Sets: parent.Voters().Sets(), Index: index, Block: target}
}

// ValidateBallot checks a ballot and returns the key that is to vote.
func (n *Network) ValidateBallot(b *Ballot) (types.PublicKey, error) {
	if len(b.Sets) < 1 || len(b.Sets) > 2 {
		return types.PublicKey{}, broken(RuleAttestSet, "%d validator sets, want 1 or 2", len(b.Sets))
	}
	for _, set := range b.Sets {
		if err := n.CheckSet(set.Keys); err != nil {
			return types.PublicKey{}, &RuleError{Rule: RuleSetKeys, Detail: "ballot", Cause: err}
		}
	}
	voters := newElectorate(b.Sets, nil, CertifyQuorum, FinalQuorum)
	if len(voters.keys) > MaxVoters {
		return types.PublicKey{}, broken(RuleSetKeys, "%d voters, at most %d", len(voters.keys), MaxVoters)
	}
	if err := b.Link.checkUnder(n, voters); err != nil {
		return types.PublicKey{}, err
	}
	if err := voters.check(b.Index); err != nil {
		return types.PublicKey{}, err
	}
	if id := b.Block.Header.ID(); id != b.Target.ID {
		return types.PublicKey{}, broken(RuleAttestTarget, "header of block %s for a vote on %s", id, b.Target.ID)
	}
	sig, err := types.ParseBlockSig(b.Block.VchBlockSig)
	if err != nil {
		return types.PublicKey{}, &RuleError{Rule: RuleSigFormat, Detail: "target", Cause: err}
	}
	signers := b.Sets[0]
	if int(sig.Index) >= len(signers.Keys) {
		return types.PublicKey{}, broken(RuleValidator, "target's index %d in a set of %d", sig.Index, len(signers.Keys))
	}
	digest := SlotDigest(n.ID, signers.ID(), b.Target.Height, b.Target.ID)
	if err := signers.Keys[sig.Index].Verify(digest, sig.Signature); err != nil {
		return types.PublicKey{}, &RuleError{Rule: RuleBlockSig, Detail: "target", Cause: err}
	}
	return voters.keys[b.Index], nil
}
