package authority

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/proof"
)

// Format is in every proposal file.
const Format = "qcity set change 1"

// MaxSize bounds a proposal file, in bytes: a full set that replaces a full set
// and everybody's signature take 22,000.
const MaxSize = 64 << 10

// Proposal is a change of the validator set with the signatures collected so
// far. It is made by Propose or Parse and not changed afterwards; the methods
// that add signatures return another.
type Proposal struct {
	Format   string            `json:"format"`
	Network  types.Hash        `json:"network"`
	Current  Set               `json:"current"`  // in force when it was made
	Disabled []types.PublicKey `json:"disabled"` // of Current, in its order
	Keys     []types.PublicKey `json:"keys"`     // of the new set, in order
	Proofs   []proof.Proof     `json:"proofs"`   // of each new key, in the order of Keys
	Reason   string            `json:"reason"`
	Created  Time              `json:"created"`
	Chain    Timing            `json:"chain"`
	// Signatures of validators of Current, ascending by index.
	Signatures []Signature `json:"signatures"`
}

// Set is a validator set as a file has it, with its id for people to compare.
type Set struct {
	Number uint32            `json:"number"`
	ID     types.Hash        `json:"id"`
	Keys   []types.PublicKey `json:"keys"`
}

// Signature is one validator's, with what its people confirmed: a note, which
// the signature does not cover.
type Signature struct {
	Index     uint8           `json:"index"`
	Signature proof.Signature `json:"signature"`
	People    []string        `json:"people"`
	Scripted  bool            `json:"scripted"` // their answers came from a file
}

// Time is a time of day in UTC, to the second.
type Time time.Time

func (t Time) String() string { return time.Time(t).UTC().Format(time.RFC3339) }

// MarshalText writes "2026-11-28T07:00:00Z".
func (t Time) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads it.
func (t *Time) UnmarshalText(text []byte) error {
	v, err := time.Parse(time.RFC3339, string(text))
	*t = Time(v)
	return err
}

// Chain is what a proposer knows of the chain: a node's getvalidators and tip.
type Chain struct {
	Current  consensus.ValidatorSet
	Disabled []types.PublicKey
	Tip      uint32 // height
}

// Propose returns a proposal without signatures. Proofs may come in any order.
// The error is a *Refusal.
func Propose(n *consensus.Network, c Chain, keys []types.PublicKey, proofs []proof.Proof, reason string, now time.Time) (*Proposal, error) {
	p := &Proposal{
		Format: Format, Network: n.ID,
		Current:  Set{c.Current.Number, c.Current.ID(), slices.Clone(c.Current.Keys)},
		Disabled: []types.PublicKey{}, Keys: slices.Clone(keys), Proofs: slices.Clone(proofs),
		Reason: reason, Created: Time(now), Chain: timing(c.Tip, n.N),
		Signatures: []Signature{},
	}
	for _, k := range c.Current.Keys {
		if slices.Contains(c.Disabled, k) {
			p.Disabled = append(p.Disabled, k)
		}
	}
	slices.SortStableFunc(p.Proofs, func(a, b proof.Proof) int { return slices.Index(keys, a.Key) - slices.Index(keys, b.Key) })
	if p.Proofs == nil {
		p.Proofs = []proof.Proof{}
	}
	if err := p.Check(n); err != nil {
		return nil, err
	}
	return p, nil
}

// current returns the set in force as package consensus has it.
func (p *Proposal) current() consensus.ValidatorSet {
	return consensus.ValidatorSet{Number: p.Current.Number, Keys: p.Current.Keys}
}

// Next returns the new set.
func (p *Proposal) Next() consensus.ValidatorSet {
	return consensus.ValidatorSet{Number: p.Current.Number + 1, Keys: p.Keys}
}

// Digest returns what is signed: network, the set in force and the new one. Reason
// and times are not signed.
func (p *Proposal) Digest() types.Hash {
	return consensus.SetChangeDigest(p.Network, p.current(), p.Keys)
}

