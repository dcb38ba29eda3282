package authority

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
)

// The kinds of failure of collecting signatures.
var (
	// ErrDifferent: copies are not of one proposal.
	ErrDifferent = errors.New("different proposals")
	// ErrIncomplete: too few signatures that count.
	ErrIncomplete = errors.New("not enough signatures")
)

// With returns the proposal with one more signature. It must verify. Of two by
// one validator the lower bytes stay, so that copies combine in any order; a
// signer's journal releases one anyhow.
func (p *Proposal) With(s Signature) (*Proposal, error) {
	one := *p
	one.Signatures = []Signature{s}
	return Combine(p, &one)
}

// Combine merges the signatures of copies of one proposal. It refuses copies of
// different proposals (ErrDifferent) and signatures that do not verify.
func Combine(first *Proposal, more ...*Proposal) (*Proposal, error) {
	out := *first
	out.Signatures = []Signature{}
	for i, p := range append([]*Proposal{first}, more...) {
		if p.ID() != first.ID() {
			return nil, fmt.Errorf("copy %d: %w: %s and %s: sign one of them, and only that", i+1, ErrDifferent, first.ID(), p.ID())
		}
		err := p.wellFormed()
		if err == nil {
			err = p.verify()
		}
		if err != nil {
			return nil, fmt.Errorf("copy %d: %w", i+1, err)
		}
		for _, s := range p.Signatures {
			out.add(s)
		}
	}
	return &out, nil
}

func (p *Proposal) add(s Signature) {
	i, found := slices.BinarySearchFunc(p.Signatures, s.Index, func(s Signature, index uint8) int { return cmp.Compare(s.Index, index) })
	switch {
	case !found:
		p.Signatures = slices.Insert(p.Signatures, i, s)
	case compareSignatures(&s, &p.Signatures[i]) < 0:
		p.Signatures[i] = s
	}
}

func compareSignatures(a, b *Signature) int {
	if c := bytes.Compare(a.Signature[:], b.Signature[:]); c != 0 {
		return c
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	if err := errors.Join(errX, errY); err != nil {
		panic("a signature has no field that cannot be encoded: " + err.Error())
	}
	return bytes.Compare(x, y)
}

// Need returns how many signatures of validators that are not disabled it takes.
func (p *Proposal) Need() int { return consensus.CertifyQuorum(len(p.Current.Keys)) }

// counted returns how many signatures count.
func (p *Proposal) counted() (n int) {
	for _, s := range p.Signatures {
		if !slices.Contains(p.Disabled, p.Current.Keys[s.Index]) {
			n++
		}
	}
	return n
}

// Complete reports whether enough validators signed.
func (p *Proposal) Complete() bool { return p.counted() >= p.Need() }

// Change returns what the chain carries, for submitsetchange. The error is
// ErrIncomplete while signatures are missing.
func (p *Proposal) Change() (*consensus.SetChange, error) {
	if !p.Complete() {
		return nil, fmt.Errorf("%w: %d that count, it takes %d", ErrIncomplete, p.counted(), p.Need())
	}
	c := &consensus.SetChange{Keys: p.Keys}
	for _, s := range p.Signatures {
		c.Sign(s.Index, s.Signature)
	}
	return c, nil
}
