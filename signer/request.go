package signer

import (
	"encoding/hex"
	"fmt"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Hex is bytes that are text in hexadecimal.
type Hex []byte

// MarshalText writes lower-case hexadecimal.
func (h Hex) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText reads hexadecimal of either case.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	b := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(b, text); err != nil {
		return fmt.Errorf("not hexadecimal: %w", err)
	}
	*h = b
	return nil
}

// Request asks for a validator's signature on the block of a slot. It holds
// everything the signer checks; the digest is derived from it, never sent.
type Request struct {
	Height     uint32       `json:"height"`
	Set        *Set         `json:"set,omitempty"` // in force; left out: the network's first
	Index      uint8        `json:"index"`         // validator in it that is to sign
	Parent     Hex          `json:"parent"`        // 80-byte header of the block before
	Header     Hex          `json:"header"`        // 80-byte header to be signed
	CoinOnline Hex          `json:"coinOnline"`    // serialised first transaction
	Branch     []types.Hash `json:"branch"`        // Merkle siblings of the CoinOnline, leaf first
}

// Set is a consensus.ValidatorSet.
type Set struct {
	Number uint32            `json:"number"`
	Keys   []types.PublicKey `json:"keys"`
}

// Response is a signature that was made once for its request and is the same
// whenever the request is repeated.
type Response struct {
	Index     uint8 `json:"index"`
	Signature Hex   `json:"signature"` // r ‖ s, 64 bytes, low-S
	// Repeated: the signature had been sealed before this request.
	Repeated bool `json:"repeated"`
}

// BlockSig returns the content of the block's VchBlockSig.
func (r *Response) BlockSig() (types.BlockSig, error) {
	return types.ParseBlockSig(append([]byte{r.Index}, r.Signature...))
}

// NewRequest returns the request for a proposal.
func NewRequest(p *consensus.Proposal) Request {
	r := Request{
		Height: p.Height, Index: p.Index, Parent: p.Parent.Bytes(), Header: p.Header.Bytes(),
		CoinOnline: p.CoinOnline.Bytes(), Branch: p.Branch,
	}
	if p.Set.Number != 0 {
		set := Set(p.Set)
		r.Set = &set
	}
	return r
}

// maxBranch bounds the Merkle branch: 2^24 transactions fit no block.
const maxBranch = 24

// parse reads the parts of a request. Each has exactly one form: a
// transaction, for one, must come back byte for byte.
func (r *Request) parse() (*consensus.Proposal, error) {
	if n := len(r.CoinOnline); n > maxCoinOnline {
		return nil, refuse(RuleFormat, "CoinOnline of %d bytes: want at most %d", n, maxCoinOnline)
	}
	if n := len(r.Branch); n > maxBranch {
		return nil, refuse(RuleFormat, "Merkle branch of %d hashes: want at most %d", n, maxBranch)
	}
	var set consensus.ValidatorSet
	if r.Set != nil {
		if set = consensus.ValidatorSet(*r.Set); set.Number == 0 || len(set.Keys) == 0 {
			return nil, refuse(RuleFormat, "validator set %d of %d keys: want keys, and a number above 0", set.Number, len(set.Keys))
		}
	}
	parent, err := types.DecodeHeader(r.Parent)
	if err != nil {
		return nil, refuse(RuleFormat, "parent: %v", err)
	}
	header, err := types.DecodeHeader(r.Header)
	if err != nil {
		return nil, refuse(RuleFormat, "%v", err)
	}
	tx, err := types.DecodeTransaction(r.CoinOnline)
	if err != nil {
		return nil, refuse(RuleFormat, "CoinOnline: %v", err)
	}
	return &consensus.Proposal{
		Height: r.Height, Set: set, Index: r.Index, Parent: parent, Header: header, CoinOnline: tx, Branch: r.Branch,
	}, nil
}
