package types

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// TemplateKind names one of the output scripts that exist. There is no script
// interpreter: an output that is none of these is a rule error.
type TemplateKind int

const (
	// PayToPubKey pays one secp256k1 key: push(33-byte key) OP_CHECKSIG.
	PayToPubKey TemplateKind = iota + 1
	// PayToPubKeyHash pays the Hash160 of one secp256k1 key.
	PayToPubKeyHash
	// PayToScriptHash pays the Hash160 of an m-of-n multisig script.
	PayToScriptHash
	// PayToValidatorKey pays a P-256 validator key: push(0x02 ‖ 33-byte key)
	// OP_CHECKSIG. Only CoinOnline may create it; a secp256k1 validator is paid
	// by PayToPubKey.
	PayToValidatorKey
	// NullData carries bytes and can never be spent: OP_RETURN push(data).
	NullData
)

func (k TemplateKind) String() string {
	switch k {
	case PayToPubKey:
		return "pubkey"
	case PayToPubKeyHash:
		return "pubkeyhash"
	case PayToScriptHash:
		return "scripthash"
	case PayToValidatorKey:
		return "validatorkey"
	case NullData:
		return "nulldata"
	}
	return "nonstandard"
}

// Template is a recognised output script.
type Template struct {
	Kind TemplateKind
	Key  PublicKey // PayToPubKey, PayToValidatorKey
	Hash [20]byte  // PayToPubKeyHash, PayToScriptHash
	Data []byte    // NullData
}

const (
	op0             = 0x00
	opPushData1     = 0x4c
	opPushData2     = 0x4d
	op1Negate       = 0x4f
	op1             = 0x51
	op16            = 0x60
	opReturn        = 0x6a
	opDup           = 0x76
	opEqual         = 0x87
	opEqualVerify   = 0x88
	opHash160       = 0xa9
	opCheckSig      = 0xac
	opCheckMultiSig = 0xae
)

// MaxMultisigKeys is the most keys a redeem script of 520 bytes can hold.
const MaxMultisigKeys = 15

// ErrNotTemplate means that an output script is none of the allowed templates.
var ErrNotTemplate = errors.New("output script is not an allowed template")

// ParseTemplate recognises an output script by its exact bytes.
func ParseTemplate(s []byte) (Template, error) {
	switch {
	case len(s) == 35 && s[0] == 33 && s[34] == opCheckSig && (s[1] == 2 || s[1] == 3):
		return Template{Kind: PayToPubKey, Key: PublicKey{Secp256k1, [33]byte(s[1:34])}}, nil
	case len(s) == 36 && s[0] == 34 && s[1] == byte(P256) && s[35] == opCheckSig && (s[2] == 2 || s[2] == 3):
		return Template{Kind: PayToValidatorKey, Key: PublicKey{P256, [33]byte(s[2:35])}}, nil
	case len(s) == 25 && s[0] == opDup && s[1] == opHash160 && s[2] == 20 && s[23] == opEqualVerify && s[24] == opCheckSig:
		return Template{Kind: PayToPubKeyHash, Hash: [20]byte(s[3:23])}, nil
	case len(s) == 23 && s[0] == opHash160 && s[1] == 20 && s[22] == opEqual:
		return Template{Kind: PayToScriptHash, Hash: [20]byte(s[2:22])}, nil
	case len(s) > 0 && s[0] == opReturn:
		data, rest, err := readPush(s[1:])
		if err != nil || len(rest) > 0 {
			return Template{}, fmt.Errorf("%w: data output must hold exactly one minimal push", ErrNotTemplate)
		}
		return Template{Kind: NullData, Data: data}, nil
	}
	return Template{}, ErrNotTemplate
}

// PubKeyHashScript returns the script that pays the hash of a secp256k1 key.
func PubKeyHashScript(hash [20]byte) []byte {
	s := append(make([]byte, 0, 25), opDup, opHash160, 20)
	return append(append(s, hash[:]...), opEqualVerify, opCheckSig)
}

// ScriptHashScript returns the script that pays the hash of a redeem script.
func ScriptHashScript(hash [20]byte) []byte {
	s := append(make([]byte, 0, 23), opHash160, 20)
	return append(append(s, hash[:]...), opEqual)
}

// KeyScript returns the script that pays a key: PayToPubKey for secp256k1,
// PayToValidatorKey for P-256.
func KeyScript(k PublicKey) []byte {
	if k.Algorithm == Secp256k1 {
		return append(appendPush(nil, k.Point[:]), opCheckSig)
	}
	return append(appendPush(nil, k.Bytes()), opCheckSig)
}

// NullDataScript returns the unspendable script that carries data, at most 65,535 bytes.
func NullDataScript(data []byte) []byte { return appendPush([]byte{opReturn}, data) }

