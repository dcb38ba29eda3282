package consensus_test

import (
	"bytes"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
)

// FuzzDecodeAttestation checks that what decodes is what would be written, and
// that Verify answers with a rule and accepts nothing but the vote it was shown.
func FuzzDecodeAttestation(f *testing.F) {
	v := newVoteFixture(f)
	good := v.attest(v.link(1, 0, 1), 1)
	raw := good.AppendTo(nil)
	f.Add(raw)
	f.Add([]byte{})
	f.Add(raw[:168])
	later := v.attest(v.link(1, 1, 2), 0)
	f.Add(later.AppendTo(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := consensus.DecodeAttestation(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(a.AppendTo(nil), raw) {
			t.Fatalf("%x comes back as %x", raw, a.AppendTo(nil))
		}
		err = a.Verify(v.network, v.voters)
		if _, ok := consensus.RuleOf(err); err != nil && !ok {
			t.Fatalf("an error that names no rule: %v", err)
		}
		if err == nil && a != good && a != later {
			t.Fatalf("forged: %x", raw)
		}
	})
}

// FuzzDecodeCertificate is the same for certificates.
func FuzzDecodeCertificate(f *testing.F) {
	v := newVoteFixture(f)
	good := v.certificate(f, v.link(1, 0, 1), 0, 1, 4)
	raw := good.AppendTo(nil)
	f.Add(raw)
	f.Add(raw[:108])
	f.Add(append(raw[:len(raw):len(raw)], 0))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := consensus.DecodeCertificate(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(c.AppendTo(nil), raw) {
			t.Fatalf("%x comes back as %x", raw, c.AppendTo(nil))
		}
		again, err := consensus.NewCertificate(c.Attestations())
		if err != nil || !bytes.Equal(again.AppendTo(nil), raw) {
			t.Fatalf("%x put together again: %x, %v", raw, again.AppendTo(nil), err)
		}
		err = c.Verify(v.network, v.voters)
		if _, ok := consensus.RuleOf(err); err != nil && !ok {
			t.Fatalf("an error that names no rule: %v", err)
		}
		if err == nil && !bytes.Equal(raw, good.AppendTo(nil)) {
			t.Fatalf("forged: %x", raw)
		}
	})
}
