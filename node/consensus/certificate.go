package consensus

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"qcitycoin.org/qcity/node/types"
)

// The rules about a certificate, besides those about its attestations.
const (
	RuleCertSigners Rule = "certificate-signers" // signers and signatures do not match, or attestations that make no certificate
	RuleCertQuorum  Rule = "certificate-quorum"  // no majority of each set signed
)

// Certificate is the proof that a majority of the validators attests one link:
// the attestations without what they have in common.
type Certificate struct {
	Link
	// Signers has bit i set when voter i of the electorate signed.
	Signers uint32
	// Signatures holds r ‖ s of each signer, in ascending order of index.
	Signatures [][64]byte
}

// NewCertificate puts together attestations of one link by distinct
// validators, in any order. It does not ask whether they are valid or enough.
func NewCertificate(attestations []Attestation) (Certificate, error) {
	var c Certificate
	sorted := slices.SortedFunc(slices.Values(attestations), func(a, b Attestation) int { return cmp.Compare(a.Index, b.Index) })
	for i, a := range sorted {
		if i == 0 {
			c.Link = a.Link
		}
		if a.Link != c.Link {
			return Certificate{}, broken(RuleCertSigners, "attestations of different links")
		}
		if a.Index >= MaxVoters || !c.insert(a.Index, a.Signature) {
			return Certificate{}, broken(RuleCertSigners, "index %d is out of range or there twice", a.Index)
		}
	}
	return c, nil
}

// insert adds a signature unless the signer, below MaxVoters, has one.
func (c *Certificate) insert(index uint8, sig [64]byte) bool {
	if c.Signers>>index&1 == 1 {
		return false
	}
	c.Signatures = slices.Insert(c.Signatures, bits.OnesCount32(c.Signers&(1<<index-1)), sig)
	c.Signers |= 1 << index
	return true
}

// Attestations returns the votes the certificate consists of, by ascending
// index. Signers and Signatures must match, as they do once Verify passed.
func (c *Certificate) Attestations() []Attestation {
	list := make([]Attestation, 0, len(c.Signatures))
	for rest := c.Signers; rest != 0; rest &= rest - 1 {
		i := len(list)
		list = append(list, Attestation{Link: c.Link, Index: uint8(bits.TrailingZeros32(rest)), Signature: c.Signatures[i]})
	}
	return list
}

// Verify checks everything about a certificate that needs no chain: the form of
// its link, that it was made under e, the electorate of its target, that it has
// a quorum, and every signature. It says nothing about whether the source is
// certified.
func (c *Certificate) Verify(n *Network, e *Electorate) error {
	if err := c.checkUnder(n, e); err != nil {
		return err
	}
	if count := bits.OnesCount32(c.Signers); count != len(c.Signatures) {
		return broken(RuleCertSigners, "%d signatures of %d signers", len(c.Signatures), count)
	}
	// Before the signatures: too few of them are not worth checking.
	for _, a := range c.Attestations() {
		if err := e.check(a.Index); err != nil {
			return err
		}
	}
	if !e.Certifies(c.Signers) {
		return broken(RuleCertQuorum, "%d of %d voters are no majority", len(c.Signatures), len(e.keys))
	}
	digest := c.Digest(n.ID)
	for _, a := range c.Attestations() {
		if err := e.verify(a.Index, digest, a.Signature); err != nil {
			return err
		}
	}
	return nil
}

// AppendTo appends the certificate's only encoding: the link, Signers as u32,
// and 64 bytes of each signature.
func (c *Certificate) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(c.Link.AppendTo(b), c.Signers)
	for i := range c.Signatures {
		b = append(b, c.Signatures[i][:]...)
	}
	return b
}

// DecodeFrom reads what AppendTo writes. It fails when nobody signed.
func (c *Certificate) DecodeFrom(d *types.Decoder) {
	c.Link.DecodeFrom(d)
	c.Signers = d.Uint32()
	if c.Signers == 0 {
		d.Fail(errors.New("certificate that nobody signed"))
		return
	}
	c.Signatures = decodeSignatures(d, c.Signers)
}

// DecodeCertificate reads a certificate that fills b exactly.
func DecodeCertificate(b []byte) (Certificate, error) {
	d := types.NewDecoder(b)
	var c Certificate
	c.DecodeFrom(d)
	if err := d.Finish(); err != nil {
		return Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	return c, nil
}
