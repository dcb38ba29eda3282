package consensus_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
)

// TestQuorums: the numbers, and what they are for. Any two certificates share a
// validator; a certificate and a finality share two, of which one may be bad.
func TestQuorums(t *testing.T) {
	want := map[int][2]int{1: {1, 2}, 3: {2, 3}, 5: {3, 4}, 7: {4, 5}, 9: {5, 6}, 11: {6, 7}, 13: {7, 8}, 15: {8, 9}, 17: {9, 10}, 19: {10, 11}, 21: {11, 12}}
	for n := 1; n <= consensus.MaxValidators; n += 2 {
		m, final := consensus.CertifyQuorum(n), consensus.FinalQuorum(n)
		if [2]int{m, final} != want[n] {
			t.Errorf("%d validators: certificate %d, final %d, want %v", n, m, final, want[n])
		}
		// Two sets of a and b of n members share at least a + b − n.
		if m+m-n != 1 {
			t.Errorf("%d validators: two certificates share %d", n, m+m-n)
		}
		if m+final-n != 2 {
			t.Errorf("%d validators: certificate and finality share %d", n, m+final-n)
		}
		if n > 1 && final > n {
			t.Errorf("%d validators can never make anything final", n)
		}
	}
	// The formula, by brute force where that is quick: subsets as bit sets.
	for n := 1; n <= 9; n += 2 {
		for a := range 1 << n {
			for b := range 1 << n {
				if ones(a) >= consensus.CertifyQuorum(n) && ones(b) >= consensus.FinalQuorum(n) && ones(a&b) < 2 {
					t.Fatalf("%d validators: %b and %b share less than two", n, a, b)
				}
			}
		}
	}
}

func ones(set int) (n int) {
	for ; set != 0; set &= set - 1 {
		n++
	}
	return n
}

func TestCertificatesVerify(t *testing.T) {
	f := newVoteFixture(t)
	l := f.link(1, 0, 1)
	for _, signers := range [][]uint8{{0, 1, 2}, {2, 3, 4}, {4, 0, 2}, {3, 2, 1, 0}, {0, 1, 2, 3, 4}} {
		c := f.certificate(t, l, signers...)
		if err := c.Verify(f.network, f.voters); err != nil {
			t.Errorf("signed by %v: %v", signers, err)
		}
		list := c.Attestations()
		if len(list) != len(signers) {
			t.Fatalf("%d attestations of %d", len(list), len(signers))
		}
		for i, a := range list {
			if i > 0 && a.Index <= list[i-1].Index {
				t.Errorf("signers %v: not in ascending order", signers)
			}
			if err := a.Verify(f.network, f.voters); err != nil {
				t.Errorf("signers %v: attestation %d: %v", signers, a.Index, err)
			}
		}
	}
}

