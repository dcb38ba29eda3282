package reward

import (
	"encoding/binary"
	"errors"
	"fmt"

	"qcitycoin.org/qcity/stratum/pool/canon"
)

// noteVersion is the first byte of a note.
const noteVersion = 1

// Note encodes a plan, so that it can be kept with a block and handed back when
// that is found. A plan has one encoding only.
//
//	note    = version 1 ‖ mode u8 ‖ height ‖ reward ‖ fee ‖ n ‖ n × credit ‖ m ‖ m × payment
//	credit  = name ‖ amount ‖ weight
//	payment = name ‖ amount
//
// Numbers are unsigned LEB128 in the shortest form; a name is its length and its
// bytes; a weight is its length in bytes (one byte) and its bytes, highest first
// and not zero. Credits are sorted by name, the first is that of the operator,
// whose name is empty.
func (p *Plan) Note() []byte {
	b := []byte{noteVersion, byte(p.Mode)}
	b = binary.AppendUvarint(b, uint64(p.Height))
	b = binary.AppendUvarint(b, uint64(p.Reward))
	b = binary.AppendUvarint(b, uint64(p.Fee))
	b = binary.AppendUvarint(b, uint64(len(p.Credits)))
	for i := range p.Credits {
		c := &p.Credits[i]
		b = canon.AppendBytes(b, c.Account)
		b = binary.AppendUvarint(b, uint64(c.Amount))
		b = canon.AppendBig(b, &c.Weight)
	}
	b = binary.AppendUvarint(b, uint64(len(p.Payments)))
	for _, c := range p.Payments {
		b = canon.AppendBytes(b, c.Account)
		b = binary.AppendUvarint(b, uint64(c.Amount))
	}
	return b
}

// ParseNote is the inverse of Note. What it returns adds up.
func ParseNote(note []byte) (Plan, error) {
	r := canon.NewReader(note)
	p := Plan{}
	if v := r.Byte(); v != noteVersion && r.Err() == nil {
		return p, fmt.Errorf("version %d is not known to this program: use the one that wrote it", v)
	}
	p.Mode = Mode(r.Byte())
	p.Height = uint32(min(r.Uvarint(), 1<<32-1))
	p.Reward, p.Fee = r.Amount(), r.Amount()
	for range r.Count(3) {
		p.Credits = append(p.Credits, Part{Account: r.String(MaxName), Amount: r.Amount(), Weight: r.Big()})
	}
	for range r.Count(2) {
		p.Payments = append(p.Payments, Payment{r.String(MaxName), r.Amount()})
	}
	if err := r.Done(); err != nil {
		return Plan{}, err
	}
	if err := p.check(); err != nil {
		return Plan{}, err
	}
	if string(p.Note()) != string(note) {
		return Plan{}, errors.New("it is not in its one form")
	}
	return p, nil
}

// check says what does not add up.
func (p *Plan) check() error {
	if p.Mode >= modes {
		return fmt.Errorf("%v is not known", p.Mode)
	}
	if len(p.Credits) == 0 || p.Credits[0].Account != "" {
		return errors.New("its first credit is not the operator's")
	}
	left := p.Reward - p.Fee
	for i, c := range p.Credits {
		if i > 0 && c.Account <= p.Credits[i-1].Account {
			return errors.New("its credits are not sorted by name")
		}
		if left -= c.Amount; left < 0 {
			return errors.New("its credits exceed the reward")
		}
		if c.Weight.BitLen() > 192 {
			return errors.New("a weight is too large")
		}
	}
	if left != 0 {
		return fmt.Errorf("its credits are %d short of the reward", left)
	}
	paid, seen := p.Reward, map[string]bool{"": true}
	for _, c := range p.Payments {
		if seen[c.Account] {
			return errors.New("it pays an account twice, or the operator")
		}
		seen[c.Account] = true
		if paid -= c.Amount; paid < 0 || c.Amount == 0 {
			return errors.New("its payments exceed the reward, or one is empty")
		}
	}
	return nil
}
