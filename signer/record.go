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
	recordKeys     recordKind = 8 // these keys are the journal's, too, with their floor
	recordPlace    recordKind = 9 // the file lives at this place (place.go)
	// recordImport is a part of a document that was imported. The parts follow each
	// other; the last one makes all of them count.
	recordImport  recordKind = 10
	recordSet     recordKind = 11 // this key may sign this successor set of this number and no other
	recordSetSeal recordKind = 12 // and this is the one signature it made
)

// record is one line of the journal; which fields count depends on the kind.
type record struct {
	kind recordKind

	network types.Hash        // meta
	fileID  [16]byte          // meta
	keys    []types.PublicKey // meta, keys

	// height is that of the block or the vote's target, of meta and keys the floor,
	// of a set its number; 0 for place and import.
	height     uint32
	key        types.PublicKey // of those that concern one key
	digest     types.Hash      // claim, vote, set; of a place, what it is known by
	header     types.Header    // claim
	coinOnline []byte          // claim
	link       consensus.Link  // vote
	signature  [64]byte        // seal, vote seal, set seal
	part, left uint32          // import: parts before this one, and after it
	data       []byte          // import
}

func (r *record) encode() []byte {
	b := binary.LittleEndian.AppendUint32([]byte{byte(r.kind)}, r.height)
	switch r.kind {
	case recordMeta:
		return appendKeys(append(append(b, r.network[:]...), r.fileID[:]...), r.keys)
	case recordKeys:
		return appendKeys(b, r.keys)
	case recordPlace:
		return append(b, r.digest[:]...)
	case recordImport:
		b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, r.part), r.left)
		return types.AppendVarBytes(b, r.data)
	}
	b = append(b, r.key.Bytes()...)
	switch r.kind {
	case recordClaim:
		b = r.header.AppendTo(append(b, r.digest[:]...))
		b = types.AppendVarBytes(b, r.coinOnline)
	case recordVote:
		b = r.link.AppendTo(append(b, r.digest[:]...))
	case recordSet:
		b = append(b, r.digest[:]...)
	case recordSeal, recordVoteSeal, recordSetSeal:
		b = append(b, r.signature[:]...)
	}
	return b
}

func appendKeys(b []byte, keys []types.PublicKey) []byte {
	b = types.AppendVarInt(b, uint64(len(keys)))
	for _, k := range keys {
		b = append(b, k.Bytes()...)
	}
	return b
}

func decodeKeys(d *types.Decoder) []types.PublicKey {
	keys := make([]types.PublicKey, d.Count(34))
	for i := range keys {
		keys[i] = decodeKey(d)
	}
	return keys
}

func decodeRecord(b []byte) (record, error) {
	d := types.NewDecoder(b)
	r := record{kind: recordKind(d.Uint8()), height: d.Uint32()}
	switch r.kind {
	case recordMeta:
		r.network = d.Hash()
		copy(r.fileID[:], d.Bytes(len(r.fileID)))
		r.keys = decodeKeys(d)
	case recordKeys:
		r.keys = decodeKeys(d)
	case recordPlace:
		r.digest = d.Hash()
	case recordImport:
		r.part, r.left = d.Uint32(), d.Uint32()
		r.data = append([]byte(nil), d.VarBytes()...)
	case recordSet:
		r.key = decodeKey(d)
		r.digest = d.Hash()
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
	case recordSeal, recordVoteSeal, recordSetSeal:
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

// concerns reports whether the block or votes of a height, and how they came to
// be what they are, can be told only with this record.
func (r *record) concerns(height uint32) bool {
	switch r.kind {
	case recordMeta, recordKeys, recordImport:
		return true
	case recordClaim, recordSeal, recordAbandon, recordVote, recordVoteSeal:
		return r.height == height
	}
	return false
}

// decodeKey reads a key without checking its point: memory checks it in the
// record that brings the key, and every other record names one of those.
func decodeKey(d *types.Decoder) types.PublicKey {
	k := types.PublicKey{Algorithm: types.KeyAlgorithm(d.Uint8())}
	copy(k.Point[:], d.Bytes(len(k.Point)))
	return k
}