func certificateViolations() []voteViolation {
	spoiled := func(name string, rule consensus.Rule, spoil func(*voteFixture, *consensus.Certificate)) voteViolation {
		return voteViolation{name, rule, func(f *voteFixture, t *testing.T) error {
			c := f.certificate(t, f.link(1, 1, 2), 0, 1, 3)
			spoil(f, &c)
			return c.Verify(f.network, f.voters)
		}}
	}
	gathered := func(name string, gather func(*voteFixture) []consensus.Attestation) voteViolation {
		return voteViolation{name, "certificate-signers", func(f *voteFixture, _ *testing.T) error {
			_, err := consensus.NewCertificate(gather(f))
			return err
		}}
	}
	return []voteViolation{
		spoiled("certificate between slots", "attest-target", func(_ *voteFixture, c *consensus.Certificate) { c.Target.Height = 25 }),
		spoiled("certificate of another set", "attest-set", func(_ *voteFixture, c *consensus.Certificate) { c.Set[0] ^= 1 }),
		spoiled("a signature short", "certificate-signers", func(_ *voteFixture, c *consensus.Certificate) { c.Signatures = c.Signatures[:2] }),
		spoiled("a signature more", "certificate-signers", func(_ *voteFixture, c *consensus.Certificate) {
			c.Signatures = append(c.Signatures, [64]byte{})
		}),
		spoiled("two of five", "certificate-quorum", func(_ *voteFixture, c *consensus.Certificate) {
			c.Signers, c.Signatures = c.Signers&^1, c.Signatures[1:]
		}),
		spoiled("none", "certificate-quorum", func(_ *voteFixture, c *consensus.Certificate) { c.Signers, c.Signatures = 0, nil }),
		{"one of a quorum", "attest-disabled", func(f *voteFixture, t *testing.T) error {
			c := f.certificate(t, f.link(1, 1, 2), 0, 1, 2)
			return c.Verify(f.network, consensus.NewElectorate(f.set, nil, f.set.Keys[2:3]))
		}},
		{"one beside a quorum", "attest-disabled", func(f *voteFixture, t *testing.T) error {
			c := f.certificate(t, f.link(1, 1, 2), 0, 1, 2, 4)
			return c.Verify(f.network, consensus.NewElectorate(f.set, nil, f.set.Keys[4:]))
		}},
		spoiled("signer outside the set", "attest-index", func(_ *voteFixture, c *consensus.Certificate) { c.Signers += 1<<5 - 1<<3 }),
		spoiled("signer with the highest bit", "attest-index", func(_ *voteFixture, c *consensus.Certificate) { c.Signers += 1<<31 - 1<<3 }),
		spoiled("signatures swapped", "attest-signature", func(_ *voteFixture, c *consensus.Certificate) {
			c.Signatures[0], c.Signatures[1] = c.Signatures[1], c.Signatures[0]
		}),
		spoiled("last signature wrong", "attest-signature", func(_ *voteFixture, c *consensus.Certificate) { c.Signatures[2][40] ^= 1 }),
		spoiled("a fourth, wrong signature", "attest-signature", func(_ *voteFixture, c *consensus.Certificate) {
			c.Signers |= 1 << 4
			c.Signatures = append(c.Signatures, c.Signatures[0])
		}),
		spoiled("another link", "attest-signature", func(f *voteFixture, c *consensus.Certificate) { c.Target.ID[9] ^= 1 }),
		gathered("two links", func(f *voteFixture) []consensus.Attestation {
			return []consensus.Attestation{f.attest(f.link(1, 1, 2), 0), f.attest(f.link(2, 1, 2), 1)}
		}),
		gathered("one validator twice", func(f *voteFixture) []consensus.Attestation {
			return []consensus.Attestation{f.attest(f.link(1, 1, 2), 3), f.attest(f.link(1, 1, 2), 3)}
		}),
		gathered("index of no set", func(f *voteFixture) []consensus.Attestation {
			a := f.attest(f.link(1, 1, 2), 3)
			a.Index = 32
			return []consensus.Attestation{a}
		}),
	}
}

// TestCertificateHasOneEncoding: whatever the order of the votes, the bytes are the same.
func TestCertificateHasOneEncoding(t *testing.T) {
	f := newVoteFixture(t)
	var votes []consensus.Attestation
	for i := range f.keys {
		votes = append(votes, f.attest(f.link(1, 2, 3), uint8(i)))
	}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.Permutation(votes).Draw(t, "votes")[:rapid.IntRange(1, 5).Draw(t, "count")]
		c, err := consensus.NewCertificate(some)
		if err != nil {
			t.Fatal(err)
		}
		raw := c.AppendTo(nil)
		if len(raw) != 104+4+64*len(some) {
			t.Fatalf("%d bytes for %d votes", len(raw), len(some))
		}
		back, err := consensus.DecodeCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, back); diff != "" {
			t.Fatalf("comes back otherwise:\n%s", diff)
		}
		again, err := consensus.NewCertificate(back.Attestations())
		if err != nil || !bytes.Equal(again.AppendTo(nil), raw) {
			t.Fatalf("put together again: %v\n%x\n%x", err, again.AppendTo(nil), raw)
		}
	})
}

func TestDecodeCertificateRefuses(t *testing.T) {
	f := newVoteFixture(t)
	c := f.certificate(t, f.link(1, 0, 1), 0, 2, 4)
	raw := c.AppendTo(nil)
	signers := func(bitmap ...byte) []byte { return append(append(bytes.Clone(raw[:104]), bitmap...), raw[108:]...) }
	if _, err := consensus.DecodeCertificate(signers(0x15, 0, 0, 0)); err != nil {
		t.Fatalf("the bitmap is not where this test writes it: %v", err)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "link only": raw[:104], "no signatures": raw[:108],
		"a byte short": raw[:len(raw)-1], "a byte long": append(bytes.Clone(raw), 0),
		"a signer without signature": signers(0x1f, 0, 0, 0), "a signature without signer": signers(5, 0, 0, 0),
		"nobody": append(bytes.Clone(raw[:104]), 0, 0, 0, 0),
	} {
		if got, err := consensus.DecodeCertificate(bad); err == nil || got.Signers != 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
