package link

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIdentityFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "identity")
	made, err := CreateIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	read, err := LoadIdentity(path)
	if err != nil || read.Pin() != made.Pin() {
		t.Fatalf("%v, %v", read, err)
	}
	if !bytes.Equal(read.cert.Certificate[0], made.cert.Certificate[0]) {
		t.Fatal("the certificate changes")
	}
	if _, err := CreateIdentity(path); !errors.Is(err, os.ErrExist) {
		t.Fatalf("over an identity: %v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	rsaKey := filepath.Join(dir, "other")
	if err := os.WriteFile(rsaKey, []byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	readable := filepath.Join(dir, "readable")
	if err := os.WriteFile(readable, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		link: "symbolic link", dir: "no regular file", rsaKey: "holds no Ed25519 key", readable: "chmod 600", filepath.Join(dir, "none"): "no such file",
	} {
		if _, err := LoadIdentity(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

// TestCredential: what systemd hands over may show the group's right to read.
func TestCredential(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file of root's, as systemd does")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "identity")
	if _, err := CreateIdentity(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(path); err == nil {
		t.Fatal("a file that a group can read was taken")
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if _, err := LoadIdentity(path); err != nil {
		t.Fatal(err)
	}
}

func TestPin(t *testing.T) {
	id := newTestIdentity(t)
	var p Pin
	if err := p.UnmarshalText([]byte(id.Pin().String())); err != nil || p != id.Pin() {
		t.Fatalf("%v, %v", p, err)
	}
	for _, text := range []string{
		"", "ed25519:", "ed25519:00", id.Pin().String()[8:], strings.ToUpper(id.Pin().String()), id.Pin().String() + "00",
		" " + id.Pin().String(), "ed25519:" + strings.Repeat("0", 64), "ed25519:" + strings.Repeat("g", 64), "secp256k1:" + id.Pin().String()[8:],
	} {
		if err := p.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a pin", text)
		}
	}
	if p != id.Pin() {
		t.Fatal("a failure changed the pin")
	}
}
