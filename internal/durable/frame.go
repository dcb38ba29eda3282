package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A record file is an 8-byte header, "qc" ‖ kind ‖ version (u16), followed by
// records of u32 length ‖ u32 CRC-32C ‖ payload; numbers are little-endian.
// The checksum covers the record's offset (u64), its length and its payload:
// the length so that damage to it shows, the offset so that bytes inside a
// payload can never pass for a record of their own.
const (
	headerSize = 8
	frameSize  = 8 // length and checksum before each payload
	sectorSize = 512
)

// FirstOffset is the offset of the first record in every record file.
const FirstOffset int64 = headerSize

// CorruptError reports damage that no crash of ours explains: records are
// there that were once durable and cannot be read any more. Nothing has been
// changed; restore the file from a copy.
type CorruptError struct {
	Path   string
	Offset int64 // of the record (or header) that cannot be read, in bytes
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d: %s", e.Path, e.Offset, e.Reason)
}

// VersionError: the file says that its payloads have another format.
type VersionError struct {
	Path      string
	Got, Want uint16
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, this program reads version %d: use the program version that wrote it", e.Path, e.Got, e.Want)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(offset int64, payload []byte) uint32 {
	var pre [12]byte
	binary.LittleEndian.PutUint64(pre[:], uint64(offset))
	binary.LittleEndian.PutUint32(pre[8:], uint32(len(payload)))
	return crc32.Update(crc32.Checksum(pre[:], castagnoli), castagnoli, payload)
}

// appendFrame appends the record that holds payload at offset to dst.
func appendFrame(dst []byte, offset int64, payload []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.LittleEndian.AppendUint32(dst, checksum(offset, payload))
	return append(dst, payload...)
}

func makeHeader(o Options) []byte {
	h := append([]byte("qc"), o.Kind[:]...)
	return binary.LittleEndian.AppendUint16(h, o.Version)
}

func checkHeader(path string, got []byte, o Options) error {
	want := makeHeader(o)
	switch {
	case bytes.Equal(got, want):
		return nil
	case bytes.Equal(got[:6], want[:6]):
		return &VersionError{path, binary.LittleEndian.Uint16(got[6:]), o.Version}
	default:
		return &CorruptError{path, 0, fmt.Sprintf("its header is %x, expected %x (%q)", got, want, want[:6])}
	}
}

// damage says why the bytes at some offset are no record.
type damage struct {
	reason string
	// short: the file ends before the record does.
	short bool
}

func (d *damage) Error() string { return d.reason }

// readRecord reads the record at offset from r, which must be positioned there;
// end is the file's length. Errors are *damage or the reader's own. It never
// allocates more than maxRecord bytes, nor more than the file holds.
func readRecord(r io.Reader, offset, end int64, maxRecord int) ([]byte, error) {
	if end-offset < frameSize {
		return nil, &damage{fmt.Sprintf("%d bytes are left, too few for a record", end-offset), true}
	}
	var frame [frameSize]byte
	if _, err := io.ReadFull(r, frame[:]); err != nil {
		return nil, readError(err)
	}
	n := int64(binary.LittleEndian.Uint32(frame[:]))
	switch {
	case n == 0 || n > int64(maxRecord):
		return nil, &damage{fmt.Sprintf("record length %d is not in 1…%d", n, maxRecord), false}
	case n > end-offset-frameSize:
		return nil, &damage{fmt.Sprintf("record of %d bytes goes past the end of the file", n), true}
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, readError(err)
	}
	if binary.LittleEndian.Uint32(frame[4:]) != checksum(offset, payload) {
		return nil, &damage{"checksum does not match", false}
	}
	return payload, nil
}

// readError turns the end of a file that shrank under us into a plain error,
// so that it is never taken for the end of the records.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file became shorter while it was read: is another program changing it?")
	}
	return err
}

// torn decides whether the unreadable bytes tail, from offset to the end of a
// file whose every record was synced before the next was written, are the one
// record a crash interrupted. If so, no acknowledged record is among them. The
// empty string means torn; anything else says why it must be corruption.
//
// A crash leaves a record cut short, or sectors of it never written (they read
// as zero). A record that is there in full, without such a hole, was damaged
// afterwards.
func torn(tail []byte, offset int64, maxRecord int) string {
	_, err := readRecord(bytes.NewReader(tail), offset, offset+int64(len(tail)), maxRecord)
	var d *damage
	if !errors.As(err, &d) {
		return "the record is readable after all: is another program changing the file?"
	}
	if len(tail) > frameSize+maxRecord {
		return "more follows than one unfinished record could be"
	}
	if p := findRecord(tail, offset, maxRecord); p >= 0 {
		return fmt.Sprintf("a good record follows at offset %d", offset+int64(p))
	}
	if len(tail) > frameSize && binary.LittleEndian.Uint32(tail[4:]) == checksum(offset, tail[frameSize:]) && !cutLength(tail, offset) {
		return "the record is whole but for its length"
	}
	if !d.short && !hasHole(tail, offset) {
		return "the record is there in full"
	}
	return ""
}

// cutLength reports whether the length of a record lies across two sectors, of
// which the first was never written, so that the rest can be there.
func cutLength(tail []byte, offset int64) bool {
	n := sectorSize - offset%sectorSize
	return n < 4 && len(bytes.Trim(tail[:n], "\x00")) == 0
}

// findRecord returns the index of the first good record after the start of
// tail, or -1.
func findRecord(tail []byte, offset int64, maxRecord int) int {
	for p := 1; p+frameSize < len(tail); p++ {
		n, rest := int64(binary.LittleEndian.Uint32(tail[p:])), tail[p+frameSize:]
		if n == 0 || n > int64(min(maxRecord, len(rest))) {
			continue
		}
		if binary.LittleEndian.Uint32(tail[p+4:]) == checksum(offset+int64(p), rest[:n]) {
			return p
		}
	}
	return -1
}

// hasHole reports whether any disk sector's share of tail is all zero.
func hasHole(tail []byte, offset int64) bool {
	for len(tail) > 0 {
		n := min(int64(len(tail)), sectorSize-offset%sectorSize)
		if len(bytes.Trim(tail[:n], "\x00")) == 0 {
			return true
		}
		tail, offset = tail[n:], offset+n
	}
	return false
}
