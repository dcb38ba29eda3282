package signer

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/link"
	"qcitycoin.org/qcity/signer/worker"
)

// Config configures the signer daemon. Paths are used as they are; secrets are
// never in it. Users write the signer's part of configs.Config, whose names the
// errors of this package use.
type Config struct {
	// Journal is the path of the signing journal (CreateJournal). Beside it lie its
	// mark, pins.json and, with SoftHSMCopy, the copies of the token directory.
	Journal string
	// Audit is the path of the audit log (audit.Create).
	Audit string
	// Cluster is where boxes with the same keys claim what they sign; nil: there
	// are none. Network, Keys and Log are filled in.
	Cluster *cluster.Config
	// Socket is the path of the Unix socket the node connects to; its directory
	// must be closed to other users (mode 0700).
	Socket string
	// NodeUIDs are users that may connect besides the daemon's own and root. When
	// it is not empty the socket's directory need only be closed to writing.
	NodeUIDs []uint32
	// Nodes are dialled over TLS, with the key in the file Identity. When there are
	// any, nodes cannot use the socket: it is left to operators.
	Nodes    []NodeConfig
	Identity string
	// Worker is the path of the program qcity-p11.
	Worker string
	// Module is the path of the PKCS#11 library, for example
	// /usr/lib/softhsm/libsofthsm2.so.
	Module string
	// ModuleArgs is a string that the module wants in C_Initialize; NSS does.
	ModuleArgs string
	// ModuleEnv is added to the little that the worker's environment has, for
	// libraries that are configured that way: NAME=value sets a variable, NAME
	// passes the daemon's own on. Never a PIN.
	ModuleEnv []string
	// ModuleWrites are files and directories beneath which the module may write:
	// its tokens, locks and logs. Elsewhere it may not. It never reads what lies
	// beside the journal.
	ModuleWrites []string
	// ModuleNetwork lets the module use the network, as one for a network HSM must.
	ModuleNetwork bool
	// Sessions is how many signatures a token may be asked for at the same time;
	// zero means worker.DefaultSessions.
	Sessions int
	// VendorCodes says what to do about return codes of the module's vendor, from
	// 0x80000000 on. Others lead to a new worker.
	VendorCodes map[worker.RV]worker.Class
	// SoftHSMCopy, a SoftHSM token directory, makes the worker use a copy of it,
	// made afresh whenever the worker starts. SoftHSM can destroy a token when it is
	// killed while it logs in. For devnets and tests only; empty means no copy.
	SoftHSMCopy string
	// SignaturesPerSecond and SignatureBurst bound how fast new signatures are
	// made (rule rate-limit). Zero means 12 a second and 120 at once: two slots a
	// second and 20 at once, of which each takes a block and the votes of five keys.
	SignaturesPerSecond float64
	SignatureBurst      int
	// Keys are the keys this daemon signs with.
	Keys []KeyConfig
}

// NodeConfig is a node that the daemon dials.
type NodeConfig struct {
	Address string   // host:port
	Pin     link.Pin // of the node's identity
}

// KeyConfig is one signing key and where it is.
type KeyConfig struct {
	// PublicKey pins the key, for example "secp256k1:02…". It need not be in the
	// network's first validator set: it may join by a change of the set.
	PublicKey types.PublicKey
	// TokenLabel and TokenSerial name the token. The serial may be left out while
	// the label is the only one of its kind.
	TokenLabel  string
	TokenSerial string
	// KeyLabel, unless empty, must be the label of the key in the token.
	KeyLabel string
	// KeyID, unless empty, must be the key's CKA_ID.
	KeyID []byte
	// PIN says where the token's user PIN comes from.
	PIN PINSource
	// AllowExtractable accepts a key that can be, or could once be, read out of its
	// token. Such a key may be used elsewhere, past this journal.
	AllowExtractable bool
}

