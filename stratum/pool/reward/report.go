package reward

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holiman/uint256"
)

// Report is what the ledger says of money, in base units. Rewards = Credited +
// Operator = Paid + Held, and Held = Owed + Operator.
type Report struct {
	Rewards  int64 // of standing blocks
	Credited int64 // of them, to accounts
	Operator int64 // of them, to the operator, with the fees
	Fees     int64
	Paid     int64 // to accounts, in coinbases of standing blocks
	Held     int64 // what the operator's outputs got
	Owed     int64 // of it, what belongs to accounts: the sum of their balances
	Accounts []AccountReport
	Blocks   []BlockReport // oldest first; see Limits
	// What is in the sums and no longer listed.
	PastBlocks, PastOrphans uint64
	PastAccounts            uint64
}

// AccountReport is one account; the operator is not among them.
type AccountReport struct {
	Account  string
	Credited int64
	Pending  int64 // of it, by blocks that are not confirmed
	Paid     int64
	Balance  int64 // below zero if a block was lost whose reward had been paid on
	Held     int64 // would be credited if the held blocks were accepted; in no sum
}

// BlockReport is one found block.
type BlockReport struct {
	ID       [32]byte
	Height   uint32
	Time     time.Time
	Finder   string
	State    State
	Mode     Mode
	Reward   int64
	Fee      int64
	Credits  []Part
	Payments []Payment
	Work     uint256.Int // the pool's since it found the block before, in hashes
	Network  uint256.Int // what a block took on average then; zero: not known
}

// Report sums up. It is the caller's.
func (l *Ledger) Report() Report {
	r := Report{
		Rewards: int64(l.past.rewards), Fees: int64(l.past.fees), Credited: int64(l.past.accountsCredit), Paid: int64(l.past.accountsPay),
		PastBlocks: l.past.blocks, PastOrphans: l.past.orphans, PastAccounts: l.past.accounts,
	}
	pending, held := map[string]int64{}, map[string]int64{}
	for _, b := range l.blocks {
		p := b.plan()
		r.Blocks = append(r.Blocks, BlockReport{
			b.found.ID, b.found.Height, b.found.Time, b.found.Finder, b.state, b.mode, b.found.Reward, b.fee,
			p.Credits, p.Payments, b.work, b.network,
		})
		if b.state.Stands() {
			r.Rewards += b.found.Reward
			r.Fees += b.fee
		}
		for _, c := range p.Credits {
			switch b.state {
			case Accepted:
				pending[c.Account] += c.Amount
			case Held:
				held[c.Account] += c.Amount
			}
		}
	}
	for _, a := range l.accounts {
		if a.name == "" {
			r.Operator = a.credited
			continue
		}
		r.Credited += a.credited
		r.Paid += a.paid
		r.Owed += a.balance()
		if a.credited != 0 || a.paid != 0 || held[a.name] != 0 {
			r.Accounts = append(r.Accounts, AccountReport{a.name, a.credited, pending[a.name], a.paid, a.balance(), held[a.name]})
		}
	}
	r.Held = r.Rewards - r.Paid
	slices.SortFunc(r.Accounts, func(a, b AccountReport) int { return cmp.Compare(a.Account, b.Account) })
	return r
}

// Check verifies that a report adds up to the last unit, block by block and in
// all; the first sum that does not is the error.
func (r *Report) Check() error {
	for i := range r.Blocks {
		b := &r.Blocks[i]
		p := Plan{Mode: b.Mode, Height: b.Height, Reward: b.Reward, Fee: b.Fee, Credits: b.Credits, Payments: b.Payments}
		if err := p.check(); err != nil {
			return fmt.Errorf("block %d: %w", b.Height, err)
		}
	}
	for _, e := range []struct {
		what      string
		got, want int64
	}{
		{"credits to accounts and to the operator, and rewards", r.Credited + r.Operator, r.Rewards},
		{"what was paid and what is held, and rewards", r.Paid + r.Held, r.Rewards},
		{"what is owed and what is the operator's, and what is held", r.Owed + r.Operator, r.Held},
	} {
		if e.got != e.want {
			return fmt.Errorf("the books do not add up: %s are %d and %d", e.what, e.got, e.want)
		}
	}
	var credited, paid, owed int64
	for _, a := range r.Accounts {
		credited, paid, owed = credited+a.Credited, paid+a.Paid, owed+a.Balance
		if a.Balance != a.Credited-a.Paid {
			return fmt.Errorf("the books do not add up: account %q", a.Account)
		}
	}
	if r.PastAccounts == 0 && (credited != r.Credited || paid != r.Paid) || owed != r.Owed {
		return fmt.Errorf("the books do not add up: accounts are credited %d of %d, paid %d of %d, owed %d of %d", credited, r.Credited, paid, r.Paid, owed, r.Owed)
	}
	return nil
}

// Check recomputes every sum from the blocks that are kept and compares it with
// what the accounts hold.
func (l *Ledger) Check() error {
	type sums struct{ credited, paid int64 }
	want := map[string]sums{}
	total := sums{int64(l.past.rewards), int64(l.past.payments)}
	for _, b := range l.blocks {
		if !b.state.Stands() {
			continue
		}
		total.credited += b.found.Reward
		for _, c := range b.credits {
			s := want[c.account.name]
			s.credited += c.amount
			want[c.account.name] = s
		}
		for _, p := range b.payments {
			s := want[p.account.name]
			s.paid += p.amount
			want[p.account.name] = s
			total.paid += p.amount
		}
		s := want[""]
		s.credited += b.fee
		want[""] = s
	}
	got := sums{int64(l.past.accountsCredit), int64(l.past.accountsPay)}
	for _, a := range l.accounts {
		got.credited, got.paid = got.credited+a.credited, got.paid+a.paid
		if w := want[a.name]; l.past.blocks == 0 && (w.credited != a.credited || w.paid != a.paid) {
			return fmt.Errorf("account %q holds %d and %d, its blocks say %d and %d", a.name, a.credited, a.paid, w.credited, w.paid)
		}
	}
	if got != total {
		return fmt.Errorf("accounts hold %+v in all, blocks say %+v", got, total)
	}
	r := l.Report()
	return r.Check()
}

// Effort is the work since the block before in percent of what a block takes on
// average; 0 if that is not known.
func (b *BlockReport) Effort() float64 {
	if b.Network.IsZero() {
		return 0
	}
	return 100 * b.Work.Float64() / b.Network.Float64()
}
