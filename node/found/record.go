package found

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"qcitycoin.org/qcity/node/types"
)

// Record is a block that this box found, with what the books want to know of it.
// It must not be changed once it was handed over.
type Record struct {
	Block  *types.Block
	Height uint32
	Time   time.Time // when it was found, by this box's clock; milliseconds are kept
	Reward int64     // what its coinbase pays, base units
	Finder string    // who found it, as he named himself: any bytes
	Note   []byte    // of the plan by which its coinbase pays
}

// The file is an 8-byte header, "qcfound" ‖ version, followed by records of u32
// length ‖ u32 CRC-32C of the payload ‖ payload: u32 height ‖ u64 time in
// milliseconds since 1970 ‖ u64 reward ‖ finder, note and block, each with its
// length as a CompactSize. Numbers are little-endian.
const (
	magic   = "qcfound"
	version = 1

	headerSize = len(magic) + 1
	frameSize  = 8
)

// errVersion means that a newer program wrote the file: it is left alone.
var errVersion = errors.New("it was written by a newer version of this program: use that one")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends a record with its frame.
func appendRecord(b []byte, r *Record) []byte {
	start := len(b)
	b = append(b, make([]byte, frameSize)...)
	b = binary.LittleEndian.AppendUint32(b, r.Height)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Time.UnixMilli()))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Reward))
	b = types.AppendVarBytes(b, []byte(r.Finder))
	b = types.AppendVarBytes(b, r.Note)
	b = types.AppendVarBytes(b, r.Block.Bytes())
	payload := b[start+frameSize:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(payload, castagnoli))
	return b
}

func decodeRecord(payload []byte) (Record, error) {
	d := types.NewDecoder(append([]byte(nil), payload...))
	r := Record{Height: d.Uint32(), Time: time.UnixMilli(int64(d.Uint64())), Reward: int64(d.Uint64())}
	r.Finder = string(d.VarBytes())
	if note := d.VarBytes(); len(note) > 0 {
		r.Note = note
	}
	raw := d.VarBytes()
	if err := d.Finish(); err != nil {
		return Record{}, err
	}
	var err error
	r.Block, err = types.DecodeBlock(raw)
	return r, err
}

// header returns the start of the file.
func header() []byte { return append([]byte(magic), version) }

// parse reads a file. Where a part of it is damaged, it returns what it can read
// of the rest, and what is wrong.
func parse(data []byte) (records []Record, err error) {
	if len(data) < headerSize || string(data[:len(magic)]) != magic || data[len(magic)] == 0 {
		return nil, errors.New("it does not start as a journal of found blocks does")
	}
	if data[len(magic)] > version {
		return nil, errVersion
	}
	for at := headerSize; at < len(data); {
		rest := data[at:]
		if len(rest) < frameSize || uint64(binary.LittleEndian.Uint32(rest)) > uint64(len(rest)-frameSize) {
			return records, errors.Join(err, fmt.Errorf("the record at offset %d is cut off", at))
		}
		payload := rest[frameSize : frameSize+int(binary.LittleEndian.Uint32(rest))]
		if binary.LittleEndian.Uint32(rest[4:]) != crc32.Checksum(payload, castagnoli) {
			err = errors.Join(err, fmt.Errorf("the record at offset %d does not match its checksum", at))
		} else if r, bad := decodeRecord(payload); bad != nil {
			err = errors.Join(err, fmt.Errorf("the record at offset %d: %w", at, bad))
		} else {
			records = append(records, r)
		}
		at += frameSize + len(payload)
	}
	return records, err
}
