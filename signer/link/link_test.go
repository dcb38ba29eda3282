package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newTestIdentity(tb testing.TB) *Identity {
	tb.Helper()
	id, err := CreateIdentity(filepath.Join(tb.TempDir(), "identity"))
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// rig is a node's port and what a signer needs to dial it.
type rig struct {
	tb           testing.TB
	node, signer *Identity
	address      string
	listener     *Listener
	log          *record
}

func newRig(tb testing.TB) *rig {
	r := &rig{tb: tb, node: newTestIdentity(tb), signer: newTestIdentity(tb), log: new(record)}
	r.listen(r.signer.Pin())
	return r
}

// listen starts a node's port; stop ends it.
func (r *rig) listen(pins ...Pin) (stop func()) {
	r.tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.tb.Fatal(err)
	}
	r.address = l.Addr().String()
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.listener = NewListener(l, ListenerConfig{Identity: r.node, Pins: pins, Log: log})
	return start(r.tb, r.listener.Run)
}

// start runs something until the test ends or stop is called.
func start(tb testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// record is a log that is read while it is written.
type record struct {
	mu   sync.Mutex
	text []byte
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, b...)
	return len(b), nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}

// dialer is a daemon that answers every line with the same line.
func (r *rig) dialer(change func(*DialerConfig)) (d *Dialer, stop func()) {
	c := DialerConfig{Address: r.address, Identity: r.signer, Pin: r.node.Pin(), Serve: echo, Log: quiet()}
	if change != nil {
		change(&c)
	}
	d = NewDialer(c)
	return d, start(r.tb, d.Run)
}

func echo(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		if _, err := conn.Write(line); err != nil {
			return
		}
	}
}

func patience(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

func (r *rig) dial() net.Conn {
	r.tb.Helper()
	conn, err := r.listener.Dial(patience(r.tb))
	if err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() { conn.Close() })
	return conn
}

func ask(tb testing.TB, conn net.Conn, line string) {
	tb.Helper()
	if err := askOnce(conn, line); err != nil {
		tb.Fatal(err)
	}
}

func askOnce(conn net.Conn, line string) error {
	go func() { _, _ = io.WriteString(conn, line+"\n") }()
	got, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if got != line+"\n" {
		return errors.New("got " + got)
	}
	return nil
}

// askUntil asks on new connections until one answers.
func (r *rig) askUntil(line string) {
	r.tb.Helper()
	for askOnce(r.dial(), line) != nil {
	}
}

func TestLink(t *testing.T) {
	r := newRig(t)
	d, stop := r.dialer(nil)
	conns := make([]net.Conn, 5)
	for i := range conns {
		conns[i] = r.dial()
		ask(t, conns[i], "hello")
	}
	long := strings.Repeat("x", 1<<20)
	for _, conn := range conns {
		ask(t, conn, long)
	}
	if st := d.Status(); st.Connections != len(conns) || st.Since.IsZero() {
		t.Fatalf("status %+v", st)
	}
	if !strings.Contains(conns[0].RemoteAddr().String(), "127.0.0.1:") {
		t.Fatalf("remote address %s", conns[0].RemoteAddr())
	}
	stop()
	if _, err := conns[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("after the signer's end: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.listener.Dial(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "no signer is connected") {
		t.Fatalf("without a signer: %v", err)
	}
}

// TestRestarts: either side goes and comes back; the other finds it again.
func TestRestarts(t *testing.T) {
	r := newRig(t)
	_, stopSigner := r.dialer(nil)
	r.askUntil("first")
	stopSigner()
	_, stopSigner = r.dialer(nil)
	r.askUntil("signer is back")
	stopSigner()

	// Another node in the place of the first, whose connections end.
	stopNode := r.listen(r.signer.Pin())
	old := r.listener
	var place atomic.Value
	place.Store(r.address)
	r.dialer(func(c *DialerConfig) {
		c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, place.Load().(string))
		}
	})
	r.askUntil("first node")
	stopNode()
	if _, err := old.Dial(patience(t)); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("a listener that has ended: %v", err)
	}
	r.listen(r.signer.Pin())
	place.Store(r.address)
	r.askUntil("node is back")
}

// TestPreference: of two signers the first of the list is used, and the other
// when the first is away.
func TestPreference(t *testing.T) {
	r := newRig(t)
	second := newTestIdentity(t)
	r.listen(r.signer.Pin(), second.Pin())
	served := make(chan string, 100)
	serve := func(name string) func(context.Context, net.Conn) {
		return func(ctx context.Context, conn net.Conn) { served <- name; echo(ctx, conn) }
	}
	_, stopFirst := r.dialer(func(c *DialerConfig) { c.Serve = serve("first") })
	ask(t, r.dial(), "x")
	r.dialer(func(c *DialerConfig) { c.Serve, c.Identity = serve("second"), second })
	for {
		r.listener.mu.Lock()
		both := len(r.listener.spare[r.signer.Pin()]) > 0 && len(r.listener.spare[second.Pin()]) > 0
		changed := r.listener.changed
		r.listener.mu.Unlock()
		if both {
			break
		}
		<-changed
	}
	ask(t, r.dial(), "x")
	for range 2 {
		if got := <-served; got != "first" {
			t.Fatalf("%s was used", got)
		}
	}
	stopFirst()
	r.askUntil("x")
	if got := <-served; got != "second" {
		t.Fatalf("%s was used", got)
	}
}

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
