package consensus_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// The golden file fixes the bytes of our own structures for a network of three
// validators. TestGoldenAgain derives every one of them a second time, with
// SHA-256 and byte strings only, from docs/protocol.md.

func goldenParams() consensus.Params {
	p := chaingen.Params()
	p.Name = "golden"
	p.Magic = 0x01020304
	p.Validators = []types.PublicKey{
		chaingen.ValidatorKey(types.Secp256k1, 0).Public(),
		chaingen.ValidatorKey(types.P256, 1).Public(),
		chaingen.ValidatorKey(types.Secp256k1, 2).Public(),
	}
	return p
}

// golden reads the values of testdata/golden.txt.
func golden(t *testing.T) map[string]string { return goldenFile(t, "golden.txt") }

// goldenFile reads "name hex" lines; names and their order are fixed.
func goldenFile(t testing.TB, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			values[name] = value
		}
	}
	return values
}

func TestGolden(t *testing.T) {
	g := chaingen.New(t, goldenParams())
	g.Fill("b", 9)
	signed := g.NextSigned("slot", 1)
	if signed.Err != nil {
		t.Fatal(signed.Err)
	}
	n := g.Network()
	genesis := n.Genesis()
	setID := signed.Parent.State.ValidatorSetID()
	digest := consensus.SlotDigest(n.ID, setID, 10, signed.State.ID)
	got := map[string][]byte{
		"params":         n.Encode(),
		"commitment":     genesis.Transactions[0].Inputs[0].SignatureScript[2:],
		"genesis-header": genesis.Header.Bytes(),
		"genesis-block":  genesis.Bytes(),
		"network-id":     n.ID[:],
		"set-id":         setID[:],
		"block-1":        g.Node("b1").Block.Bytes(),
		"slot-digest":    digest[:],
		"slot-block":     signed.Block.Bytes(),
		"slot-id":        signed.State.ID[:],
	}
	want := golden(t)
	if len(want) != len(got) {
		t.Errorf("golden file has %d values, want %d", len(want), len(got))
	}
	for name, b := range got {
		if h := hex.EncodeToString(b); h != want[name] {
			t.Errorf("%s: now\n%s\nwas\n%s", name, h, want[name])
		}
	}
}

func sum(parts ...[]byte) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func double(parts ...[]byte) []byte { return sum(sum(parts...)) }

func tagged(tag string, parts ...[]byte) []byte {
	t := sum([]byte(tag))
	return sum(append([][]byte{t, t}, parts...)...)
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func cat(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestGoldenAgain(t *testing.T) {
	want := golden(t)
	is := func(name string, b []byte) {
		t.Helper()
		if h := hex.EncodeToString(b); h != want[name] {
			t.Errorf("%s: derived\n%s\ngolden\n%s", name, h, want[name])
		}
	}
	keys := goldenParams().Validators
	key := func(i int, algorithm byte) []byte { return cat([]byte{algorithm}, keys[i].Point[:]) }
	key0, key1, key2 := key(0, 1), key(1, 2), key(2, 1)

	params := cat(
		[]byte{6}, []byte("golden"),
		[]byte{4, 3, 2, 1},             // magic
		le32(1577836800),               // genesis time
		[]byte{0xff, 0xff, 0x7f, 0x20}, // genesis bits
		[]byte{0xff, 0xff, 0x7f, 0x20}, // limit bits
		le32(10), le32(60), le32(7200), // n, interval, half-life
		le32(120), le32(600), le32(20), le32(60), // open, close, rank step, future limit
		le64(5_000_000_000),       // subsidy
		le32(2_100_000), le32(10), // halving interval, maturity
		le32(100_000), le32(200), le32(80), // bytes, signature checks, data
		[]byte{111, 196, 239},       // address versions
		[]byte{3}, key0, key1, key2, // validators
	)
	is("params", params)
	commitment := tagged("qcity/params", params)
	is("commitment", commitment)

	coinbase := cat(le32(1), []byte{1}, make([]byte, 32), le32(0xffffffff),
		[]byte{34, 0x00, 32}, commitment, le32(0xffffffff),
		[]byte{1}, le64(0), []byte{8, 0x6a, 6}, []byte("golden"), le32(0))
	header := cat(le32(1), make([]byte, 32), double(coinbase), le32(1577836800), le32(0x207fffff), le32(0))
	is("genesis-header", header)
	is("genesis-block", cat(header, []byte{0, 1}, coinbase))
	network := double(header)
	is("network-id", network)
	set := tagged("qcity/validators", le32(0), key0, key1, key2)
	is("set-id", set)

	// The slot: only the parent's id and time, and the signature, are taken as given.
	raw, err := hex.DecodeString(want["slot-block"])
	if err != nil {
		t.Fatal(err)
	}
	slotCoinbase := cat(le32(1), []byte{1}, make([]byte, 32), le32(0xffffffff),
		[]byte{6, 0x5a, 4}, []byte("slot"), le32(0xffffffff), // OP_10, then the generator's tag
		[]byte{2}, le64(0), []byte{0}, le64(0), []byte{36, 34}, key1, []byte{0xac}, le32(0))
	slotHeader := cat(le32(1), raw[4:36], double(slotCoinbase), raw[68:72], raw[72:76], le32(0))
	slotID := double(slotHeader)
	is("slot-id", slotID)
	digest := tagged("qcity/poo/block", network, set, le32(10), slotID)
	is("slot-digest", digest)
	is("slot-block", cat(slotHeader, []byte{65, 1}, raw[82:146], []byte{1}, slotCoinbase))
	if err := keys[1].Verify(types.Hash(digest), [64]byte(raw[82:146])); err != nil {
		t.Errorf("the slot's signature: %v", err)
	}
	// Slot 1 of 3 validators: index 1 has rank 0 and signs one second after the parent.
	if parent, at := uint32(1577836800+9*60), binary.LittleEndian.Uint32(raw[68:72]); at != parent+1 {
		t.Errorf("signed at %d, parent at %d", at, parent)
	}
	first, err := hex.DecodeString(want["block-1"])
	if err != nil {
		t.Fatal(err)
	}
	if string(first[4:36]) != string(network) {
		t.Error("block 1 does not follow the genesis block")
	}
}
