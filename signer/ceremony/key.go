package ceremony

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/worker"
)

// NewToken turns a blank token into one with this label and both PINs, and logs
// in to it.
func NewToken(ctx context.Context, w *worker.Supervisor, label string, soPIN, pin []byte) (worker.TokenInfo, error) {
	token, err := w.InitToken(ctx, label, soPIN, pin)
	if err != nil {
		return token, err
	}
	return token, w.Login(ctx, token.TokenRef, pin)
}

// NewKey generates a key inside a token that is logged in, and refuses one that
// the token would hand out or did not make itself.
func NewKey(ctx context.Context, w *worker.Supervisor, token worker.TokenRef, alg worker.Algorithm, label string, id []byte) (worker.Key, error) {
	key, err := w.GenerateKey(ctx, token, alg, label, id)
	if err != nil {
		return key, err
	}
	return key, checkMade(key)
}

func checkMade(key worker.Key) error {
	if err := key.Attributes.Check(); err != nil {
		return fmt.Errorf("the token made a key that it would hand out: %w", err)
	}
	if key.Attributes.Local != worker.True {
		return failure(ErrTokenState, "the token does not say that it made the key itself (CKA_LOCAL): do not use this key or this token")
	}
	return nil
}

// Public returns the key in the form of the chain.
func Public(k worker.Key) types.PublicKey {
	return types.PublicKey{Algorithm: types.KeyAlgorithm(k.Algorithm), Point: k.PublicKey}
}

// Ref addresses a key for signing.
func Ref(token worker.TokenRef, k types.PublicKey) worker.KeyRef {
	return worker.KeyRef{Token: token, Algorithm: worker.Algorithm(k.Algorithm), PublicKey: k.Point}
}

// Address is the pay-to-public-key-hash address of a key. Only keys on secp256k1
// can spend from one; for others it is empty.
func Address(v types.AddressVersions, k types.PublicKey) string {
	if k.Algorithm != types.Secp256k1 {
		return ""
	}
	return v.PubKeyHashAddress(types.Hash160(k.Point[:]))
}

// Record is what is written down about a key, for `qcity key check`.
type Record struct {
	Format     string            `json:"format"`
	Token      string            `json:"token"`
	Serial     string            `json:"serial"`
	Label      string            `json:"label"`
	ID         string            `json:"id"` // CKA_ID, hexadecimal digits
	PublicKey  types.PublicKey   `json:"publicKey"`
	Attributes worker.Attributes `json:"attributes"`
}

// recordFormat is the version of a Record.
const recordFormat = "qcity/key/record/1"

// NewRecord describes a key as it was found.
func NewRecord(token worker.TokenRef, k worker.Key) Record {
	return Record{
		Format: recordFormat, Token: token.Label, Serial: token.Serial,
		Label: k.Label, ID: hex.EncodeToString(k.ID), PublicKey: Public(k), Attributes: k.Attributes,
	}
}

// Encode returns the record as JSON.
func (r Record) Encode() []byte { return encodeJSON(r) }

// ParseRecord reads what Encode writes; any other form is an error.
func ParseRecord(b []byte) (Record, error) {
	var r Record
	if err := decodeJSON(b, &r); err != nil {
		return r, fmt.Errorf("key record: %w", err)
	}
	if r.Format != recordFormat {
		return r, fmt.Errorf("key record: format %q, want %q", r.Format, recordFormat)
	}
	if !bytes.Equal(b, r.Encode()) {
		return Record{}, errors.New("key record: not in its one form: use the file as the program wrote it")
	}
	return r, nil
}

// Check compares a record with what is in the token, which must be logged in:
// serial, label, id, point and every attribute, and that no other key has the
// label or the id. The error is ErrRecord or of package worker.
func (r Record) Check(ctx context.Context, w *worker.Supervisor) error {
	token := worker.TokenRef{Label: r.Token, Serial: r.Serial}
	keys, err := w.ListKeys(ctx, token)
	if err != nil {
		return err
	}
	var found []Record
	for _, k := range keys {
		if got := NewRecord(token, k); got.Label == r.Label || got.ID == r.ID || got.PublicKey == r.PublicKey {
			found = append(found, got)
		}
	}
	if len(found) != 1 {
		return failure(ErrRecord, "token %s has %d keys with the label, id or point of the record, want exactly one", token, len(found))
	}
	got, what := found[0], ""
	switch {
	case got.PublicKey != r.PublicKey:
		what = fmt.Sprintf("the public key is %s, recorded is %s", got.PublicKey, r.PublicKey)
	case got.Label != r.Label:
		what = fmt.Sprintf("the label is %q, recorded is %q", got.Label, r.Label)
	case got.ID != r.ID:
		what = fmt.Sprintf("the id is %s, recorded is %s", got.ID, r.ID)
	case got.Attributes != r.Attributes:
		what = fmt.Sprintf("the attributes are %s; recorded are %s", describe(got.Attributes), describe(r.Attributes))
	default:
		return nil
	}
	return failure(ErrRecord, "the key in token %s is not as recorded: %s; stop and find out why", token, what)
}

// describe lists attributes as the token answers for them.
func describe(a worker.Attributes) string {
	say := func(v worker.Answer) string {
		if v == worker.NotAnswered {
			return "not answered"
		}
		return string(v)
	}
	return fmt.Sprintf("sensitive %s, always sensitive %s, extractable %s, never extractable %s, made here %s, signs %s",
		say(a.Sensitive), say(a.AlwaysSensitive), say(a.Extractable), say(a.NeverExtractable), say(a.Local), say(a.Sign))
}

// Origin is the line that an officer looks for. It says "yes" and "always" only
// where the token said so.
func Origin(a worker.Attributes) string {
	word := func(v worker.Answer, yes, no string) string {
		switch v {
		case worker.True:
			return yes
		case worker.False:
			return no
		}
		return "not answered"
	}
	return fmt.Sprintf("generated here: %s, sensitive: %s, extractable: %s",
		word(a.Local, "yes", "NO"), word(a.AlwaysSensitive, "always", "NOT ALWAYS"), word(a.NeverExtractable, "never", "IT WAS ONCE"))
}

func encodeJSON(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("nothing in it that cannot be encoded: " + err.Error())
	}
	return append(b, '\n')
}

func decodeJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}
