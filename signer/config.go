package signer

import (
	"errors"
	"fmt"
	"path/filepath"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/worker"
)

// Config configures the signer daemon. Paths are used as they are; secrets are
// never in it. Users write the signer's part of configs.Config, whose names the
// errors of this package use.
type Config struct {
	// Journal is the path of the signing journal (CreateJournal). Beside it lie its
	// mark, pins.json and, with SoftHSMCopy, the copies of the token directory.
	Journal string
	// Socket is the path of the Unix socket the node connects to; its directory
	// must be closed to other users (mode 0700).
	Socket string
	// NodeUIDs are users that may connect besides the daemon's own and root. When
	// it is not empty the socket's directory need only be closed to writing.
	NodeUIDs []uint32
	// Worker is the path of the program qcity-p11.
	Worker string
	// Module is the path of the PKCS#11 library, for example
	// /usr/lib/softhsm/libsofthsm2.so.
	Module string
	// ModuleEnv is added to the environment of the worker, as NAME=value, for
	// libraries that are configured that way. Never a PIN.
	ModuleEnv []string
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
	// PINFile holds the token's user PIN on one line: a regular file of ours,
	// mode 0400 or 0600.
	PINFile string
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
	need(c.Socket != "", "socket: no path is given")
	need(c.Worker != "", "worker: no path is given")
	need(c.Module != "", "module: no path is given")
	need(c.SignaturesPerSecond >= 0 && c.SignatureBurst >= 0, "signatures_per_second and signature_burst: want no negative number")
	need(len(c.Keys) > 0, "keys: none is given")
	seen := make(map[types.PublicKey]bool)
	pins := make(map[[2]string]string)
	for i, k := range c.Keys {
		need(!seen[k.PublicKey], "keys[%d]: %s is listed twice", i, k.PublicKey)
		need(k.TokenLabel != "", "keys[%d]: token is missing", i)
		need(k.PINFile != "", "keys[%d]: pin_file is missing", i)
		token := [2]string{k.TokenLabel, k.TokenSerial}
		other, known := pins[token]
		need(!known || other == k.PINFile, "keys[%d]: token %q has two PIN files, %s and %s: name one", i, k.TokenLabel, other, k.PINFile)
		seen[k.PublicKey], pins[token] = true, k.PINFile
	}
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

func (c *Config) tokenCopy() *worker.PrivateTokenCopy {
	if c.SoftHSMCopy == "" {
		return nil
	}
	return &worker.PrivateTokenCopy{Source: c.SoftHSMCopy, Dir: c.besideJournal("token-copies")}
}
