package worker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// Algorithm names an ECDSA curve by the byte the chain uses for it.
type Algorithm uint8

// The two curves a validator key may be on.
const (
	Secp256k1 Algorithm = 1
	P256      Algorithm = 2
)

// String returns "secp256k1", "p256", or "algorithm N" for anything else.
func (a Algorithm) String() string {
	switch a {
	case Secp256k1:
		return "secp256k1"
	case P256:
		return "p256"
	}
	return fmt.Sprintf("algorithm %d", uint8(a))
}

// ParseAlgorithm is the inverse of String for the two known curves.
func ParseAlgorithm(s string) (Algorithm, error) {
	switch s {
	case "secp256k1":
		return Secp256k1, nil
	case "p256":
		return P256, nil
	}
	return 0, fmt.Errorf("unknown key algorithm %q: use secp256k1 or p256", s)
}

// PublicKey is a compressed curve point (SEC 1, 2.3.3): 0x02 or 0x03, then X
// big-endian. The curve is not part of it.
type PublicKey [33]byte

// String returns the key in lower-case hex.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// MarshalText implements encoding.TextMarshaler with String's form.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText accepts exactly 66 hex digits.
func (k *PublicKey) UnmarshalText(b []byte) error {
	if len(b) != 2*len(k) {
		return fmt.Errorf("public key has %d hex digits, want %d", len(b), 2*len(k))
	}
	if _, err := hex.Decode(k[:], b); err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	return nil
}

// Signature is r ‖ s, 32 bytes big-endian each, with s in the lower half of the
// group order (BIP 62 rule 5; applied to both curves).
type Signature [64]byte

// CompressPoint checks that point (SEC 1, compressed or uncompressed) lies on
// the curve of alg and returns it compressed.
func CompressPoint(alg Algorithm, point []byte) (PublicKey, error) {
	var out PublicKey
	switch alg {
	case Secp256k1:
		key, err := secp256k1.ParsePubKey(point)
		if err != nil {
			return out, fmt.Errorf("not a secp256k1 point: %w", err)
		}
		copy(out[:], key.SerializeCompressed())
		return out, nil
	case P256:
		key, err := parseP256(point)
		if err != nil {
			return out, fmt.Errorf("not a P-256 point: %w", err)
		}
		full, err := key.Bytes() // 0x04 ‖ X ‖ Y
		if err != nil {
			return out, fmt.Errorf("not a P-256 point: %w", err)
		}
		out[0] = 2 | full[64]&1
		copy(out[1:], full[1:33])
		return out, nil
	}
	return out, fmt.Errorf("%s has no curve here", alg)
}

// parseP256 accepts both SEC 1 forms of a point.
func parseP256(point []byte) (*ecdsa.PublicKey, error) {
	if len(point) != len(PublicKey{}) {
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	}
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), point)
	if x == nil {
		return nil, errors.New("invalid compressed point")
	}
	full := make([]byte, 65)
	full[0] = 4
	x.FillBytes(full[1:33])
	y.FillBytes(full[33:])
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), full)
}

// CheckSignature turns what a token returned into a Signature: r and s must be
// 32 bytes each and in 1..n-1, s is moved to the lower half, and the result
// must verify for digest under key. Tokens return a high s half of the time,
// and a stale handle signs with a key nobody asked for, so nothing that has
// not passed here may leave the daemon. The error is ErrBadSignature.
func CheckSignature(alg Algorithm, key PublicKey, digest [32]byte, raw []byte) (Signature, error) {
	var sig Signature
	if len(raw) != len(sig) {
		return sig, newError(ErrBadSignature, "token returned %d signature bytes, want %d", len(raw), len(sig))
	}
	var ok bool
	switch alg {
	case Secp256k1:
		sig, ok = checkSecp256k1(key, digest, raw)
	case P256:
		sig, ok = checkP256(key, digest, raw)
	default:
		return sig, newError(ErrBadRequest, "cannot verify signatures of %s", alg)
	}
	if !ok {
		return Signature{}, newError(ErrBadSignature,
			"the token's signature does not verify under %s key %s: stop signing, check the token and the configured public key", alg, key)
	}
	return sig, nil
}

func checkSecp256k1(key PublicKey, digest [32]byte, raw []byte) (sig Signature, ok bool) {
	pub, err := secp256k1.ParsePubKey(key[:])
	if err != nil {
		return sig, false
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(raw[:32]) || s.SetByteSlice(raw[32:]) || r.IsZero() || s.IsZero() {
		return sig, false
	}
	if s.IsOverHalfOrder() {
		s.Negate()
	}
	r.PutBytesUnchecked(sig[:32])
	s.PutBytesUnchecked(sig[32:])
	return sig, secpecdsa.NewSignature(&r, &s).Verify(digest[:], pub)
}

func checkP256(key PublicKey, digest [32]byte, raw []byte) (sig Signature, ok bool) {
	pub, err := parseP256(key[:])
	if err != nil {
		return sig, false
	}
	n := pub.Params().N
	r, s := new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(n) >= 0 || s.Cmp(n) >= 0 {
		return sig, false
	}
	if s.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
		s.Sub(n, s)
	}
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig, ecdsa.Verify(pub, digest[:], r, s)
}
