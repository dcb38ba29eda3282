package signer

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/signer/worker"
)

// pinsFile lies beside the journal.
const pinsFile = "pins.json"

// pinsVersion is the version of its format.
const pinsVersion = 1

// pinRecords is the content of pins.json: what is known of the PINs in the PIN
// files. A token has at most one login, and any number of refused PINs:
//
//	{
//	  "version": 1,
//	  "logins": [{
//	    "token": {"label": "validator-0", "serial": "d3e5…"},
//	    "state": "accepted",
//	    "file": {"name": "validator-0.pin", "size": 13, "mtime": 1795500000123456789, "inode": 4711},
//	    "time": "2026-11-23T04:05:06Z"
//	  }],
//	  "refused": [{
//	    "token": {…}, "file": "validator-0.pin", "time": "…",
//	    "salt": "…", "rounds": 600000, "hash": "…"
//	  }]
//	}
//
// Nothing is derived from a good PIN. Of a refused one, which is most often a
// mistyped good one, there is a hash that is slow to search.
type pinRecords struct {
	Version int          `json:"version"`
	Logins  []loginEntry `json:"logins"`
	Refused []refusedPIN `json:"refused"`
}

// loginState is how the last login with a PIN file ended.
type loginState string

const (
	// loginTrying: the PIN was about to be shown to the token, and no end is
	// known. The token may have counted it as a wrong one.
	loginTrying loginState = "trying"
	// loginAccepted: the token accepted the PIN.
	loginAccepted loginState = "accepted"
)

type loginEntry struct {
	Token worker.TokenRef `json:"token"`
	State loginState      `json:"state"`
	File  pinFileID       `json:"file"`
	Time  time.Time       `json:"time"`
}

// refusedPIN remembers that a token refused a PIN, without telling the PIN.
type refusedPIN struct {
	Token  worker.TokenRef `json:"token"`
	File   string          `json:"file"` // name of the PIN file
	Time   time.Time       `json:"time"`
	Salt   []byte          `json:"salt"`
	Rounds int             `json:"rounds"`
	Hash   []byte          `json:"hash"` // PBKDF2-HMAC-SHA-256
}

// pinRounds is OWASP's figure for PBKDF2-HMAC-SHA-256.
const pinRounds = 600_000

func (r *refusedPIN) hash(pin []byte) ([]byte, error) {
	h, err := pbkdf2.Key(sha256.New, string(pin), r.Salt, r.Rounds, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("hashing a refused PIN: %w", err)
	}
	return h, nil
}

func (p *pinRecords) login(token worker.TokenRef) *loginEntry {
	for i := range p.Logins {
		if p.Logins[i].Token == token {
			return &p.Logins[i]
		}
	}
	return nil
}

// with returns a copy in which e is the token's only login.
func (p *pinRecords) with(e loginEntry) pinRecords {
	q := p.without(e.Token)
	q.Logins = append(q.Logins, e)
	return q
}

func (p *pinRecords) without(token worker.TokenRef) pinRecords {
	q := *p
	q.Logins = slices.DeleteFunc(slices.Clone(p.Logins), func(e loginEntry) bool { return e.Token == token })
	return q
}

// check refuses what this package never wrote.
func (p *pinRecords) check() error {
	if p.Version != pinsVersion {
		return fmt.Errorf("version %d, want %d", p.Version, pinsVersion)
	}
	seen := make(map[worker.TokenRef]bool)
	for _, e := range p.Logins {
		if e.State != loginTrying && e.State != loginAccepted {
			return fmt.Errorf("token %s has the unknown state %q", e.Token, e.State)
		}
		if seen[e.Token] {
			return fmt.Errorf("token %s is listed twice", e.Token)
		}
		seen[e.Token] = true
	}
	for _, r := range p.Refused {
		if r.Rounds < 1 || r.Rounds > 10*pinRounds || len(r.Hash) != sha256.Size {
			return fmt.Errorf("token %s has a refused PIN that makes no sense", r.Token)
		}
	}
	return nil
}

// pinLedger keeps pins.json. Tokens lock after a few wrong PINs, so a PIN that
// was never accepted is shown to its token once, and what is shown is written
// down before. There is one ledger at a time, that of the daemon with the journal.
//
// Memory may know more than the file: how a login ended stays true where it
// could not be written. Then the file says trying, which is the safe side.
type pinLedger struct {
	path   string
	rounds int
	read   func(path string) ([]byte, error)
	write  func(path string, data []byte, perm fs.FileMode) error

	mu     sync.Mutex
	loaded bool
	dirty  bool // the file may say something else
	pins   pinRecords
}

func newPINLedger(path string) *pinLedger {
	return &pinLedger{path: path, rounds: pinRounds, read: os.ReadFile, write: durable.WriteFile}
}

// RecordAcceptedPIN notes beside the journal at journalPath that the token has
// just accepted the PIN in pinFile. It is for set-up programs that have logged
// in with that PIN themselves, and spares the daemon a first login of which
// nothing is known. The file may be moved afterwards, with its folder, but not
// written or touched. No daemon may be running on the journal.
func RecordAcceptedPIN(journalPath string, token worker.TokenRef, pinFile string) error {
	if token.Label == "" || token.Serial == "" {
		return fmt.Errorf("recording an accepted PIN: token %s needs a label and a serial number", token)
	}
	f, err := readPIN(pinFile)
	if err != nil {
		return fmt.Errorf("recording an accepted PIN: %w", err)
	}
	clear(f.pin)
	return newPINLedger(filepath.Join(filepath.Dir(journalPath), pinsFile)).accepted(token, f, time.Now())
}