// Check reports everything in the configuration that cannot work.
func (c *Config) Check() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("signer: "+format, args...))
		}
	}
	need(c.Journal != "", "journal: no path is given")
	need(c.Audit != "", "audit: no path is given")
	need(c.Socket != "", "socket: no path is given")
	need(len(c.Nodes) == 0 || c.Identity != "", "identity: no path is given, and nodes are to be dialled: make one with `qcity signer identity`")
	dialled := make(map[string]bool)
	for i, n := range c.Nodes {
		need(n.Address != "" && n.Pin != link.Pin{}, "nodes[%d]: dial and pin are needed", i)
		need(!dialled[n.Address], "nodes[%d]: %s is listed twice", i, n.Address)
		dialled[n.Address] = true
	}
	need(c.Worker != "", "worker: no path is given")
	need(c.Module != "", "module: no path is given")
	need(c.SignaturesPerSecond >= 0 && c.SignatureBurst >= 0, "signatures_per_second and signature_burst: want no negative number")
	need(len(c.Keys) > 0, "keys: none is given")
	seen := make(map[types.PublicKey]bool)
	pins := make(map[[2]string]PINSource)
	used := make(map[PINSource][2]string)
	for i, k := range c.Keys {
		need(!seen[k.PublicKey], "keys[%d]: %s is listed twice", i, k.PublicKey)
		need(k.TokenLabel != "", "keys[%d]: token is missing", i)
		need(k.PIN != PINSource{}, "keys[%d]: pin is missing: use %s", i, pinForms)
		token := [2]string{k.TokenLabel, k.TokenSerial}
		other, known := pins[token]
		need(!known || other == k.PIN, "keys[%d]: token %q has two sources of its PIN, %s and %s: name one", i, k.TokenLabel, other, k.PIN)
		owner, taken := used[k.PIN]
		need(!taken || owner == token || k.PIN.kind != fromFD, "keys[%d]: %s can be read once, for one token, and tokens %q and %q both want it", i, k.PIN, owner[0], k.TokenLabel)
		seen[k.PublicKey], pins[token], used[k.PIN] = true, k.PIN, token
	}
	need(c.Sessions >= 0 && c.Sessions <= worker.MaxParallel, "sessions: want 1 to %d", worker.MaxParallel)
	return errors.Join(errs...)
}

func (c *Config) publicKeys() []types.PublicKey {
	keys := make([]types.PublicKey, len(c.Keys))
	for i := range c.Keys {
		keys[i] = c.Keys[i].PublicKey
	}
	return keys
}

func (c *Config) limit() RateLimit {
	l := RateLimit{PerSecond: c.SignaturesPerSecond, Burst: c.SignatureBurst}
	if l.PerSecond == 0 {
		l.PerSecond = 12
	}
	if l.Burst == 0 {
		l.Burst = 120
	}
	return l
}

// besideJournal returns the path of a file that belongs to the journal.
func (c *Config) besideJournal(name string) string {
	return filepath.Join(filepath.Dir(c.Journal), name)
}

// workerConfig is what the PKCS#11 worker is started with.
func (c *Config) workerConfig(log *slog.Logger) (worker.Config, error) {
	secret, err := filepath.Abs(filepath.Dir(c.Journal))
	if err != nil {
		return worker.Config{}, fmt.Errorf("the directory of the journal: %w", err)
	}
	box := &worker.Sandbox{Hidden: []string{secret}, NoNetwork: !c.ModuleNetwork}
	for _, path := range c.ModuleWrites {
		if path, err = filepath.Abs(path); err != nil {
			return worker.Config{}, fmt.Errorf("module_writes: %w", err)
		}
		box.Writable = append(box.Writable, path)
	}
	tokens := c.tokenCopy()
	if tokens != nil {
		if tokens.Dir, err = filepath.Abs(tokens.Dir); err != nil {
			return worker.Config{}, fmt.Errorf("pristine_tokens: %w", err)
		}
	}
	return worker.Config{
		Binary: c.Worker, Module: c.Module, InitArgs: c.ModuleArgs, Env: c.ModuleEnv, Sessions: c.Sessions, VendorCodes: c.VendorCodes,
		Sandbox: box, PrivateTokenCopy: tokens, Log: log,
	}, nil
}

func (c *Config) tokenCopy() *worker.PrivateTokenCopy {
	if c.SoftHSMCopy == "" {
		return nil
	}
	return &worker.PrivateTokenCopy{Source: c.SoftHSMCopy, Dir: c.besideJournal("token-copies")}
}
