package consensus

import "fmt"

// Confirmation says what stands behind a block of the best chain.
type Confirmation string

// The confirmations, weakest first. Nothing else is ever shown to a user.
const (
	ByWork      Confirmation = "pow"       // proof of work above it, no signed slot yet
	BySignature Confirmation = "signed"    // a signed slot is at or above it
	Certified   Confirmation = "certified" // a certified slot is at or above it
	Final       Confirmation = "final"     // a final slot is at or above it
)

// Standing is what is known of the best chain at one moment.
type Standing struct {
	Tip State
	// Certified and Final are the highest such slots of the chain; genesis is both.
	Certified, Final Checkpoint
}

// Of returns what stands behind the chain's block at a height up to the tip's.
func (s *Standing) Of(height uint32) Confirmation {
	switch {
	case height <= s.Final.Height:
		return Final
	case height <= s.Certified.Height:
		return Certified
	case height <= s.Tip.LastSigned:
		return BySignature
	}
	return ByWork
}

// Degradation says since which slot the validators do not give what they
// should, and what is missing.
type Degradation struct {
	Since   uint32       // height of the first slot that lacks it
	Missing Confirmation // BySignature, Certified or Final
}

func (d Degradation) String() string {
	switch d.Missing {
	case BySignature:
		return fmt.Sprintf("degraded: no validator has signed a slot since %d: blocks are secured by work alone", d.Since)
	case Certified:
		return fmt.Sprintf("degraded: no slot was certified since %d: too few validators vote", d.Since)
	}
	return fmt.Sprintf("degraded: no slot became final since %d: not enough validators vote", d.Since)
}

// Degraded reports what the validators owe (L5): a signature for the newest slot,
// a certificate for the signed slot before the newest, and finality for the one
// before that if the next two were signed, too: no other can become final by
// itself. Each has had an interval of slots by then.
func (s *Standing) Degraded() (Degradation, bool) {
	n, slots := s.Tip.Network.N, s.Tip.Proven().Slots
	newest := s.Tip.Height - s.Tip.Height%n
	if s.Tip.LastSigned < newest {
		return Degradation{Since: s.Tip.LastSigned + n, Missing: BySignature}, true
	}
	back := func(i int) uint32 { return slots[max(len(slots)-1-i, 0)].Height }
	if s.Certified.Height < back(1) {
		return Degradation{Since: firstAbove(slots, s.Certified.Height), Missing: Certified}, true
	}
	canFinalise := s.Tip.Voters().Finalises(^uint32(0))
	if canFinalise && s.Final.Height < back(2) && back(0)-back(2) == 2*n {
		return Degradation{Since: firstAbove(slots, s.Final.Height), Missing: Final}, true
	}
	return Degradation{}, false
}

func firstAbove(slots []Slot, height uint32) uint32 {
	for _, s := range slots {
		if s.Height > height {
			return s.Height
		}
	}
	return 0
}
