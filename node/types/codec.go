package types

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxBlockBytes bounds every decoder: nothing on this chain is larger, whatever
// a network file says.
const MaxBlockBytes = 32 << 20

var (
	// ErrTruncated means that the input ended inside a value.
	ErrTruncated = errors.New("input ends inside a value")
	// ErrTrailing means that bytes follow a complete value.
	ErrTrailing = errors.New("bytes follow a complete value")
	// ErrNonCanonical means that a value has a shorter encoding than the one given.
	ErrNonCanonical = errors.New("value is not in its shortest encoding")
)

// AppendVarInt appends Bitcoin's CompactSize encoding of n.
func AppendVarInt(b []byte, n uint64) []byte {
	switch {
	case n < 0xfd:
		return append(b, byte(n))
	case n <= 0xffff:
		return binary.LittleEndian.AppendUint16(append(b, 0xfd), uint16(n))
	case n <= 0xffffffff:
		return binary.LittleEndian.AppendUint32(append(b, 0xfe), uint32(n))
	}
	return binary.LittleEndian.AppendUint64(append(b, 0xff), n)
}

// AppendVarBytes appends the length of p as a CompactSize, then p.
func AppendVarBytes(b, p []byte) []byte {
	return append(AppendVarInt(b, uint64(len(p))), p...)
}

// Decoder reads values from a byte slice. The first failure sticks: later
// reads return zero values, and Err or Finish reports it once at the end.
type Decoder struct {
	buf []byte
	err error
}

// NewDecoder returns a Decoder over b, which it does not copy.
func NewDecoder(b []byte) *Decoder { return &Decoder{buf: b} }

// Err returns the first failure.
func (d *Decoder) Err() error { return d.err }

// Remaining returns the number of bytes not read yet.
func (d *Decoder) Remaining() int { return len(d.buf) }

// Finish returns the first failure, or ErrTrailing when input is left over.
func (d *Decoder) Finish() error {
	if d.err == nil && len(d.buf) > 0 {
		d.Fail(ErrTrailing)
	}
	return d.err
}

// Fail records err unless an earlier failure is recorded already.
func (d *Decoder) Fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.buf = nil
}

// Bytes reads n bytes. The result aliases the input.
func (d *Decoder) Bytes(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.buf) {
		d.Fail(ErrTruncated)
		return nil
	}
	p := d.buf[:n:n]
	d.buf = d.buf[n:]
	return p
}

// Uint8 reads one byte.
func (d *Decoder) Uint8() uint8 {
	if p := d.Bytes(1); p != nil {
		return p[0]
	}
	return 0
}

// Uint16 reads a little-endian 16-bit number.
func (d *Decoder) Uint16() uint16 {
	if p := d.Bytes(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

// Uint32 reads a little-endian 32-bit number.
func (d *Decoder) Uint32() uint32 {
	if p := d.Bytes(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

// Uint64 reads a little-endian 64-bit number.
func (d *Decoder) Uint64() uint64 {
	if p := d.Bytes(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// Hash reads 32 bytes.
func (d *Decoder) Hash() (h Hash) {
	copy(h[:], d.Bytes(len(h)))
	return h
}

// VarInt reads a CompactSize and refuses any but the shortest form.
func (d *Decoder) VarInt() uint64 {
	var n, least uint64
	switch tag := d.Uint8(); tag {
	case 0xfd:
		n, least = uint64(d.Uint16()), 0xfd
	case 0xfe:
		n, least = uint64(d.Uint32()), 0x10000
	case 0xff:
		n, least = d.Uint64(), 0x100000000
	default:
		return uint64(tag)
	}
	if d.err == nil && n < least {
		d.Fail(ErrNonCanonical)
		return 0
	}
	return n
}

// Count reads a CompactSize that announces a list whose elements take at least
// elemBytes bytes each; it fails before anything is allocated when the input
// cannot hold that many.
func (d *Decoder) Count(elemBytes int) int {
	n := d.VarInt()
	if d.err == nil && n > uint64(len(d.buf)/elemBytes) {
		d.Fail(fmt.Errorf("list of %d elements: %w", n, ErrTruncated))
		return 0
	}
	return int(n)
}

// VarBytes reads a length-prefixed byte string. The result aliases the input.
func (d *Decoder) VarBytes() []byte { return d.Bytes(d.Count(1)) }