// Request returns the request to sign the proposal as a validator.
func (p *Proposal) Request(index uint8, a Authorisation) SetChangeRequest {
	return SetChangeRequest{
		Network: p.Network, Current: p.current(), Disabled: p.Disabled, Keys: p.Keys, Proofs: p.Proofs,
		Reason: p.Reason, Index: index, Authorisation: a,
	}
}

// Check applies the rules about the new set and verifies the signatures. The
// error is a *Refusal, or one of package types about a signature.
func (p *Proposal) Check(n *consensus.Network) error {
	r := p.Request(0, Authorisation{})
	if err := first(setChecks, &r, n); err != nil {
		return err
	}
	if want := timing(p.Chain.Tip, n.N); p.Chain != want {
		return fmt.Errorf("the proposal's heights are not those of tip %d on this network: make it again", p.Chain.Tip)
	}
	return p.verify()
}

// verify checks the signatures, which need nothing but the proposal.
func (p *Proposal) verify() error {
	digest := p.Digest()
	for i := range p.Signatures {
		s := &p.Signatures[i]
		if err := p.Current.Keys[s.Index].Verify(digest, s.Signature); err != nil {
			return fmt.Errorf("signature of validator %d, %s: %w", s.Index, p.Current.Keys[s.Index], err)
		}
	}
	return nil
}

// ID returns a hash of all but the signatures: copies of one proposal have it in
// common.
func (p *Proposal) ID() types.Hash {
	bare := *p
	bare.Signatures = []Signature{}
	return types.TaggedHash("qcity/authority/proposal", bare.Encode())
}

// Encode returns the only form of a proposal: JSON with an indent of two spaces.
func (p *Proposal) Encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(p); err != nil {
		panic("a proposal has no field that cannot be encoded: " + err.Error())
	}
	return b.Bytes()
}

// Parse reads what Encode writes; any other form is an error. Check judges it.
func Parse(b []byte) (*Proposal, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("proposal of %d bytes: want at most %d", len(b), MaxSize)
	}
	p := new(Proposal)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("proposal: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("proposal: something follows it")
	}
	if err := p.wellFormed(); err != nil {
		return nil, fmt.Errorf("proposal: %w", err)
	}
	if !bytes.Equal(b, p.Encode()) {
		return nil, errors.New("proposal: not in its one form: use the file as the program wrote it")
	}
	return p, nil
}

// wellFormed checks what makes every other method safe, and that there is one
// way to say a thing.
func (p *Proposal) wellFormed() error {
	switch {
	case p.Format != Format:
		return fmt.Errorf("format %q: this program reads %q", p.Format, Format)
	case p.Current.Keys == nil || p.Disabled == nil || p.Keys == nil || p.Proofs == nil || p.Signatures == nil:
		return errors.New("a list is missing")
	case len(p.Current.Keys) > consensus.MaxValidators || len(p.Keys) > consensus.MaxValidators:
		return fmt.Errorf("a set has at most %d keys", consensus.MaxValidators)
	case p.Current.ID != p.current().ID():
		return fmt.Errorf("the id of set %d is not that of its keys", p.Current.Number)
	case !ascending(p.Current.Keys, p.Disabled, func(k types.PublicKey) types.PublicKey { return k }):
		return errors.New("disabled keys are not keys of the set in force in its order")
	case !ascending(p.Keys, p.Proofs, func(p proof.Proof) types.PublicKey { return p.Key }):
		return errors.New("proofs are not of new keys in their order")
	}
	last := -1
	for _, s := range p.Signatures {
		if int(s.Index) <= last || int(s.Index) >= len(p.Current.Keys) {
			return fmt.Errorf("signature of validator %d: out of order, twice, or of none of the %d", s.Index, len(p.Current.Keys))
		}
		if last = int(s.Index); CheckPeople(s.People) != nil {
			return fmt.Errorf("signature of validator %d: it names no two people", s.Index)
		}
	}
	return nil
}

// ascending reports whether the keys of list are keys of all, in their order.
func ascending[T any](all []types.PublicKey, list []T, key func(T) types.PublicKey) bool {
	at := 0
	for _, v := range list {
		i := slices.Index(all[at:], key(v))
		if i < 0 {
			return false
		}
		at += i + 1
	}
	return true
}
