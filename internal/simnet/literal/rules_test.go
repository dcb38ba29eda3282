package literal_test

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/simnet/literal"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestRules breaks each statement of the text alone: an attack on a chain that
// lets everything through would show nothing.
func TestRules(t *testing.T) {
	ordinary := func(change func(w *world, b *types.Block)) func(*world) *types.Block {
		return func(w *world) *types.Block {
			b := w.mined(w.grow(8), unixNow())
			change(w, b)
			return b
		}
	}
	auth := func(change func(w *world, b *types.Block)) func(*world) *types.Block {
		return func(w *world) *types.Block {
			parent := w.grow(9)
			w.sleep(onTime)
			b := w.draft(parent, unixNow(), nil)
			b.Transactions[0].Outputs = []types.TxOut{{}, {PkScript: types.KeyScript(w.net.Validators[1])}}
			change(w, b)
			chaingen.FixMerkleRoot(b)
			if !b.IsSigned() {
				sig := w.gen.Secret(w.net.Validators[1]).Sign(literal.Digest(b.Transactions[0]))
				b.VchBlockSig = types.BlockSig{Index: 1, Signature: sig}.Bytes()
			}
			return b
		}
	}
	first := func(b *types.Block) *types.Transaction { return b.Transactions[0] }
	cases := []struct {
		name string
		want consensus.Rule
		make func(w *world) *types.Block
	}{
		{"ordinary", "", ordinary(func(*world, *types.Block) {})},
		{"auth", "", auth(func(*world, *types.Block) {})},
		{"auth with third output", "", auth(func(_ *world, b *types.Block) {
			first(b).Outputs = append(first(b).Outputs, types.TxOut{PkScript: []byte("invalid()")})
		})},
		{"fallback by its own stamp", "", func(w *world) *types.Block { // P20, P22
			parent := w.grow(9)
			return w.mined(parent, parent.Time+121)
		}},
		{"mined within the set time", literal.P9, func(w *world) *types.Block { // P3, P14, P22
			parent := w.grow(9)
			return w.mined(parent, parent.Time+120)
		}},
		{"signed after the set time", literal.P9, func(w *world) *types.Block { // P21, P22
			parent := w.grow(9)
			return w.signed(parent, 1, parent.Time+121)
		}},
		{"signed at an ordinary height", literal.P9, func(w *world) *types.Block { // P1
			return w.signed(w.grow(8), 1, unixNow())
		}},
		{"no work", literal.P17, ordinary(func(w *world, b *types.Block) {
			target, _ := types.CompactToTarget(b.Bits)
			for types.HashMeets(b.Header.ID(), &target) {
				b.Nonce++
			}
		})},
		{"bits", consensus.RuleBits, ordinary(func(_ *world, b *types.Block) { b.Bits-- })},
		{"median time", literal.MedianTime, ordinary(func(w *world, b *types.Block) { b.Time = w.v.minTime(w.v.tip()) - 1 })},
		{"two hours ahead", consensus.RuleTimeFuture, ordinary(func(_ *world, b *types.Block) {
			b.Time = unixNow() + uint32(literal.FutureLimit/time.Second) + 1
		})},
		{"subsidy", consensus.RuleCoinbaseValue, ordinary(func(w *world, b *types.Block) {
			first(b).Outputs[0].Value++
			w.solve(b)
		})},
		{"unknown parent", consensus.RulePrevBlock, ordinary(func(_ *world, b *types.Block) { b.PrevBlock[0]++ })},
		{"signature over the block", literal.P8, auth(func(w *world, b *types.Block) {
			sig := w.gen.Secret(w.net.Validators[1]).Sign(b.Header.ID())
			b.VchBlockSig = types.BlockSig{Index: 1, Signature: sig}.Bytes()
		})},
		{"CoinOnline changed after it was signed", literal.P8, auth(func(w *world, b *types.Block) {
			sig := w.gen.Secret(w.net.Validators[1]).Sign(literal.Digest(first(b)))
			b.VchBlockSig = types.BlockSig{Index: 1, Signature: sig}.Bytes()
			first(b).Inputs[0].SignatureScript[1]++
		})},
		{"short signature", literal.P9, auth(func(_ *world, b *types.Block) { b.VchBlockSig = []byte{1} })},
		{"nonce", literal.P10, auth(func(_ *world, b *types.Block) { b.Nonce = 1 })},
		{"CoinOnline spends", literal.P11, auth(func(_ *world, b *types.Block) { first(b).Inputs[0].Previous.Index = 0 })},
		{"one output", literal.P12, auth(func(_ *world, b *types.Block) { first(b).Outputs = first(b).Outputs[:1] })},
		{"output 0", literal.P12, auth(func(_ *world, b *types.Block) { first(b).Outputs[0].Value = 1 })},
		{"subsidy at a slot", literal.P12, auth(func(_ *world, b *types.Block) { first(b).Outputs[1].Value = 1 })}, // P13
		{"output 2", literal.P12, auth(func(_ *world, b *types.Block) {
			first(b).Outputs = append(first(b).Outputs, types.TxOut{Value: 1})
		})},
		{"key that is not listed", literal.P15, auth(func(_ *world, b *types.Block) {
			first(b).Outputs[1].PkScript = types.KeyScript(chaingen.ValidatorKey(types.Secp256k1, 7).Public())
		})},
		{"Merkle root", consensus.RuleMerkleRoot, func(w *world) *types.Block {
			b := w.signed(w.grow(9), 1, unixNow())
			b.MerkleRoot[0]++
			return b
		}},
		{"coin that does not exist", consensus.RuleTxMissing, func(w *world) *types.Block {
			parent := w.grow(9)
			return w.signed(parent, 1, unixNow(), w.pay(w.mined(parent, unixNow()), 9, 1))
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			forSeeds(t, byTheText, 1, func(w *world) {
				if _, err := w.send(c.make(w)); ruleOf(err) != c.want || (err == nil) != (c.want == "") {
					w.fatalf("got %v, want %q", err, c.want)
				}
			})
		})
	}
}

