package link

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Pin is the Ed25519 public key of a peer. Its text is "ed25519:" and 64
// hexadecimal digits in lower case.
type Pin [ed25519.PublicKeySize]byte

const pinPrefix = "ed25519:"

func (p Pin) String() string { return pinPrefix + hex.EncodeToString(p[:]) }

// MarshalText writes the one text form.
func (p Pin) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the one text form.
func (p *Pin) UnmarshalText(text []byte) error {
	parsed, err := ParsePin(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}

// ParsePin reads what String writes, and nothing else.
func ParsePin(text string) (p Pin, err error) {
	digits, ok := strings.CutPrefix(text, pinPrefix)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(p) || hex.EncodeToString(b) != digits {
		return Pin{}, fmt.Errorf("%q is no pin: want %s and 64 hexadecimal digits in lower case, as `qcity signer identity` and `qcity node identity` print them", text, pinPrefix)
	}
	if Pin(b) == (Pin{}) {
		return Pin{}, errors.New("the pin is all zeros: put the pin there that the other side's `identity` command prints")
	}
	return Pin(b), nil
}

// Identity is the key that a node or a signer daemon proves to be itself with.
// It signs nothing but TLS handshakes.
type Identity struct {
	key  ed25519.PrivateKey
	cert tls.Certificate
}

// Pin is what the other side has to be told.
func (id *Identity) Pin() Pin { return Pin(id.key.Public().(ed25519.PublicKey)) }

const pemType = "PRIVATE KEY"

// CreateIdentity makes a key and writes it to a file that does not exist yet,
// mode 0600: PEM of PKCS #8 (RFC 5958), which openssl reads, too.
func CreateIdentity(path string) (*Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making an identity: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding an identity: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	defer clear(text)
	defer clear(der)
	if err := writeNew(path, text); err != nil {
		return nil, err
	}
	return newIdentity(key)
}

// writeNew writes a file that must not exist: an identity that others have
// pinned is never overwritten. Half a file does not stay.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("making the identity file: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("writing the identity file %s: %w", path, err), os.Remove(path))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("making the identity file %s durable: %w", path, err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// maxIdentity is far more than an Ed25519 key takes in PEM (119 bytes).
const maxIdentity = 4096

// LoadIdentity reads an identity file: a regular file of our own that nobody
// else can read, or a credential that systemd hands to this service.
func LoadIdentity(path string) (*Identity, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("identity file %s is a symbolic link: name the file itself", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the identity file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("checking the identity file: %w", err)
	}
	if err := checkMode(info, path); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxIdentity+1))
	defer clear(text)
	if err != nil {
		return nil, fmt.Errorf("reading the identity file %s: %w", path, err)
	}
	id, err := parseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("identity file %s %w", path, err)
	}
	return id, nil
}

// checkMode: systemd owns the credentials of a service itself on file systems
// with access lists, which then show as the group's right to read
// (systemd.exec(5), LoadCredential).
func checkMode(info fs.FileInfo, path string) error {
	uid, mode := info.Sys().(*syscall.Stat_t).Uid, info.Mode()
	credentials := os.Getenv("CREDENTIALS_DIRECTORY")
	handed := credentials != "" && filepath.Dir(path) == filepath.Clean(credentials) && uid == 0 && mode.Perm() == 0o440
	switch {
	case !mode.IsRegular():
		return fmt.Errorf("identity file %s is no regular file: name the file that `identity` made", path)
	case handed:
		return nil
	case uid != uint32(os.Geteuid()):
		return fmt.Errorf("identity file %s belongs to user %d: type  chown %d %s", path, uid, os.Geteuid(), path)
	case mode.Perm() != 0o400 && mode.Perm() != 0o600:
		return fmt.Errorf("identity file %s has mode %04o, others might read it: type  chmod 600 %s", path, mode.Perm(), path)
	}
	return nil
}

func parseIdentity(text []byte) (*Identity, error) {
	const want = constError("holds no Ed25519 key: make one with the `identity` command, and tell the other side its pin")
	block, rest := pem.Decode(text)
	if len(text) > maxIdentity || block == nil || block.Type != pemType || len(block.Headers) > 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, want
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, want
	}
	return newIdentity(key)
}

// newIdentity wraps the key into a certificate, as TLS wants one. It says
// nothing but the key, never expires, and is the same each time.
func newIdentity(key ed25519.PrivateKey) (*Identity, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		// 99991231235959Z: no expiration (RFC 5280, 4.1.2.5).
		NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	return &Identity{key: key, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}, nil
}
