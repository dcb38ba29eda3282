package consensus_test

import (
	"bytes"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// goldenVotes are votes on the network of golden_test.go: from genesis to the
// slot in golden.txt, and from there to a made-up slot 20.
func goldenVotes(t *testing.T) map[string][]byte {
	t.Helper()
	p := goldenParams()
	n, err := consensus.NewNetwork(p)
	if err != nil {
		t.Fatal(err)
	}
	state := n.GenesisState()
	slot, err := hex.DecodeString(golden(t)["slot-id"])
	if err != nil {
		t.Fatal(err)
	}
	ten := consensus.Checkpoint{Height: 10, ID: types.Hash(slot)}
	first := consensus.Link{Set: state.ValidatorSetID(), Source: consensus.Checkpoint{ID: n.ID}, Target: ten}
	second := consensus.Link{Set: first.Set, Source: ten, Target: consensus.Checkpoint{Height: 20, ID: types.Hash(bytes.Repeat([]byte{0x22}, 32))}}
	keys := []chaingen.Key{chaingen.ValidatorKey(types.Secp256k1, 0), chaingen.ValidatorKey(types.P256, 1), chaingen.ValidatorKey(types.Secp256k1, 2)}
	attest := func(l consensus.Link, i uint8) consensus.Attestation {
		return consensus.Attestation{Link: l, Index: i, Signature: keys[i].Sign(l.Digest(n.ID))}
	}
	values := make(map[string][]byte)
	for name, l := range map[string]consensus.Link{"first": first, "second": second} {
		digest := l.Digest(n.ID)
		values[name+"-link"], values[name+"-digest"] = l.AppendTo(nil), digest[:]
	}
	secp, p256 := attest(first, 0), attest(first, 1)
	values["first-attestation-0"], values["first-attestation-1"] = secp.AppendTo(nil), p256.AppendTo(nil)
	for name, votes := range map[string][]consensus.Attestation{
		"first-certificate":  {p256, secp},
		"second-certificate": {attest(second, 2), attest(second, 1)},
	} {
		c, err := consensus.NewCertificate(votes)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Verify(n, state.Voters()); err != nil {
			t.Fatal(err)
		}
		values[name] = c.AppendTo(nil)
	}
	return values
}

func goldenVotesFile(t *testing.T) map[string]string { return goldenFile(t, "votes.txt") }

func TestGoldenVotes(t *testing.T) {
	got, want := goldenVotes(t), goldenVotesFile(t)
	if len(want) != len(got) {
		t.Errorf("golden file has %d values, want %d", len(want), len(got))
	}
	for name, b := range got {
		if h := hex.EncodeToString(b); h != want[name] {
			t.Errorf("%s: now\n%s\nwas\n%s", name, h, want[name])
		}
	}
}

// curve is y² = x³ + ax + b over a prime field, with a base point of an order:
// SEC 2 version 2, 2.4.1 (secp256k1) and 2.4.2 (secp256r1, which is P-256).
type curve struct{ p, a, b, n, gx, gy *big.Int }

func number(s string) *big.Int {
	v, ok := new(big.Int).SetString(strings.ReplaceAll(s, " ", ""), 16)
	if !ok {
		panic(s)
	}
	return v
}

var curves = map[types.KeyAlgorithm]curve{
	types.Secp256k1: {
		p:  number("ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff fffffffe fffffc2f"),
		a:  number("0"),
		b:  number("7"),
		n:  number("ffffffff ffffffff ffffffff fffffffe baaedce6 af48a03b bfd25e8c d0364141"),
		gx: number("79be667e f9dcbbac 55a06295 ce870b07 029bfcdb 2dce28d9 59f2815b 16f81798"),
		gy: number("483ada77 26a3c465 5da4fbfc 0e1108a8 fd17b448 a6855419 9c47d08f fb10d4b8"),
	},
	types.P256: {
		p:  number("ffffffff 00000001 00000000 00000000 00000000 ffffffff ffffffff ffffffff"),
		a:  number("ffffffff 00000001 00000000 00000000 00000000 ffffffff ffffffff fffffffc"),
		b:  number("5ac635d8 aa3a93e7 b3ebbd55 769886bc 651d06b0 cc53b0f6 3bce3c3e 27d2604b"),
		n:  number("ffffffff 00000000 ffffffff ffffffff bce6faad a7179e84 f3b9cac2 fc632551"),
		gx: number("6b17d1f2 e12c4247 f8bce6e5 63a440f2 77037d81 2deb33a0 f4a13945 d898c296"),
		gy: number("4fe342e2 fe1a7f9b 8ee7eb4a 7c0f9e16 2bce3357 6b315ece cbb64068 37bf51f5"),
	},
}

// add adds two points in the way of school; nil x is the point at infinity.
func (c *curve) add(x1, y1, x2, y2 *big.Int) (x, y *big.Int) {
	mod := func(v *big.Int) *big.Int { return v.Mod(v, c.p) }
	var num, den *big.Int
	switch {
	case x1 == nil:
		return x2, y2
	case x2 == nil:
		return x1, y1
	case x1.Cmp(x2) != 0:
		num, den = new(big.Int).Sub(y2, y1), new(big.Int).Sub(x2, x1)
	case y1.Cmp(y2) != 0 || y1.Sign() == 0:
		return nil, nil
	default:
		num = new(big.Int).Mul(x1, x1)
		num.Mul(num, big.NewInt(3)).Add(num, c.a)
		den = new(big.Int).Lsh(y1, 1)
	}
	slope := mod(num.Mul(num, den.ModInverse(mod(den), c.p)))
	x = new(big.Int).Mul(slope, slope)
	mod(x.Sub(x, x1).Sub(x, x2))
	y = new(big.Int).Sub(x1, x)
	return x, mod(y.Mul(y, slope).Sub(y, y1))
}

func (c *curve) times(k, x, y *big.Int) (rx, ry *big.Int) {
	for i := k.BitLen() - 1; i >= 0; i-- {
		rx, ry = c.add(rx, ry, rx, ry)
		if k.Bit(i) == 1 {
			rx, ry = c.add(rx, ry, x, y)
		}
	}
	return rx, ry
}

// verifies is ECDSA from the textbook (SEC 1 version 2, 4.1.4), with low S.
func (c *curve) verifies(point [33]byte, digest, signature []byte) bool {
	x := new(big.Int).SetBytes(point[1:])
	y := new(big.Int).Exp(x, big.NewInt(3), c.p)
	y.Add(y, new(big.Int).Mul(c.a, x)).Add(y, c.b).ModSqrt(y, c.p)
	if y.Bit(0) != uint(point[0]&1) {
		y.Sub(c.p, y)
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if new(big.Int).Lsh(s, 1).Cmp(c.n) > 0 {
		return false
	}
	w := new(big.Int).ModInverse(s, c.n)
	u1, u2 := new(big.Int).SetBytes(digest), new(big.Int).Mul(r, w)
	u1.Mul(u1, w).Mod(u1, c.n)
	u2.Mod(u2, c.n)
	ax, ay := c.times(u1, c.gx, c.gy)
	bx, by := c.times(u2, x, y)
	px, _ := c.add(ax, ay, bx, by)
	return px != nil && px.Mod(px, c.n).Cmp(r) == 0
}

// TestGoldenVotesAgain derives the golden votes a second time, with SHA-256,
// byte strings and school arithmetic only, from docs/votes.md. Signatures are
// taken as given and verified.
func TestGoldenVotesAgain(t *testing.T) {
	want, blocks := goldenVotesFile(t), golden(t)
	value := func(values map[string]string, name string) []byte {
		t.Helper()
		b, err := hex.DecodeString(values[name])
		if err != nil || len(b) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		return b
	}
	is := func(name string, b []byte) {
		t.Helper()
		if h := hex.EncodeToString(b); h != want[name] {
			t.Errorf("%s: derived\n%s\ngolden\n%s", name, h, want[name])
		}
	}
	network, set, slot := value(blocks, "network-id"), value(blocks, "set-id"), value(blocks, "slot-id")
	first := cat(set, le32(0), network, le32(10), slot)
	second := cat(set, le32(10), slot, le32(20), bytes.Repeat([]byte{0x22}, 32))
	is("first-link", first)
	is("second-link", second)
	firstDigest := tagged("qcity/poo/attest", network, set, le32(0), network, le32(10), slot)
	secondDigest := tagged("qcity/poo/attest", network, set, le32(10), slot, le32(20), bytes.Repeat([]byte{0x22}, 32))
	is("first-digest", firstDigest)
	is("second-digest", secondDigest)

	sig0, sig1 := value(want, "first-attestation-0")[105:], value(want, "first-attestation-1")[105:]
	is("first-attestation-0", cat(first, []byte{0}, sig0))
	is("first-attestation-1", cat(first, []byte{1}, sig1))
	is("first-certificate", cat(first, []byte{3, 0, 0, 0}, sig0, sig1))
	later := value(want, "second-certificate")[108:]
	is("second-certificate", cat(second, []byte{6, 0, 0, 0}, later))

	keys := goldenParams().Validators
	for _, c := range []struct {
		name      string
		validator int
		digest    []byte
		signature []byte
	}{
		{"first, validator 0", 0, firstDigest, sig0},
		{"first, validator 1", 1, firstDigest, sig1},
		{"second, validator 1", 1, secondDigest, later[:64]},
		{"second, validator 2", 2, secondDigest, later[64:]},
	} {
		key := keys[c.validator]
		on := curves[key.Algorithm]
		if !on.verifies(key.Point, c.digest, c.signature) {
			t.Errorf("%s: the signature does not verify", c.name)
		}
		c.digest[0] ^= 1
		if on.verifies(key.Point, c.digest, c.signature) {
			t.Errorf("%s: the signature verifies for another digest", c.name)
		}
		c.digest[0] ^= 1
	}
}
