package chaingen

import (
	"bytes"
	"encoding/binary"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// paymentKeys is how many payment keys Spend knows.
const paymentKeys = 16

func (k Key) hash() [20]byte {
	point := k.Public().Point
	return types.Hash160(point[:])
}

// PayToHash returns the script that pays the hash of payment key i.
func PayToHash(i int) []byte { return types.PubKeyHashScript(PaymentKey(i).hash()) }

// PayToKey returns the script that pays payment key i itself.
func PayToKey(i int) []byte { return types.KeyScript(PaymentKey(i).Public()) }

// PayToMultisig returns the script that pays 2 of payment keys 0, 1 and 2.
func PayToMultisig() []byte { return types.ScriptHashScript(types.Hash160(redeemScript())) }

func redeemScript() []byte {
	var keys []types.PublicKey
	for i := range 3 {
		keys = append(keys, PaymentKey(i).Public())
	}
	script, err := types.MultisigScript(2, keys)
	if err != nil {
		panic("chaingen: " + err.Error())
	}
	return script
}

// Coin returns an unspent output on the branch of the tip, and whether there is one.
func (g *Generator) Coin(at types.OutPoint) (consensus.Coin, bool) {
	for node := g.tip; node != nil; node = node.Parent {
		for _, u := range node.Diff.Spent {
			if u.OutPoint == at {
				return consensus.Coin{}, false
			}
		}
		for _, u := range node.Diff.Created {
			if u.OutPoint == at {
				return u.Coin, true
			}
		}
	}
	return consensus.Coin{}, false
}

// CoinsFor returns the coins on the branch of the tip that a block spends, as
// consensus.Connect wants them.
func (g *Generator) CoinsFor(b *types.Block) consensus.Coins {
	coins := make(consensus.Coins)
	for _, tx := range b.Transactions {
		for i := range tx.Inputs {
			at := tx.Inputs[i].Previous
			if coin, ok := g.Coin(at); ok {
				coins[at] = coin
			}
		}
	}
	return coins
}

// Reward returns what a block paid its maker: output 0 of a coinbase, output 1
// of a CoinOnline.
func (n *Node) Reward() consensus.UTXO {
	first := n.Block.Transactions[0]
	index := uint32(0)
	if n.Block.IsSigned() {
		index = 1
	}
	return n.Output(first, index)
}

// Output returns an output of a transaction of the block as the coin it made.
func (n *Node) Output(tx *types.Transaction, index uint32) consensus.UTXO {
	return consensus.UTXO{
		OutPoint: types.OutPoint{TxID: tx.ID(), Index: index},
		Coin: consensus.Coin{
			Output:     tx.Outputs[index],
			Height:     n.State.Height,
			ParentTime: n.Parent.State.Time,
			Coinbase:   tx.IsCoinbase(),
		},
	}
}

// Pay returns an output.
func Pay(value int64, pkScript []byte) types.TxOut {
	return types.TxOut{Value: value, PkScript: pkScript}
}

// Spend returns a signed transaction, version 2, that spends coins into outputs.
// What the outputs leave over is the fee.
func (g *Generator) Spend(coins []consensus.UTXO, outputs ...types.TxOut) *types.Transaction {
	g.tb.Helper()
	tx := &types.Transaction{Version: 2, Outputs: outputs}
	for _, c := range coins {
		tx.Inputs = append(tx.Inputs, types.TxIn{Previous: c.OutPoint, Sequence: 0xffffffff})
	}
	g.SignInputs(tx, coins)
	return tx
}

// SignInputs signs every input of tx; coins are what they spend, in order. It
// knows the payment keys, the 2-of-3 of PayToMultisig and the validators' keys.
func (g *Generator) SignInputs(tx *types.Transaction, coins []consensus.UTXO) {
	g.tb.Helper()
	for i, c := range coins {
		script := c.Coin.Output.PkScript
		input, ok := g.inputScript(tx, i, script)
		if !ok {
			g.tb.Fatalf("chaingen: no key for input %d, script %x", i, script)
		}
		tx.Inputs[i].SignatureScript = input
	}
}

func (g *Generator) inputScript(tx *types.Transaction, i int, script []byte) ([]byte, bool) {
	if redeem := redeemScript(); bytes.Equal(script, PayToMultisig()) {
		digest := tx.SignatureHash(i, redeem)
		s := Push([]byte{0x00}, PaymentKey(0).SignDER(digest)) // BIP 147's empty element first
		return Push(Push(s, PaymentKey(2).SignDER(digest)), redeem), true
	}
	digest := tx.SignatureHash(i, script)
	for j := range paymentKeys {
		key := PaymentKey(j)
		point := key.Public().Point
		switch {
		case bytes.Equal(script, PayToHash(j)):
			return Push(Push(nil, key.SignDER(digest)), point[:]), true
		case bytes.Equal(script, PayToKey(j)):
			return Push(nil, key.SignDER(digest)), true
		}
	}
	for public, key := range g.keys {
		if bytes.Equal(script, types.KeyScript(public)) {
			return Push(nil, key.SignDER(digest)), true
		}
	}
	return nil, false
}

// Push appends the push of an element of 2 to 65,535 bytes to a script.
func Push(script, data []byte) []byte {
	switch n := len(data); {
	case n < 0x4c:
		script = append(script, byte(n))
	case n <= 0xff:
		script = append(script, 0x4c, byte(n))
	default:
		script = binary.LittleEndian.AppendUint16(append(script, 0x4d), uint16(n))
	}
	return append(script, data...)
}

// Include is a munger that adds transactions to a block and their fees to what
// the block pays its maker. Transactions may spend each other, in order.
func (g *Generator) Include(txs ...*types.Transaction) Munger {
	return func(b *types.Block) {
		b.Transactions = append(b.Transactions, txs...)
		made := make(map[types.OutPoint]int64)
		var fees int64
		for _, tx := range txs {
			for i := range tx.Inputs {
				at := tx.Inputs[i].Previous
				coin, ok := g.Coin(at)
				if !ok {
					coin.Output.Value = made[at]
				}
				fees += coin.Output.Value
			}
			for i, out := range tx.Outputs {
				made[types.OutPoint{TxID: tx.ID(), Index: uint32(i)}] = out.Value
				fees -= out.Value
			}
		}
		first := b.Transactions[0]
		if b.IsSigned() {
			first.Outputs[1].Value += fees
		} else {
			first.Outputs[0].Value += fees
		}
	}
}

// PayMinerTo is a munger that makes a mined block pay a script.
func PayMinerTo(pkScript []byte) Munger {
	return func(b *types.Block) { b.Transactions[0].Outputs[0].PkScript = pkScript }
}

// AtTime is a munger that sets the header's time.
func AtTime(time uint32) Munger { return func(b *types.Block) { b.Time = time } }
