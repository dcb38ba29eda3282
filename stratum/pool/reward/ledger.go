package reward

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/holiman/uint256"
)

// MaxName is the longest name of an account or a finder, in bytes.
const MaxName = 128

// Limits bound a ledger's memory. Zero fields mean the defaults.
type Limits struct {
	// Accounts is how many accounts there may be; the work of one more counts
	// for the operator until an account without work and balance makes room.
	// Default 65,536.
	Accounts int
	// Blocks and Entries are how many found blocks, and how many credits and
	// payments of theirs, are kept one by one. Beyond that the oldest that are
	// confirmed or orphaned stay in the sums only. Default 1,000 and 1,000,000.
	Blocks, Entries int
}

func (l Limits) withDefaults() Limits {
	return Limits{cmp.Or(l.Accounts, 1<<16), cmp.Or(l.Blocks, 1000), cmp.Or(l.Entries, 1_000_000)}
}

// Ledger keeps the work of the accounts and what they are owed. It is not safe
// for concurrent use.
type Ledger struct {
	limits   Limits
	rules    Rules
	network  uint256.Int // hashes that a block takes on average; zero: not known yet
	window   window
	since    uint256.Int // work since the last block was found
	accounts map[string]*account
	turned   uint64 // shares counted for the operator because the table was full
	blocks   []*block
	byID     map[[32]byte]*block
	past     past
}

// account is one that was ever credited or worked. The operator's name is "".
type account struct {
	name           string
	round          uint256.Int // work done, in Proportional only
	consumed       uint256.Int // of it, what standing blocks were divided by
	credited, paid int64       // by standing blocks
}

func (a *account) balance() int64 { return a.credited - a.paid }

// running is the account's work in the running round.
func (a *account) running() (w uint256.Int) {
	if a.round.Gt(&a.consumed) {
		w.Sub(&a.round, &a.consumed)
	}
	return w
}

// past is what is left of blocks that are no longer kept, and of accounts that
// made room for others.
type past struct {
	blocks, orphans             uint64
	rewards, fees, payments     uint64 // of the confirmed blocks
	accounts                    uint64
	accountsCredit, accountsPay uint64 // equal: only accounts without a balance go
}

// Found is a block that the pool's miners found.
type Found struct {
	ID     [32]byte
	Height uint32
	Time   time.Time // whole milliseconds are kept
	Reward int64     // what its coinbase pays in all, in base units
	Finder string    // worker name; "" is this machine
	Note   []byte    // as Plan made it for this block; empty: all of it is the operator's
}

type block struct {
	found    Found // without its note
	state    State
	mode     Mode
	fee      int64
	credits  []credit
	payments []payment
	work     uint256.Int // the pool's since the block before
	network  uint256.Int // expected at the time
}

type credit struct {
	account *account
	amount  int64
	weight  uint256.Int // what it took of the running round
}

type payment struct {
	account *account
	amount  int64
}

// New returns an empty ledger.
func New(rules Rules, limits Limits) (*Ledger, error) {
	if err := rules.Check(); err != nil {
		return nil, err
	}
	l := &Ledger{limits: limits.withDefaults(), accounts: map[string]*account{}, byID: map[[32]byte]*block{}}
	l.window.buckets = []bucket{newBucket()}
	return l, l.SetRules(rules)
}

// Rules returns the rules in force.
func (l *Ledger) Rules() Rules { return l.rules }

// SetRules changes the rules for all plans from now on. Blocks that are found
// keep the credits of their plan. A round of Proportional begins with the rule.
func (l *Ledger) SetRules(r Rules) error {
	if err := r.Check(); err != nil {
		return err
	}
	if r.Mode != Proportional || l.rules.Mode != Proportional {
		for _, a := range l.accounts {
			a.round = a.consumed
		}
	}
	l.rules = r
	l.setSpan()
	return nil
}

