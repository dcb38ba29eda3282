package consensus

import (
	"bytes"
	"cmp"
	"encoding/binary"

	"github.com/holiman/uint256"

	"qcitycoin.org/qcity/node/types"
)

// State is the chain as of a block. It is a value; its methods answer for the
// child of that block.
type State struct {
	Network *Network
	Height  uint32
	ID      types.Hash
	Time    uint32 // header time
	// SignedSlots is the number of slots of this chain that a validator signed,
	// LastSigned the height of the newest, 0 if there is none.
	SignedSlots, LastSigned uint32
	// Work is the sum of all blocks' expected hashes, signed blocks included (C6).
	Work uint256.Int
	// Authority is what the chain says of its validators; nil: as of genesis.
	Authority *Authority
}

// GenesisState returns the state as of block 0.
func (n *Network) GenesisState() State {
	target, err := types.CompactToTarget(n.genesis.Header.Bits)
	if err != nil {
		panic("consensus: the genesis target was checked with the parameters")
	}
	return State{Network: n, ID: n.ID, Time: n.GenesisTime, Work: types.Work(&target)}
}

// ChildHeight returns the height of the next block.
func (s *State) ChildHeight() uint32 { return s.Height + 1 }

// ChildIsSlot reports whether the next block belongs to the validators.
func (s *State) ChildIsSlot() bool { return s.Network.IsSlot(s.ChildHeight()) }

// NextBits returns the compact target of the next block, of whatever type.
func (s *State) NextBits() uint32 {
	n := s.Network
	anchor := asertAnchor{
		bits:       uint32(n.GenesisBits),
		parentTime: int64(n.GenesisTime) - int64(n.IntervalSeconds),
	}
	return asert(anchor, s.Height, int64(s.Time), int64(n.IntervalSeconds), int64(n.HalfLifeSeconds), uint32(n.PowLimitBits))
}

// NextTarget returns NextBits expanded.
func (s *State) NextTarget() uint256.Int {
	t, err := types.CompactToTarget(s.NextBits())
	if err != nil {
		panic("consensus: asert returns canonical targets")
	}
	return t
}

func (s *State) authority() *Authority {
	if s.Authority == nil {
		return s.Network.authority
	}
	return s.Authority
}

// Validators returns the set that may sign the next block.
func (s *State) Validators() ValidatorSet { return s.authority().Signers }

// ValidatorSetID returns the id of Validators.
func (s *State) ValidatorSetID() types.Hash { return s.authority().setID }

// Voters returns who may vote on the next block, should it be a signed slot.
func (s *State) Voters() *Electorate { return s.authority().voters }

// Proven returns what the chain says of its validators as of this block.
func (s *State) Proven() *Authority { return s.authority() }

// Checkpoint returns height and id of the block.
func (s *State) Checkpoint() Checkpoint { return Checkpoint{Height: s.Height, ID: s.ID} }

// Rank returns the turn of validator index at the next block, which must be a
// slot: (index − slot number) mod N. Rank 0 is in turn.
func (s *State) Rank(index uint8) uint32 {
	n := uint32(len(s.Validators().Keys))
	slot := s.ChildHeight() / s.Network.N
	return (uint32(index)%n + n - slot%n) % n
}

// ValidatorOfRank returns the index whose rank at the next block is rank.
func (s *State) ValidatorOfRank(rank uint32) uint8 {
	n := uint32(len(s.Validators().Keys))
	return uint8((rank + s.ChildHeight()/s.Network.N) % n)
}

// MinTime returns the earliest header time of a next block that is no slot.
func (s *State) MinTime() uint32 { return clampTime(uint64(s.Time) + 1) }

// SignedWindow returns the earliest and latest header time at which validator
// index may sign the next block (C3), in seconds.
func (s *State) SignedWindow(index uint8) (from, to uint32) {
	delay := max(1, uint64(s.Rank(index))*uint64(s.Network.RankStepSeconds))
	return clampTime(uint64(s.Time) + delay), clampTime(uint64(s.Time) + uint64(s.Network.SlotCloseSeconds))
}

// FallbackTime returns the earliest header time at which the next block, a
// slot, may be mined (C4), in seconds.
func (s *State) FallbackTime() uint32 {
	return clampTime(uint64(s.Time) + uint64(s.Network.SlotOpenSeconds) + 1)
}

// MinedTime returns the earliest header time of a mined next block.
func (s *State) MinedTime() uint32 {
	if s.ChildIsSlot() {
		return s.FallbackTime()
	}
	return s.MinTime()
}

