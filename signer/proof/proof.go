// Package proof is the proof of possession of a validator key: a signature that
// only the holder of the key can make, over a text that is nothing else on any
// chain. Whoever puts a key into a validator set asks for one first, as a key
// that nobody can sign with takes a seat and gives nothing. It is pure: signing
// happens in a token, elsewhere.
package proof

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"qcitycoin.org/qcity/node/types"
)

// tag keeps a proof apart from everything else that a key signs: blocks, votes
// and set changes have tags of their own.
const tag = "qcity/key/prove"

// The bounds of a challenge, in bytes. One that is shorter could be guessed and
// signed beforehand.
const (
	MinChallenge = 8
	MaxChallenge = 64
)

// ErrProof means that a proof does not hold.
var ErrProof = errors.New("proof of possession does not hold")

// Proof says that whoever answered the challenge could sign with the key.
type Proof struct {
	Key       types.PublicKey `json:"key"`
	Network   types.Hash      `json:"network"` // id of the network the key is for
	Challenge Bytes           `json:"challenge"`
	Signature Signature       `json:"signature"`
}

// Digest returns what the key signs:
//
//	TaggedHash("qcity/key/prove", network id (32) ‖ key (34) ‖ challenge)
//
// Network and key have fixed sizes, so that the challenge needs no length.
func Digest(network types.Hash, key types.PublicKey, challenge []byte) types.Hash {
	return types.TaggedHash(tag, network[:], key.Bytes(), challenge)
}

// CheckChallenge reports a challenge that is too short or too long.
func CheckChallenge(challenge []byte) error {
	if n := len(challenge); n < MinChallenge || n > MaxChallenge {
		return fmt.Errorf("challenge of %d bytes: want %d to %d", n, MinChallenge, MaxChallenge)
	}
	return nil
}

// Verify checks the proof for a network. The error is ErrProof and says why.
// Whether the challenge is the one that was asked is the caller's to compare.
func (p *Proof) Verify(network types.Hash) error {
	if p.Network != network {
		return fmt.Errorf("%w: key %s: it is for network %s, not %s", ErrProof, p.Key, p.Network, network)
	}
	if err := CheckChallenge(p.Challenge); err != nil {
		return fmt.Errorf("%w: key %s: %w", ErrProof, p.Key, err)
	}
	if err := p.Key.Verify(Digest(p.Network, p.Key, p.Challenge), p.Signature); err != nil {
		return fmt.Errorf("%w: key %s: %w", ErrProof, p.Key, err)
	}
	return nil
}

// MaxSize bounds the JSON of a proof, in bytes.
const MaxSize = 4096

// Encode returns the only JSON form of a proof, one line with its end.
func (p *Proof) Encode() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic("a proof has no field that cannot be encoded: " + err.Error())
	}
	return append(b, '\n')
}

// Parse reads what Encode writes; any other form is an error. It does not
// verify the proof.
func Parse(b []byte) (Proof, error) {
	var p Proof
	if len(b) > MaxSize {
		return p, fmt.Errorf("proof of possession: %d bytes, want at most %d", len(b), MaxSize)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Proof{}, fmt.Errorf("proof of possession: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Proof{}, errors.New("proof of possession: something follows it")
	}
	if !bytes.Equal(b, p.Encode()) {
		return Proof{}, errors.New("proof of possession: not in its one form: use the file as the program wrote it")
	}
	return p, nil
}

// Bytes are bytes that read and write as lower-case hexadecimal digits.
type Bytes []byte

// MarshalText writes hexadecimal digits.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

// UnmarshalText reads them.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := decodeHex(text)
	*b = v
	return err
}

// Signature is r ‖ s, 32 bytes each, big-endian, as types.PublicKey.Verify takes
// it. It reads and writes as 128 hexadecimal digits.
type Signature [64]byte

// MarshalText writes hexadecimal digits.
func (s Signature) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s[:])), nil }

// UnmarshalText reads them.
func (s *Signature) UnmarshalText(text []byte) error {
	v, err := decodeHex(text)
	if err != nil {
		return err
	}
	if len(v) != len(s) {
		return fmt.Errorf("signature of %d bytes: want %d, r and s", len(v), len(s))
	}
	copy(s[:], v)
	return nil
}

func decodeHex(text []byte) ([]byte, error) {
	if strings.ToLower(string(text)) != string(text) {
		return nil, errors.New("hexadecimal digits are written in lower case")
	}
	v, err := hex.DecodeString(string(text))
	if err != nil {
		return nil, fmt.Errorf("want hexadecimal digits: %w", err)
	}
	return v, nil
}