// SetNetwork says how many hashes a block takes on average now.
func (l *Ledger) SetNetwork(hashes uint256.Int) {
	l.network = hashes
	l.setSpan()
}

// Network returns the hashes that a block takes on average; zero if not known.
func (l *Ledger) Network() uint256.Int { return l.network }

// setSpan is factor × network / 1000, kept below 2^190 so that sums of weights
// can be multiplied with amounts.
func (l *Ledger) setSpan() {
	limit := new(uint256.Int).Lsh(uint256.NewInt(1), 190)
	s, overflow := new(uint256.Int).MulDivOverflow(&l.network, uint256.NewInt(l.rules.Factor), uint256.NewInt(1000))
	if overflow || s.Gt(limit) {
		s = limit
	}
	l.window.span = *s
}

// Share books work of an account, "" for the operator's.
func (l *Ledger) Share(name string, weight uint64) {
	a := l.worker(name)
	w := uint256.Int{weight}
	l.since.Add(&l.since, &w)
	l.window.add(a, weight)
	if l.rules.Mode == Proportional {
		a.round.Add(&a.round, &w)
	}
}

// worker returns the account that work of name counts for.
func (l *Ledger) worker(name string) *account {
	if a := l.accounts[name]; a != nil {
		return a
	}
	if name != "" && len(l.accounts) >= l.limits.Accounts {
		// Looking for room takes long, and in vain while the table is full of use.
		if l.turned++; l.turned%1024 != 1 || !l.prune() {
			return l.account("")
		}
	}
	return l.account(name)
}

func (l *Ledger) account(name string) *account {
	a := l.accounts[name]
	if a == nil {
		a = &account{name: name}
		l.accounts[name] = a
	}
	return a
}

// prune drops accounts that have neither work that counts, nor a balance, nor
// a part in a block that is kept.
func (l *Ledger) prune() bool {
	used := map[*account]bool{l.account(""): true}
	for _, b := range l.window.buckets {
		for a := range b.weights {
			used[a] = true
		}
	}
	for _, b := range l.blocks {
		for _, c := range b.credits {
			used[c.account] = true
		}
		for _, p := range b.payments {
			used[p.account] = true
		}
	}
	room := false
	for name, a := range l.accounts {
		if used[a] || a.balance() != 0 || !a.round.Eq(&a.consumed) {
			continue
		}
		l.past.accounts++
		l.past.accountsCredit += uint64(a.credited)
		l.past.accountsPay += uint64(a.paid)
		delete(l.accounts, name)
		room = true
	}
	return room
}

// ErrNote means that a block was found with a note that is not the books'.
var ErrNote = errors.New("the note of a found block cannot be used")

// ErrUnknown is returned for a block that is not in the ledger (any more).
var ErrUnknown = errors.New("no such block in the books")

// CheckFound says why a block cannot be booked; nil if it can, or is already.
func (l *Ledger) CheckFound(f *Found) error {
	_, err := l.planOf(f)
	return err
}

// planOf reads the note of a found block.
func (l *Ledger) planOf(f *Found) (Plan, error) {
	if f.Reward < 0 || len(f.Finder) > MaxName {
		return Plan{}, fmt.Errorf("block %x: a reward of %d, a finder of %d bytes: want 0 or more, and at most %d", f.ID, f.Reward, len(f.Finder), MaxName)
	}
	p := Plan{Height: f.Height, Reward: f.Reward, Credits: []Part{{Amount: f.Reward}}}
	if len(f.Note) > 0 {
		var err error
		if p, err = ParseNote(f.Note); err != nil {
			return p, fmt.Errorf("the note of block %x: %w", f.ID, err)
		}
	}
	if p.Reward != f.Reward || p.Height != f.Height {
		return p, fmt.Errorf("the note of block %x is for height %d and a reward of %d, the block has %d and %d", f.ID, p.Height, p.Reward, f.Height, f.Reward)
	}
	if b := l.byID[f.ID]; b != nil {
		if q := b.plan(); !bytesEqual(q.Note(), p.Note()) {
			return p, fmt.Errorf("block %x is in the books already, with another note", f.ID)
		}
		return p, nil
	}
	if l.rewards() > math.MaxInt64-f.Reward {
		return p, fmt.Errorf("block %x: all rewards together are too large", f.ID)
	}
	return p, nil
}

