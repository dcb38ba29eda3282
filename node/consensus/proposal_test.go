package consensus_test

import (
	"errors"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

func TestProposal(t *testing.T) {
	cases := []struct {
		name   string
		want   consensus.Rule
		change func(*consensus.Proposal)
	}{
		{"good", "", func(*consensus.Proposal) {}},
		{"height that is no slot", consensus.RuleNotASlot, func(p *consensus.Proposal) { p.Height++ }},
		{"genesis", consensus.RuleNotASlot, func(p *consensus.Proposal) { p.Height = 0 }},
		{"height of another slot", consensus.RuleBits, func(p *consensus.Proposal) { p.Height += 1000 }},
		{"parent without work", consensus.RuleWork, func(p *consensus.Proposal) { p.Parent.Bits = 0x1d00ffff }},
		{"parent with an easier target than there is", consensus.RuleBits, func(p *consensus.Proposal) { p.Parent.Bits = 0x2100ffff }},
		{"parent with a bad target", consensus.RuleBits, func(p *consensus.Proposal) { p.Parent.Bits = 0x20ffffff }},
		{"another parent", consensus.RulePrevBlock, func(p *consensus.Proposal) { p.Header.PrevBlock[0] ^= 1 }},
		{"validator out of range", consensus.RuleValidator, func(p *consensus.Proposal) { p.Index = 5 }},
		{"before its turn", consensus.RuleSlotEarly, func(p *consensus.Proposal) { p.Header.Time = p.Parent.Time + testRankStep - 1 }},
		{"after the slot", consensus.RuleSlotLate, func(p *consensus.Proposal) { p.Header.Time = p.Parent.Time + testSlotClose + 1 }},
		{"nonce", consensus.RuleSlotNonce, func(p *consensus.Proposal) { p.Header.Nonce = 1 }},
		{"bits", consensus.RuleBits, func(p *consensus.Proposal) { p.Header.Bits-- }},
		{"no CoinOnline", consensus.RuleNoCoinbase, func(p *consensus.Proposal) { p.CoinOnline = nil }},
		{"branch of another tree", consensus.RuleMerkleRoot, func(p *consensus.Proposal) { p.Branch[0][0] ^= 1 }},
		{"branch cut short", consensus.RuleMerkleRoot, func(p *consensus.Proposal) { p.Branch = p.Branch[:1] }},
		{"branch of 25 levels", consensus.RuleMerkleRoot, func(p *consensus.Proposal) {
			p.Branch = make([]types.Hash, 25)
			p.Header.MerkleRoot = types.FoldBranch(p.CoinOnline.ID(), p.Branch)
		}},
		{"pays another validator", consensus.RuleValidator, func(p *consensus.Proposal) {
			p.Index = (p.Index + 1) % 5
			p.Header.Time = p.Parent.Time + testSlotOpen
		}},
		{"height in the script", consensus.RuleCoinbaseScript, func(p *consensus.Proposal) {
			p.CoinOnline.Inputs[0].SignatureScript = []byte{0x01, 30, 0}
			p.Header.MerkleRoot = types.FoldBranch(p.CoinOnline.ID(), p.Branch)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, signed)
			p := &consensus.Proposal{
				Height: 20, Index: f.index,
				Parent: f.parent.Block.Header, Header: f.block.Header,
				CoinOnline: f.block.Transactions[0], Branch: types.MerkleBranch(f.block.TxIDs()),
			}
			digest := f.Network().Digest(p)
			c.change(p)
			err := f.Network().ValidateProposal(p)
			if (c.want == "" && err != nil) || (c.want != "" && !errors.Is(err, c.want)) {
				t.Errorf("got %v, want rule %q", err, c.want)
			}
			sig, err := types.ParseBlockSig(f.block.VchBlockSig)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Network().Validators[f.index].Verify(digest, sig.Signature); err != nil {
				t.Errorf("the digest of the proposal is not what the block's signature signs: %v", err)
			}
		})
	}
}
