package reward

import (
	"cmp"
	"maps"
	"slices"

	"github.com/holiman/uint256"
)

// Payment is an output of a coinbase.
type Payment struct {
	Account string
	Amount  int64 // base units, more than 0
}

// Plan is how the reward of a block yet to be found is divided and paid. The
// credits' amounts and the fee add up to the reward. The payments come from
// the block's own reward, so they stand and fall with it; what they leave of
// it goes to the operator's output.
type Plan struct {
	Mode     Mode
	Height   uint32
	Reward   int64
	Fee      int64
	Credits  []Part    // by account, "" (the operator) always there; no other without an amount and a weight
	Payments []Payment // largest first, ties by name; a solo miner before others
}

// Plan divides the reward of the next block. finder is the account that solo
// mining pays ("" the operator) and counts in Solo only. There are at most
// maxOutputs payments.
//
// Blocks in state Held below the height count with care: their work is taken
// from the running round, and nobody is paid what is only due if they stand,
// or only if they do not. Nothing is paid twice, whatever becomes of them.
func (l *Ledger) Plan(finder string, height uint32, reward int64, maxOutputs int) Plan {
	p := Plan{Mode: l.rules.Mode, Height: height, Reward: max(0, reward)}
	held := l.heldBelow(height)
	if p.Mode != Own {
		p.Fee = l.rules.fee(p.Reward)
	}
	p.Credits = l.credits(finder, p.Reward-p.Fee, held)
	p.Payments = l.payments(&p, finder, held, maxOutputs)
	return p
}

// standing is what blocks in state Held would change.
type standing struct {
	consumed uint256.Int
	balance  int64
}

func (l *Ledger) heldBelow(height uint32) map[*account]standing {
	held := map[*account]standing{}
	for _, b := range l.blocks {
		if b.state != Held || b.found.Height >= height {
			continue
		}
		for _, c := range b.credits {
			s := held[c.account]
			s.consumed.Add(&s.consumed, &c.weight)
			s.balance += c.amount
			held[c.account] = s
		}
		for _, p := range b.payments {
			s := held[p.account]
			s.balance -= p.amount
			held[p.account] = s
		}
	}
	return held
}

// credits divides amount among the accounts that worked for it.
func (l *Ledger) credits(finder string, amount int64, held map[*account]standing) []Part {
	parts := []Part{{}} // the operator's
	switch l.rules.Mode {
	case Solo:
		if finder != "" {
			return []Part{{}, {Account: finder, Amount: amount}}
		}
	case Proportional:
		for _, a := range l.accounts {
			w := a.running()
			if h := held[a]; w.Gt(&h.consumed) {
				w.Sub(&w, &h.consumed)
				parts = addPart(parts, a.name, w)
			}
		}
	case PPLNS:
		for a, w := range l.window.weights() {
			if !w.IsZero() {
				parts = addPart(parts, a.name, w)
			}
		}
	}
	slices.SortFunc(parts, func(a, b Part) int { return cmp.Compare(a.Account, b.Account) })
	if !Split(amount, parts) {
		parts[0].Amount = amount // nobody worked for it, so far
	}
	if l.rules.Mode == PPLNS { // work in the window counts again: nothing is taken
		for i := range parts {
			parts[i].Weight.Clear()
		}
		parts = slices.DeleteFunc(parts, func(p Part) bool { return p.Account != "" && p.Amount == 0 })
	}
	return parts
}

func addPart(parts []Part, name string, w uint256.Int) []Part {
	if name == "" {
		parts[0].Weight = w
		return parts
	}
	return append(parts, Part{Account: name, Weight: w})
}

// payments chooses who is paid in the coinbase, and how much.
func (l *Ledger) payments(p *Plan, finder string, held map[*account]standing, maxOutputs int) []Payment {
	due := map[string]int64{}
	for _, a := range l.accounts {
		due[a.name] = a.balance()
	}
	for a, h := range held {
		due[a.name] += min(0, h.balance)
	}
	for _, c := range p.Credits {
		due[c.Account] += c.Amount
	}
	delete(due, "")
	least := max(1, l.rules.MinPayout)
	maps.DeleteFunc(due, func(_ string, amount int64) bool { return amount < least })
	first := func(name string) int { // a solo miner's own block pays him first
		if p.Mode == Solo && name == finder {
			return 0
		}
		return 1
	}
	names := slices.SortedFunc(maps.Keys(due), func(a, b string) int {
		return cmp.Or(first(a)-first(b), cmp.Compare(due[b], due[a]), cmp.Compare(a, b))
	})
	left := p.Reward
	var list []Payment
	for _, name := range names {
		amount := min(due[name], left)
		if len(list) >= maxOutputs || amount < least {
			break
		}
		list = append(list, Payment{name, amount})
		left -= amount
	}
	return list
}

// plan is the plan that a block was made by.
func (b *block) plan() Plan {
	p := Plan{Mode: b.mode, Height: b.found.Height, Reward: b.found.Reward, Fee: b.fee}
	for _, c := range b.credits {
		p.Credits = append(p.Credits, Part{c.account.name, c.weight, c.amount})
	}
	for _, c := range b.payments {
		p.Payments = append(p.Payments, Payment{c.account.name, c.amount})
	}
	return p
}