// TestSetTime: within the set time by its clock a validator signs, after it not
// (P19, P21), whatever the time stamp of the block before the slot was worth.
func TestSetTime(t *testing.T) {
	forSeeds(t, byTheText, 1, func(w *world) {
		parent := w.grow(9)
		w.sleep(120 * time.Second)
		if at, ok := w.v.signTime(parent, 1); !ok || at != unixNow() {
			w.fatalf("after 120 s: time %d, may sign %v", at, ok)
		}
		w.sleep(time.Second)
		if _, ok := w.v.signTime(parent, 1); ok {
			w.fatalf("after 121 s a validator still signs")
		}
	})
}

// TestMostWork: P27. The longer branch wins, of equals the first.
func TestMostWork(t *testing.T) {
	forSeeds(t, byTheText, 1, func(w *world) {
		fork := w.grow(5)
		w.sleep(time.Minute)
		first := w.mined(fork, unixNow())
		w.give(first)
		second := w.mined(fork, unixNow())
		if _, err := w.send(second); err != nil || !w.confirmed(first) {
			w.fatalf("error %v, first seen stands %v", err, w.confirmed(first))
		}
		at, _ := w.v.state(second.Header.ID())
		w.give(w.mined(at, unixNow()))
		if w.deepest != 1 || w.confirmed(first) {
			w.fatalf("deepest %d", w.deepest)
		}
	})
}

// TestCoins: a coin is spent once on each branch.
func TestCoins(t *testing.T) {
	forSeeds(t, byTheText, 1, func(w *world) {
		fork := w.grow(12)
		coin := w.sent[0]
		w.extend(w.pay(coin, 1, 1))
		if _, err := w.send(w.mined(w.v.tip(), unixNow(), w.pay(coin, 1, 2))); ruleOf(err) != consensus.RuleTxMissing {
			w.fatalf("spent twice: %v", err)
		}
		if _, err := w.send(w.mined(fork, unixNow(), w.pay(coin, 1, 2))); err != nil {
			w.fatalf("on another branch: %v", err)
		}
	})
}
