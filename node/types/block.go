package types

import (
	"encoding/binary"
	"fmt"
)

const (
	// HeaderBytes is the size of a serialised header without VchBlockSig.
	HeaderBytes = 80
	// BlockSigBytes is the size of a signed block's VchBlockSig: the
	// validator's index, then r and s of a low-S ECDSA signature, 32 bytes each.
	BlockSigBytes = 1 + 64
)

// Header is Bitcoin's block header. Time is in Unix seconds, Bits a compact target.
type Header struct {
	Version    int32
	PrevBlock  Hash
	MerkleRoot Hash
	Time       uint32
	Bits       uint32
	Nonce      uint32
}

// AppendTo appends the 80 bytes of the header.
func (h *Header) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(h.Version))
	b = append(b, h.PrevBlock[:]...)
	b = append(b, h.MerkleRoot[:]...)
	b = binary.LittleEndian.AppendUint32(b, h.Time)
	b = binary.LittleEndian.AppendUint32(b, h.Bits)
	return binary.LittleEndian.AppendUint32(b, h.Nonce)
}

// Bytes returns the serialised header.
func (h *Header) Bytes() []byte { return h.AppendTo(make([]byte, 0, HeaderBytes)) }

// ID returns the block id: the double hash of the 80 bytes.
func (h *Header) ID() Hash {
	var buf [HeaderBytes]byte
	return DoubleHash(h.AppendTo(buf[:0]))
}

// DecodeFrom reads 80 bytes.
func (h *Header) DecodeFrom(d *Decoder) {
	*h = Header{
		Version:    int32(d.Uint32()),
		PrevBlock:  d.Hash(),
		MerkleRoot: d.Hash(),
		Time:       d.Uint32(),
		Bits:       d.Uint32(),
		Nonce:      d.Uint32(),
	}
}

// DecodeHeader reads a header that fills b exactly.
func DecodeHeader(b []byte) (Header, error) {
	d := NewDecoder(b)
	var h Header
	h.DecodeFrom(d)
	if err := d.Finish(); err != nil {
		return Header{}, fmt.Errorf("header: %w", err)
	}
	return h, nil
}

// BlockSig is the content of a signed block's VchBlockSig.
type BlockSig struct {
	Index     uint8    // position of the signer in the validator set
	Signature [64]byte // r ‖ s, big-endian, low-S
}

// Bytes returns the 65 bytes that travel behind the header.
func (s BlockSig) Bytes() []byte { return append([]byte{s.Index}, s.Signature[:]...) }

// ParseBlockSig reads a VchBlockSig that is not empty.
func ParseBlockSig(b []byte) (BlockSig, error) {
	if len(b) != BlockSigBytes {
		return BlockSig{}, fmt.Errorf("VchBlockSig of %d bytes: want %d", len(b), BlockSigBytes)
	}
	s := BlockSig{Index: b[0]}
	copy(s.Signature[:], b[1:])
	return s, nil
}

// SignedHeader is a header with its VchBlockSig, which is empty for a mined
// block. It is what header-first sync exchanges.
type SignedHeader struct {
	Header
	VchBlockSig []byte
}

// IsSigned reports whether a validator's signature stands in for proof of work.
func (h *SignedHeader) IsSigned() bool { return len(h.VchBlockSig) > 0 }

// AppendTo appends the header, then VchBlockSig with its length.
func (h *SignedHeader) AppendTo(b []byte) []byte {
	return AppendVarBytes(h.Header.AppendTo(b), h.VchBlockSig)
}

// DecodeFrom reads what AppendTo writes.
func (h *SignedHeader) DecodeFrom(d *Decoder) {
	h.Header.DecodeFrom(d)
	h.VchBlockSig = d.VarBytes()
	if n := len(h.VchBlockSig); d.Err() == nil && n != 0 && n != BlockSigBytes {
		d.Fail(fmt.Errorf("VchBlockSig of %d bytes: want 0 or %d", n, BlockSigBytes))
	}
}

// Block is a header, its VchBlockSig and its transactions.
type Block struct {
	SignedHeader
	Transactions []*Transaction
}

// AppendTo appends the serialised block: header, VchBlockSig with its length,
// number of transactions, transactions.
func (b *Block) AppendTo(buf []byte) []byte {
	buf = b.SignedHeader.AppendTo(buf)
	return b.appendTransactions(buf)
}

func (b *Block) appendTransactions(buf []byte) []byte {
	buf = AppendVarInt(buf, uint64(len(b.Transactions)))
	for _, t := range b.Transactions {
		buf = t.AppendTo(buf)
	}
	return buf
}

// Bytes returns the serialised block.
func (b *Block) Bytes() []byte { return b.AppendTo(make([]byte, 0, 1024)) }

// TxIDs returns the ids of the block's transactions, in order.
func (b *Block) TxIDs() []Hash {
	ids := make([]Hash, len(b.Transactions))
	for i, t := range b.Transactions {
		ids[i] = t.ID()
	}
	return ids
}

func (b *Block) decodeTransactions(d *Decoder) {
	b.Transactions = make([]*Transaction, d.Count(minTxBytes))
	for i := range b.Transactions {
		b.Transactions[i] = new(Transaction)
		b.Transactions[i].DecodeFrom(d)
	}
}

// DecodeBlock reads a block that fills buf exactly. It copies buf first.
func DecodeBlock(buf []byte) (*Block, error) {
	if len(buf) > MaxBlockBytes {
		return nil, fmt.Errorf("block of %d bytes: more than %d", len(buf), MaxBlockBytes)
	}
	d := NewDecoder(append([]byte(nil), buf...))
	b := new(Block)
	b.SignedHeader.DecodeFrom(d)
	b.decodeTransactions(d)
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("block: %w", err)
	}
	return b, nil
}

// DecodeSubmittedBlock reads a block as DecodeBlock does, or a mined block in
// Bitcoin's own serialisation (no VchBlockSig length), which is what existing
// pool software hands to submitblock.
func DecodeSubmittedBlock(buf []byte) (*Block, error) {
	b, err := DecodeBlock(buf)
	if err == nil {
		return b, nil
	}
	if len(buf) > MaxBlockBytes {
		return nil, err
	}
	d := NewDecoder(append([]byte(nil), buf...))
	b = new(Block)
	b.Header.DecodeFrom(d)
	b.decodeTransactions(d)
	if d.Finish() != nil || len(b.Transactions) == 0 {
		return nil, err
	}
	return b, nil
}
