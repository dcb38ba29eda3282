package types_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"qcitycoin.org/qcity/node/types"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Public facts of Bitcoin's chain: block 0, and the first payment (block 170).
const (
	genesisBlock = `0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e
		67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c` + "01" + genesisCoinbase
	genesisCoinbase = `01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d
		0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261
		696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962
		e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000`
	firstPayment = `0100000001c997a5e56e104102fa209c6a852dd90660a20b2d9c352423edce25857fcd3704000000004847304402204e45
		e16932b8af514961a1d3a1a25fdf3f4f7732e9d624c6c61548ab5fb8cd410220181522ec8eca07de4860a4acdd12909d831cc56cbbac462208
		2221a8768d1d0901ffffffff0200ca9a3b00000000434104ae1a62fe09c5f51b13905f07f06b99a2f7159b2225f374cd378d71302fa28414e7
		aab37397f554a7df5f142c21c1b7303b8a0626f1baded5c72a704f7e6cd84cac00286bee0000000043410411db93e1dcdb8a016b49840f8c53
		bc1eb68a382e97b1482ecad7b148a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3ac00000000`
	firstPaymentSpends = `410411db93e1dcdb8a016b49840f8c53bc1eb68a382e97b1482ecad7b148a6909a5cb2e0eaddfb84ccf974
		4464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3ac`
)

func TestBitcoinTransactionsRoundTrip(t *testing.T) {
	for id, raw := range map[string]string{
		"4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b": genesisCoinbase,
		"f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16": firstPayment,
	} {
		tx, err := types.DecodeTransaction(unhex(t, raw))
		if err != nil {
			t.Fatal(err)
		}
		if got := tx.ID().String(); got != id {
			t.Errorf("id %s, want %s", got, id)
		}
		if got := hex.EncodeToString(tx.Bytes()); got != hex.EncodeToString(unhex(t, raw)) {
			t.Errorf("%s does not come back", id)
		}
	}
}

func TestBitcoinGenesisBlock(t *testing.T) {
	raw := unhex(t, genesisBlock)
	const id = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
	b, err := types.DecodeSubmittedBlock(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Header.ID().String(); got != id {
		t.Errorf("id %s", got)
	}
	if b.IsSigned() || len(b.Transactions) != 1 || !b.Transactions[0].IsCoinbase() {
		t.Error("it is not read as a mined block with one coinbase")
	}
	if root, mutated := types.MerkleRoot(b.TxIDs()); root != b.MerkleRoot || mutated {
		t.Errorf("Merkle root %s, mutated %t", root, mutated)
	}
	target, err := types.CompactToTarget(b.Bits)
	if err != nil || !types.HashMeets(b.Header.ID(), &target) {
		t.Errorf("the block does not meet its target: %v", err)
	}
	if work := types.Work(&target); work.Uint64() != 0x100010001 || !work.IsUint64() {
		t.Errorf("its work is %s, Bitcoin says 4295032833", &work)
	}
	if _, err := types.DecodeBlock(raw); err == nil {
		t.Error("DecodeBlock reads a block without the length of VchBlockSig")
	}
	// With the length byte both decoders give the same.
	ours := append(append(append([]byte(nil), raw[:80]...), 0), raw[80:]...)
	c, err := types.DecodeBlock(ours)
	if err != nil || c.Header.ID() != b.Header.ID() || hex.EncodeToString(c.Bytes()) != hex.EncodeToString(ours) {
		t.Errorf("our serialisation: %v", err)
	}
}

// TestBitcoinMerkleRoot uses block 170's two transactions.
func TestBitcoinMerkleRoot(t *testing.T) {
	var ids []types.Hash
	for _, s := range []string{
		"b1fea52486ce0c62bb442b530a3f0132b826c74e473d1f2c220bfa78111c5082",
		"f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16",
	} {
		id, err := types.ParseHash(s)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if root, _ := types.MerkleRoot(ids); root.String() != "7dac2c5666815c17a3b36427de37bb9d2e2c5ccec3f8633eb91a4205cb4c10ff" {
		t.Errorf("root %s", root)
	}
}

// TestBitcoinFirstPaymentSignature checks the digest with the one key it fits.
// The key is uncompressed, which no template here takes, so the signature is
// verified with the curve library.
func TestBitcoinFirstPaymentSignature(t *testing.T) {
	tx, err := types.DecodeTransaction(unhex(t, firstPayment))
	if err != nil {
		t.Fatal(err)
	}
	script := unhex(t, firstPaymentSpends)
	digest := tx.SignatureHash(0, script)
	if got := hex.EncodeToString(digest[:]); got != "7a05c6145f10101e9d6325494245adf1297d80f8f38d4d576d57cdba220bcb19" {
		t.Errorf("digest %s", got)
	}
	key, err := secp256k1.ParsePubKey(script[1:66])
	if err != nil {
		t.Fatal(err)
	}
	der := tx.Inputs[0].SignatureScript[1:]
	sig, err := secpecdsa.ParseDERSignature(der[:len(der)-1])
	if err != nil {
		t.Fatal(err)
	}
	if !sig.Verify(digest[:], key) {
		t.Error("the signature of Bitcoin's first payment does not verify")
	}
	if err := types.VerifyInput(tx, 0, script); err == nil {
		t.Error("an uncompressed key is accepted")
	}
}

// TestBIP143PayToPubKey verifies input 0 of the first example of BIP 143: an
// ordinary pay-to-public-key input with a compressed key, signed the original way.
func TestBIP143PayToPubKey(t *testing.T) {
	tx, err := types.DecodeTransaction(unhex(t, `0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f
		0000000000eeffffffef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb2060000
		00001976a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167f
		aa815988ac11000000`))
	if err != nil {
		t.Fatal(err)
	}
	script := unhex(t, "2103c9f4836b9a4f77fc0d81f7bcb01b7f1b35916864b9476c241ce9fc198bd25432ac")
	tx.Inputs[0].SignatureScript = unhex(t, `4830450221008b9d1dc26ba6a9cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be
		022040529b194ba3f9281a99f2b1c0a19c0489bc22ede944ccf4ecbab4cc618ef3ed01`)
	if err := types.VerifyInput(tx, 0, script); err != nil {
		t.Errorf("input 0: %v", err)
	}
	tx.Outputs[1].Value++
	if err := types.VerifyInput(tx, 0, script); err == nil {
		t.Error("a changed output leaves the signature good")
	}
}
