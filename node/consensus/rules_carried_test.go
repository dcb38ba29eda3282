package consensus_test

import (
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// carriedCertificateViolations are certificates that a block must not carry.
func carriedCertificateViolations() []violation {
	// spoiled changes the good certificate for s30 or puts another in its place.
	spoiled := func(rule consensus.Rule, name string, spoil func(*fixture, *consensus.Certificate)) violation {
		return carrying(rule, name, func(f *fixture) *consensus.Certificate {
			c := f.Certificate("s20", "s30", 0, 1, 2)
			spoil(f, c)
			return c
		})
	}
	instead := func(rule consensus.Rule, source, target, name string, signers ...uint8) violation {
		return carrying(rule, name, func(f *fixture) *consensus.Certificate { return f.Certificate(source, target, signers...) })
	}
	// resigned signs what it spoiled, as voters of s30.
	resigned := func(rule consensus.Rule, name string, spoil func(*consensus.Link)) violation {
		return spoiled(rule, name, func(f *fixture, c *consensus.Certificate) {
			spoil(&c.Link)
			*c = *certify(f.Generator, c.Link, f.Voters("s30"), 0, 1, 2)
		})
	}
	// after goes on to s40 before it lets the block carry something.
	after := func(rule consensus.Rule, name string, s40, then func(*fixture) []consensus.Record) violation {
		return violation{name: name, rule: rule, kind: voted, corrupt: func(f *fixture) {
			f.onward(s40(f)...)
			f.carry(then(f)...)
		}}
	}
	list := func(links ...[2]string) func(*fixture) []consensus.Record {
		return func(f *fixture) (records []consensus.Record) {
			for _, l := range links {
				records = append(records, f.Certificate(l[0], l[1], 0, 1, 2, 4))
			}
			return records
		}
	}
	return slices.Concat([]violation{
		after("certificate-source", "a slot without a certificate", list(), list([2]string{"s30", "s40"})),
		after("certificate-source", "certified further down the list", list(), list([2]string{"s30", "s40"}, [2]string{"s20", "s30"})),
		instead("certificate-source", "t10", "s30", "the twin of a slot", 0, 1, 2),
		instead("certificate-source", "b5", "s30", "a block between slots", 0, 1, 2),
		resigned("certificate-source", "the right id at another height", func(l *consensus.Link) { l.Source.Height = 10 }),
		after("certificate-source", "below the final slot", list([2]string{"s20", "s30"}), list([2]string{"genesis", "s40"})),

		instead("certificate-target", "s20", "t30", "the twin of a slot", 0, 1, 2),
		instead("certificate-target", "s20", "c5", "a block between slots", 0, 1, 2),
		resigned("certificate-target", "the right id at another height", func(l *consensus.Link) { l.Target.Height = 40 }),
		resigned("certificate-target", "a block that is nowhere", func(l *consensus.Link) { l.Target.ID[0] ^= 1 }),
		spoiled("certificate-target", "the genesis block", func(f *fixture, c *consensus.Certificate) {
			c.Target = f.Node("genesis").State.Checkpoint()
			*c = *certify(f.Generator, c.Link, f.Voters("s30"), 0, 1, 2)
		}),

		instead("certificate-idle", "s10", "s20", "carried before", 0, 1, 2),
		instead("certificate-idle", "s10", "s20", "of other signers", 0, 2, 4),
		instead("certificate-idle", "genesis", "s20", "of a final quorum that is not from the slot before", 0, 1, 2, 4),
		instead("certificate-idle", "genesis", "s10", "of a final quorum from genesis", 0, 1, 2, 4),
		after("certificate-idle", "twice in one block", list(), list([2]string{"s20", "s30"}, [2]string{"s20", "s30"})),
		after("certificate-idle", "of a slot that is final already", list([2]string{"s20", "s30"}), list([2]string{"s20", "s30"})),

		instead("certificate-quorum", "s20", "s30", "two of five", 0, 1),
	}, carriedVoteViolations(spoiled, after))
}

// carriedVoteViolations are certificates made of votes that do not count.
func carriedVoteViolations(
	spoiled func(consensus.Rule, string, func(*fixture, *consensus.Certificate)) violation,
	after func(rule consensus.Rule, name string, s40, then func(*fixture) []consensus.Record) violation,
) []violation {
	return []violation{
		after("attest-source", "a certified slot above the target", func(*fixture) []consensus.Record { return nil }, func(f *fixture) []consensus.Record {
			down := consensus.Link{Set: f.Voters("s30").ID(), Source: f.Node("s40").State.Checkpoint(), Target: f.Node("s30").State.Checkpoint()}
			return []consensus.Record{f.Certificate("s20", "s40", 0, 1, 2), certify(f.Generator, down, f.Voters("s30"), 0, 1, 2)}
		}),
		spoiled("attest-set", "another set", func(f *fixture, c *consensus.Certificate) {
			c.Set[0] ^= 1
			*c = *certify(f.Generator, c.Link, f.Voters("s30"), 0, 1, 2)
		}),
		spoiled("attest-index", "signer 5 of 5", func(_ *fixture, c *consensus.Certificate) { c.Signers += 1<<5 - 1<<2 }),
		spoiled("attest-index", "signer 31 beside a quorum", func(_ *fixture, c *consensus.Certificate) {
			c.Signers |= 1 << 31
			c.Signatures = append(c.Signatures, c.Signatures[0])
		}),
		spoiled("attest-signature", "two signatures in each other's place", func(_ *fixture, c *consensus.Certificate) {
			c.Signatures[0], c.Signatures[1] = c.Signatures[1], c.Signatures[0]
		}),
		spoiled("attest-signature", "a bad one beside a quorum", func(_ *fixture, c *consensus.Certificate) {
			c.Signers |= 1 << 4
			c.Signatures = append(c.Signatures, c.Signatures[0])
		}),
		spoiled("attest-signature", "of another link", func(f *fixture, c *consensus.Certificate) {
			c.Signatures = f.Certificate("s10", "s30", 0, 1, 2).Signatures
		}),
		spoiled("attest-signature", "of another network", func(f *fixture, c *consensus.Certificate) {
			key := chaingen.ValidatorKey(types.Secp256k1, 2)
			c.Signatures[2] = key.Sign(c.Digest(types.Hash{1}))
		}),
		spoiled("attest-disabled", "disabled before the target", func(f *fixture, c *consensus.Certificate) {
			*c = *f.Certificate("s20", "s30", 0, 1, 3)
		}),
		spoiled("attest-disabled", "beside a quorum", func(f *fixture, c *consensus.Certificate) {
			*c = *f.Certificate("s20", "s30", 0, 1, 2, 3)
		}),
	}
}

// certify puts together the votes of some voters for any link.
func certify(g *chaingen.Generator, l consensus.Link, voters *consensus.Electorate, indexes ...uint8) *consensus.Certificate {
	var votes []consensus.Attestation
	for _, i := range indexes {
		votes = append(votes, g.SignLink(l, voters, i))
	}
	c, err := consensus.NewCertificate(votes)
	if err != nil {
		panic(err)
	}
	return &c
}
