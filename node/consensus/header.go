package consensus

import (
	"encoding/binary"

	"qcitycoin.org/qcity/node/types"
)

// SlotDigest returns what a validator signs for the block id at a slot (C5).
// Hashes enter in internal order.
func SlotDigest(network, set types.Hash, height uint32, block types.Hash) types.Hash {
	return types.TaggedHash("qcity/poo/block", network[:], set[:], binary.LittleEndian.AppendUint32(nil, height), block[:])
}

// ValidateHeader checks a header and its VchBlockSig against the parent: every
// rule that needs neither transactions nor a clock.
func ValidateHeader(parent *State, h *types.SignedHeader) error {
	if !h.IsSigned() {
		return validateMined(parent, &h.Header)
	}
	sig, err := types.ParseBlockSig(h.VchBlockSig)
	if err != nil {
		return &RuleError{Rule: RuleSigFormat, Detail: "VchBlockSig", Cause: err}
	}
	if err := ValidateSlotHeader(parent, &h.Header, sig.Index); err != nil {
		return err
	}
	digest := SlotDigest(parent.Network.ID, parent.ValidatorSetID(), parent.ChildHeight(), h.Header.ID())
	if err := parent.Validators().Keys[sig.Index].Verify(digest, sig.Signature); err != nil {
		return &RuleError{Rule: RuleBlockSig, Detail: "validator " + parent.Validators().Keys[sig.Index].String(), Cause: err}
	}
	return nil
}

func validateMined(parent *State, h *types.Header) error {
	if err := validateLink(parent, h); err != nil {
		return err
	}
	if parent.ChildIsSlot() && h.Time < parent.FallbackTime() {
		return broken(RuleFallback, "slot %d opens to miners at time %d, header has %d", parent.ChildHeight(), parent.FallbackTime(), h.Time)
	}
	target := parent.NextTarget()
	if id := h.ID(); !types.HashMeets(id, &target) {
		return broken(RuleWork, "hash %s is above target %064x", id, target.Bytes32())
	}
	return nil
}

// ValidateSlotHeader checks everything about the header of a signed block but
// its signature: what validator index must see before it signs.
func ValidateSlotHeader(parent *State, h *types.Header, index uint8) error {
	if err := validateLink(parent, h); err != nil {
		return err
	}
	if !parent.ChildIsSlot() {
		return broken(RuleNotASlot, "height %d takes no VchBlockSig", parent.ChildHeight())
	}
	keys := parent.Validators().Keys
	if int(index) >= len(keys) {
		return broken(RuleValidator, "index %d in a set of %d", index, len(keys))
	}
	if parent.authority().IsDisabled(keys[index]) {
		return broken(RuleDisabled, "validator %d, %s", index, keys[index])
	}
	if h.Nonce != 0 {
		return broken(RuleSlotNonce, "nonce %d in a signed block", h.Nonce)
	}
	from, to := parent.SignedWindow(index)
	if h.Time < from {
		return broken(RuleSlotEarly, "validator %d has rank %d and may sign from time %d, header has %d", index, parent.Rank(index), from, h.Time)
	}
	if h.Time > to {
		return broken(RuleSlotLate, "slot %d closed at time %d, header has %d", parent.ChildHeight(), to, h.Time)
	}
	return nil
}

func validateLink(parent *State, h *types.Header) error {
	if h.PrevBlock != parent.ID {
		return broken(RulePrevBlock, "header names %s, parent is %s", h.PrevBlock, parent.ID)
	}
	if h.Time <= parent.Time {
		return broken(RuleTimeOrder, "time %d is not after the parent's %d", h.Time, parent.Time)
	}
	if want := parent.NextBits(); h.Bits != want {
		return broken(RuleBits, "bits %08x, want %08x", h.Bits, want)
	}
	return nil
}

// CheckFuture refuses, for now, a header that is further ahead of the clock
// than the network allows. now is Unix time in seconds. The refusal is
// temporary: the same header may be fine later.
func (n *Network) CheckFuture(h *types.Header, now int64) error {
	if ahead := int64(h.Time) - now; ahead > int64(n.FutureLimitSeconds) {
		return broken(RuleTimeFuture, "time %d is %d s ahead of the clock, limit %d s", h.Time, ahead, n.FutureLimitSeconds)
	}
	return nil
}
