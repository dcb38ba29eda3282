package pool

import (
	"time"

	"qcitycoin.org/qcity/stratum/pool/reward"
)

// What the node needs of the arithmetic, so that it imports one package only.
type (
	// Payment is an output of a coinbase: an account, which is an address, and
	// an amount in base units.
	Payment = reward.Payment
	// Found is a block that was found.
	Found = reward.Found
	// State is what became of it.
	State = reward.State
)

// The states of a found block.
const (
	Held      = reward.Held
	Accepted  = reward.Accepted
	Orphaned  = reward.Orphaned
	Confirmed = reward.Confirmed
)

// Plan divides the reward of the next block, should it be found with the work
// done so far: whom its coinbase pays, in at most maxOutputs outputs besides the
// operator's, which gets the rest; and the note that is to come back with the
// block in Found. The payments never exceed the reward.
func (b *Books) Plan(height uint32, reward int64, maxOutputs int) ([]Payment, []byte) {
	return b.plan("", height, reward, maxOutputs)
}

// PlanFor is Plan for a block that a worker of this account finds, which
// matters in solo mining only: the coinbase then pays the account, if it can be
// paid, in one output.
func (b *Books) PlanFor(account string, height uint32, reward int64) ([]Payment, []byte) {
	if !b.cfg.Payable(account) {
		account = ""
	}
	return b.plan(account, height, reward, 1)
}

func (b *Books) plan(finder string, height uint32, amount int64, maxOutputs int) ([]Payment, []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drain()
	p := b.state.ledger.Plan(finder, height, amount, maxOutputs)
	return p.Payments, p.Note()
}

// Found books a block that was found, in state Held, with the credits and
// payments of its note, and returns nil only when that is durable. The same
// block any number of times is booked once. An error that is not the disk's says
// what is wrong with the note; then nothing was booked.
func (b *Books) Found(f Found) error {
	b.mu.Lock()
	b.drain()
	fresh, err := b.state.ledger.Found(f)
	if fresh {
		if j := b.record(time.Now().UnixMilli(), evFound); j != nil {
			j.bytes(f.ID[:])
			j.num(uint64(f.Height))
			j.signed(f.Time.UnixMilli())
			j.num(uint64(f.Reward))
			j.text(f.Finder)
			j.text(string(f.Note))
		}
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	return b.Flush()
}

// Settle says what became of a found block, in any order and any number of
// times, and returns nil only when that is durable. When one block takes
// another's place, the other is settled first. The error wraps
// reward.ErrUnknown for a block that is not in the books, or no longer.
func (b *Books) Settle(id [32]byte, s State) error {
	b.mu.Lock()
	b.drain()
	fresh, err := b.state.ledger.Settle(id, s)
	if fresh {
		if j := b.record(time.Now().UnixMilli(), evSettled); j != nil {
			j.bytes(id[:])
			j.bytes([]byte{byte(s)})
		}
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	return b.Flush()
}

// Report says who is owed what, who was paid what, and what the blocks earned.
func (b *Books) Report() reward.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drain()
	return b.state.ledger.Report()
}
