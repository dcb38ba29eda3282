// Package reward divides what blocks earn among those who worked for them. It
// is arithmetic only, in whole base units: no clock, no file, no float. Shares,
// found blocks and what became of them go in; credits, payments and balances
// come out, the same ones for the same input.
package reward

import "fmt"

// Mode is a rule by which a reward is divided.
type Mode uint8

// The modes.
const (
	// Own: everything belongs to the operator.
	Own Mode = iota
	// Solo: the account that found the block takes it all, less the fee.
	Solo
	// Proportional: the reward is divided by the work since the last block found that stands.
	Proportional
	// PPLNS: the reward is divided by the last work done, as much of it as the
	// factor says, whether blocks were found meanwhile or not.
	PPLNS
	modes // their number
)

var modeNames = [modes]string{"own", "solo", "proportional", "pplns"}

func (m Mode) String() string {
	if m < modes {
		return modeNames[m]
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// ParseMode is the inverse of String.
func ParseMode(name string) (Mode, error) {
	for m, n := range modeNames {
		if n == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("%q is no rule for rewards: want own, solo, proportional or pplns", name)
}

// Rules say how rewards are divided and paid.
type Rules struct {
	Mode Mode
	// Fee of the operator in basis points (hundredths of a percent), rounded down.
	Fee int64
	// Factor of PPLNS in thousandths: how much of the last work counts, in units
	// of the work that a block takes on average.
	Factor uint64
	// MinPayout is the smallest amount paid in a coinbase, in base units.
	MinPayout int64
}

// Bounds of rules.
const (
	MaxFee    = 10_000
	MaxFactor = 100_000
)

// Check refuses rules that cannot work.
func (r Rules) Check() error {
	switch {
	case r.Mode >= modes:
		return fmt.Errorf("%v is not known", r.Mode)
	case r.Fee < 0 || r.Fee > MaxFee:
		return fmt.Errorf("a fee of %d basis points: want 0 to %d", r.Fee, MaxFee)
	case r.Factor < 1 || r.Factor > MaxFactor:
		return fmt.Errorf("a PPLNS factor of %d thousandths: want 1 to %d", r.Factor, MaxFactor)
	case r.MinPayout < 0:
		return fmt.Errorf("a least payout of %d: want 0 or more", r.MinPayout)
	}
	return nil
}

// fee of a reward, rounded down.
func (r Rules) fee(reward int64) int64 {
	return reward/MaxFee*r.Fee + reward%MaxFee*r.Fee/MaxFee
}

// State is what became of a found block.
type State uint8

// The states.
const (
	// Held: found, and not (yet) on the best chain: it is being handed in, or
	// waits until it is due.
	Held State = iota
	// Accepted: on the best chain.
	Accepted
	// Orphaned: another block has its place. Its reward does not exist.
	Orphaned
	// Confirmed: on the best chain for good, or its reward may be spent.
	Confirmed
	states // their number
)

var stateNames = [states]string{"held", "accepted", "orphaned", "confirmed"}

func (s State) String() string {
	if s < states {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Stands says that the block's reward exists.
func (s State) Stands() bool { return s == Accepted || s == Confirmed }
