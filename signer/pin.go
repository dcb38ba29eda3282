package signer

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/signer/worker"
)

// maxPIN is the longest PIN in bytes; PKCS#11 tokens announce at most 255.
const maxPIN = 255

// readPIN reads a PIN file. The caller clears the result.
func readPIN(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("PIN file %s is a symbolic link: name the file itself", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the PIN file: %w", err)
	}
	defer f.Close()
	if err := checkPINFile(f, path); err != nil {
		return nil, err
	}
	pin := make([]byte, maxPIN+2)
	n, err := io.ReadFull(f, pin)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(pin)
		return nil, fmt.Errorf("reading the PIN file %s: %w", path, err)
	}
	pin = bytes.TrimSuffix(pin[:n], []byte("\n"))
	if len(pin) == 0 || len(pin) > maxPIN || bytes.ContainsAny(pin, "\r\n\x00") {
		clear(pin)
		return nil, fmt.Errorf("PIN file %s must hold one line of 1 to %d characters, the PIN, and nothing else", path, maxPIN)
	}
	return pin, nil
}

func checkPINFile(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("checking the PIN file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("PIN file %s is no regular file: write the PIN into a file of its own", path)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != uint32(os.Geteuid()) {
		return fmt.Errorf("PIN file %s belongs to user %d: type  chown %d %s", path, uid, os.Geteuid(), path)
	}
	if mode := info.Mode().Perm(); mode != 0o400 && mode != 0o600 {
		return fmt.Errorf("PIN file %s has mode %04o, others might read it: type  chmod 400 %s", path, mode, path)
	}
	return nil
}

// refusedPIN remembers that a token refused a PIN, without telling the PIN.
type refusedPIN struct {
	Token   worker.TokenRef `json:"token"`
	PINFile string          `json:"pinFile"`
	Time    time.Time       `json:"time"`
	Salt    []byte          `json:"salt"`
	Hash    []byte          `json:"hash"` // PBKDF2-HMAC-SHA-256, pinRounds rounds
}

// pinRounds makes the hash of a PIN slow to search (OWASP's figure for
// PBKDF2-HMAC-SHA-256): a refused PIN is often a mistyped good one.
const pinRounds = 600_000

func hashPIN(pin, salt []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, string(pin), salt, pinRounds, sha256.Size)
}

// pinLedger is the file of refused PINs. Tokens lock after a few wrong PINs, so
// one that was refused is not shown to its token again, also after a restart.
type pinLedger struct{ path string }

func (l pinLedger) load() ([]refusedPIN, error) {
	b, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []refusedPIN
	if err == nil {
		err = decodeStrict(b, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("the list of refused PINs %s cannot be read: check the PIN, then remove the file: %w", l.path, err)
	}
	return list, nil
}

// check refuses a PIN that the token has refused before.
func (l pinLedger) check(token worker.TokenRef, pin []byte) error {
	list, err := l.load()
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.Token != token {
			continue
		}
		hash, err := hashPIN(pin, r.Salt)
		if err != nil {
			return fmt.Errorf("comparing PINs: %w", err)
		}
		if subtle.ConstantTimeCompare(hash, r.Hash) == 1 {
			return fmt.Errorf("the PIN in %s was refused by token %s on %s and is not tried again, because tokens lock: correct the PIN in that file (or remove %s if the token's PIN was changed to it since)",
				r.PINFile, token, r.Time.Format(time.RFC3339), l.path)
		}
	}
	return nil
}

// refused records, durably, that the token refused the PIN.
func (l pinLedger) refused(token worker.TokenRef, pinFile string, pin []byte, now time.Time) error {
	list, err := l.load()
	if err != nil {
		return err
	}
	r := refusedPIN{Token: token, PINFile: pinFile, Time: now.UTC().Truncate(time.Second), Salt: make([]byte, 16)}
	_, _ = rand.Read(r.Salt) // never fails (crypto/rand)
	if r.Hash, err = hashPIN(pin, r.Salt); err != nil {
		return fmt.Errorf("hashing a refused PIN: %w", err)
	}
	return l.store(append(list, r))
}

// accepted forgets what the token refused, now that a PIN was right.
func (l pinLedger) accepted(token worker.TokenRef) error {
	list, err := l.load()
	if err != nil {
		return err
	}
	n := len(list)
	list = slices.DeleteFunc(list, func(r refusedPIN) bool { return r.Token == token })
	if len(list) == n {
		return nil
	}
	return l.store(list)
}

func (l pinLedger) store(list []refusedPIN) error {
	b, err := json.MarshalIndent(list, "", "\t")
	if err != nil {
		return fmt.Errorf("encoding the list of refused PINs: %w", err)
	}
	return durable.WriteFile(l.path, append(b, '\n'), 0o600)
}
