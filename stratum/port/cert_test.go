package port

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSelfSigned(t *testing.T) {
	dir := t.TempDir()
	file, err := SelfSigned(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	before, _ := os.ReadFile(file)
	if again, err := SelfSigned(dir); err != nil || again != file {
		t.Errorf("%s, %v", again, err)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("made twice")
	}
	c, err := LoadCertificate(file, file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	leaf := c.current().Leaf
	if sum := sha256.Sum256(leaf.Raw); strings.ToLower(strings.ReplaceAll(c.Fingerprint(), ":", "")) != hex.EncodeToString(sum[:]) {
		t.Errorf("fingerprint %s", c.Fingerprint())
	}
	if years := time.Until(leaf.NotAfter).Hours() / 24 / 365; years < 9.9 || years > 10.1 {
		t.Errorf("valid for %.1f years", years)
	}
	host, _ := os.Hostname()
	for _, name := range []string{host, "localhost", "127.0.0.1", "::1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf) // a miner that is given the certificate can verify
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "localhost"}); err != nil {
		t.Error(err)
	}
}

// TestSelfSignedInTheWrongYear: a board without a clock starts in 1970.
func TestSelfSignedInTheWrongYear(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, SelfSignedName)
	for _, year := range []int{1970, 2200} {
		content, err := newSelfSigned(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := SelfSigned(dir); err != nil {
			t.Fatal(err)
		}
		if c, err := tls.LoadX509KeyPair(file, file); err != nil || time.Until(c.Leaf.NotAfter) < 0 || time.Until(c.Leaf.NotBefore) > 0 {
			t.Errorf("%d: valid from %v to %v, %v", year, c.Leaf.NotBefore, c.Leaf.NotAfter, err)
		}
	}
}

func TestSelfSignedFaults(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, SelfSignedName)
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := SelfSigned(dir); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a damaged file: %v", err)
	}
	if left, _ := os.ReadFile(file); string(left) != "no certificate" {
		t.Error("it was overwritten: it may be the operator's")
	}
	if _, err := SelfSigned(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("no folder, no error")
	}
}

// parts cuts a made file into certificate and key.
func parts(t *testing.T, content []byte) (cert, key []byte) {
	t.Helper()
	for b, rest := pem.Decode(content); b != nil; b, rest = pem.Decode(rest) {
		if b.Type == "CERTIFICATE" {
			cert = pem.EncodeToMemory(b)
		} else {
			key = pem.EncodeToMemory(b)
		}
	}
	return cert, key
}

// TestReload: a changed pair is used for the next handshake; half of one, or a
// wrong one, is not, and the old one serves on.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		version := time.Now()
		put := func(file string, content []byte) {
			t.Helper()
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			version = version.Add(time.Second)
			if err := os.Chtimes(file, version, version); err != nil {
				t.Fatal(err)
			}
			time.Sleep(recheck) // in the bubble's time
		}
		fresh := func() (cert, key []byte) {
			content, err := newSelfSigned(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return parts(t, content)
		}
		cert1, key1 := fresh()
		cert2, key2 := fresh()
		put(certFile, cert1)
		put(keyFile, key1)
		var logged bytes.Buffer
		c, err := LoadCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(&logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		first := c.Fingerprint()
		time.Sleep(recheck)
		if c.Fingerprint() != first || logged.Len() > 0 {
			t.Errorf("nothing changed: %s", logged.String())
		}
		put(certFile, cert2)
		for range 3 {
			time.Sleep(recheck)
			if c.Fingerprint() != first {
				t.Error("a certificate without its key is in use")
			}
		}
		if n := strings.Count(logged.String(), "cannot be used"); n != 1 {
			t.Errorf("said %d times: %s", n, logged.String())
		}
		put(keyFile, key2)
		second := c.Fingerprint()
		if second == first || !strings.Contains(logged.String(), second) {
			t.Errorf("the new pair is not in use: %s", logged.String())
		}
		if err := os.Remove(keyFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(recheck)
		if c.Fingerprint() != second {
			t.Error("a removed file stopped the service")
		}
		put(certFile, cert1)
		put(keyFile, key1)
		if c.Fingerprint() != first {
			t.Error("the pair that came back is not in use")
		}
	})
}

func TestLoadCertificateFaults(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadCertificate(filepath.Join(dir, "none"), filepath.Join(dir, "none"), nil); err == nil || !strings.Contains(err.Error(), "want a PEM certificate") {
		t.Errorf("%v", err)
	}
}

// TestRSA: for firmware that knows no other keys, an operator may bring one.
func TestRSA(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := x509.MarshalPKCS8PrivateKey(key)
	file := filepath.Join(t.TempDir(), "rsa.pem")
	content := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCertificate(file, file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client, server := dial(t, Config{TLS: c.TLS()})
	conn := tls.Client(client, &tls.Config{
		InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
	})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = conn.Write([]byte(`{"id":1}`)) }()
	if got := <-server; got.err != nil || got.Kind != TLS {
		t.Errorf("%v, %v", got.Kind, got.err)
	}
}