func clampTime(t uint64) uint32 { return uint32(min(t, 1<<32-1)) }

// Subsidy returns the new money a mined next block may create, in base units.
// Signed blocks create none (P13).
func (s *State) Subsidy() int64 {
	halvings := s.ChildHeight() / s.Network.HalvingInterval
	if halvings >= 63 {
		return 0
	}
	return s.Network.Subsidy >> halvings
}

// Weight is what fork choice compares (C8): a greater one is better, whatever
// the length of the chains and whenever their blocks arrived.
type Weight struct {
	// Certified is the height of the highest certified slot of the chain, proven
	// by certificates from wherever: on this chain, on another, or from peers.
	Certified   uint32
	SignedSlots uint32
	Work        uint256.Int
}

// Weight returns the weight of the chain that ends here, of which the slot at
// height certified is the highest certified one.
func (s *State) Weight(certified uint32) Weight {
	return Weight{Certified: certified, SignedSlots: s.SignedSlots, Work: s.Work}
}

// Compare orders weights: positive when w is better. Zero leaves the choice to
// State.BreakTie and then to what was seen first.
func (w Weight) Compare(o Weight) int {
	return cmp.Or(cmp.Compare(w.Certified, o.Certified), cmp.Compare(w.SignedSlots, o.SignedSlots), w.Work.Cmp(&o.Work))
}

// BreakTie decides between two chains that Compare equal, by their blocks at
// the first slot where they differ: a signed block before a fallback block,
// then the lower rank, then, for two fallback blocks, the lower id. s is the
// state of a's parent. It is positive when a is better, 0 when first seen decides.
func (s *State) BreakTie(a, b *types.SignedHeader) int {
	rank := func(h *types.SignedHeader) uint32 {
		sig, err := types.ParseBlockSig(h.VchBlockSig)
		if err != nil {
			return MaxValidators
		}
		return s.Rank(sig.Index)
	}
	if c := cmp.Compare(rank(b), rank(a)); c != 0 {
		return c
	}
	if a.IsSigned() {
		return 0
	}
	return b.Header.ID().Compare(a.Header.ID())
}

// Child returns the state after a block with this header, which ValidateHeader
// found valid. Of a signed block it also needs the first transaction, which
// State.CheckBlock found valid; of an invalid one what the records before the
// first bad one say counts. It needs no other transaction, so that a chain can
// be weighed before its blocks are connected, or by a client without bodies.
func (s *State) Child(h *types.SignedHeader, first *types.Transaction) State {
	target := s.NextTarget()
	work := types.Work(&target)
	c := *s
	c.Height, c.ID, c.Time = s.ChildHeight(), h.Header.ID(), h.Time
	c.Work.Add(&s.Work, &work)
	if h.IsSigned() {
		c.SignedSlots++
		c.LastSigned = c.Height
		a := s.authority().clone()
		_ = a.carryAll(s.Network, first, false)
		a.extend(c.Checkpoint(), s.Voters())
		c.Authority = a
	}
	return c
}

// Equal reports whether two states are the same in every respect, also where
// their networks and authorities were loaded separately.
func (s *State) Equal(o *State) bool {
	a, b := *s, *o
	a.Network, a.Authority, b.Network, b.Authority = nil, nil, nil, nil
	return a == b && (s.Authority == o.Authority || bytes.Equal(s.authority().Bytes(), o.authority().Bytes()))
}

// AppendTo appends the state's encoding for the node's database, without the
// authority, of which there is the id: zeros as of genesis.
func (s *State) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, s.Height)
	b = append(b, s.ID[:]...)
	b = binary.LittleEndian.AppendUint32(b, s.Time)
	b = binary.LittleEndian.AppendUint32(b, s.SignedSlots)
	b = binary.LittleEndian.AppendUint32(b, s.LastSigned)
	work := s.Work.Bytes32()
	b = append(b, work[:]...)
	var id types.Hash
	if s.Authority != nil {
		id = s.Authority.ID()
	}
	return append(b, id[:]...)
}

// DecodeState reads what AppendTo wrote, all but the authority, whose id it
// returns.
func (n *Network) DecodeState(d *types.Decoder) (s State, authority types.Hash) {
	s = State{
		Network: n, Height: d.Uint32(), ID: d.Hash(), Time: d.Uint32(),
		SignedSlots: d.Uint32(), LastSigned: d.Uint32(),
	}
	s.Work.SetBytes(d.Bytes(32))
	return s, d.Hash()
}
