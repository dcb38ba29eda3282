package ceremony_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

var attestedAt = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// authority is a vendor's root, or the device under it.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string, parent *authority, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: attestedAt.AddDate(-1, 0, 0), NotAfter: attestedAt.AddDate(1, 0, 0),
	}
	for _, f := range change {
		f(tmpl)
	}
	signer, issuer := key, tmpl
	if parent != nil {
		signer, issuer = parent.key, parent.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert}
}

// attest makes a certificate as devices do, for any point: Go's own maker, like its
// reader, does not know secp256k1.
func (a *authority) attest(t *testing.T, curve asn1.ObjectIdentifier, point []byte, until time.Time) []byte {
	t.Helper()
	must := func(v any) asn1.RawValue {
		b, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return asn1.RawValue{FullBytes: b}
	}
	alg := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	tbs := must(struct {
		Version   int `asn1:"explicit,tag:0"`
		Serial    *big.Int
		Algorithm pkix.AlgorithmIdentifier
		Issuer    asn1.RawValue
		Validity  struct{ From, Until time.Time }
		Subject   pkix.RDNSequence
		PublicKey struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
	}{
		2, big.NewInt(7), alg,
		asn1.RawValue{FullBytes: a.cert.RawSubject},
		struct{ From, Until time.Time }{attestedAt.AddDate(0, -1, 0), until},
		pkix.Name{CommonName: "key 01"}.ToRDNSequence(),
		struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, Parameters: must(curve)}, asn1.BitString{Bytes: point, BitLength: 8 * len(point)}},
	})
	digest := sha256.Sum256(tbs.FullBytes)
	sig, err := a.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return must(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{tbs, alg, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}}).FullBytes
}

var (
	oidSecp256k1 = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	oidP256      = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
)

func TestAttest(t *testing.T) {
	root, foreign := newAuthority(t, "vendor root", nil), newAuthority(t, "vendor root", nil)
	device := newAuthority(t, "device 42", root)
	private := secp256k1.PrivKeyFromBytes([]byte{7})
	key, err := types.NewPublicKey(types.Secp256k1, private.PubKey().SerializeCompressed())
	if err != nil {
		t.Fatal(err)
	}
	point := private.PubKey().SerializeUncompressed()
	later := attestedAt.AddDate(0, 1, 0)
	own := worker.Certificate{ID: []byte{1}, DER: device.attest(t, oidSecp256k1, point, later)}
	above := worker.Certificate{ID: []byte{9}, DER: device.cert.Raw}
	roots := []*x509.Certificate{root.cert}
	try := func(roots []*x509.Certificate, certs ...worker.Certificate) (*ceremony.Attested, error) {
		return ceremony.Attest(key, []byte{1}, certs, roots, attestedAt)
	}
	got, err := try(roots, above, own)
	if err != nil || got == nil || strings.Join(got.Chain, " < ") != "CN=key 01 < CN=device 42 < CN=vendor root" || len(got.SHA256) != 64 {
		t.Fatalf("%+v, %v", got, err)
	}
	direct := worker.Certificate{ID: []byte{1}, DER: root.attest(t, oidSecp256k1, point, later)}
	if got, err := try(roots, direct); err != nil || got == nil || len(got.Chain) != 2 {
		t.Errorf("directly under the root: %+v, %v", got, err)
	}
	if got, err := try(roots, above); err != nil || got != nil {
		t.Errorf("no certificate for the key: %+v, %v", got, err)
	}
	another := secp256k1.PrivKeyFromBytes([]byte{8}).PubKey().SerializeUncompressed()
	flipped := worker.Certificate{ID: []byte{1}, DER: append([]byte(nil), own.DER...)}
	flipped.DER[40] ^= 1
	p256Key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256Point, err := p256Key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	// A certificate that the vendor gave for something else than to attest with, such
	// as the attestation of a key that somebody has in a device of the same kind.
	notCA := newAuthority(t, "key 02", device, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, 0 })
	bare := newAuthority(t, "key 03", device, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid, c.KeyUsage = false, false, 0 })
	noSigner := newAuthority(t, "device 43", root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	last := newAuthority(t, "device 44", root, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	below := newAuthority(t, "device 45", last)
	by := func(issuer *authority, above ...*authority) []worker.Certificate {
		out := []worker.Certificate{{ID: []byte{1}, DER: issuer.attest(t, oidSecp256k1, point, later)}}
		for _, a := range append(above, issuer) {
			out = append(out, worker.Certificate{ID: []byte{9}, DER: a.cert.Raw})
		}
		return out
	}
	if got, err := try(roots, by(last)...); err != nil || got == nil {
		t.Errorf("by the last authority of a path: %+v, %v", got, err)
	}
	for name, certs := range map[string][]worker.Certificate{
		"by another key":        by(notCA, device),
		"by an unnamed key":     by(bare, device),
		"by one not to sign":    by(noSigner),
		"by one below the last": by(below, last),
		"another key":           {above, {ID: []byte{1}, DER: device.attest(t, oidSecp256k1, another, later)}},
		"another curve":         {above, {ID: []byte{1}, DER: device.attest(t, oidP256, p256Point, later)}},
		"expired":               {above, {ID: []byte{1}, DER: device.attest(t, oidSecp256k1, point, attestedAt.AddDate(0, 0, -1))}},
		"changed":               {above, flipped},
		"no link to root":       {own},
		"two for one key":       {above, own, own},
		"garbage":               {{ID: []byte{1}, DER: []byte("x")}},
		"by a foreign root":     {{ID: []byte{1}, DER: foreign.attest(t, oidSecp256k1, point, later)}},
		"something behind":      {above, {ID: []byte{1}, DER: append(append([]byte(nil), own.DER...), 0)}},
		"certificate itself":    {above, {ID: []byte{1}, DER: device.cert.Raw}},
	} {
		if got, err := try(roots, certs...); !errors.Is(err, ceremony.ErrAttestation) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := try([]*x509.Certificate{foreign.cert}, above, own); !errors.Is(err, ceremony.ErrAttestation) {
		t.Errorf("another root of the same name: %v", err)
	}
	if _, err := ceremony.ParseRoot([]byte("nothing")); !errors.Is(err, ceremony.ErrAttestation) {
		t.Errorf("no root: %v", err)
	}
}

// TestFingerprint pins what is read aloud: sheets of old ceremonies must stay
// comparable.
func TestFingerprint(t *testing.T) {
	key, err := types.NewPublicKey(types.Secp256k1, secp256k1.PrivKeyFromBytes([]byte{7}).PubKey().SerializeCompressed())
	if err != nil {
		t.Fatal(err)
	}
	got := ceremony.KeyFingerprint(key)
	want := ceremony.Fingerprint{Hex: "3bc6f7e57970cad73a813ae8ad05621b", Words: "design dash welcome very arrow high"}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if w := ceremony.HashWords("00"); w != "canyon ticket sound behind ring lounge" {
		t.Errorf("words %q", w)
	}
	key.Algorithm = types.P256
	if ceremony.KeyFingerprint(key) == got {
		t.Error("the algorithm is no part of the fingerprint")
	}
}
