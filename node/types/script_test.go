package types_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"qcitycoin.org/qcity/node/types"
)

func secret(i byte) *secp256k1.PrivateKey { return secp256k1.PrivKeyFromBytes([]byte{31: i}) }

func public(i byte) types.PublicKey {
	return types.PublicKey{Algorithm: types.Secp256k1, Point: [33]byte(secret(i).PubKey().SerializeCompressed())}
}

// script builds an input script of pushes up to 255 bytes, with opcodes as given.
func script(items ...[]byte) (s []byte) {
	for _, item := range items {
		switch {
		case len(item) == 0:
			s = append(s, 0)
		case len(item) < 76:
			s = append(append(s, byte(len(item))), item...)
		default:
			s = append(append(s, 0x4c, byte(len(item))), item...)
		}
	}
	return s
}

// TestMultisig walks through what an input of a 2-of-3 may hold.
func TestMultisig(t *testing.T) {
	redeem, err := types.MultisigScript(2, []types.PublicKey{public(1), public(2), public(3)})
	if err != nil {
		t.Fatal(err)
	}
	pkScript := types.ScriptHashScript(types.Hash160(redeem))
	tx := &types.Transaction{Version: 1, Inputs: []types.TxIn{{}}, Outputs: []types.TxOut{{Value: 1, PkScript: pkScript}}}
	digest := tx.SignatureHash(0, redeem)
	sig := func(i byte) []byte { return types.DERSignature(secpecdsa.Sign(secret(i), digest[:])) }
	other := tx.SignatureHash(0, pkScript)
	wrongType := bytes.Clone(sig(1))
	wrongType[len(wrongType)-1] = 0x81 // ALL|ANYONECANPAY
	cases := []struct {
		name  string
		input []byte
		want  bool
	}{
		{"keys 1 and 2", script(nil, sig(1), sig(2), redeem), true},
		{"keys 1 and 3", script(nil, sig(1), sig(3), redeem), true},
		{"keys 2 and 3", script(nil, sig(2), sig(3), redeem), true},
		{"wrong order", script(nil, sig(2), sig(1), redeem), false},
		{"one key twice", script(nil, sig(1), sig(1), redeem), false},
		{"one signature", script(nil, sig(1), redeem), false},
		{"three signatures", script(nil, sig(1), sig(2), sig(3), redeem), false},
		{"no OP_0", script(sig(1), sig(2), redeem), false},
		{"something for OP_0 (BIP 147)", append([]byte{0x51}, script(sig(1), sig(2), redeem)...), false},
		{"a stranger's key", script(nil, sig(1), sig(4), redeem), false},
		{"other redeem script", script(nil, sig(1), sig(2), redeem[:len(redeem)-1]), false},
		{"signature hash type", script(nil, wrongType, sig(2), redeem), false},
		{"digest of the output script", script(nil, types.DERSignature(secpecdsa.Sign(secret(1), other[:])), sig(2), redeem), false},
		{"an opcode between", append(script(nil, sig(1)), append([]byte{0x61}, script(sig(2), redeem)...)...), false},
		{"nothing", nil, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tx.Inputs[0].SignatureScript = c.input
			err := types.VerifyInput(tx, 0, pkScript)
			if (err == nil) != c.want || (err != nil && !errors.Is(err, types.ErrScript)) {
				t.Errorf("got %v, want valid: %t", err, c.want)
			}
		})
	}
	tx.Inputs[0].SignatureScript = cases[0].input
	prev, err := types.ParseTemplate(pkScript)
	if err != nil {
		t.Fatal(err)
	}
	if got := types.SigOps(prev, &tx.Inputs[0]); got != 3 {
		t.Errorf("2 of 3 counts %d signature checks", got)
	}
}

func TestMultisigScriptLimits(t *testing.T) {
	keys := func(n int) (list []types.PublicKey) {
		for i := range n {
			list = append(list, public(byte(i+1)))
		}
		return list
	}
	for _, c := range []struct {
		m, n int
		ok   bool
	}{{1, 1, true}, {15, 15, true}, {0, 1, false}, {2, 1, false}, {1, 16, false}, {0, 0, false}, {-1, 3, false}} {
		s, err := types.MultisigScript(c.m, keys(c.n))
		if (err == nil) != c.ok || len(s) > 520 {
			t.Errorf("%d of %d: %d bytes, %v", c.m, c.n, len(s), err)
		}
	}
	if _, err := types.MultisigScript(1, []types.PublicKey{{Algorithm: types.P256}}); err == nil {
		t.Error("a P-256 key takes part in a payment")
	}
}

// TestOneByteChangesTheTemplate flips every bit of every template: what remains
// a template has other contents, so an output has one meaning.
func TestOneByteChangesTheTemplate(t *testing.T) {
	p256 := types.PublicKey{Algorithm: types.P256, Point: public(1).Point}
	for name, s := range map[string][]byte{
		"pubkey":       types.KeyScript(public(1)),
		"validatorkey": types.KeyScript(p256),
		"pubkeyhash":   types.PubKeyHashScript([20]byte{1}),
		"scripthash":   types.ScriptHashScript([20]byte{1}),
		"nulldata":     types.NullDataScript([]byte("hello")),
	} {
		original, err := types.ParseTemplate(s)
		if err != nil || original.Kind.String() != name {
			t.Fatalf("%s: %v, %v", name, original.Kind, err)
		}
		for bit := range 8 * len(s) {
			changed := bytes.Clone(s)
			changed[bit/8] ^= 1 << (bit % 8)
			got, err := types.ParseTemplate(changed)
			if err == nil && got.Kind == original.Kind && got.Hash == original.Hash && got.Key == original.Key && bytes.Equal(got.Data, original.Data) {
				t.Errorf("%s: changing bit %d changes nothing", name, bit)
			}
		}
		for _, other := range [][]byte{s[:len(s)-1], append(bytes.Clone(s), 0)} {
			if got, err := types.ParseTemplate(other); err == nil {
				t.Errorf("%s: %x is a %s", name, other, got.Kind)
			}
		}
	}
}
