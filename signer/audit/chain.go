package audit

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"qcitycoin.org/qcity/node/types"
)

// hashTag separates these hashes from everything else of the system (BIP 340).
const hashTag = "qcity/audit/entry"

// format is the number of the format described in docs/audit.md.
const format = 1

// Head names a record and, by its hash, everything before it.
type Head struct {
	Seq  uint64     `json:"seq"`
	Hash types.Hash `json:"hash"`
}

// String writes SEQ:HASH, as ParseHead reads it.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }

// ParseHead reads SEQ:HASH.
func ParseHead(s string) (h Head, err error) {
	seq, hash, ok := strings.Cut(s, ":")
	if ok {
		if h.Seq, err = strconv.ParseUint(seq, 10, 64); err == nil {
			if h.Hash, err = types.ParseHash(hash); err == nil {
				return h, nil
			}
		}
	}
	return Head{}, fmt.Errorf("%q is no head of an audit log: want SEQ:HASH, a number and 64 hexadecimal digits", s)
}

// FileID is a file's random number.
type FileID [16]byte

func (id FileID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes 32 hexadecimal digits.
func (id FileID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *FileID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(id) {
		return fmt.Errorf("file id %q: want 32 hexadecimal digits", text)
	}
	copy(id[:], b)
	return nil
}

// Header is the first record of each file.
type Header struct {
	Network   types.Hash
	File      FileID
	Continues FileID // the file before; zero in the first file of a log
	Seq       uint64 // of this record
}

func (h *Header) appendTo(b []byte) []byte {
	o := object{append(b, '{')}
	if h.Continues != (FileID{}) {
		o.hex("continues", h.Continues[:])
	}
	o.hex("file", h.File[:])
	o.number("format", format)
	o.hash("network", h.Network)
	o.number("seq", h.Seq)
	return append(o.b, '}')
}

func decodeHeader(b []byte, scratch *[]byte) (h Header, err error) {
	s := scanner{rest: b}
	s.begin()
	s.hex("continues", h.Continues[:])
	s.hex("file", h.File[:])
	if f := s.number("format", 64); s.err == nil && f != format {
		return Header{}, fmt.Errorf("format %d, this program reads format %d: use the program version that wrote it", f, format)
	}
	h.Network = s.hash("network")
	h.Seq = s.number("seq", 64)
	if err := s.finish(); err != nil {
		return Header{}, err
	}
	return h, same(b, h.appendTo((*scratch)[:0]), scratch)
}

// Record is one record of a log.
type Record struct {
	Head
	Prev   types.Hash // hash of the record before; null in the first one of a log
	JSON   []byte     // the canonical text of Header or Entry, which is what is hashed
	Header *Header    // nil: it is an entry
	Entry  Entry
	File   string // path; empty in an export
	Offset int64  // in bytes, in the file or the export
}

// payload is the record as the file holds it.
func (r *Record) payload() []byte { return append(r.Prev[:], r.JSON...) }

func hashOf(network types.Hash, file FileID, seq uint64, prev types.Hash, json []byte) types.Hash {
	return types.TaggedHash(hashTag, network[:], file[:], binary.LittleEndian.AppendUint64(nil, seq), prev[:], json)
}

// chain takes the records of a log one by one and says which one cannot follow.
// It is all that writing, opening and verifying know about what a log is. The
// zero value begins with the first record of a log; anywhere, with that of any file.
type chain struct {
	anywhere bool
	started  bool // a header was taken
	closed   bool // the last record ended its file: a header must follow
	network  types.Hash
	file     FileID
	head     Head
	scratch  []byte
}

// next is the number of the record that must follow.
func (c *chain) next() uint64 {
	if !c.started {
		return 0
	}
	return c.head.Seq + 1
}

// add takes the next record, of which it keeps json. Without an error it has
// become part of the chain; with one nothing has changed.
func (c *chain) add(prev types.Hash, json []byte) (Record, error) {
	if !c.started || c.closed {
		return c.addHeader(prev, json)
	}
	if prev != c.head.Hash {
		return Record{}, fmt.Errorf("it does not follow record %d: one of the two was changed, or what was between them is gone", c.head.Seq)
	}
	e, err := decodeEntry(json, &c.scratch)
	if err != nil {
		return Record{}, fmt.Errorf("it is no entry: %w", err)
	}
	c.closed = e.Event == EventRotated
	c.head = Head{c.next(), hashOf(c.network, c.file, c.next(), prev, json)}
	return Record{Head: c.head, Prev: prev, JSON: json, Entry: e}, nil
}

func (c *chain) addHeader(prev types.Hash, json []byte) (Record, error) {
	h, err := decodeHeader(json, &c.scratch)
	if err != nil {
		return Record{}, fmt.Errorf("it is no header of a file: %w", err)
	}
	first := h.Seq == 0
	switch {
	case h.File == FileID{}:
		return Record{}, errors.New("the file's id is missing")
	case first != (h.Continues == FileID{}) || first != prev.IsZero():
		return Record{}, errors.New("the header cannot say both that the log begins and that it goes on")
	case c.started && h.Network != c.network:
		return Record{}, fmt.Errorf("the file belongs to network %s, the one before to %s", h.Network, c.network)
	case c.started && (h.Continues != c.file || h.Seq != c.next() || prev != c.head.Hash):
		return Record{}, fmt.Errorf("the file goes on from record %d of file %s, which is not how the one before ends (record %d of file %s): a file or its end was replaced", int64(h.Seq)-1, h.Continues, c.head.Seq, c.file)
	case !c.started && !c.anywhere && !first:
		return Record{}, fmt.Errorf("the file goes on from file %s, which is missing", h.Continues)
	}
	c.started, c.closed, c.network, c.file = true, false, h.Network, h.File
	c.head = Head{h.Seq, hashOf(h.Network, h.File, h.Seq, prev, json)}
	return Record{Head: c.head, Prev: prev, JSON: json, Header: &h}, nil
}

// addPayload takes a record as a file holds it.
func (c *chain) addPayload(b []byte) (Record, error) {
	const n = len(types.Hash{})
	if len(b) < n {
		return Record{}, fmt.Errorf("%d bytes are no record", len(b))
	}
	return c.add(types.Hash(b[:n]), b[n:])
}
