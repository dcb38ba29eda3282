package consensus_test

import (
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

func headerViolations() []violation {
	return []violation{
		{name: "other parent", rule: consensus.RulePrevBlock, corrupt: func(f *fixture) {
			f.block.PrevBlock[0] ^= 1
			f.sealHeader()
		}},
		{name: "parent's time", rule: consensus.RuleTimeOrder, corrupt: func(f *fixture) {
			f.block.Time = f.parent.State.Time
			f.sealHeader()
		}},
		{name: "signed at parent's time", rule: consensus.RuleTimeOrder, kind: signed, corrupt: func(f *fixture) {
			f.block.Time = f.parent.State.Time
			f.sealHeader()
		}},
		{
			name: "one second too far", rule: consensus.RuleTimeFuture,
			corrupt: func(*fixture) {},
			check: func(f *fixture) error {
				return f.Network().CheckFuture(&f.block.Header, int64(f.block.Time)-testFuture-1)
			},
		},
		{name: "harder", rule: consensus.RuleBits, corrupt: func(f *fixture) {
			f.block.Bits = 0x1f7fffff
			f.sealHeader()
		}},
		{name: "same target, other encoding", rule: consensus.RuleBits, corrupt: func(f *fixture) {
			f.block.Bits = 0x21008000
			f.sealHeader()
		}},
		{name: "signed with other bits", rule: consensus.RuleBits, kind: signed, corrupt: func(f *fixture) {
			f.block.Bits--
			f.sealHeader()
		}},
		{name: "mined", rule: consensus.RuleWork, corrupt: unsolve},
		{name: "fallback", rule: consensus.RuleWork, kind: fallback, corrupt: unsolve},
		{name: "open to miners from 121 s", rule: consensus.RuleFallback, kind: fallback, corrupt: func(f *fixture) {
			f.block.Time = f.parent.State.Time + testSlotOpen
			f.sealHeader()
		}},
	}
}

func unsolve(f *fixture) {
	target := f.parent.State.NextTarget()
	for types.HashMeets(f.block.Header.ID(), &target) {
		f.block.Nonce++
	}
}

func signedViolations() []violation {
	cases := []violation{
		{name: "at a height that is no slot", rule: consensus.RuleNotASlot, kind: mined, corrupt: func(f *fixture) {
			f.block.Nonce = 0
			f.Sign(f.block, 0)
		}},
		{name: "64 bytes", rule: consensus.RuleSigFormat, kind: signed, corrupt: func(f *fixture) {
			f.block.VchBlockSig = f.block.VchBlockSig[:64]
		}},
		{name: "66 bytes", rule: consensus.RuleSigFormat, kind: signed, corrupt: func(f *fixture) {
			f.block.VchBlockSig = append(f.block.VchBlockSig, 0)
		}},
		{name: "index 5 of 5", rule: consensus.RuleValidator, kind: signed, corrupt: func(f *fixture) {
			f.Sign(f.block, 5)
		}},
		{name: "another validator's block", rule: consensus.RuleValidator, kind: signed, corrupt: func(f *fixture) {
			f.Sign(f.block, f.parent.State.ValidatorOfRank(0))
		}},
		{name: "nonce 1", rule: consensus.RuleSlotNonce, kind: signed, corrupt: func(f *fixture) {
			f.block.Nonce = 1
			f.sealHeader()
		}},
		{name: "rank 1 at 19 s", rule: consensus.RuleSlotEarly, kind: signed, corrupt: func(f *fixture) {
			f.block.Time = f.parent.State.Time + testRankStep - 1
			f.sealHeader()
		}},
		{name: "rank 4 at 79 s", rule: consensus.RuleSlotEarly, kind: signed, corrupt: func(f *fixture) {
			f.block.Time = f.parent.State.Time + 4*testRankStep - 1
			f.Sign(f.block, f.parent.State.ValidatorOfRank(4))
		}},
		{name: "601 s", rule: consensus.RuleSlotLate, kind: signed, corrupt: func(f *fixture) {
			f.block.Time = f.parent.State.Time + testSlotClose + 1
			f.sealHeader()
		}},
		{name: "high S", rule: consensus.RuleBlockSig, kind: signed, corrupt: func(f *fixture) {
			highS(f.block.VchBlockSig)
		}},
		{name: "zero r", rule: consensus.RuleBlockSig, kind: signed, corrupt: func(f *fixture) {
			clear(f.block.VchBlockSig[1:33])
		}},
		{name: "zero s", rule: consensus.RuleBlockSig, kind: signed, corrupt: func(f *fixture) {
			clear(f.block.VchBlockSig[33:])
		}},
		{name: "r not below the order", rule: consensus.RuleBlockSig, kind: signed, corrupt: func(f *fixture) {
			for i := 1; i < 33; i++ {
				f.block.VchBlockSig[i] = 0xff
			}
		}},
	}
	for name, digest := range replays() {
		cases = append(cases, violation{name: name, rule: consensus.RuleBlockSig, kind: signed, corrupt: func(f *fixture) {
			key := chaingen.ValidatorKey(types.Secp256k1, int(f.index))
			f.block.VchBlockSig = types.BlockSig{Index: f.index, Signature: key.Sign(digest(f))}.Bytes()
		}})
	}
	return cases
}

// replays are digests a validator may have signed elsewhere; none may serve here.
func replays() map[string]func(*fixture) types.Hash {
	return map[string]func(*fixture) types.Hash{
		"signature for another network": func(f *fixture) types.Hash {
			return consensus.SlotDigest(types.Hash{1}, f.parent.State.ValidatorSetID(), 20, f.block.Header.ID())
		},
		"signature under another set": func(f *fixture) types.Hash {
			return consensus.SlotDigest(f.Network().ID, types.Hash{1}, 20, f.block.Header.ID())
		},
		"signature for another height": func(f *fixture) types.Hash {
			return consensus.SlotDigest(f.Network().ID, f.parent.State.ValidatorSetID(), 30, f.block.Header.ID())
		},
		"signature for another block": func(f *fixture) types.Hash {
			return consensus.SlotDigest(f.Network().ID, f.parent.State.ValidatorSetID(), 20, f.parent.State.ID)
		},
		"signature over the bare id": func(f *fixture) types.Hash { return f.block.Header.ID() },
		"signature of an attestation": func(f *fixture) types.Hash {
			id, network, set := f.block.Header.ID(), f.Network().ID, f.parent.State.ValidatorSetID()
			return types.TaggedHash("qcity/poo/attest", network[:], set[:], []byte{20, 0, 0, 0}, id[:])
		},
	}
}

// highS replaces s by n − s, which verifies wherever low-S is not asked for.
func highS(vch []byte) {
	s := new(big.Int).SetBytes(vch[33:])
	s.Sub(secp256k1.Params().N, s).FillBytes(vch[33:])
}
