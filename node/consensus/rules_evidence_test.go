package consensus_test

import (
	"slices"
	"strconv"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// setChangeViolations are changes of the set that a block must not carry. The
// set in force has five keys, of which number 3 is disabled.
func setChangeViolations() []violation {
	secp := func(numbers ...int) []types.PublicKey { return chaingen.PublicKeys(types.Secp256k1, numbers...) }
	good := func(f *fixture) *consensus.SetChange { return f.SetChange(secp(0, 1, 5), 0, 1, 2) }
	to := func(name string, keys []types.PublicKey) violation {
		return carrying("set-change-keys", name, func(f *fixture) *consensus.SetChange { return f.SetChange(keys, 0, 1, 2) })
	}
	spoiled := func(rule consensus.Rule, name string, spoil func(*fixture, *consensus.SetChange)) violation {
		return carrying(rule, name, func(f *fixture) *consensus.SetChange {
			c := good(f)
			spoil(f, c)
			return c
		})
	}
	signedBy := func(name string, indexes ...uint8) violation {
		return carrying("set-change-quorum", name, func(f *fixture) *consensus.SetChange { return f.SetChange(secp(0, 1, 5), indexes...) })
	}
	// resigned has validator 2 sign another digest than that of the change.
	resigned := func(name string, digest func(*fixture, consensus.ValidatorSet, *consensus.SetChange) types.Hash) violation {
		return spoiled("set-change-signature", name, func(f *fixture, c *consensus.SetChange) {
			c.Sign(2, chaingen.ValidatorKey(types.Secp256k1, 2).Sign(digest(f, f.parent.State.Validators(), c)))
		})
	}
	off := secp(0, 1, 5)
	off[2].Point = [33]byte{2, 32: 5}
	unknown := secp(0, 1, 5)
	unknown[0].Algorithm = 3
	return []violation{
		{name: "two in one block", rule: "set-change-open", kind: voted, corrupt: func(f *fixture) {
			f.carry(good(f), f.SetChange(secp(0, 1, 6), 0, 1, 2))
		}},
		{name: "the same again in the next slot", rule: "set-change-open", kind: voted, corrupt: func(f *fixture) {
			f.onward(good(f))
			f.carry(good(f))
		}},

		to("none", nil),
		to("an even number", secp(0, 1, 2, 5)),
		to("one twice", secp(0, 5, 0)),
		to("a disabled one", secp(0, 1, 3)),
		to("more than ranks have time", secp(0, 1, 2, 4, 5, 6, 7)),
		to("off the curve", off),
		to("of an unknown algorithm", unknown),

		signedBy("nobody"),
		signedBy("two of five", 0, 1),
		signedBy("two and a disabled one", 0, 1, 3),
		spoiled("set-change-quorum", "signer 5 of 5", func(_ *fixture, c *consensus.SetChange) { c.Signers += 1<<5 - 1<<2 }),
		spoiled("set-change-quorum", "signer 31 beside a majority", func(_ *fixture, c *consensus.SetChange) {
			c.Signers |= 1 << 31
			c.Signatures = append(c.Signatures, c.Signatures[0])
		}),

		spoiled("set-change-signature", "other keys", func(_ *fixture, c *consensus.SetChange) {
			c.Keys = secp(0, 1, 6)
		}),
		spoiled("set-change-signature", "another order", func(_ *fixture, c *consensus.SetChange) {
			c.Keys = secp(1, 0, 5)
		}),
		spoiled("set-change-signature", "a key less", func(_ *fixture, c *consensus.SetChange) {
			c.Keys = secp(0)
		}),
		spoiled("set-change-signature", "two signatures in each other's place", func(_ *fixture, c *consensus.SetChange) {
			c.Signatures[0], c.Signatures[1] = c.Signatures[1], c.Signatures[0]
		}),
		spoiled("set-change-signature", "a bad one beside a majority", func(_ *fixture, c *consensus.SetChange) {
			c.Sign(4, c.Signatures[0])
		}),
		resigned("of another network", func(_ *fixture, set consensus.ValidatorSet, c *consensus.SetChange) types.Hash {
			return consensus.SetChangeDigest(types.Hash{1}, set, c.Keys)
		}),
		resigned("of another set's number", func(f *fixture, set consensus.ValidatorSet, c *consensus.SetChange) types.Hash {
			set.Number++
			return consensus.SetChangeDigest(f.Network().ID, set, c.Keys)
		}),
		resigned("under a vote's tag", func(f *fixture, set consensus.ValidatorSet, c *consensus.SetChange) types.Hash {
			from, to := set.ID(), consensus.ValidatorSet{Number: set.Number + 1, Keys: c.Keys}.ID()
			return types.TaggedHash("qcity/poo/attest", f.Network().ID[:], from[:], to[:])
		}),
	}
}

// evidenceViolations are evidence that a block must not carry.
func evidenceViolations() []violation {
	return slices.Concat(voteEvidenceViolations(), slotEvidenceViolations(), []violation{
		{name: "a key with evidence against it", rule: "validator-disabled", kind: voted, corrupt: func(f *fixture) {
			f.signAt(f.parent.State.Rank(3), 200)
		}},
	})
}

func voteEvidenceViolations() []violation {
	between := func(rule consensus.Rule, name string, a, b func(*fixture) consensus.Attestation) violation {
		return carrying(rule, name, func(f *fixture) *consensus.Evidence { return f.Evidence(a(f), b(f)) })
	}
	vote := func(source, target string, index uint8) func(*fixture) consensus.Attestation {
		return func(f *fixture) consensus.Attestation { return f.Vote(source, target, index) }
	}
	// resigned is a vote of validator 1 from s20 to s30 after a change.
	resigned := func(spoil func(*consensus.Link)) func(*fixture) consensus.Attestation {
		return func(f *fixture) consensus.Attestation {
			l := f.Link("s20", "s30")
			spoil(&l)
			return f.SignLink(l, f.Voters("s30"), 1)
		}
	}
	spoiled := func(rule consensus.Rule, name string, spoil func(*fixture, *consensus.Evidence)) violation {
		return carrying(rule, name, func(f *fixture) *consensus.Evidence {
			e := f.Evidence(f.Vote("s20", "s30", 1), f.Vote("s20", "t30", 1))
			spoil(f, e)
			return e
		})
	}
	good, twin := vote("s20", "s30", 1), vote("s20", "t30", 1)
	return []violation{
		between("evidence-set", "a set that never was", resigned(func(l *consensus.Link) { l.Set[0] ^= 1 }), twin),
		between("evidence-set", "a set that never was, second", good, resigned(func(l *consensus.Link) { l.Set[0] ^= 1 })),
		spoiled("evidence-set", "voter 5 of 5", func(_ *fixture, e *consensus.Evidence) { e.B.Index = 5 }),
		spoiled("evidence-set", "voter 31", func(_ *fixture, e *consensus.Evidence) { e.A.Index = 31 }),
		between("evidence-set", "two validators", good, vote("s20", "t30", 2)),

		between("evidence-known", "a disabled key", vote("s20", "s30", 3), vote("s20", "t30", 3)),
		{name: "twice in one block", rule: "evidence-known", kind: voted, corrupt: func(f *fixture) {
			e := f.Evidence(good(f), twin(f))
			f.carry(e, e)
		}},
		{name: "of blocks and of votes", rule: "evidence-known", kind: voted, corrupt: func(f *fixture) {
			f.carry(f.SlotEvidence("s30", "t30"), f.Evidence(f.Vote("s20", "s30", 0), f.Vote("s20", "t30", 0)))
		}},

		between("evidence-innocent", "one vote twice", good, good),
		between("evidence-innocent", "one vote and the next", vote("s10", "s20", 1), good),
		between("evidence-innocent", "one source, two targets", vote("s10", "s20", 1), vote("s10", "s30", 1)),
		between("evidence-innocent", "the next vote and the one before", good, vote("s10", "s20", 1)),
		between("evidence-innocent", "a target between slots", resigned(func(l *consensus.Link) { l.Target.Height = 31 }), good),
		between("evidence-innocent", "a source between slots", good, resigned(func(l *consensus.Link) { l.Source.Height = 19 })),
		between("evidence-innocent", "a vote for genesis", resigned(func(l *consensus.Link) { l.Source.Height, l.Target.Height = 0, 0 }), good),
		between("evidence-innocent", "another network's genesis", resigned(func(l *consensus.Link) { l.Source.Height = 0 }), good),

		spoiled("evidence-signature", "a bit of the first", func(_ *fixture, e *consensus.Evidence) { e.A.Signature[63] ^= 1 }),
		spoiled("evidence-signature", "a bit of the second", func(_ *fixture, e *consensus.Evidence) { e.B.Signature[63] ^= 1 }),
		spoiled("evidence-signature", "the first of another validator", func(f *fixture, e *consensus.Evidence) {
			e.A.Signature = f.Vote("s20", "s30", 2).Signature
		}),
		spoiled("evidence-signature", "one signature for both", func(_ *fixture, e *consensus.Evidence) { e.B.Signature = e.A.Signature }),
		spoiled("evidence-signature", "a vote of another network", func(_ *fixture, e *consensus.Evidence) {
			e.B.Signature = chaingen.ValidatorKey(types.Secp256k1, 1).Sign(e.B.Digest(types.Hash{1}))
		}),
	}
}

func slotEvidenceViolations() []violation {
	spoiled := func(rule consensus.Rule, name string, spoil func(*fixture, *consensus.SlotEvidence)) violation {
		return carrying(rule, "blocks: "+name, func(f *fixture) *consensus.SlotEvidence {
			e := f.SlotEvidence("s30", "t30")
			spoil(f, e)
			return e
		})
	}
	cases := []violation{
		spoiled("evidence-set", "a set that never was", func(f *fixture, e *consensus.SlotEvidence) {
			e.Set[0] ^= 1
			for i := range e.Blocks {
				e.Signatures[i] = chaingen.ValidatorKey(types.Secp256k1, 0).Sign(consensus.SlotDigest(f.Network().ID, e.Set, e.Height, e.Blocks[i]))
			}
		}),
		spoiled("evidence-set", "validator 5 of 5", func(_ *fixture, e *consensus.SlotEvidence) { e.Index = 5 }),
		spoiled("evidence-set", "validator 255", func(_ *fixture, e *consensus.SlotEvidence) { e.Index = 255 }),
		spoiled("evidence-known", "a disabled key", func(f *fixture, e *consensus.SlotEvidence) { *e = *f.SlotEvidence("s10", "t10") }),
		spoiled("evidence-innocent", "one block twice", func(f *fixture, e *consensus.SlotEvidence) { *e = *f.SlotEvidence("s30", "s30") }),
	}
	for i := range 2 {
		cases = append(cases, spoiled("evidence-signature", "a bit of signature "+strconv.Itoa(i), func(_ *fixture, e *consensus.SlotEvidence) {
			e.Signatures[i][63] ^= 1
		}), spoiled("evidence-signature", "another block for signature "+strconv.Itoa(i), func(_ *fixture, e *consensus.SlotEvidence) {
			e.Blocks[i][0] ^= 1
		}))
	}
	return append(cases,
		spoiled("evidence-signature", "another height", func(_ *fixture, e *consensus.SlotEvidence) { e.Height = 40 }),
		spoiled("evidence-signature", "another validator", func(_ *fixture, e *consensus.SlotEvidence) { e.Index = 1 }),
		spoiled("evidence-signature", "of votes", func(f *fixture, e *consensus.SlotEvidence) {
			e.Signatures = [2][64]byte{f.Vote("s20", "s30", 0).Signature, f.Vote("s20", "t30", 0).Signature}
		}),
	)
}
