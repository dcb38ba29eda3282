package embedtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/cluster/clustertest"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// issue writes NAME.crt and NAME.key.
func (a *authority) issue(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(a.file(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// TestTLSAndPassword: a box with its certificate, its password and a role on the
// prefix claims. Without one of them, or towards a member that somebody else vouches for, it does not.
func TestTLSAndPassword(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	a.issue("box", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	stranger := newAuthority(t)
	stranger.issue("box", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})

	e, k := &etcd{t: t, dir: t.TempDir(), token: "first", servers: make([]*embed.Etcd, 1)}, clustertest.NewKey()
	info := transport.TLSInfo{CertFile: a.file("server.crt"), KeyFile: a.file("server.key"), TrustedCAFile: a.file("ca.crt"), ClientCertAuth: true}
	e.clients, e.peers, e.tls = []string{"https" + freeURL(t)[len("http"):]}, []string{freeURL(t)}, info
	t.Cleanup(e.stop)
	e.start()

	own, err := info.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := clientv3.New(clientv3.Config{Endpoints: e.clients, TLS: own})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	prefix := "/qcity/signer/"
	for _, err := range []error{
		drop(admin.UserAdd(t.Context(), "root", "root")), drop(admin.UserGrantRole(t.Context(), "root", "root")),
		drop(admin.UserAdd(t.Context(), "box", "secret")), drop(admin.UserAdd(t.Context(), "guest", "secret")),
		drop(admin.RoleAdd(t.Context(), "signer")), drop(admin.UserGrantRole(t.Context(), "box", "signer")),
		drop(admin.RoleGrantPermission(t.Context(), "signer", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))),
		drop(admin.AuthEnable(t.Context())),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"password": "secret\n", "wrong": "guess\n"} {
		if err := os.WriteFile(a.file(name), []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	good := e.box(k, "box")
	good.CA, good.Cert, good.Key = a.file("ca.crt"), a.file("box.crt"), a.file("box.key")
	good.Username, good.PasswordFile = "box", a.file("password")
	join(t, good, 0)
	b := open(t, good)
	claim(t, b, k.Block(10, 0))
	_, end := campaign(t, b)
	leads(t, b)
	end()
	shut(t, b)

	for name, change := range map[string]struct {
		of   func(*cluster.Config)
		want cluster.ErrorKind
	}{
		"certificate of a stranger": {func(c *cluster.Config) { c.Cert, c.Key = stranger.file("box.crt"), stranger.file("box.key") }, cluster.ErrUnavailable},
		"members of a stranger":     {func(c *cluster.Config) { c.CA = stranger.file("ca.crt") }, cluster.ErrUnavailable},
		"wrong password":            {func(c *cluster.Config) { c.PasswordFile = a.file("wrong") }, cluster.ErrMisconfigured},
		"no role":                   {func(c *cluster.Config) { c.Username = "guest" }, cluster.ErrMisconfigured},
		"no key file":               {func(c *cluster.Config) { c.Key = a.file("none") }, cluster.ErrMisconfigured},
		"no certificates in ca":     {func(c *cluster.Config) { c.CA = a.file("box.key") }, cluster.ErrMisconfigured},
	} {
		c := good
		change.of(&c)
		if change.want == cluster.ErrUnavailable {
			c.Timeouts.Patience = time.Second // no answer at all will come
		}
		if _, err := cluster.Open(t.Context(), c); !errors.Is(err, change.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func drop[T any](_ T, err error) error { return err }
