package signer

import (
	"encoding/binary"
	"fmt"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// maxCoinOnline bounds a CoinOnline, in bytes: its data output holds at most
// 65,535, everything else in it is a few hundred.
const maxCoinOnline = 68_000

// journalOptions say what the file is. Records are the payloads of a
// durable.Log, numbers little-endian.
func journalOptions(fsys durable.FS) durable.Options {
	return durable.Options{
		Kind:      [4]byte{'S', 'J', 'R', 'N'},
		Version:   1,
		MaxRecord: maxCoinOnline + 1024,
		Perm:      0o600,
		FS:        fsys,
	}
}

type recordKind uint8

const (
	recordMeta     recordKind = 1 // first, and only there: network, file id, keys with their floors
	recordClaim    recordKind = 2 // this key may sign this block at this height and no other
	recordSeal     recordKind = 3 // and this is the one signature it made
	recordAbandon  recordKind = 4 // or: it made none, and never will at or below this height
	recordFloor    recordKind = 5 // it may have signed, elsewhere, up to this height
	recordVote     recordKind = 6 // this key may vote for this link, whose target is at this height, and for no other
	recordVoteSeal recordKind = 7 // and this is the one signature it made
)

// record is one line of the journal; which fields count depends on the kind.
type record struct {
	kind recordKind

	network types.Hash        // meta
	fileID  [16]byte          // meta
	keys    []types.PublicKey // meta

	height     uint32          // all: of meta, the floor of its keys
	key        types.PublicKey // all but meta
	digest     types.Hash      // claim, vote
	header     types.Header    // claim
	coinOnline []byte          // claim
	link       consensus.Link  // vote
	signature  [64]byte        // seal, vote seal
}

func (r *record) encode() []byte {
	b := binary.LittleEndian.AppendUint32([]byte{byte(r.kind)}, r.height)
	if r.kind == recordMeta {
		b = append(append(b, r.network[:]...), r.fileID[:]...)
		b = types.AppendVarInt(b, uint64(len(r.keys)))
		for _, k := range r.keys {
			b = append(b, k.Bytes()...)
		}
		return b
	}
	b = append(b, r.key.Bytes()...)
	switch r.kind {
	case recordClaim:
		b = r.header.AppendTo(append(b, r.digest[:]...))
		b = types.AppendVarBytes(b, r.coinOnline)
	case recordVote:
		b = r.link.AppendTo(append(b, r.digest[:]...))
	case recordSeal, recordVoteSeal:
		b = append(b, r.signature[:]...)
	}
	return b
}

func decodeRecord(b []byte) (record, error) {
	d := types.NewDecoder(b)
	r := record{kind: recordKind(d.Uint8()), height: d.Uint32()}
	switch r.kind {
	case recordMeta:
		r.network = d.Hash()
		copy(r.fileID[:], d.Bytes(len(r.fileID)))
		r.keys = make([]types.PublicKey, d.Count(34))
		for i := range r.keys {
			r.keys[i] = decodeKey(d)
		}
	case recordClaim:
		r.key = decodeKey(d)
		r.digest = d.Hash()
		r.header.DecodeFrom(d)
		r.coinOnline = append([]byte(nil), d.VarBytes()...)
	case recordVote:
		r.key = decodeKey(d)
		r.digest = d.Hash()
		if r.link.DecodeFrom(d); r.link.Target.Height != r.height {
			d.Fail(fmt.Errorf("vote at height %d for a target at height %d", r.height, r.link.Target.Height))
		}
	case recordSeal, recordVoteSeal:
		r.key = decodeKey(d)
		copy(r.signature[:], d.Bytes(len(r.signature)))
	case recordAbandon, recordFloor:
		r.key = decodeKey(d)
	default:
		d.Fail(fmt.Errorf("record of unknown kind %d", r.kind))
	}
	if err := d.Finish(); err != nil {
		return record{}, err
	}
	return r, nil
}

// decodeKey reads a key without checking its point: the keys of a journal are
// checked once, in its first record, and every other record names one of them.
func decodeKey(d *types.Decoder) types.PublicKey {
	k := types.PublicKey{Algorithm: types.KeyAlgorithm(d.Uint8())}
	copy(k.Point[:], d.Bytes(len(k.Point)))
	return k
}
