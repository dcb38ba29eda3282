package template

import (
	"encoding/binary"
	"math"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// maxTag keeps the coinbase's script below its 100 bytes, and a coinbase with one
// output, whatever template it pays, below DefaultMaxCoinbase.
const maxTag = 40

// coinbasePrefix returns a serialised coinbase up to the extranonce. The whole
// script is the push of the height (BIP 34), of the extranonce, of the job's number
// and of the tag.
func coinbasePrefix(parent *consensus.State, tag string) []byte {
	script := append(types.HeightScript(parent.ChildHeight()), work.ExtranonceSize)
	size := len(script) + work.ExtranonceSize + jobPush + tagPush(tag)
	b := make([]byte, 0, 4+1+36+1+len(script))
	b = append(b, 1, 0, 0, 0, 1) // version, number of inputs
	b = append(b, types.NullOutPoint.TxID[:]...)
	b = binary.LittleEndian.AppendUint32(b, types.NullOutPoint.Index)
	return append(append(b, byte(size)), script...)
}

// coinbaseSuffix returns what follows the extranonce. The job's number makes two
// jobs different that have everything else in common, so that one solution can
// never count for both.
func coinbaseSuffix(job uint64, tag string, outputs []types.TxOut) []byte {
	b := make([]byte, 0, jobPush+tagPush(tag)+4+outputsSize(outputs)+4)
	b = binary.LittleEndian.AppendUint32(append(b, 4), uint32(job))
	if tag != "" {
		b = append(append(b, byte(len(tag))), tag...)
	}
	b = binary.LittleEndian.AppendUint32(b, math.MaxUint32) // sequence
	b = types.AppendVarInt(b, uint64(len(outputs)))
	for i := range outputs {
		b = binary.LittleEndian.AppendUint64(b, uint64(outputs[i].Value))
		b = types.AppendVarBytes(b, outputs[i].PkScript)
	}
	return append(b, 0, 0, 0, 0) // lock time
}

const jobPush = 1 + 4

func tagPush(tag string) int {
	if tag == "" {
		return 0
	}
	return 1 + len(tag)
}

// coinOnline returns the first transaction of a signed block (C3). A height up
// to 16 is pushed in one byte, and a script has at least two: hence OP_0.
func coinOnline(parent *consensus.State, fees int64, signer types.PublicKey, records []consensus.Record) *types.Transaction {
	script := append(types.HeightScript(parent.ChildHeight()), 0)
	outputs := []types.TxOut{{}, {Value: fees, PkScript: types.KeyScript(signer)}}
	if len(records) > 0 {
		outputs = append(outputs, types.TxOut{PkScript: types.NullDataScript(consensus.EncodeRecords(records))})
	}
	return &types.Transaction{
		Version: 1,
		Inputs:  []types.TxIn{{Previous: types.NullOutPoint, SignatureScript: script, Sequence: math.MaxUint32}},
		Outputs: outputs,
	}
}
