package chaingen

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"qcitycoin.org/qcity/node/types"
)

// Key is a test key of either algorithm. Its secret is public knowledge.
type Key struct {
	secp *secp256k1.PrivateKey
	p256 *ecdsa.PrivateKey
}

// ValidatorKey returns the key of validator i of a test network.
func ValidatorKey(a types.KeyAlgorithm, i int) Key {
	return newKey(a, fmt.Sprintf("qcity/chaingen/validator/%d", i))
}

// PaymentKey returns the i-th key of ordinary payments.
func PaymentKey(i int) Key {
	return newKey(types.Secp256k1, fmt.Sprintf("qcity/chaingen/payment/%d", i))
}

// newKey derives a key from a name: its secret is SHA-256 of the name, which
// is a valid scalar for all names used here (and all but 2^-32 of others).
func newKey(a types.KeyAlgorithm, name string) Key {
	secret := sha256.Sum256([]byte(name))
	if a == types.Secp256k1 {
		return Key{secp: secp256k1.PrivKeyFromBytes(secret[:])}
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret[:])
	if err != nil {
		panic(fmt.Sprintf("chaingen: %s is no P-256 key: %v", name, err))
	}
	return Key{p256: key}
}

// Public returns the public key.
func (k Key) Public() types.PublicKey {
	if k.secp != nil {
		return types.PublicKey{Algorithm: types.Secp256k1, Point: [33]byte(k.secp.PubKey().SerializeCompressed())}
	}
	point, err := k.p256.PublicKey.Bytes() // 4 ‖ x ‖ y
	if err != nil {
		panic(fmt.Sprintf("chaingen: P-256 key has no encoding: %v", err))
	}
	compressed := append([]byte{2 | point[64]&1}, point[1:33]...)
	return types.PublicKey{Algorithm: types.P256, Point: [33]byte(compressed)}
}

// Sign returns the low-S signature r ‖ s over a digest. The same digest gives
// the same signature (RFC 6979).
func (k Key) Sign(digest types.Hash) (sig [64]byte) {
	r, s := k.sign(digest)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig
}

// SignDER returns the strict-DER form of Sign with the SIGHASH_ALL byte behind
// it, as input scripts carry it.
func (k Key) SignDER(digest types.Hash) []byte {
	r, s := k.sign(digest)
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		panic(fmt.Sprintf("chaingen: two integers do not marshal: %v", err))
	}
	return append(der, types.SigHashAll)
}

func (k Key) sign(digest types.Hash) (r, s *big.Int) {
	if k.secp != nil {
		sig := secpecdsa.Sign(k.secp, digest[:])
		sr, ss := sig.R(), sig.S()
		rb, sb := sr.Bytes(), ss.Bytes()
		return new(big.Int).SetBytes(rb[:]), new(big.Int).SetBytes(sb[:])
	}
	der, err := k.p256.Sign(nil, digest[:], crypto.SHA256) // no randomness: RFC 6979
	if err != nil {
		panic(fmt.Sprintf("chaingen: P-256 does not sign: %v", err))
	}
	var v struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &v); err != nil {
		panic(fmt.Sprintf("chaingen: crypto/ecdsa wrote bad DER: %v", err))
	}
	order := elliptic.P256().Params().N
	if v.S.Cmp(new(big.Int).Rsh(order, 1)) > 0 {
		v.S.Sub(order, v.S)
	}
	return v.R, v.S
}
