package reward

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/holiman/uint256"

	"qcitycoin.org/qcity/stratum/pool/canon"
)

// AppendState appends the whole ledger, but for its limits. Equal ledgers have
// equal bytes.
func (l *Ledger) AppendState(dst []byte) []byte {
	num := func(v uint64) { dst = binary.AppendUvarint(dst, v) }
	big := func(v *uint256.Int) { dst = canon.AppendBig(dst, v) }
	num(uint64(l.rules.Mode))
	num(uint64(l.rules.Fee))
	num(l.rules.Factor)
	num(uint64(l.rules.MinPayout))
	big(&l.network)
	big(&l.since)
	num(l.turned)
	for _, v := range l.past.numbers() {
		num(*v)
	}

	names := slices.Sorted(maps.Keys(l.accounts))
	index := make(map[*account]uint64, len(names))
	num(uint64(len(names)))
	for i, name := range names {
		a := l.accounts[name]
		index[a] = uint64(i)
		dst = canon.AppendBytes(dst, name)
		big(&a.round)
		big(&a.consumed)
		num(uint64(a.credited))
		num(uint64(a.paid))
	}
	num(uint64(len(l.window.buckets)))
	for _, b := range l.window.buckets {
		num(uint64(len(b.weights)))
		for _, a := range slices.SortedFunc(maps.Keys(b.weights), func(a, b *account) int { return cmp.Compare(a.name, b.name) }) {
			num(index[a])
			w := b.weights[a]
			big(&w)
		}
	}
	num(uint64(len(l.blocks)))
	for _, b := range l.blocks {
		dst = append(dst, b.found.ID[:]...)
		dst = binary.AppendVarint(dst, b.found.Time.UnixMilli())
		dst = canon.AppendBytes(dst, b.found.Finder)
		dst = append(dst, byte(b.state))
		big(&b.work)
		big(&b.network)
		p := b.plan()
		dst = canon.AppendBytes(dst, p.Note())
	}
	return dst
}

// numbers of the past, as they are written: none is negative.
func (p *past) numbers() []*uint64 {
	return []*uint64{&p.blocks, &p.orphans, &p.rewards, &p.fees, &p.payments, &p.accounts, &p.accountsCredit, &p.accountsPay}
}

// maxNote bounds the note of one block in a state.
const maxNote = 64 << 20

// ReadState reads what AppendState wrote and continues with these limits.
func ReadState(r *canon.Reader, limits Limits) (*Ledger, error) {
	rules := Rules{Mode: Mode(min(r.Uvarint(), 255)), Fee: r.Amount(), Factor: r.Uvarint(), MinPayout: r.Amount()}
	if r.Err() != nil {
		return nil, r.Err()
	}
	l, err := New(rules, limits)
	if err != nil {
		return nil, err
	}
	l.SetNetwork(r.Big())
	l.since, l.turned = r.Big(), r.Uvarint()
	for _, v := range l.past.numbers() {
		*v = uint64(r.Amount())
	}
	list := l.readAccounts(r)
	l.readWindow(r, list)
	l.readBlocks(r)
	return l, r.Err()
}

func (l *Ledger) readAccounts(r *canon.Reader) (list []*account) {
	for range r.Count(5) {
		a := &account{name: r.String(MaxName), round: r.Big(), consumed: r.Big(), credited: r.Amount(), paid: r.Amount()}
		if l.accounts[a.name] != nil {
			r.Fail(errors.New("an account is there twice"))
			return nil
		}
		l.accounts[a.name] = a
		list = append(list, a)
	}
	return list
}

func (l *Ledger) readWindow(r *canon.Reader, list []*account) {
	n := r.Count(1)
	if n == 0 {
		r.Failf("the window has no bucket")
	}
	l.window.buckets = nil
	for range n {
		b := newBucket()
		for range r.Count(2) {
			i, w := r.Uvarint(), r.Big()
			if i >= uint64(len(list)) {
				r.Failf("the window names account %d of %d", i, len(list))
				return
			}
			b.add(list[i], &w)
		}
		l.window.total.Add(&l.window.total, &b.total)
		l.window.buckets = append(l.window.buckets, b)
	}
}

func (l *Ledger) readBlocks(r *canon.Reader) {
	for range r.Count(38) {
		b := &block{found: Found{ID: r.Hash(), Time: time.UnixMilli(r.Varint()).UTC(), Finder: r.String(MaxName)}}
		b.state = State(r.Byte())
		b.work, b.network = r.Big(), r.Big()
		note := r.Bytes(maxNote)
		if r.Err() != nil {
			return
		}
		p, err := ParseNote(note)
		if err == nil && b.state >= states {
			err = errors.New("a block has no known state")
		}
		if err != nil {
			r.Fail(err)
			return
		}
		b.take(l, &p)
		l.blocks = append(l.blocks, b)
		l.byID[b.found.ID] = b
	}
}

// take fills in what the plan says.
func (b *block) take(l *Ledger, p *Plan) {
	b.found.Height, b.found.Reward = p.Height, p.Reward
	b.mode, b.fee = p.Mode, p.Fee
	for _, c := range p.Credits {
		b.credits = append(b.credits, credit{l.account(c.Account), c.Amount, c.Weight})
	}
	for _, c := range p.Payments {
		b.payments = append(b.payments, payment{l.account(c.Account), c.Amount})
	}
}
