package signer

import (
	"fmt"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// VoteRequest asks for a validator's vote. It holds everything the signer
// checks; the digest is derived from it, never sent.
type VoteRequest struct {
	Set      types.Hash `json:"set"` // id of the electorate of the target
	Source   Checkpoint `json:"source"`
	Target   Checkpoint `json:"target"`
	Sets     []Set      `json:"sets"`     // the electorate's: one, or two during a handover
	Index    uint8      `json:"index"`    // voter that is to sign
	Block    Hex        `json:"block"`    // 80-byte header of the target
	BlockSig Hex        `json:"blockSig"` // its VchBlockSig
}

// Checkpoint is a consensus.Checkpoint.
type Checkpoint struct {
	Height uint32     `json:"height"`
	ID     types.Hash `json:"id"`
}

// NewVoteRequest returns the request for a ballot.
func NewVoteRequest(b *consensus.Ballot) VoteRequest {
	r := VoteRequest{
		Set: b.Link.Set, Source: Checkpoint(b.Source), Target: Checkpoint(b.Target),
		Index: b.Index, Block: b.Block.Header.Bytes(), BlockSig: b.Block.VchBlockSig,
	}
	for _, s := range b.Sets {
		r.Sets = append(r.Sets, Set(s))
	}
	return r
}

// parse reads the parts of a request. Each has exactly one form.
func (r *VoteRequest) parse() (*consensus.Ballot, error) {
	header, err := types.DecodeHeader(r.Block)
	if err != nil {
		return nil, refuse(RuleFormat, "target: %v", err)
	}
	b := &consensus.Ballot{
		Link:  consensus.Link{Set: r.Set, Source: consensus.Checkpoint(r.Source), Target: consensus.Checkpoint(r.Target)},
		Index: r.Index,
		Block: types.SignedHeader{Header: header, VchBlockSig: r.BlockSig},
	}
	for _, s := range r.Sets {
		b.Sets = append(b.Sets, consensus.ValidatorSet(s))
	}
	return b, nil
}

// Attestation returns the vote for the link that was asked for.
func (r *Response) Attestation(l consensus.Link) (consensus.Attestation, error) {
	if len(r.Signature) != 64 {
		return consensus.Attestation{}, fmt.Errorf("signature of %d bytes: want 64", len(r.Signature))
	}
	return consensus.Attestation{Link: l, Index: r.Index, Signature: [64]byte(r.Signature)}, nil
}
