package authority

// Timing is when the chain can let a change take effect at the earliest, as it
// stood when the proposal was made. All are heights.
type Timing struct {
	Tip uint32 `json:"tip"` // best block
	// Carrier is the first slot that can carry the change. Both sets vote on the
	// slots after it.
	Carrier uint32 `json:"carrier"`
	// Effective is the first slot that the new set signs, alone.
	Effective uint32 `json:"effective"`
	// ByDepth is Effective if nothing becomes final meanwhile, as with too many
	// dead keys, while slots are certified.
	ByDepth uint32 `json:"byDepth"`
}

// DepthSlots is how many slots above the carrier are to be certified where the
// carrier does not become final (protocol.md, "Records", C9).
const DepthSlots = 36

// timing applies the chain's rule to a tip; n is the step of slots. The carrier
// C is final by votes from it to C + n, which the slot C + 2n carries at the
// earliest; the slot after that is the new set's.
func timing(tip, n uint32) Timing {
	carrier := (tip/n + 1) * n
	return Timing{
		Tip: tip, Carrier: carrier, Effective: carrier + 3*n,
		ByDepth: carrier + (DepthSlots+2)*n,
	}
}
