package types_test

import (
	"bytes"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/types"
)

// bounded fails when decoding b allocated out of proportion to its length. A
// transaction of 10 bytes takes 72 in memory and an input of 41 takes 64, and
// a list may grow no further than the input can fill.
func bounded(t *testing.T, what string, b []byte, cells int) {
	t.Helper()
	if cells > len(b)/9+1 {
		t.Fatalf("%s: %d list elements from %d bytes", what, cells, len(b))
	}
}

func FuzzDecodeTransaction(f *testing.F) {
	f.Add(unhex(f, firstPayment))
	f.Add(unhex(f, genesisCoinbase))
	f.Add([]byte{1, 0, 0, 0, 0, 1, 0, 0, 0, 0}) // as a witness marker starts
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		tx, err := types.DecodeTransaction(b)
		if err != nil {
			return
		}
		if !bytes.Equal(tx.Bytes(), b) {
			t.Fatalf("%x comes back as %x", b, tx.Bytes())
		}
		bounded(t, "transaction", b, len(tx.Inputs)+len(tx.Outputs))
		for i := range tx.Inputs { // nothing an input holds may make the verifier panic
			for j := range tx.Outputs {
				_ = types.VerifyInput(tx, i, tx.Outputs[j].PkScript)
			}
		}
	})
}

func ourBlocks(f *testing.F) {
	bitcoin := unhex(f, genesisBlock)
	mined := append(append(bytes.Clone(bitcoin[:80]), 0), bitcoin[80:]...)
	signed := append(append(append(bytes.Clone(bitcoin[:80]), 65), make([]byte, 65)...), bitcoin[80:]...)
	f.Add(bitcoin)
	f.Add(mined)
	f.Add(signed)
	f.Add(append(bytes.Clone(bitcoin[:80]), 0, 0xfe, 0xff, 0xff, 0xff, 0xff))
	f.Add(bitcoin[:81])
}

func FuzzDecodeBlock(f *testing.F) {
	ourBlocks(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		block, err := types.DecodeBlock(b)
		if err != nil {
			return
		}
		if !bytes.Equal(block.Bytes(), b) {
			t.Fatalf("%x comes back as %x", b, block.Bytes())
		}
		bounded(t, "block", b, len(block.Transactions))
	})
}

// FuzzDecodeSubmittedBlock: what is read is one of the two serialisations.
func FuzzDecodeSubmittedBlock(f *testing.F) {
	ourBlocks(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		block, err := types.DecodeSubmittedBlock(b)
		if err != nil {
			return
		}
		ours := block.Bytes()
		if bytes.Equal(ours, b) {
			return
		}
		if block.IsSigned() || !bytes.Equal(append(ours[:80:80], ours[81:]...), b) {
			t.Fatalf("%x comes back as %x", b, ours)
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	f.Add(unhex(f, genesisBlock)[:80])
	f.Add([]byte{})
	f.Add(make([]byte, 81))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := types.DecodeHeader(b)
		if (err == nil) != (len(b) == 80) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if err == nil && !bytes.Equal(h.Bytes(), b) {
			t.Fatalf("%x comes back as %x", b, h.Bytes())
		}
		d := types.NewDecoder(b)
		var s types.SignedHeader
		if s.DecodeFrom(d); d.Finish() == nil && !bytes.Equal(s.AppendTo(nil), b) {
			t.Fatalf("signed header %x comes back as %x", b, s.AppendTo(nil))
		}
	})
}

// FuzzParseTemplate: a template's contents give back its script.
func FuzzParseTemplate(f *testing.F) {
	f.Add(types.KeyScript(public(1)))
	f.Add(types.KeyScript(types.PublicKey{Algorithm: types.P256, Point: public(1).Point}))
	f.Add(types.PubKeyHashScript([20]byte{1}))
	f.Add(types.ScriptHashScript([20]byte{1}))
	f.Add(types.NullDataScript([]byte("hello")))
	f.Fuzz(func(t *testing.T, s []byte) {
		v, err := types.ParseTemplate(s)
		if err != nil {
			return
		}
		var again []byte
		switch v.Kind {
		case types.PayToPubKey, types.PayToValidatorKey:
			again = types.KeyScript(v.Key)
		case types.PayToPubKeyHash:
			again = types.PubKeyHashScript(v.Hash)
		case types.PayToScriptHash:
			again = types.ScriptHashScript(v.Hash)
		case types.NullData:
			again = types.NullDataScript(v.Data)
		}
		if !bytes.Equal(again, s) {
			t.Fatalf("%x comes back as %x", s, again)
		}
	})
}

func FuzzCompactToTarget(f *testing.F) {
	for _, v := range []uint32{0, 0x1d00ffff, 0x207fffff, 0x2100ffff, 0x01010000, 0xff123456, 0x04923456} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, compact uint32) {
		target, err := types.CompactToTarget(compact)
		if err != nil {
			return
		}
		if target.IsZero() {
			t.Fatalf("%08x is zero", compact)
		}
		if got := types.TargetToCompact(&target); got != compact {
			t.Fatalf("%08x comes back as %08x", compact, got)
		}
	})
}

// FuzzAddress: an address that is read is the one that would be written.
func FuzzAddress(f *testing.F) {
	f.Add("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa")
	f.Add("36j4NfKv6Akva9amjWrLG6MuSQym1GuEmm")
	f.Add(strings.Repeat("1", 100))
	f.Fuzz(func(t *testing.T, s string) {
		script, err := mainVersions.Script(s)
		if err == nil && mainVersions.Address(script) != s {
			t.Fatalf("%q comes back as %q", s, mainVersions.Address(script))
		}
	})
}
