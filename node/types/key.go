package types

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// KeyAlgorithm says on which curve a validator, issuance or account key lies.
type KeyAlgorithm uint8

// The algorithms of docs/protocol.md, "Keys". The numbers are consensus.
const (
	Secp256k1 KeyAlgorithm = 1
	P256      KeyAlgorithm = 2
)

func (a KeyAlgorithm) String() string {
	switch a {
	case Secp256k1:
		return "secp256k1"
	case P256:
		return "p256"
	}
	return fmt.Sprintf("algorithm(%d)", uint8(a))
}

// ParseKeyAlgorithm reads "secp256k1" or "p256".
func ParseKeyAlgorithm(s string) (KeyAlgorithm, error) {
	switch s {
	case "secp256k1":
		return Secp256k1, nil
	case "p256":
		return P256, nil
	}
	return 0, fmt.Errorf("key algorithm %q: want secp256k1 or p256", s)
}

// PublicKey is an algorithm and a compressed point. It is comparable.
type PublicKey struct {
	Algorithm KeyAlgorithm
	Point     [33]byte
}

// ErrBadSignature means that a signature is malformed, high-S or simply wrong.
var ErrBadSignature = errors.New("signature does not verify")

// NewPublicKey checks that point is a compressed point of the algorithm's curve.
func NewPublicKey(a KeyAlgorithm, point []byte) (PublicKey, error) {
	k := PublicKey{Algorithm: a}
	if len(point) != len(k.Point) {
		return PublicKey{}, fmt.Errorf("public key of %d bytes: want 33 (compressed)", len(point))
	}
	copy(k.Point[:], point)
	var err error
	switch a {
	case Secp256k1:
		_, err = secp256k1.ParsePubKey(point)
	case P256:
		_, err = k.p256()
	default:
		err = fmt.Errorf("unknown %s", a)
	}
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key %x: %w", point, err)
	}
	return k, nil
}

// Bytes returns the algorithm byte, then the 33 bytes of the point.
func (k PublicKey) Bytes() []byte { return append([]byte{byte(k.Algorithm)}, k.Point[:]...) }

// String writes "secp256k1:02ab…".
func (k PublicKey) String() string {
	return k.Algorithm.String() + ":" + hex.EncodeToString(k.Point[:])
}

// MarshalText encodes k as String does.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText parses the form String writes and checks the point.
func (k *PublicKey) UnmarshalText(text []byte) error {
	name, digits, ok := strings.Cut(string(text), ":")
	if !ok {
		return fmt.Errorf("public key %q: want ALGORITHM:HEX, for example secp256k1:02…", text)
	}
	a, err := ParseKeyAlgorithm(name)
	if err != nil {
		return err
	}
	point, err := hex.DecodeString(digits)
	if err != nil {
		return fmt.Errorf("public key %q: %w", text, err)
	}
	*k, err = NewPublicKey(a, point)
	return err
}

func (k PublicKey) p256() (*ecdsa.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), k.Point[:])
	if x == nil {
		return nil, errors.New("not a point of P-256")
	}
	var b [65]byte
	b[0] = 4
	x.FillBytes(b[1:33])
	y.FillBytes(b[33:])
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b[:])
}

// p256HalfOrder is ⌊n/2⌋ of P-256; larger s values are refused (low-S).
var p256HalfOrder = new(big.Int).Rsh(elliptic.P256().Params().N, 1)

// Verify checks a low-S ECDSA signature r ‖ s (32 bytes each, big-endian) over
// a 32-byte digest. It returns ErrBadSignature when it does not hold.
func (k PublicKey) Verify(digest Hash, sig [64]byte) error {
	switch k.Algorithm {
	case Secp256k1:
		var r, s secp256k1.ModNScalar
		if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || r.IsZero() || s.IsZero() || s.IsOverHalfOrder() {
			return ErrBadSignature
		}
		pub, err := secp256k1.ParsePubKey(k.Point[:])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadSignature, err)
		}
		if !secpecdsa.NewSignature(&r, &s).Verify(digest[:], pub) {
			return ErrBadSignature
		}
		return nil
	case P256:
		r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
		if r.Sign() == 0 || s.Sign() == 0 || s.Cmp(p256HalfOrder) > 0 {
			return ErrBadSignature
		}
		pub, err := k.p256()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadSignature, err)
		}
		if !ecdsa.Verify(pub, digest[:], r, s) {
			return ErrBadSignature
		}
		return nil
	}
	return fmt.Errorf("%w: unknown %s", ErrBadSignature, k.Algorithm)
}
