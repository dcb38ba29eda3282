package template

import (
	"encoding/binary"
	"math"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// maxTag keeps the coinbase's script below its 100 bytes and the whole coinbase,
// whatever template it pays, below the 220 bytes that ASIC firmware with small
// buffers takes.
const maxTag = 40

// coinbase returns the serialised coinbase cut where the extranonce goes. Its
// script is the push of the height (BIP 34), of the extranonce, of the job's
// number and of the tag. The job's number makes two jobs different that have
// everything else in common, so that one solution can never count for both.
func coinbase(parent *consensus.State, job uint64, tag string, reward types.TxOut) (prefix, suffix []byte) {
	script := append(types.HeightScript(parent.ChildHeight()), work.ExtranonceSize)
	cut := 4 + 1 + 36 + 1 + len(script) // version, input count, outpoint, script length
	script = append(script, make([]byte, work.ExtranonceSize)...)
	script = append(script, 4)
	script = binary.LittleEndian.AppendUint32(script, uint32(job))
	if tag != "" {
		script = append(append(script, byte(len(tag))), tag...)
	}
	raw := firstTransaction(script, reward).Bytes()
	return raw[:cut:cut], raw[cut+work.ExtranonceSize:]
}

// coinOnline returns the first transaction of a signed block (C3). A height up
// to 16 is pushed in one byte, and a script has at least two: hence OP_0.
func coinOnline(parent *consensus.State, fees int64, signer types.PublicKey, records []consensus.Record) *types.Transaction {
	script := append(types.HeightScript(parent.ChildHeight()), 0)
	outputs := []types.TxOut{{}, {Value: fees, PkScript: types.KeyScript(signer)}}
	if len(records) > 0 {
		outputs = append(outputs, types.TxOut{PkScript: types.NullDataScript(consensus.EncodeRecords(records))})
	}
	return firstTransaction(script, outputs...)
}

func firstTransaction(script []byte, outputs ...types.TxOut) *types.Transaction {
	return &types.Transaction{
		Version: 1,
		Inputs:  []types.TxIn{{Previous: types.NullOutPoint, SignatureScript: script, Sequence: math.MaxUint32}},
		Outputs: outputs,
	}
}
