package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// PrivateTokenCopy makes every worker generation work on a fresh copy of a
// SoftHSM token directory. For devnets and tests only.
//
// Why: SoftHSM 2.6 truncates and rewrites its token file, without fsync, at
// each login. A process killed in that moment leaves an empty file: token and
// keys are gone (seen 10 times in 400 kills). Tests that kill processes at any
// moment, and a demo that survives it, therefore never log in to the original.
// A real device has no such directory and needs no copy.
type PrivateTokenCopy struct {
	// Source is the pristine token directory (SoftHSM's directories.tokendir).
	Source string
	// Dir is where the copies are made, one per worker generation, each with
	// mode 0700. It is created if missing and must belong to this Supervisor
	// alone: copies left there by an earlier run are removed.
	Dir string
}

const copyPrefix = "softhsm-copy-"

// make removes the earlier copies, makes a new one and returns the path of the
// SoftHSM configuration that points to it.
func (c PrivateTokenCopy) make() (conf string, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return "", err
	}
	if err := c.remove(); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(c.Dir, copyPrefix) // mode 0700
	if err != nil {
		return "", err
	}
	tokens := filepath.Join(dir, "tokens")
	if err := os.CopyFS(tokens, os.DirFS(c.Source)); err != nil {
		return "", fmt.Errorf("copy the token directory %s: %w", c.Source, err)
	}
	conf = filepath.Join(dir, "softhsm2.conf")
	return conf, os.WriteFile(conf, []byte(SoftHSMConf(tokens)), 0o600)
}

func (c PrivateTokenCopy) remove() error {
	old, err := filepath.Glob(filepath.Join(c.Dir, copyPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// SoftHSMConf returns a configuration for SoftHSM 2 that keeps its tokens in
// tokenDir. Name the file that holds it in SOFTHSM2_CONF (Config.Env).
func SoftHSMConf(tokenDir string) string {
	return "directories.tokendir = " + tokenDir + "\n" +
		"objectstore.backend = file\n" +
		"log.level = ERROR\n" +
		"slots.removable = false\n"
}

// SoftHSMModule returns the path of the SoftHSM 2 module: $SOFTHSM2_MODULE if
// set, otherwise the first of the places where distributions put it.
func SoftHSMModule() (string, error) {
	if path := os.Getenv("SOFTHSM2_MODULE"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("SOFTHSM2_MODULE: %w", err)
		}
		return path, nil
	}
	for _, pattern := range [...]string{
		"/usr/lib/softhsm/libsofthsm2.so",       // Debian, Ubuntu
		"/usr/lib/*/softhsm/libsofthsm2.so",     // Debian, multiarch
		"/usr/lib64/pkcs11/libsofthsm2.so",      // Fedora
		"/usr/lib64/softhsm/libsofthsm2.so",     // openSUSE
		"/usr/lib/pkcs11/libsofthsm2.so",        // Arch
		"/usr/local/lib/softhsm/libsofthsm2.so", // built by hand
	} {
		// The patterns are constants, so Glob cannot fail.
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("SoftHSM 2 is not installed: type \"sudo apt-get install softhsm2\", or set SOFTHSM2_MODULE to the path of libsofthsm2.so")
}
