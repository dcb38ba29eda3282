package types

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mr-tron/base58"
)

// AddressVersions are the Base58Check version bytes of one network, in the
// sense every Bitcoin library takes them by configuration.
type AddressVersions struct {
	PubKeyHash byte `toml:"pubKeyHash" json:"pubKeyHash"`
	ScriptHash byte `toml:"scriptHash" json:"scriptHash"`
	PrivateKey byte `toml:"privateKey" json:"privateKey"` // WIF
}

// ErrAddress means that a string is no address of this network.
var ErrAddress = errors.New("not an address of this network")

func base58Check(version byte, payload []byte) string {
	b := append([]byte{version}, payload...)
	sum := DoubleHash(b)
	return base58.Encode(append(b, sum[:4]...))
}

func decodeBase58Check(s string) (version byte, payload []byte, err error) {
	// 100 characters are more than any address or key has; base58 is quadratic.
	if len(s) > 100 {
		return 0, nil, fmt.Errorf("%w: %d characters", ErrAddress, len(s))
	}
	b, err := base58.Decode(s)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %q: %w", ErrAddress, s, err)
	}
	if len(b) < 5 {
		return 0, nil, fmt.Errorf("%w: %q is too short", ErrAddress, s)
	}
	body, check := b[:len(b)-4], b[len(b)-4:]
	if sum := DoubleHash(body); !bytes.Equal(sum[:4], check) {
		return 0, nil, fmt.Errorf("%w: %q has a wrong checksum: a character is mistyped", ErrAddress, s)
	}
	return body[0], body[1:], nil
}

// PubKeyHashAddress returns the address of a key hash.
func (v AddressVersions) PubKeyHashAddress(hash [20]byte) string {
	return base58Check(v.PubKeyHash, hash[:])
}

// Address returns the address an output script pays, or "" when it has none.
func (v AddressVersions) Address(pkScript []byte) string {
	t, err := ParseTemplate(pkScript)
	if err != nil {
		return ""
	}
	switch t.Kind {
	case PayToPubKeyHash:
		return base58Check(v.PubKeyHash, t.Hash[:])
	case PayToScriptHash:
		return base58Check(v.ScriptHash, t.Hash[:])
	}
	return ""
}

// Script returns the output script that pays an address. The error wraps ErrAddress.
func (v AddressVersions) Script(address string) ([]byte, error) {
	version, payload, err := decodeBase58Check(address)
	if err != nil {
		return nil, err
	}
	if len(payload) != 20 {
		return nil, fmt.Errorf("%w: %q holds %d bytes, want 20", ErrAddress, address, len(payload))
	}
	switch version {
	case v.PubKeyHash:
		return PubKeyHashScript([20]byte(payload)), nil
	case v.ScriptHash:
		return ScriptHashScript([20]byte(payload)), nil
	}
	return nil, fmt.Errorf("%w: %q has version byte %d, want %d or %d", ErrAddress, address, version, v.PubKeyHash, v.ScriptHash)
}

// WIF returns a private key of 32 bytes in wallet import format, marked as
// belonging to a compressed public key.
func (v AddressVersions) WIF(key [32]byte) string {
	return base58Check(v.PrivateKey, append(key[:], 1))
}

// ParseWIF reads what WIF writes.
func (v AddressVersions) ParseWIF(s string) ([32]byte, error) {
	version, payload, err := decodeBase58Check(s)
	if err != nil {
		return [32]byte{}, errors.New("not a private key in wallet import format")
	}
	if version != v.PrivateKey || len(payload) != 33 || payload[32] != 1 {
		return [32]byte{}, errors.New("not a compressed private key of this network in wallet import format")
	}
	return [32]byte(payload[:32]), nil
}
