package types

import (
	"errors"
	"fmt"
	"math/big"

	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// ErrScript means that an input does not satisfy the output it spends.
var ErrScript = errors.New("input script does not satisfy the output")

// SigOps returns how many signature checks spending prev with this input takes
// at the most; a multisig counts one for each of its keys.
func SigOps(prev Template, in *TxIn) int {
	switch prev.Kind {
	case PayToScriptHash:
		if items, err := allPushes(in.SignatureScript); err == nil && len(items) > 0 {
			if _, keys, err := parseMultisig(items[len(items)-1]); err == nil {
				return len(keys)
			}
		}
		return 0
	case NullData:
		return 0
	}
	return 1
}

// VerifyInput checks that input index of tx may spend an output locked by
// pkScript. Every template has one form of input script; the error wraps ErrScript.
func VerifyInput(tx *Transaction, index int, pkScript []byte) error {
	prev, err := ParseTemplate(pkScript)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrScript, err)
	}
	script := tx.Inputs[index].SignatureScript
	switch prev.Kind {
	case PayToPubKey, PayToValidatorKey:
		err = verifyPubKey(tx, index, pkScript, prev.Key, script)
	case PayToPubKeyHash:
		err = verifyPubKeyHash(tx, index, pkScript, prev.Hash, script)
	case PayToScriptHash:
		err = verifyMultisig(tx, index, prev.Hash, script)
	default:
		err = fmt.Errorf("%s outputs cannot be spent", prev.Kind)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrScript, err)
	}
	return nil
}

func verifyPubKey(tx *Transaction, index int, pkScript []byte, key PublicKey, script []byte) error {
	items, err := readPushes(script, 1)
	if err != nil {
		return err
	}
	return verifySignature(tx.SignatureHash(index, pkScript), key, items[0])
}

func verifyPubKeyHash(tx *Transaction, index int, pkScript []byte, hash [20]byte, script []byte) error {
	items, err := readPushes(script, 2)
	if err != nil {
		return err
	}
	if len(items[1]) != 33 || Hash160(items[1]) != hash {
		return errors.New("public key does not have the hash that is paid (only compressed keys exist here)")
	}
	key := PublicKey{Secp256k1, [33]byte(items[1])}
	return verifySignature(tx.SignatureHash(index, pkScript), key, items[0])
}

// verifyMultisig checks OP_0, m signatures in the order of their keys, redeem
// script. The leading OP_0 is Bitcoin's; BIP 147 forbids anything else there.
func verifyMultisig(tx *Transaction, index int, hash [20]byte, script []byte) error {
	items, err := allPushes(script)
	if err != nil {
		return err
	}
	if len(items) < 3 || len(items[0]) != 0 {
		return errors.New("want OP_0, signatures, redeem script")
	}
	redeem, sigs := items[len(items)-1], items[1:len(items)-1]
	if Hash160(redeem) != hash {
		return errors.New("redeem script does not have the hash that is paid")
	}
	m, keys, err := parseMultisig(redeem)
	if err != nil {
		return err
	}
	if len(sigs) != m {
		return fmt.Errorf("%d signatures: want exactly %d", len(sigs), m)
	}
	digest := tx.SignatureHash(index, redeem)
	for len(sigs) > 0 {
		if len(keys) < len(sigs) {
			return ErrBadSignature
		}
		if verifySignature(digest, keys[0], sigs[0]) == nil {
			sigs = sigs[1:]
		}
		keys = keys[1:]
	}
	return nil
}

func allPushes(s []byte) ([][]byte, error) {
	var items [][]byte
	for len(s) > 0 {
		item, rest, err := readPush(s)
		if err != nil {
			return nil, err
		}
		items, s = append(items, item), rest
	}
	return items, nil
}

// verifySignature checks a strict-DER (BIP 66), low-S (BIP 146) signature that
// ends in the SIGHASH_ALL byte.
func verifySignature(digest Hash, key PublicKey, sig []byte) error {
	if len(sig) == 0 || sig[len(sig)-1] != SigHashAll {
		return fmt.Errorf("%w: signature hash type is not SIGHASH_ALL", ErrBadSignature)
	}
	raw, err := parseDER(sig[:len(sig)-1])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	return key.Verify(digest, raw)
}

// parseDER reads a strict DER signature of either curve as r ‖ s.
func parseDER(der []byte) (raw [64]byte, err error) {
	bad := errors.New("signature is not strict DER")
	if len(der) < 8 || len(der) > 72 || der[0] != 0x30 || int(der[1]) != len(der)-2 {
		return raw, bad
	}
	rest := der[2:]
	for _, out := range [][]byte{raw[:32], raw[32:]} {
		if len(rest) < 3 || rest[0] != 0x02 {
			return raw, bad
		}
		n := int(rest[1])
		if n < 1 || n > len(rest)-2 {
			return raw, bad
		}
		v := rest[2 : 2+n]
		padded := n > 1 && v[0] == 0
		if v[0]&0x80 != 0 || (padded && v[1]&0x80 == 0) {
			return raw, bad
		}
		if padded {
			v = v[1:]
		}
		if len(v) > 32 {
			return raw, bad
		}
		new(big.Int).SetBytes(v).FillBytes(out)
		rest = rest[2+n:]
	}
	if len(rest) > 0 {
		return raw, bad
	}
	return raw, nil
}

// DERSignature returns the strict-DER form of a secp256k1 signature r ‖ s with
// the SIGHASH_ALL byte behind it, as input scripts carry it.
func DERSignature(sig *secpecdsa.Signature) []byte {
	return append(sig.Serialize(), SigHashAll)
}
