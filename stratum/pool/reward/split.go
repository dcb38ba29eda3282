package reward

import (
	"cmp"
	"slices"

	"github.com/holiman/uint256"
)

// Part is what an account has done, and what it gets for it.
type Part struct {
	Account string // "" is the operator
	Weight  uint256.Int
	Amount  int64
}

// Split divides amount, which is not negative, among parts in proportion to
// their weights and fills in their amounts, which add up to it exactly. What
// the division leaves over goes, one unit each, to the largest remainders; of
// equal ones to the account whose name comes first. It reports false, and
// divides nothing, if no part has a weight. Sums of weights stay below 2^192.
func Split(amount int64, parts []Part) bool {
	var total, quotient, remainder uint256.Int
	for i := range parts {
		total.Add(&total, &parts[i].Weight)
	}
	if total.IsZero() {
		return false
	}
	whole := uint256.NewInt(uint64(amount))
	left := amount
	order := make([]int, len(parts))
	remainders := make([]uint256.Int, len(parts))
	for i := range parts {
		quotient.Mul(whole, &parts[i].Weight) // below 2^63 · 2^192
		quotient.DivMod(&quotient, &total, &remainder)
		parts[i].Amount = int64(quotient.Uint64()) // at most amount
		left -= parts[i].Amount
		order[i], remainders[i] = i, remainder
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(remainders[b].Cmp(&remainders[a]), cmp.Compare(parts[a].Account, parts[b].Account))
	})
	for _, i := range order[:left] { // fewer than there are parts with a remainder
		parts[i].Amount++
	}
	return true
}
