package ceremony

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/worker"
)

// NoAttestation is what there is to say about a token that vouches for nothing.
const NoAttestation = "NONE: software token, not for mainnet"

// Attested is a vendor's statement that holds.
type Attested struct {
	Chain  []string // subjects, from the key's certificate to the root
	SHA256 string   // of the key's certificate, hexadecimal digits
}

// ParseRoot reads the PEM certificates of a vendor's root file.
func ParseRoot(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, failure(ErrAttestation, "the root file holds a certificate that cannot be read: %v", err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, failure(ErrAttestation, "the root file holds no PEM certificate")
	}
	return out, nil
}

// Attest looks among a token's certificates for one with the key's id and
// verifies it up to a root: signatures, validity at now, and that it is about this
// very key. Nil without an error: the token attests nothing (NoAttestation).
//
// Go's x509 does not read certificates of secp256k1 keys, so the first one is read
// here, from its ASN.1 (RFC 5280, 4.1); those above it are the library's.
func Attest(key types.PublicKey, id []byte, certificates []worker.Certificate, roots []*x509.Certificate, now time.Time) (*Attested, error) {
	var own *worker.Certificate
	above := x509.NewCertPool()
	var issuers []*x509.Certificate
	for i, c := range certificates {
		if bytes.Equal(c.ID, id) {
			if own != nil {
				return nil, failure(ErrAttestation, "two certificates in the token have the key's id %x: remove the one that is not the attestation", id)
			}
			own = &certificates[i]
			continue
		}
		if parsed, err := x509.ParseCertificate(c.DER); err == nil {
			above.AddCert(parsed)
			issuers = append(issuers, parsed)
		}
	}
	if own == nil {
		return nil, nil
	}
	leaf, err := parseLeaf(own.DER)
	if err != nil {
		return nil, failure(ErrAttestation, "the certificate with the key's id cannot be read: %v", err)
	}
	if got, err := worker.CompressPoint(worker.Algorithm(key.Algorithm), leaf.point); err != nil || got != worker.PublicKey(key.Point) {
		return nil, failure(ErrAttestation, "the certificate with the key's id is about another key: do not use this token")
	}
	if now.Before(leaf.notBefore) || now.After(leaf.notAfter) {
		return nil, failure(ErrAttestation, "the attestation is valid from %s to %s only: check the clock of this machine", leaf.notBefore.Format(time.DateOnly), leaf.notAfter.Format(time.DateOnly))
	}
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	for _, issuer := range append(issuers, roots...) {
		if !bytes.Equal(issuer.RawSubject, leaf.issuer) || issuer.CheckSignature(leaf.algorithm, leaf.signed, leaf.signature) != nil {
			continue
		}
		chains, err := issuer.Verify(x509.VerifyOptions{
			Roots: pool, Intermediates: above, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err != nil {
			continue
		}
		i := slices.IndexFunc(chains, mayAttest)
		if i < 0 {
			continue
		}
		sum := sha256.Sum256(own.DER)
		out := &Attested{Chain: []string{leaf.subject}, SHA256: hex.EncodeToString(sum[:])}
		for _, c := range chains[i] {
			out.Chain = append(out.Chain, c.Subject.String())
		}
		return out, nil
	}
	return nil, failure(ErrAttestation, "the attestation of the key does not lead to the given root: check which root the vendor names for this model")
}

// mayAttest reports whether the first of a chain may have a certificate below it
// (RFC 5280, 6.1.4 k to n). The library takes it for the end of the chain and does
// not ask; yet the holder of any key that the vendor has certified could issue one
// for a key of their own.
func mayAttest(chain []*x509.Certificate) bool {
	issuer := chain[0]
	authority := issuer.BasicConstraintsValid && issuer.IsCA || issuer.Version < 3 && len(chain) == 1
	if !authority || issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCertSign == 0 {
		return false
	}
	for below, c := range chain {
		if c.BasicConstraintsValid && c.MaxPathLen >= 0 && below > c.MaxPathLen {
			return false
		}
	}
	return true
}

// leaf is what matters of a key's certificate.
type leaf struct {
	signed              []byte // TBSCertificate
	algorithm           x509.SignatureAlgorithm
	signature           []byte
	issuer              []byte
	subject             string
	point               []byte
	notBefore, notAfter time.Time
}

type certificateASN1 struct {
	TBS       asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

type tbsASN1 struct {
	Version   int `asn1:"optional,explicit,default:0,tag:0"`
	Serial    *big.Int
	Algorithm pkix.AlgorithmIdentifier
	Issuer    asn1.RawValue
	Validity  struct{ NotBefore, NotAfter time.Time }
	Subject   asn1.RawValue
	PublicKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	IssuerUID  asn1.BitString   `asn1:"optional,tag:1"`
	SubjectUID asn1.BitString   `asn1:"optional,tag:2"`
	Extensions []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
}

// signatureAlgorithms are the ones vendors' attestations are seen with (RFC 5758,
// RFC 8017). SHA-1 is not among them.
var signatureAlgorithms = map[string]x509.SignatureAlgorithm{
	"1.2.840.113549.1.1.11": x509.SHA256WithRSA,
	"1.2.840.113549.1.1.12": x509.SHA384WithRSA,
	"1.2.840.113549.1.1.13": x509.SHA512WithRSA,
	"1.2.840.10045.4.3.2":   x509.ECDSAWithSHA256,
	"1.2.840.10045.4.3.3":   x509.ECDSAWithSHA384,
	"1.2.840.10045.4.3.4":   x509.ECDSAWithSHA512,
}

func parseLeaf(der []byte) (*leaf, error) {
	var c certificateASN1
	if rest, err := asn1.Unmarshal(der, &c); err != nil || len(rest) > 0 {
		return nil, errors.Join(errors.New("not one X.509 certificate"), err)
	}
	var t tbsASN1
	if rest, err := asn1.Unmarshal(c.TBS.FullBytes, &t); err != nil || len(rest) > 0 {
		return nil, errors.Join(errors.New("not an X.509 certificate"), err)
	}
	alg, ok := signatureAlgorithms[c.Algorithm.Algorithm.String()]
	if !ok {
		return nil, errors.New("signed by an algorithm that is not accepted: " + c.Algorithm.Algorithm.String())
	}
	var name pkix.RDNSequence
	if _, err := asn1.Unmarshal(t.Subject.FullBytes, &name); err != nil {
		return nil, err
	}
	return &leaf{
		signed: c.TBS.FullBytes, algorithm: alg, signature: c.Signature.RightAlign(),
		issuer: t.Issuer.FullBytes, subject: name.String(), point: t.PublicKey.Key.RightAlign(),
		notBefore: t.Validity.NotBefore, notAfter: t.Validity.NotAfter,
	}, nil
}
