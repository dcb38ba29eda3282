package consensus

import (
	"encoding/binary"
	"fmt"

	"qcitycoin.org/qcity/node/types"
)

// Coin is an unspent output and what the rules need to know of its origin.
type Coin struct {
	Output types.TxOut
	Height uint32
	// ParentTime is the time of the parent of the block that made the coin; BIP 68
	// counts relative times from it (it stands in for BIP 113's median time,
	// as times are strictly increasing here).
	ParentTime uint32
	// Coinbase marks outputs of a coinbase or CoinOnline, which must mature.
	Coinbase bool
}

// AppendTo appends the coin's encoding for the node's database.
func (c *Coin) AppendTo(b []byte) []byte {
	flags := byte(0)
	if c.Coinbase {
		flags = 1
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint32(b, c.Height)
	b = binary.LittleEndian.AppendUint32(b, c.ParentTime)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Output.Value))
	return types.AppendVarBytes(b, c.Output.PkScript)
}

// DecodeFrom reads what AppendTo wrote. The script aliases the decoder's input.
func (c *Coin) DecodeFrom(d *types.Decoder) {
	flags := d.Uint8()
	if flags > 1 {
		d.Fail(fmt.Errorf("coin with flags %02x: %w", flags, types.ErrNonCanonical))
	}
	*c = Coin{Coinbase: flags == 1, Height: d.Uint32(), ParentTime: d.Uint32()}
	c.Output = types.TxOut{Value: int64(d.Uint64()), PkScript: d.VarBytes()}
}

// UTXO is a coin and where it is.
type UTXO struct {
	OutPoint types.OutPoint
	Coin     Coin
}

// Coins are the unspent outputs a block or transaction refers to, looked up by
// the caller. Consensus never asks a database.
type Coins map[types.OutPoint]Coin

// Diff is what a block changes in the set of unspent outputs. Outputs made and
// spent within the block are in neither list. Applying removes Spent and adds
// Created; reverting is the same Diff read backwards.
type Diff struct {
	Spent   []UTXO
	Created []UTXO
}

// Undo returns the Diff of a block whose spent coins were kept: what reverting
// needs and what the block itself does not say.
func Undo(parent *State, b *types.Block, spent []UTXO) Diff {
	used := make(map[types.OutPoint]bool)
	for _, tx := range b.Transactions {
		for i := range tx.Inputs {
			used[tx.Inputs[i].Previous] = true
		}
	}
	d := Diff{Spent: spent}
	for i, tx := range b.Transactions {
		for _, u := range outputs(parent, tx, i == 0) {
			if !used[u.OutPoint] {
				d.Created = append(d.Created, u)
			}
		}
	}
	return d
}

// outputs lists the spendable outputs a transaction of the next block makes.
func outputs(parent *State, tx *types.Transaction, coinbase bool) []UTXO {
	id := tx.ID()
	list := make([]UTXO, 0, len(tx.Outputs))
	for i, out := range tx.Outputs {
		if !spendable(out.PkScript) {
			continue
		}
		list = append(list, UTXO{
			OutPoint: types.OutPoint{TxID: id, Index: uint32(i)},
			Coin:     Coin{Output: out, Height: parent.ChildHeight(), ParentTime: parent.Time, Coinbase: coinbase},
		})
	}
	return list
}

func spendable(pkScript []byte) bool {
	t, err := types.ParseTemplate(pkScript)
	return err == nil && t.Kind != types.NullData
}
