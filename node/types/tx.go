package types

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Coin is the number of base units in one native coin (8 decimals).
const Coin = 100_000_000

// MaxMoney bounds every amount and every sum of amounts, in base units, so
// that no addition of two checked amounts can overflow an int64.
const MaxMoney = 2_100_000_000 * Coin

// ValidAmount reports whether v lies in 0 … MaxMoney.
func ValidAmount(v int64) bool { return v >= 0 && v <= MaxMoney }

// FormatAmount writes base units as coins with 8 decimals, exactly.
func FormatAmount(v int64) string {
	sign, u := "", uint64(v)
	if v < 0 {
		sign, u = "-", -u
	}
	return fmt.Sprintf("%s%d.%08d", sign, u/Coin, u%Coin)
}

// OutPoint names one output of one transaction.
type OutPoint struct {
	TxID  Hash
	Index uint32
}

// NullOutPoint is what the only input of a coinbase or CoinOnline spends.
var NullOutPoint = OutPoint{Index: math.MaxUint32}

// IsNull reports whether o is the null outpoint.
func (o OutPoint) IsNull() bool { return o == NullOutPoint }

func (o OutPoint) String() string { return fmt.Sprintf("%s:%d", o.TxID, o.Index) }

// TxIn spends one output.
type TxIn struct {
	Previous        OutPoint
	SignatureScript []byte
	Sequence        uint32
}

// TxOut creates one output. Value is in base units.
type TxOut struct {
	Value    int64
	PkScript []byte
}

// Transaction is a Bitcoin transaction in the legacy format (no witness).
type Transaction struct {
	Version  int32
	Inputs   []TxIn
	Outputs  []TxOut
	LockTime uint32
}

// Smallest encodings of an input and an output; they bound list allocations.
const (
	minTxInBytes  = 36 + 1 + 4
	minTxOutBytes = 8 + 1
	minTxBytes    = 4 + 1 + 1 + 4
)

// AppendTo appends the serialised transaction.
func (t *Transaction) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Version))
	b = AppendVarInt(b, uint64(len(t.Inputs)))
	for i := range t.Inputs {
		in := &t.Inputs[i]
		b = append(b, in.Previous.TxID[:]...)
		b = binary.LittleEndian.AppendUint32(b, in.Previous.Index)
		b = AppendVarBytes(b, in.SignatureScript)
		b = binary.LittleEndian.AppendUint32(b, in.Sequence)
	}
	b = AppendVarInt(b, uint64(len(t.Outputs)))
	for i := range t.Outputs {
		b = t.Outputs[i].appendTo(b)
	}
	return binary.LittleEndian.AppendUint32(b, t.LockTime)
}

func (o *TxOut) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(o.Value))
	return AppendVarBytes(b, o.PkScript)
}

// Bytes returns the serialised transaction.
func (t *Transaction) Bytes() []byte { return t.AppendTo(make([]byte, 0, 256)) }

// ID returns the transaction id: the double hash of the serialised form.
func (t *Transaction) ID() Hash { return DoubleHash(t.Bytes()) }

// IsCoinbase reports whether t has the one null input of a coinbase or CoinOnline.
func (t *Transaction) IsCoinbase() bool {
	return len(t.Inputs) == 1 && t.Inputs[0].Previous.IsNull()
}

// DecodeFrom reads one transaction. Scripts alias the decoder's input.
func (t *Transaction) DecodeFrom(d *Decoder) {
	t.Version = int32(d.Uint32())
	t.Inputs = make([]TxIn, d.Count(minTxInBytes))
	for i := range t.Inputs {
		t.Inputs[i] = TxIn{
			Previous:        OutPoint{TxID: d.Hash(), Index: d.Uint32()},
			SignatureScript: d.VarBytes(),
			Sequence:        d.Uint32(),
		}
	}
	t.Outputs = make([]TxOut, d.Count(minTxOutBytes))
	for i := range t.Outputs {
		t.Outputs[i] = TxOut{Value: int64(d.Uint64()), PkScript: d.VarBytes()}
	}
	t.LockTime = d.Uint32()
}

// DecodeTransaction reads a transaction that fills b exactly. It copies b first,
// so the result may outlive it.
func DecodeTransaction(b []byte) (*Transaction, error) {
	d := NewDecoder(append([]byte(nil), b...))
	t := new(Transaction)
	t.DecodeFrom(d)
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("transaction: %w", err)
	}
	return t, nil
}

// SignatureHash returns the SIGHASH_ALL digest that authorises input index,
// which spends an output locked by script (the redeem script for script hash).
// It is Bitcoin's original algorithm: other inputs' scripts blanked.
func (t *Transaction) SignatureHash(index int, script []byte) Hash {
	c := *t
	c.Inputs = make([]TxIn, len(t.Inputs))
	for i, in := range t.Inputs {
		in.SignatureScript = nil
		c.Inputs[i] = in
	}
	c.Inputs[index].SignatureScript = script
	b := c.AppendTo(make([]byte, 0, 512))
	return DoubleHash(binary.LittleEndian.AppendUint32(b, uint32(SigHashAll)))
}

// SigHashAll is the only signature hash type this chain knows.
const SigHashAll byte = 0x01
