package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/stratum/port"
)

func TestStratumCertificate(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	cfg := configs.Default()
	cfg.Data = dir
	own, err := stratumCertificate(&cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := stratumCertificate(&cfg, log); err != nil || again.Fingerprint() != own.Fingerprint() {
		t.Errorf("the next start has another certificate, %v", err)
	}
	given, err := port.SelfSigned(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Stratum.Cert, cfg.Stratum.Key = given, given
	if c, err := stratumCertificate(&cfg, log); err != nil || c.Fingerprint() == own.Fingerprint() {
		t.Errorf("the certificate given is not used, %v", err)
	}
	cfg.Stratum.Key = filepath.Join(dir, "none")
	if _, err := stratumCertificate(&cfg, log); err == nil || !strings.Contains(err.Error(), cfg.Stratum.Key) {
		t.Errorf("a key that is not there: %v", err)
	}
	cfg.Stratum.TLS = configs.TLSOff
	if c, err := stratumCertificate(&cfg, log); c != nil || err != nil {
		t.Errorf("off: %v, %v", c, err)
	}
}

// TestStratumTLS: a miner connects over TLS to a box that nobody set up for it,
// and finds the fingerprint that the box printed.
func TestStratumTLS(t *testing.T) {
	k := newRig(t, 0, "no-signer.sock")
	k.node.start()
	defer k.node.stop()
	var conn *tls.Conn
	retry(t, func() (err error) {
		conn, err = tls.Dial("tcp", k.stratum, &tls.Config{InsecureSkipVerify: true})
		return err
	})
	defer conn.Close()
	_, _ = io.WriteString(conn, `{"id":1,"method":"mining.subscribe"}`+"\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "mining.notify") {
		t.Errorf("%q, %v", line, err)
	}
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].Raw)
	want := "tls=stratum+ssl://" + k.stratum + " sha256=" + strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
	retry(t, func() error {
		if out := k.node.tail(); !strings.Contains(out, want) {
			return fmt.Errorf("want %s, it printed:\n%s", want, out)
		}
		return nil
	})
	if info, err := os.Stat(filepath.Join(k.dir, nodeDir, port.SelfSignedName)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
