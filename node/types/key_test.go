package types_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"qcitycoin.org/qcity/node/types"
)

// signer makes signatures of one algorithm as integers.
type signer struct {
	key   types.PublicKey
	order *big.Int
	sign  func(types.Hash) (r, s *big.Int)
}

func signers(t *testing.T) []signer {
	t.Helper()
	p256, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), 9))
	if err != nil {
		t.Fatal(err)
	}
	point, err := p256.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key, err := types.NewPublicKey(types.P256, append([]byte{2 | point[64]&1}, point[1:33]...))
	if err != nil {
		t.Fatal(err)
	}
	parse := func(der []byte) (r, s *big.Int) {
		var v struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &v); err != nil {
			t.Fatal(err)
		}
		return v.R, v.S
	}
	return []signer{
		{public(9), secp256k1.Params().N, func(d types.Hash) (r, s *big.Int) {
			return parse(secpecdsa.Sign(secret(9), d[:]).Serialize())
		}},
		{key, elliptic.P256().Params().N, func(d types.Hash) (r, s *big.Int) {
			der, err := p256.Sign(nil, d[:], crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			return parse(der)
		}},
	}
}

func raw(r, s *big.Int) (sig [64]byte) {
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig
}

func TestVerify(t *testing.T) {
	zero, one := new(big.Int), big.NewInt(1)
	all := new(big.Int).Sub(new(big.Int).Lsh(one, 256), one)
	for _, k := range signers(t) {
		t.Run(k.key.Algorithm.String(), func(t *testing.T) {
			half := new(big.Int).Rsh(k.order, 1)
			for i := range byte(40) {
				digest := types.DoubleHash([]byte{i})
				r, s := k.sign(digest)
				high := new(big.Int).Sub(k.order, s)
				if s.Cmp(half) > 0 {
					s, high = high, s
				}
				if err := k.key.Verify(digest, raw(r, s)); err != nil {
					t.Fatalf("digest %d: %v", i, err)
				}
				for name, sig := range map[string][64]byte{
					"high S":         raw(r, high),
					"r zero":         raw(zero, s),
					"s zero":         raw(r, zero),
					"both zero":      raw(zero, zero),
					"r is the order": raw(k.order, s),
					"r too large":    raw(all, s),
					"s too large":    raw(r, all),
					"r and s apart":  raw(s, r),
				} {
					if err := k.key.Verify(digest, sig); !errors.Is(err, types.ErrBadSignature) {
						t.Errorf("digest %d, %s: %v", i, name, err)
					}
				}
				digest[0] ^= 1
				if err := k.key.Verify(digest, raw(r, s)); !errors.Is(err, types.ErrBadSignature) {
					t.Errorf("another digest: %v", err)
				}
			}
		})
	}
	list := signers(t)
	digest := types.Hash{1}
	r, s := list[0].sign(digest)
	swapped := list[0].key
	swapped.Algorithm = types.P256
	for name, key := range map[string]types.PublicKey{"another curve": swapped, "unknown curve": {Algorithm: 3, Point: swapped.Point}, "no key": {}} {
		if err := key.Verify(digest, raw(r, s)); !errors.Is(err, types.ErrBadSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