// MultisigScript returns the redeem script of an m-of-n multisig over
// secp256k1 keys, to be paid through ScriptHashScript(Hash160(script)).
func MultisigScript(m int, keys []PublicKey) ([]byte, error) {
	if m < 1 || m > len(keys) || len(keys) > MaxMultisigKeys {
		return nil, fmt.Errorf("multisig %d of %d: want 1 ≤ m ≤ n ≤ %d", m, len(keys), MaxMultisigKeys)
	}
	s := []byte{op1 + byte(m) - 1}
	for _, k := range keys {
		if k.Algorithm != Secp256k1 {
			return nil, fmt.Errorf("multisig key %s: only secp256k1 keys take part in payments", k)
		}
		s = appendPush(s, k.Point[:])
	}
	return append(s, op1+byte(len(keys))-1, opCheckMultiSig), nil
}

func parseMultisig(s []byte) (m int, keys []PublicKey, err error) {
	bad := func(why string) (int, []PublicKey, error) {
		return 0, nil, fmt.Errorf("redeem script is not m-of-n multisig: %s", why)
	}
	if len(s) < 3 || s[len(s)-1] != opCheckMultiSig {
		return bad("no OP_CHECKMULTISIG at the end")
	}
	m, n := int(s[0])-op1+1, int(s[len(s)-2])-op1+1
	if n < 1 || n > MaxMultisigKeys || m < 1 || m > n || len(s) != 3+34*n {
		return bad("counts or length")
	}
	for i := range n {
		p := s[1+34*i:]
		if p[0] != 33 || (p[1] != 2 && p[1] != 3) {
			return bad("keys must be compressed")
		}
		keys = append(keys, PublicKey{Secp256k1, [33]byte(p[1:34])})
	}
	return m, keys, nil
}

// HeightScript returns the push of a block height that starts the script of
// every coinbase and CoinOnline (BIP 34): OP_0, OP_1 … OP_16, or a minimal
// little-endian number.
func HeightScript(height uint32) []byte {
	switch {
	case height == 0:
		return []byte{op0}
	case height <= 16:
		return []byte{op1 + byte(height) - 1}
	}
	n := binary.LittleEndian.AppendUint32(nil, height)
	n = append(n, 0) // room for the sign bit
	for len(n) > 1 && n[len(n)-1] == 0 && n[len(n)-2]&0x80 == 0 {
		n = n[:len(n)-1]
	}
	return appendPush(nil, n)
}

// appendPush appends the minimal push of a data element.
func appendPush(s, data []byte) []byte {
	switch n := len(data); {
	case n == 0:
		return append(s, op0)
	case n == 1 && data[0] >= 1 && data[0] <= 16:
		return append(s, op1+data[0]-1)
	case n == 1 && data[0] == 0x81:
		return append(s, op1Negate)
	case n < opPushData1:
		s = append(s, byte(n))
	case n <= 0xff:
		s = append(s, opPushData1, byte(n))
	default:
		s = binary.LittleEndian.AppendUint16(append(s, opPushData2), uint16(n))
	}
	return append(s, data...)
}

// readPush reads one data element and refuses any but the shortest opcode for
// it, so that no third party can change a transaction's id (BIP 62, rule 3).
func readPush(s []byte) (data, rest []byte, err error) {
	bad := errors.New("script holds something else than a minimal push")
	if len(s) == 0 {
		return nil, nil, bad
	}
	op, body := s[0], s[1:]
	n := 0
	switch {
	case op == op0:
		return []byte{}, body, nil
	case op >= op1 && op <= op16:
		return []byte{op - op1 + 1}, body, nil
	case op == op1Negate:
		return []byte{0x81}, body, nil
	case op < opPushData1:
		n = int(op)
	case op == opPushData1 && len(body) >= 1:
		n, body = int(body[0]), body[1:]
	case op == opPushData2 && len(body) >= 2:
		n, body = int(binary.LittleEndian.Uint16(body)), body[2:]
	default:
		return nil, nil, bad
	}
	if n > len(body) {
		return nil, nil, bad
	}
	data, rest = body[:n:n], body[n:]
	if len(appendPush(nil, data)) != len(s)-len(rest) {
		return nil, nil, bad
	}
	return data, rest, nil
}

// readPushes reads a script that consists of exactly n minimal pushes.
func readPushes(s []byte, n int) ([][]byte, error) {
	items := make([][]byte, 0, n)
	for range n {
		item, rest, err := readPush(s)
		if err != nil {
			return nil, err
		}
		items, s = append(items, item), rest
	}
	if len(s) > 0 {
		return nil, fmt.Errorf("script holds more than %d pushes", n)
	}
	return items, nil
}