func bytesEqual(a, b []byte) bool { return string(a) == string(b) }

// rewards is the sum that any set of standing blocks stays below.
func (l *Ledger) rewards() (sum int64) {
	sum = int64(l.past.rewards)
	for _, b := range l.blocks {
		sum += b.found.Reward
	}
	return sum
}

// Found books a block in state Held. It reports false if the block is there
// already. Its credits and payments are those of its note.
func (l *Ledger) Found(f Found) (bool, error) {
	p, err := l.planOf(&f)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrNote, err)
	}
	if l.byID[f.ID] != nil {
		return false, nil
	}
	f.Note = nil
	f.Time = f.Time.Truncate(time.Millisecond).UTC()
	b := &block{found: f, work: l.since, network: l.network}
	b.take(l, &p)
	l.since.Clear()
	l.blocks = append(l.blocks, b)
	l.byID[f.ID] = b
	l.fold()
	return true, nil
}

// Settle says what became of a block, in any order and any number of times.
// It reports whether that is news; ErrUnknown if the block is not kept.
func (l *Ledger) Settle(id [32]byte, s State) (bool, error) {
	b := l.byID[id]
	switch {
	case s >= states:
		return false, fmt.Errorf("block %x: %v is not known", id, s)
	case b == nil:
		return false, fmt.Errorf("block %x: %w", id, ErrUnknown)
	case b.state == s:
		return false, nil
	}
	if b.state.Stands() {
		b.book(-1)
	}
	b.state = s
	if b.state.Stands() {
		b.book(1)
	}
	l.fold()
	return true, nil
}

// book adds what the block earns and pays to the accounts, or takes it back.
func (b *block) book(sign int64) {
	for i := range b.credits {
		c := &b.credits[i]
		c.account.credited += sign * c.amount
		if c.account.name == "" {
			c.account.credited += sign * b.fee
		}
		if sign > 0 {
			c.account.consumed.Add(&c.account.consumed, &c.weight)
		} else {
			c.account.consumed.Sub(&c.account.consumed, &c.weight)
		}
	}
	for _, p := range b.payments {
		p.account.paid += sign * p.amount
	}
}

// fold forgets the oldest final blocks beyond the limits.
func (l *Ledger) fold() {
	entries := 0
	for _, b := range l.blocks {
		entries += len(b.credits) + len(b.payments)
	}
	for len(l.blocks) > l.limits.Blocks || entries > l.limits.Entries {
		i := slices.IndexFunc(l.blocks, func(b *block) bool { return b.state == Confirmed || b.state == Orphaned })
		if i < 0 {
			return
		}
		b := l.blocks[i]
		entries -= len(b.credits) + len(b.payments)
		l.blocks = slices.Delete(l.blocks, i, i+1)
		delete(l.byID, b.found.ID)
		if b.state == Orphaned {
			l.past.orphans++
			continue
		}
		l.past.blocks++
		l.past.rewards += uint64(b.found.Reward)
		l.past.fees += uint64(b.fee)
		l.past.payments += uint64(b.paid())
		for i := range b.credits { // the round and what was taken of it shrink alike
			c := &b.credits[i]
			c.account.consumed.Sub(&c.account.consumed, &c.weight)
			if c.account.round.Lt(&c.weight) {
				c.account.round.Clear()
			} else {
				c.account.round.Sub(&c.account.round, &c.weight)
			}
		}
	}
}

func (b *block) paid() (sum int64) {
	for _, p := range b.payments {
		sum += p.amount
	}
	return sum
}
