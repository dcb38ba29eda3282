package cluster

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"qcitycoin.org/qcity/node/types"
)

// Config says where the cluster is and which keys are claimed in it. Users write
// configs.Cluster, whose names the errors use.
type Config struct {
	// Endpoints are the client URLs of the members. http is accepted on loopback
	// addresses only.
	Endpoints []string
	// CA, Cert and Key are PEM files: who signs the members' certificates, and our
	// own client certificate. A renewed certificate is used without a restart.
	CA, Cert, Key string
	// Username and PasswordFile, both or neither, log in to etcd besides. The file
	// has one line and mode 0400 or 0600.
	Username, PasswordFile string

	Network types.Hash
	// Prefix of all names in etcd, shared by the boxes. Empty: "/qcity/signer".
	Prefix string
	Keys   []types.PublicKey
	// StatePath is the file of the pin (doc.go). Join makes it; it belongs to this
	// box, but a copy is harmless: it only forbids.
	StatePath string
	// Name tells this box from the others. Empty: the name of the host.
	Name string

	// AllowSingleMember accepts fewer than three members, AllowOldVersion versions
	// with known faults. For devnets and tests only.
	AllowSingleMember, AllowOldVersion bool

	Timeouts Timeouts
	Log      *slog.Logger
}

// Timeouts bound what is waited for. A zero stands for the default. None has a
// part in what may be signed.
type Timeouts struct {
	// Attempt is how long one question waits before it is asked again, perhaps of
	// another member. Default: 1 s.
	Attempt time.Duration
	// Patience is how long a call goes on asking. Default: 5 s. It ends earlier with
	// the caller's context.
	Patience time.Duration
	// Lease is how long the box that tries first may be silent before another does, a whole
	// number of seconds. Default and, with etcd's usual settings, the least: 2 s.
	Lease time.Duration
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Timeouts.Attempt, time.Second)
	def(&c.Timeouts.Patience, 5*time.Second)
	def(&c.Timeouts.Lease, 2*time.Second)
	if c.Prefix == "" {
		c.Prefix = "/qcity/signer"
	}
	if c.Name == "" {
		c.Name, _ = os.Hostname()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Check reports everything in the configuration that cannot work.
func (c *Config) Check() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("signer.cluster: "+format, args...))
		}
	}
	need(len(c.Endpoints) > 0, "etcd: no endpoint is given")
	for _, e := range c.Endpoints {
		if err := CheckEndpoint(e); err != nil {
			errs = append(errs, fmt.Errorf("signer.cluster: etcd: %w", err))
		}
	}
	need(!c.secure() || c.CA != "" && c.Cert != "" && c.Key != "", "ca, cert and key: https needs all three files")
	need((c.Username == "") == (c.PasswordFile == ""), "username and password_file: want both or neither")
	need(c.StatePath != "", "state: no path is given")
	need(!c.Network.IsZero(), "no network is given")
	need(len(c.Keys) > 0, "no key is given")
	need(strings.HasPrefix(c.Prefix, "/") && !strings.HasSuffix(c.Prefix, "/"), "prefix: want /name/…/name")
	need(c.Timeouts.Lease%time.Second == 0, "lease: want whole seconds")
	if err := errors.Join(errs...); err != nil {
		return failed(ErrMisconfigured, err, "the configuration of the cluster cannot work")
	}
	return nil
}

// CheckEndpoint reports why a text is no endpoint that may be trusted with claims.
func CheckEndpoint(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Port() == "" || u.Path != "" || u.User != nil || u.RawQuery != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return fmt.Errorf("%q: want https://host:port", text)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && !ip.IsLoopback() && u.Hostname() != "localhost" {
		return fmt.Errorf("%q: without TLS anybody on the way can answer for the cluster: use https, or http on a loopback address", text)
	}
	return nil
}

func (c *Config) secure() bool {
	for _, e := range c.Endpoints {
		if strings.HasPrefix(e, "https:") {
			return true
		}
	}
	return false
}

// dial makes the client. It connects in the background.
func (c *Config) dial() (*clientv3.Client, error) {
	cc := clientv3.Config{
		Endpoints:            c.Endpoints,
		DialTimeout:          c.Timeouts.Patience,
		DialKeepAliveTime:    10 * time.Second, // the least that gRPC allows
		DialKeepAliveTimeout: 2 * time.Second,
		Username:             c.Username,
		Logger:               zap.NewNop(), // its failures come back as errors, and are logged here
	}
	var err error
	if c.secure() {
		if cc.TLS, err = c.tls(); err != nil {
			return nil, failed(ErrMisconfigured, err, "the certificates for etcd cannot be used")
		}
	}
	if c.PasswordFile != "" {
		if cc.Password, err = readPassword(c.PasswordFile); err != nil {
			return nil, failed(ErrMisconfigured, err, "the password for etcd cannot be used")
		}
	}
	client, err := clientv3.New(cc)
	if err != nil {
		return nil, explain(err, "connecting to etcd")
	}
	return client, nil
}

func (c *Config) tls() (*tls.Config, error) {
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", c.CA)
	}
	if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    roots,
		// Read anew for each connection: certificates are renewed.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
			return &pair, err
		},
	}, nil
}

// readPassword reads one line from a file that only we can read.
func readPassword(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if mode := info.Mode(); mode != fs.FileMode(0o400) && mode != fs.FileMode(0o600) {
		return "", fmt.Errorf("%s has mode %s, want a regular file with mode 0400 or 0600: type  chmod 400 %s", path, mode, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	defer clear(b)
	line := bytes.TrimSuffix(b, []byte("\n"))
	if len(line) == 0 || bytes.ContainsAny(line, "\r\n\x00") {
		return "", fmt.Errorf("%s must hold one line, the password, and nothing else", path)
	}
	return string(line), nil
}
