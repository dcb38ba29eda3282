package consensus_test

import (
	"bytes"
	"errors"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestGoodBlocksCannotBePoisoned hands out the id of a good block with
// everything a stranger can change about it: each attempt must fail without
// blaming the id, and the good block must still connect.
func TestGoodBlocksCannotBePoisoned(t *testing.T) {
	cases := []struct {
		name  string
		kind  kind
		spoil func(*fixture)
	}{
		{"signature stripped", signed, func(f *fixture) { f.block.VchBlockSig = nil }},
		{"signature spoiled", signed, func(f *fixture) { f.block.VchBlockSig[40] ^= 1 }},
		{"signature turned high-S", signed, func(f *fixture) { highS(f.block.VchBlockSig) }},
		{"signature of wrong length", signed, func(f *fixture) { f.block.VchBlockSig = []byte{1} }},
		{"index changed", signed, func(f *fixture) { f.block.VchBlockSig[0] ^= 1 }},
		{"index out of range", signed, func(f *fixture) { f.block.VchBlockSig[0] = 200 }},
		{"signed by a validator whose turn is over", signed, func(f *fixture) { f.Sign(f.block, f.parent.State.ValidatorOfRank(0)) }},
		{"signed by a validator whose turn is to come", signed, func(f *fixture) { f.Sign(f.block, f.parent.State.ValidatorOfRank(4)) }},
		{"signature hung on a mined block", mined, func(f *fixture) { f.Sign(f.block, 0) }},
		{"signature hung on a fallback block", fallback, func(f *fixture) { f.Sign(f.block, 0) }},
		{"no transactions", mined, func(f *fixture) { f.block.Transactions = nil }},
		{"transactions left out", mined, func(f *fixture) { f.block.Transactions = f.block.Transactions[:1] }},
		{"last transaction twice", mined, func(f *fixture) {
			f.block.Transactions = append(f.block.Transactions, f.block.Transactions[2])
		}},
		{"a body over the size limit", mined, func(f *fixture) { grow(f, testMaxBytes+1) }},
		{"records left out", voted, func(f *fixture) {
			f.block.Transactions[0].Outputs = f.block.Transactions[0].Outputs[:2]
		}},
		{"a record more", voted, func(f *fixture) {
			chaingen.Data(append(bytes.Clone(f.block.Transactions[0].Outputs[2].PkScript[4:]), 4, 0))(f.block)
		}},
		{"signed by a disabled validator", voted, func(f *fixture) { f.Sign(f.block, 3) }},
		{"a body of another block", mined, func(f *fixture) {
			f.block.Transactions = []*types.Transaction{sixtyFourBytes()}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.kind)
			good := chaingen.Clone(f.block)
			c.spoil(f)
			if f.block.Header.ID() != good.Header.ID() {
				t.Fatal("the attempt changed the id: it is another block")
			}
			_, _, err := f.connect()
			if err == nil {
				t.Fatal("the spoiled block connects")
			}
			if consensus.BlamesBlock(err) {
				t.Errorf("%v blames the id of a good block", err)
			}
			f.block = good
			if _, _, err := f.connect(); err != nil {
				t.Errorf("the good block no longer connects: %v", err)
			}
		})
	}
}

// TestFallbackSignedByAValidator is the same attempt by a miner and a validator
// together: a fallback block whose nonce happens to be zero, which the
// validator signs. Half of the network may see it with the signature.
func TestFallbackSignedByAValidator(t *testing.T) {
	f := newFixture(t, fallback)
	target := f.parent.State.NextTarget()
	f.block.Nonce = 0
	for !types.HashMeets(f.block.Header.ID(), &target) {
		f.block.Time++
	}
	if _, _, err := f.connect(); err != nil {
		t.Fatalf("without the signature: %v", err)
	}
	f.Sign(f.block, f.parent.State.ValidatorOfRank(0))
	_, _, err := f.connect()
	if !errors.Is(err, consensus.RuleCoinOnline) || consensus.BlamesBlock(err) {
		t.Errorf("with it: %v, blames the id: %t", err, consensus.BlamesBlock(err))
	}
}

// TestStrippedSignatureWithWork strips the signature of a signed block whose id
// happens to meet the target, late enough to be a fallback block.
func TestStrippedSignatureWithWork(t *testing.T) {
	f := newFixture(t, signed)
	target := f.parent.State.NextTarget()
	f.block.Time = f.parent.State.Time + testSlotOpen + 1
	for !types.HashMeets(f.block.Header.ID(), &target) {
		f.block.Time++
	}
	f.sealHeader()
	if _, _, err := f.connect(); err != nil {
		t.Fatalf("signed: %v", err)
	}
	f.block.VchBlockSig = nil
	_, _, err := f.connect()
	if !errors.Is(err, consensus.RuleCoinOnline) || consensus.BlamesBlock(err) {
		t.Errorf("stripped: %v, blames the id: %t", err, consensus.BlamesBlock(err))
	}
}
