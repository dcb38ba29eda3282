package types

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/decred/dcrd/crypto/ripemd160"
)

// Hash is 32 bytes in internal (hashing) order. As text it is reversed, the
// way Bitcoin tools show block and transaction ids.
type Hash [32]byte

// DoubleHash returns SHA-256(SHA-256(b)).
func DoubleHash(b []byte) Hash {
	first := sha256.Sum256(b)
	return sha256.Sum256(first[:])
}

// TaggedHash returns SHA-256(SHA-256(tag) ‖ SHA-256(tag) ‖ parts…) as in BIP 340.
// Every message a key of this system signs has a tag of its own, so a signature
// for one purpose can never serve another.
func TaggedHash(tag string, parts ...[]byte) Hash {
	t := sha256.Sum256([]byte(tag))
	h := sha256.New()
	h.Write(t[:])
	h.Write(t[:])
	for _, p := range parts {
		h.Write(p)
	}
	var out Hash
	h.Sum(out[:0])
	return out
}

// Hash160 returns RIPEMD-160(SHA-256(b)), the hash inside addresses.
func Hash160(b []byte) (out [20]byte) {
	first := sha256.Sum256(b)
	h := ripemd160.New()
	h.Write(first[:])
	h.Sum(out[:0])
	return out
}

// IsZero reports whether h is the null hash.
func (h Hash) IsZero() bool { return h == Hash{} }

// Compare orders hashes as 256-bit numbers (the text order).
func (h Hash) Compare(o Hash) int {
	slices.Reverse(h[:])
	slices.Reverse(o[:])
	return bytes.Compare(h[:], o[:])
}

func (h Hash) String() string {
	slices.Reverse(h[:])
	return hex.EncodeToString(h[:])
}

// MarshalText encodes h as String does.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText parses the form String writes.
func (h *Hash) UnmarshalText(text []byte) error {
	v, err := ParseHash(string(text))
	if err != nil {
		return err
	}
	*h = v
	return nil
}

// ParseHash parses 64 hexadecimal digits in display (reversed) order.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) {
		return Hash{}, fmt.Errorf("hash %q: want 64 hexadecimal digits", s)
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("hash %q: %w", s, err)
	}
	slices.Reverse(h[:])
	return h, nil
}
