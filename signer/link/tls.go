package link

import (
	"crypto/ed25519"
	"crypto/subtle"
	"crypto/tls"
)

// config is what both sides share. TLS 1.3 only; the peer's certificate counts
// for the key inside it and nothing else: names, dates, issuers and purposes
// decide nothing. Every connection proves its key anew (no session tickets).
func config(id *Identity, pins []Pin) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		NextProtos:             []string{ALPN},
		SessionTicketsDisabled: true,
		VerifyConnection:       func(cs tls.ConnectionState) error { return verify(&cs, pins) },
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &id.cert, nil },
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &id.cert, nil },
		ClientAuth:             tls.RequireAnyClientCert, // read by the listening side
		InsecureSkipVerify:     true,                     // VerifyConnection decides, on both sides
	}
}

func verify(cs *tls.ConnectionState, pins []Pin) error {
	if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != ALPN {
		return ErrProtocol
	}
	if _, ok := peerPin(cs, pins); !ok {
		return ErrNotPinned
	}
	return nil
}

// peerPin returns the peer's key if it is one of the pins. TLS itself checks
// that the peer can sign with it.
func peerPin(cs *tls.ConnectionState, pins []Pin) (Pin, bool) {
	if len(cs.PeerCertificates) == 0 {
		return Pin{}, false
	}
	key, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return Pin{}, false
	}
	found := 0
	for i := range pins {
		found |= subtle.ConstantTimeCompare(pins[i][:], key)
	}
	return Pin(key), found == 1
}
