package link

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// stranger dials the port with any TLS configuration and returns what became of
// it, and whether a byte of protocol came through.
func (r *rig) stranger(c *tls.Config) (spoke bool, err error) {
	c.InsecureSkipVerify = true
	conn, err := tls.Dial("tcp", r.address, c)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return false, err
	}
	_, _ = io.WriteString(conn, "hello\n")
	n, err := conn.Read(make([]byte, 1))
	return n > 0, err
}

func p256Certificate(tb testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// expired is a certificate of the same key that was good for a minute of 1999,
// for another purpose, and calls itself somebody else.
func expired(tb testing.TB, id *Identity) tls.Certificate {
	at := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(77), NotBefore: at, NotAfter: at.Add(time.Minute), DNSNames: []string{"other.example"},
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, id.key.Public(), id.key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: id.key}
}

func TestStrangers(t *testing.T) {
	r := newRig(t)
	other := newTestIdentity(t)
	good := func() *tls.Config {
		return &tls.Config{NextProtos: []string{ALPN}, Certificates: []tls.Certificate{r.signer.cert}}
	}
	if spoke, err := r.stranger(good()); !spoke || err != nil {
		t.Fatalf("the pinned key: %v, %v", spoke, err)
	}
	for name, change := range map[string]func(*tls.Config){
		"another key":           func(c *tls.Config) { c.Certificates = []tls.Certificate{other.cert} },
		"a key of another kind": func(c *tls.Config) { c.Certificates = []tls.Certificate{p256Certificate(t)} },
		"no certificate":        func(c *tls.Config) { c.Certificates = nil },
		"TLS 1.2":               func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		"no ALPN":               func(c *tls.Config) { c.NextProtos = nil },
		"another ALPN":          func(c *tls.Config) { c.NextProtos = []string{"h2"} },
		// The certificate is the pinned one, but the dialler cannot sign with its key.
		"the certificate without its key": func(c *tls.Config) {
			c.Certificates = []tls.Certificate{{Certificate: r.signer.cert.Certificate, PrivateKey: other.key}}
		},
		// The pinned certificate is sent along, behind the one whose key signs.
		"the pinned certificate second": func(c *tls.Config) {
			c.Certificates = []tls.Certificate{{
				Certificate: [][]byte{other.cert.Certificate[0], r.signer.cert.Certificate[0]}, PrivateKey: other.key,
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := good()
			change(c)
			if spoke, err := r.stranger(c); spoke || err == nil {
				t.Fatalf("spoke: %v, %v", spoke, err)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		c := good()
		c.Certificates = []tls.Certificate{expired(t, r.signer)}
		if spoke, err := r.stranger(c); !spoke || err != nil {
			t.Fatalf("the pin decides, but: %v, %v", spoke, err)
		}
	})
	t.Run("no TLS", func(t *testing.T) {
		conn, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, `{"id":1,"method":"hello"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(conn)
		if bytes.Contains(answer, []byte("{")) {
			t.Fatalf("answer %q", answer)
		}
	})
}

// TestOneLogLine: many strangers, one line, with nothing in it that they chose.
func TestOneLogLine(t *testing.T) {
	r := newRig(t)
	other := newTestIdentity(t)
	for range 5 {
		if spoke, err := r.stranger(&tls.Config{NextProtos: []string{ALPN}, Certificates: []tls.Certificate{other.cert}}); spoke || err == nil {
			t.Fatalf("%v, %v", spoke, err)
		}
	}
	r.dialer(nil)
	r.askUntil("x")
	if n := strings.Count(r.log.String(), "turned away"); n != 1 || !strings.Contains(r.log.String(), ErrNotPinned.Error()) {
		t.Fatalf("log:\n%s", r.log)
	}
}

// TestWrongNode: a node whose key is not the pinned one never sees the signer's
// certificate, and is not spoken to.
func TestWrongNode(t *testing.T) {
	signer, impostor := newTestIdentity(t), newTestIdentity(t)
	for name, c := range map[string]struct {
		config *tls.Config
		want   error
	}{
		"another key":         {&tls.Config{Certificates: []tls.Certificate{impostor.cert}, NextProtos: []string{ALPN}}, ErrNotPinned},
		"another kind of key": {&tls.Config{Certificates: []tls.Certificate{p256Certificate(t)}, NextProtos: []string{ALPN}}, ErrNotPinned},
		"no ALPN":             {&tls.Config{Certificates: []tls.Certificate{impostor.cert}}, ErrProtocol},
		"TLS 1.2":             {&tls.Config{Certificates: []tls.Certificate{p256Certificate(t)}, MaxVersion: tls.VersionTLS12}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.ClientAuth = tls.RequestClientCert
			seen := make(chan error, 16)
			c.config.VerifyConnection = func(tls.ConnectionState) error {
				seen <- errors.New("the impostor got the signer's certificate")
				return nil
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				raw, err := l.Accept()
				if err != nil {
					return
				}
				defer raw.Close()
				_ = raw.SetDeadline(time.Now().Add(time.Minute))
				if tls.Server(raw, c.config).Handshake() == nil {
					seen <- errors.New("the handshake succeeded")
				}
				close(seen)
			}()
			d := NewDialer(DialerConfig{Address: l.Addr().String(), Identity: signer, Pin: Pin{1}, Serve: echo, Log: quiet()})
			_, err = d.connect(patience(t))
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err := <-seen; err != nil {
				t.Fatal(err)
			}
		})
	}
	// An expired certificate of the pinned key is as good as any.
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{expired(t, impostor)}, NextProtos: []string{ALPN}, ClientAuth: tls.RequireAnyClientCert,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = io.WriteString(conn, "\n")
		}
	}()
	d := NewDialer(DialerConfig{Address: l.Addr().String(), Identity: signer, Pin: impostor.Pin(), Serve: echo, Log: quiet()})
	c, err := d.connect(patience(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestCrowd: a hundred strangers at a time, half of whom say nothing and half of
// whom come back as fast as they are turned away, do not keep the signer out.
func TestCrowd(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	other := newTestIdentity(t)
	for i := range 100 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if i%2 == 0 {
					_, _ = r.stranger(&tls.Config{NextProtos: []string{ALPN}, Certificates: []tls.Certificate{other.cert}})
					continue
				}
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.address)
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { conn.Close() })
				_, _ = io.WriteString(conn, "\x16\x03\x01\x02") // the beginning of a hello
				_, _ = io.Copy(io.Discard, conn)
				stop()
				conn.Close()
			}
		})
	}
	r.dialer(nil)
	for range 4 {
		ask(t, r.dial(), "let me through")
	}
}
