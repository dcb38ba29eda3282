package consensus

import (
	"cmp"
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/types"
)

// The rules about the records in a CoinOnline's data output, besides those
// about what they hold.
const (
	RuleRecords    Rule = "coinonline-record"  // the list is malformed, too long, or has a record of no known kind
	RuleCertSource Rule = "certificate-source" // source is not certified on this chain
	RuleCertTarget Rule = "certificate-target" // target is no recent signed slot of this chain
	RuleCertIdle   Rule = "certificate-idle"   // proves nothing that this chain has not carried before
)

// MaxRecords bounds what one CoinOnline may carry.
const MaxRecords = 16

// The kinds of records. Numbers are consensus; in a list they never fall.
const (
	kindCertificate  = 1
	kindSetChange    = 2
	kindEvidence     = 3
	kindSlotEvidence = 4
	kindAuditAnchor  = 5
)

// Record is one item of what a CoinOnline carries: a *Certificate, a
// *SetChange, an *Evidence, a *SlotEvidence or an *AuditAnchor.
type Record interface {
	AppendTo(b []byte) []byte
	DecodeFrom(d *types.Decoder)
}

func kindOf(r Record) byte {
	switch r.(type) {
	case *Certificate:
		return kindCertificate
	case *SetChange:
		return kindSetChange
	case *Evidence:
		return kindEvidence
	case *AuditAnchor:
		return kindAuditAnchor
	}
	return kindSlotEvidence
}

// EncodeRecords returns the data of a CoinOnline's third output: for each
// record its kind and its bytes with their length. Records of lower kind come
// first, as the rules want it.
func EncodeRecords(records []Record) []byte {
	var b []byte
	for kind := byte(kindCertificate); kind <= kindAuditAnchor; kind++ {
		for _, r := range records {
			if kindOf(r) == kind {
				b = types.AppendVarBytes(append(b, kind), r.AppendTo(nil))
			}
		}
	}
	return b
}

// DecodeRecords reads what EncodeRecords writes. Any other form is an error.
func DecodeRecords(data []byte) ([]Record, error) {
	var list []Record
	last := byte(0)
	for d := types.NewDecoder(data); d.Remaining() > 0; {
		kind := d.Uint8()
		body := d.VarBytes()
		if err := d.Err(); err != nil {
			return nil, fmt.Errorf("record %d: %w", len(list), err)
		}
		if kind < last {
			return nil, fmt.Errorf("record %d: kind %d after kind %d", len(list), kind, last)
		}
		var r Record
		before := last
		switch last = kind; kind {
		case kindCertificate:
			r = new(Certificate)
		case kindSetChange:
			r = new(SetChange)
		case kindEvidence:
			r = new(Evidence)
		case kindSlotEvidence:
			r = new(SlotEvidence)
		case kindAuditAnchor:
			if before == kindAuditAnchor {
				return nil, fmt.Errorf("record %d: a second audit anchor", len(list))
			}
			r = new(AuditAnchor)
		default:
			return nil, fmt.Errorf("record %d: kind %d is not defined", len(list), kind)
		}
		in := types.NewDecoder(body)
		r.DecodeFrom(in)
		if err := in.Finish(); err != nil {
			return nil, fmt.Errorf("record %d of kind %d: %w", len(list), kind, err)
		}
		if list = append(list, r); len(list) > MaxRecords {
			return nil, fmt.Errorf("more than %d records", MaxRecords)
		}
	}
	return list, nil
}

// Records returns what a CoinOnline carries. The transaction must have the
// shape of one (rule coinonline-shape).
func Records(coinOnline *types.Transaction) ([]Record, error) {
	if len(coinOnline.Outputs) < 3 {
		return nil, nil
	}
	t, err := types.ParseTemplate(coinOnline.Outputs[2].PkScript)
	if err != nil {
		return nil, &RuleError{Rule: RuleCoinOnline, Detail: "third output", Cause: err}
	}
	list, err := DecodeRecords(t.Data)
	if err != nil {
		return nil, &RuleError{Rule: RuleRecords, Detail: "third output", Cause: err}
	}
	return list, nil
}

// CheckRecord applies the rules about one record carried by a signed block
// after this one, as if no other record came before it.
func (s *State) CheckRecord(r Record) error {
	return s.authority().clone().carry(s.Network, r, true)
}

// SelectRecords returns those of the candidates, in the order a CoinOnline
// wants them, that a signed block after this one may carry together: at most
// MaxRecords that encode to at most maxBytes.
func (s *State) SelectRecords(candidates []Record, maxBytes int) []Record {
	a := s.authority().clone()
	candidates = slices.Clone(candidates)
	slices.SortStableFunc(candidates, func(x, y Record) int { return cmp.Compare(kindOf(x), kindOf(y)) })
	var list []Record
	size := 0
	for _, r := range candidates {
		bytes := len(EncodeRecords([]Record{r}))
		if len(list) == MaxRecords || size+bytes > maxBytes || a.carry(s.Network, r, true) != nil {
			continue
		}
		list, size = append(list, r), size+bytes
	}
	return list
}

// carry checks a record and notes what it changes: nothing, for an *AuditAnchor. verify is false for a block
// that has passed: then the signatures of certificates, which every signed
// block carries, are not checked again.
func (a *Authority) carry(n *Network, r Record, verify bool) error {
	switch r := r.(type) {
	case *Certificate:
		if err := a.checkCertificate(n, r, verify); err != nil {
			return err
		}
		a.certify(r, n.N)
	case *SetChange:
		if err := r.check(n, a); err != nil {
			return err
		}
		a.Next = &ValidatorSet{Number: a.Signers.Number + 1, Keys: r.Keys}
	case interface {
		check(*Network, *Authority) (types.PublicKey, error)
	}:
		key, err := r.check(n, a)
		if err != nil {
			return err
		}
		a.disable(key)
	}
	return nil
}

// carryAll carries the records of a CoinOnline in their order.
func (a *Authority) carryAll(n *Network, coinOnline *types.Transaction, verify bool) error {
	list, err := Records(coinOnline)
	if err != nil {
		return err
	}
	for _, r := range list {
		if err := a.carry(n, r, verify); err != nil {
			return err
		}
	}
	return nil
}

// checkCertificate applies the rules about a certificate that the chain carries.
func (a *Authority) checkCertificate(n *Network, c *Certificate, verify bool) error {
	if source := a.slot(c.Source); source == nil || !source.Certified {
		return broken(RuleCertSource, "%s at height %d", c.Source.ID, c.Source.Height)
	}
	target := a.slot(c.Target)
	if target == nil || target.Voters == nil {
		return broken(RuleCertTarget, "%s at height %d", c.Target.ID, c.Target.Height)
	}
	if target.Certified && !a.finalises(c, target, n.N) {
		return broken(RuleCertIdle, "slot %d is certified already", c.Target.Height)
	}
	if !verify {
		return nil
	}
	return c.Verify(n, target.Voters)
}
