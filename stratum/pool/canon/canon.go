// Package canon reads and writes the books' binary values: every value has one
// spelling only, so that equal bytes mean equal content and nothing else.
package canon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/holiman/uint256"
)

// ErrShort says that bytes end in the middle of a value.
var ErrShort = errors.New("it ends too early")

// AppendBytes appends a length and the bytes.
func AppendBytes[T string | []byte](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// AppendFloat appends the eight bytes of a number.
func AppendFloat(dst []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

// AppendBig appends a number of up to 256 bits: its length and its bytes, the
// highest first and not zero.
func AppendBig(dst []byte, n *uint256.Int) []byte {
	dst = append(dst, byte(n.ByteLen()))
	b := n.Bytes32()
	return append(dst, b[32-n.ByteLen():]...)
}

// Reader reads values from bytes. After the first error every value is zero;
// Err and Done report it.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads from b, which the values may share.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Fail makes err the reader's error, if it is the first.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err, r.b = err, nil
	}
}

// Failf is Fail with a new error.
func (r *Reader) Failf(format string, args ...any) { r.Fail(fmt.Errorf(format, args...)) }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Len is the number of bytes left.
func (r *Reader) Len() int { return len(r.b) }

// Done returns the first error, or one if bytes are left.
func (r *Reader) Done() error {
	if r.err == nil && len(r.b) > 0 {
		r.Failf("%d bytes follow its end", len(r.b))
	}
	return r.err
}

func (r *Reader) take(n int) []byte {
	if n > len(r.b) {
		r.Fail(ErrShort)
	}
	if r.err != nil {
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// Uvarint reads a number in its shortest form.
func (r *Reader) Uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	switch {
	case n == 0:
		r.Fail(ErrShort)
	case n < 0 || n > 1 && r.b[n-1] == 0:
		r.Failf("a number is not in its shortest form")
	}
	if r.err != nil {
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Varint reads a signed number in its shortest form.
func (r *Reader) Varint() int64 {
	u := r.Uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// Amount reads a number that is not negative.
func (r *Reader) Amount() int64 {
	u := r.Uvarint()
	if u > math.MaxInt64 {
		r.Failf("an amount is too large")
		return 0
	}
	return int64(u)
}

// Count reads how many values follow, each of at least size bytes, so that a
// wrong number never allocates more than the input is long.
func (r *Reader) Count(size int) int {
	n := r.Uvarint()
	if n > uint64(len(r.b)/max(size, 1)) {
		r.Fail(ErrShort)
		return 0
	}
	return int(n)
}

// Bytes reads a length of at most limit and as many bytes.
func (r *Reader) Bytes(limit int) []byte {
	n := r.Uvarint()
	if n > uint64(limit) {
		r.Failf("%d bytes where at most %d may be", n, limit)
		return nil
	}
	return r.take(int(n))
}

// String is Bytes as text.
func (r *Reader) String(limit int) string { return string(r.Bytes(limit)) }

// Hash reads 32 bytes.
func (r *Reader) Hash() (h [32]byte) {
	copy(h[:], r.take(len(h)))
	return h
}

// Fixed fills dst.
func (r *Reader) Fixed(dst []byte) { copy(dst, r.take(len(dst))) }

// Float reads a number.
func (r *Reader) Float() float64 {
	if b := r.take(8); b != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// Big reads a number of up to 256 bits.
func (r *Reader) Big() (n uint256.Int) {
	size := int(r.Byte())
	if size > 32 {
		r.Failf("a number has %d bytes, at most 32 may be", size)
	}
	b := r.take(size)
	if len(b) > 0 && b[0] == 0 {
		r.Failf("a number is not in its shortest form")
		return n
	}
	n.SetBytes(b)
	return n
}
