package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
)

// rpcSet is a validator set as getvalidators shows it.
type rpcSet struct {
	Number     uint32     `json:"number"`
	ID         types.Hash `json:"id"`
	Validators []struct {
		Algorithm string `json:"algorithm"`
		PublicKey string `json:"publicKey"`
		Disabled  bool   `json:"disabled"`
	} `json:"validators"`
}

// set checks that the answer is of one piece.
func (r *rpcSet) set() (set consensus.ValidatorSet, disabled []types.PublicKey, err error) {
	set.Number = r.Number
	for _, v := range r.Validators {
		var k types.PublicKey
		if err := k.UnmarshalText([]byte(v.Algorithm + ":" + v.PublicKey)); err != nil {
			return set, nil, fmt.Errorf("getvalidators: %w", err)
		}
		set.Keys = append(set.Keys, k)
		if v.Disabled {
			disabled = append(disabled, k)
		}
	}
	if set.ID() != r.ID {
		return set, nil, fmt.Errorf("getvalidators: the keys of set %d do not have its id %s: node and program differ, upgrade both", r.Number, r.ID)
	}
	return set, disabled, nil
}

// pendingSet is a set that follows the one in force.
type pendingSet struct {
	rpcSet
	Carrier struct {
		Height uint32     `json:"height"`
		Hash   types.Hash `json:"hash"`
	} `json:"carrier"`
	CertifiedAbove uint32 `json:"certifiedabove"`
}

// authorityView is what a node knows of its validators.
type authorityView struct {
	Height, Certified, Final uint32
	Set                      consensus.ValidatorSet
	Disabled                 []types.PublicKey
	Next                     *consensus.ValidatorSet
	Pending                  *pendingSet // of Next
}

// viewAuthority asks a node of this network.
func viewAuthority(ctx context.Context, r *nodeRPC, net *consensus.Network) (v authorityView, err error) {
	var info struct {
		NetworkID types.Hash `json:"networkid"`
		Blocks    uint32     `json:"blocks"`
	}
	type point struct {
		Height uint32 `json:"height"`
	}
	var finality struct {
		Certified, Final point
	}
	var answer struct {
		rpcSet
		Next *pendingSet `json:"next"`
	}
	for method, result := range map[string]any{"getblockchaininfo": &info, "getfinality": &finality, "getvalidators": &answer} {
		if err := r.call(ctx, result, method); err != nil {
			return v, err
		}
	}
	if info.NetworkID != net.ID {
		return v, fmt.Errorf("the node at %s is of network %s, the configuration's is %s", r.url, info.NetworkID, net.ID)
	}
	v.Height, v.Certified, v.Final = info.Blocks, finality.Certified.Height, finality.Final.Height
	if v.Set, v.Disabled, err = answer.set(); err != nil || answer.Next == nil {
		return v, err
	}
	next, _, err := answer.Next.set()
	v.Next, v.Pending = &next, answer.Next
	return v, err
}

// shownKey and shownSet are the view as --json has it.
type shownKey struct {
	Index     int             `json:"index"`
	PublicKey types.PublicKey `json:"publicKey"`
	Disabled  bool            `json:"disabled"`
}

type shownSet struct {
	Number       uint32     `json:"number"`
	ID           types.Hash `json:"id"`
	Fingerprint  string     `json:"fingerprint"`
	Validators   []shownKey `json:"validators"`
	Need         int        `json:"signaturesForChange"`
	Certify      int        `json:"certifyQuorum"`
	Final        int        `json:"finalQuorum"`
	Carrier      uint32     `json:"carrier,omitempty"`        // of a pending set
	CertifiedOn  uint32     `json:"certifiedAbove,omitempty"` // slots
	TakesOverAll uint32     `json:"takesOverAbove,omitempty"` // slots certified above the carrier that do without finality
}

func (v *authorityView) show(set *consensus.ValidatorSet) shownSet {
	n := len(set.Keys)
	out := shownSet{
		Number: set.Number, ID: set.ID(), Fingerprint: authority.Fingerprint(*set), Validators: []shownKey{},
		Need: consensus.CertifyQuorum(n), Certify: consensus.CertifyQuorum(n), Final: consensus.FinalQuorum(n),
	}
	for i, k := range set.Keys {
		out.Validators = append(out.Validators, shownKey{i, k, slices.Contains(v.Disabled, k)})
	}
	return out
}

func (v *authorityView) showNext() *shownSet {
	if v.Next == nil {
		return nil
	}
	s := v.show(v.Next)
	s.Carrier, s.CertifiedOn, s.TakesOverAll = v.Pending.Carrier.Height, v.Pending.CertifiedAbove, authority.DepthSlots
	return &s
}

func (v *authorityView) print(w io.Writer, net *consensus.Network) error {
	p := &setPrinter{w: w}
	p.line("Network %s, %s", net.Name, net.ID)
	p.line("Height %d, certified up to slot %d, final up to slot %d", v.Height, v.Certified, v.Final)
	current := v.show(&v.Set)
	p.line("\nSet %d is in force, %s", current.Number, current.ID)
	p.set(&current)
	next := v.showNext()
	if next == nil {
		p.line("\nNo change is under way.")
		return p.err
	}
	p.line("\nSet %d follows, %s", next.Number, next.ID)
	p.set(next)
	p.line("  %s", v.handover())
	return p.err
}

// handover says how far a change under way is.
func (v *authorityView) handover() string {
	if v.Pending.Carrier.Height == 0 {
		return "being carried"
	}
	return fmt.Sprintf("carried by slot %d; both sets vote; it takes over once blocks prove that slot %d is final (final so far: %d), or that %d slots above it are certified (so far: %d)",
		v.Pending.Carrier.Height, v.Pending.Carrier.Height, v.Final, authority.DepthSlots, v.Pending.CertifiedAbove)
}

// setPrinter keeps the first error.
type setPrinter struct {
	w   io.Writer
	err error
}

func (p *setPrinter) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *setPrinter) set(s *shownSet) {
	p.line("  fingerprint %s", s.Fingerprint)
	p.line("  %d validators; a change of the set takes %d signatures, a certified slot %d votes, a final one %d", len(s.Validators), s.Need, s.Certify, s.Final)
	for _, k := range s.Validators {
		note := ""
		if k.Disabled {
			note = "  DISABLED: evidence against it is on the chain, replace it"
		}
		p.line("  %2d  %s%s", k.Index, k.PublicKey, note)
	}
}
