package proof_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/proof"
)

var network = types.TaggedHash("test", []byte("network"))

// goldenDigest is what key 7 of secp256k1 signs in the sample.
const goldenDigest = "00a372ee3892d24944059a2c5a54d34c314050394e74e343cfd6a4a409d9a20a"

func sample(a types.KeyAlgorithm) proof.Proof {
	k := chaingen.ValidatorKey(a, 7)
	p := proof.Proof{Key: k.Public(), Network: network, Challenge: []byte("asked on 28 November")}
	p.Signature = k.Sign(proof.Digest(network, p.Key, p.Challenge))
	return p
}

// TestVerify breaks each part of a proof alone.
func TestVerify(t *testing.T) {
	for _, a := range []types.KeyAlgorithm{types.Secp256k1, types.P256} {
		good := sample(a)
		if err := good.Verify(network); err != nil {
			t.Fatal(err)
		}
		for name, spoil := range map[string]func(*proof.Proof){
			"key":       func(p *proof.Proof) { p.Key = chaingen.ValidatorKey(a, 8).Public() },
			"network":   func(p *proof.Proof) { p.Network[0] ^= 1 },
			"challenge": func(p *proof.Proof) { p.Challenge = []byte("asked on 29 November") },
			"short": func(p *proof.Proof) {
				p.Challenge = p.Challenge[:proof.MinChallenge-1]
				p.Signature = chaingen.ValidatorKey(a, 7).Sign(proof.Digest(network, p.Key, p.Challenge))
			},
			"long": func(p *proof.Proof) {
				p.Challenge = make([]byte, proof.MaxChallenge+1)
				p.Signature = chaingen.ValidatorKey(a, 7).Sign(proof.Digest(network, p.Key, p.Challenge))
			},
			"signature": func(p *proof.Proof) { p.Signature[40] ^= 1 },
		} {
			p := good
			spoil(&p)
			if err := p.Verify(network); !errors.Is(err, proof.ErrProof) {
				t.Errorf("%s, another %s: %v", a, name, err)
			}
		}
		other := network
		other[31] ^= 1
		if err := good.Verify(other); !errors.Is(err, proof.ErrProof) {
			t.Errorf("%s, for another network: %v", a, err)
		}
	}
}

// TestGolden holds the format to the byte: other programs make proofs, too.
func TestGolden(t *testing.T) {
	for _, a := range []types.KeyAlgorithm{types.Secp256k1, types.P256} {
		want, err := os.ReadFile("testdata/" + a.String() + ".json")
		if err != nil {
			t.Fatal(err)
		}
		p, err := proof.Parse(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(network); err != nil {
			t.Error(err)
		}
		made := sample(a)
		made.Signature = p.Signature // nonces are random on a token
		if !bytes.Equal(made.Encode(), want) {
			t.Errorf("made %s, want %s", made.Encode(), want)
		}
	}
	k := chaingen.ValidatorKey(types.Secp256k1, 7).Public()
	d := proof.Digest(network, k, []byte("asked on 28 November"))
	if got := hex.EncodeToString(d[:]); got != goldenDigest {
		t.Errorf("digest %s, want %s", got, goldenDigest)
	}
}

func TestParseIsStrict(t *testing.T) {
	p := sample(types.P256)
	good := string(p.Encode())
	if _, err := proof.Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "no line end": strings.TrimSpace(good), "space": " " + good, "twice": good + good,
		"unknown field": strings.Replace(good, "{", `{"a":1,`, 1),
		"field twice":   strings.Replace(good, "{", `{"network":"`+network.String()+`",`, 1),
		"upper case":    strings.Replace(good, `"challenge":"61`, `"challenge":"6B`, 1),
		"short":         good[:len(good)-5] + good[len(good)-3:], // a signature of 63 bytes
		"cut":           good[:len(good)-5],
		"no point":      strings.Replace(good, `"p256:0`, `"p256:1`, 1),
		"too long":      good + strings.Repeat(" ", proof.MaxSize),
	} {
		if _, err := proof.Parse([]byte(text)); err == nil || text == good {
			t.Errorf("%s was read: %s", name, text)
		}
	}
}

// TestRoundTrip: any proof is read as it was written.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := sample(rapid.SampledFrom([]types.KeyAlgorithm{types.Secp256k1, types.P256}).Draw(t, "algorithm"))
		p.Challenge = rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "challenge")
		copy(p.Signature[:], rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "signature"))
		got, err := proof.Parse(p.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Encode(), p.Encode()) {
			t.Fatalf("read %s, want %s", got.Encode(), p.Encode())
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, a := range []types.KeyAlgorithm{types.Secp256k1, types.P256} {
		p := sample(a)
		f.Add(p.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := proof.Parse(b)
		if err == nil && !bytes.Equal(p.Encode(), b) {
			t.Errorf("%q is read as %q", b, p.Encode())
		}
	})
}