// load reads the file, once.
func (l *pinLedger) load() error {
	if l.loaded {
		return nil
	}
	b, err := l.read(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		l.pins, l.loaded = pinRecords{Version: pinsVersion}, true
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the record of PINs, without which none is tried: %w", err)
	}
	var p pinRecords
	if err = decodeStrict(b, &p); err == nil {
		err = p.check()
	}
	if err != nil {
		return &TerminalError{fmt.Errorf("the record of PINs %s is damaged: check the PINs in all PIN files, then remove it to have each tried once: %w", l.path, err)}
	}
	l.pins, l.loaded = p, true
	return nil
}

// check decides on showing the PIN to the token. known means that the token
// accepted it before; otherwise begin must come first. A TerminalError says
// that it was shown, in vain or with no known end.
func (l *pinLedger) check(token worker.TokenRef, f pinFile) (known bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(); err != nil {
		return false, err
	}
	if err := l.wasRefused(token, f); err != nil {
		return false, &TerminalError{err}
	}
	e := l.pins.login(token)
	if e == nil || e.File != f.id {
		return false, nil
	}
	if e.State == loginTrying {
		return false, &TerminalError{fmt.Errorf("on %s %w", e.Time.Format(time.RFC3339), cutOff(token, f))}
	}
	return true, nil
}

// cutOff says what to do when nobody knows whether the token judged the PIN.
func cutOff(token worker.TokenRef, f pinFile) error {
	return fmt.Errorf("the login with the PIN in %s was cut off, token %s may have counted it as a wrong one: check the PIN, then touch the file (`touch %s`) to have it tried once",
		f.path, token, f.path)
}

func (l *pinLedger) wasRefused(token worker.TokenRef, f pinFile) error {
	for _, r := range l.pins.Refused {
		if r.Token != token {
			continue
		}
		hash, err := r.hash(f.pin)
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(hash, r.Hash) == 1 {
			return fmt.Errorf("the PIN in %s was refused by token %s on %s and is not tried again, because tokens lock: correct the PIN in that file (or remove %s if the token's PIN was changed to it since)",
				f.path, token, r.Time.Format(time.RFC3339), l.path)
		}
	}
	return nil
}

// begin records, durably, that the PIN is about to be shown to the token. After
// an error it must not be.
func (l *pinLedger) begin(token worker.TokenRef, f pinFile, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.pins.with(loginEntry{token, loginTrying, f.id, stamp(now)})
	if err := l.store(&next); err != nil {
		l.dirty = true // it may be there all the same
		return fmt.Errorf("the PIN of token %s is not tried, as that must be written down first: %w", token, err)
	}
	l.pins, l.dirty = next, false
	return nil
}

// unseen takes back begin: the token was not asked to judge the PIN after all.
func (l *pinLedger) unseen(token worker.TokenRef) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settle(l.pins.without(token))
}

// accepted records that the token accepted the PIN, and forgets what it refused.
func (l *pinLedger) accepted(token worker.TokenRef, f pinFile, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(); err != nil {
		return err
	}
	ofToken := func(r refusedPIN) bool { return r.Token == token }
	e := l.pins.login(token)
	if !l.dirty && e != nil && e.State == loginAccepted && e.File == f.id && !slices.ContainsFunc(l.pins.Refused, ofToken) {
		return nil
	}
	next := l.pins.with(loginEntry{token, loginAccepted, f.id, stamp(now)})
	next.Refused = slices.DeleteFunc(slices.Clone(next.Refused), ofToken)
	return l.settle(next)
}

// refused records that the token refused the PIN.
func (l *pinLedger) refused(token worker.TokenRef, f pinFile, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refuse(token, f, now)
}

// withdrawn records that the token refused a PIN it had accepted, provided that
// the file still holds that PIN.
func (l *pinLedger) withdrawn(token worker.TokenRef, f pinFile, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.pins.login(token); e == nil || e.State != loginAccepted || e.File != f.id {
		return nil
	}
	return l.refuse(token, f, now)
}

func (l *pinLedger) refuse(token worker.TokenRef, f pinFile, now time.Time) error {
	r := refusedPIN{Token: token, File: f.id.Name, Time: stamp(now), Salt: make([]byte, 16), Rounds: l.rounds}
	_, _ = rand.Read(r.Salt) // never fails (crypto/rand)
	var err error
	if r.Hash, err = r.hash(f.pin); err != nil {
		return err
	}
	next := l.pins.without(token)
	next.Refused = append(slices.Clone(next.Refused), r)
	return l.settle(next)
}

// settle takes over what is true now, whether or not it can be written.
func (l *pinLedger) settle(next pinRecords) error {
	l.pins, l.dirty = next, true
	if err := l.store(&next); err != nil {
		return err
	}
	l.dirty = false
	return nil
}

func (l *pinLedger) store(p *pinRecords) error {
	b, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return fmt.Errorf("encoding the record of PINs: %w", err)
	}
	return l.write(l.path, append(b, '\n'), 0o600)
}

func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
