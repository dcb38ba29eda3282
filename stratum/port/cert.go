package port

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"qcitycoin.org/qcity/internal/durable"
)

// SelfSignedName is the file in the data directory with the certificate and the
// key that this box made for itself.
const SelfSignedName = "stratum-tls.pem"

// Certificate is a server certificate that follows its files.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	loaded  *tls.Certificate
	stamp   [2]fs.FileInfo // of the files as loaded or as refused
	checked time.Time
}

// recheck is how long the files are taken to be unchanged.
const recheck = time.Second

// LoadCertificate reads a certificate chain and its key from PEM files, which
// may be one and the same. They are read again when they change; until a new
// pair is complete and fits, the old one stays in use.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, checked: time.Now()}
	c.stamp = c.stat()
	var err error
	if c.loaded, err = c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Certificate) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %w; want a PEM certificate chain and its private key", c.certFile, c.keyFile, err)
	}
	return &pair, nil
}

// stat returns nil for a file that is not there.
func (c *Certificate) stat() (stamp [2]fs.FileInfo) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamp[i] = info
		}
	}
	return stamp
}

func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// current returns the certificate, read again if its files changed.
func (c *Certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < recheck {
		return c.loaded
	}
	c.checked = time.Now()
	stamp := c.stat()
	if same(stamp[0], c.stamp[0]) && same(stamp[1], c.stamp[1]) {
		return c.loaded
	}
	c.stamp = stamp
	fresh, err := c.load()
	if err != nil {
		c.log.Warn("stratum: the changed TLS certificate cannot be used, the old one stays", "err", err)
		return c.loaded
	}
	c.loaded = fresh
	c.log.Info("stratum: TLS certificate read again", "file", c.certFile, "sha256", fingerprint(fresh))
	return fresh
}

// Fingerprint is the SHA-256 of the certificate in use, as
// `openssl x509 -fingerprint -sha256` prints it.
func (c *Certificate) Fingerprint() string { return fingerprint(c.current()) }

func fingerprint(c *tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}

// TLS returns the configuration of a server with this certificate: TLS 1.2,
// which old firmware speaks, and 1.3.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
		// One record a write: the lines of a job are not worth several.
		DynamicRecordSizingDisabled: true,
		// A miner connects for days. Tickets would save one signature at the next
		// handshake, and cost a write in this one.
		SessionTicketsDisabled: true,
	}
}

// SelfSigned returns the file in dir with a certificate and key made by this
// box for itself, and makes it if there is none, or none that is valid now: a
// board without a clock may have made it in the wrong year. P-256, ten years,
// for this host's name, localhost, and the addresses it has at that time.
// Miners mostly do not verify certificates; who does, compares the fingerprint
// or is given the file's certificate.
func SelfSigned(dir string) (file string, err error) {
	file = filepath.Join(dir, SelfSignedName)
	pair, err := tls.LoadX509KeyPair(file, file)
	switch now := time.Now(); {
	case err == nil && now.After(pair.Leaf.NotBefore) && now.Before(pair.Leaf.NotAfter):
		return file, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s: %w; remove it to have a new one made", file, err)
	}
	content, err := newSelfSigned(time.Now())
	if err != nil {
		return "", fmt.Errorf("make a TLS certificate: %w", err)
	}
	if err := durable.WriteFile(file, content, 0o600); err != nil {
		return "", fmt.Errorf("keep the TLS certificate: %w", err)
	}
	return file, nil
}

func newSelfSigned(now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	names, addresses := hostNames()
	template := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]},
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              names, IPAddresses: addresses,
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}

// hostNames returns what this machine may be called by its miners.
func hostNames() (names []string, addresses []net.IP) {
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		names = append(names, host)
	}
	names = append(names, "localhost")
	addresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	found, _ := net.InterfaceAddrs() // without them, names have to do
	for _, a := range found {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() { // private ones are, link-local ones are not
			addresses = append(addresses, n.IP)
		}
	}
	return names, addresses
}
