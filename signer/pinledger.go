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
	"unsafe"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/signer/worker"
)

// pinsFile lies beside the journal.
const pinsFile = "pins.json"

// pinsVersion is the version of its format. Version 1, which knew files only, is
// read as well: all it can hold means the same.
const pinsVersion = 2

// pinRecords is the content of pins.json: what is known of the PINs that were
// shown to tokens. A token has at most one login, and any number of refused PINs:
//
//	{
//	  "version": 2,
//	  "logins": [{
//	    "token": {"label": "validator-0", "serial": "d3e5…"},
//	    "state": "accepted",
//	    "file": {"name": "validator-0.pin", "size": 13, "mtime": 1795500000123456789, "inode": 4711},
//	    "time": "2026-11-23T04:05:06Z"
//	  }, {
//	    "token": {…}, "state": "trying", "source": "credential:validator-1",
//	    "proof": {"salt": "…", "rounds": 600000, "hash": "…"}, "time": "…"
//	  }],
//	  "refused": [{
//	    "token": {…}, "file": "validator-0.pin", "time": "…",
//	    "salt": "…", "rounds": 600000, "hash": "…"
//	  }]
//	}
//
// What tells a PIN that was changed from one that was not? For a file, that it was
// written or touched. A credential is decrypted anew at every start, a key in the
// keyring keeps its number when its content changes, and a descriptor has nothing
// to know it by. For those there is a salted hash of the PIN that is slow to
// search, from before its first login until that has ended. When it was accepted
// the hash is removed, so nothing derived from a good PIN stays on the disk; the
// price is that the first login of each start counts as one with an unknown PIN,
// and when it is cut off, a person is asked. Of a refused PIN, which is most often
// a mistyped good one, there is such a hash for good, whatever its source.
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

// loginEntry has File, or Source and Proof.
type loginEntry struct {
	Token  worker.TokenRef `json:"token"`
	State  loginState      `json:"state"`
	File   *pinFileID      `json:"file,omitempty"`
	Source string          `json:"source,omitempty"`
	Proof  *pinProof       `json:"proof,omitempty"`
	Time   time.Time       `json:"time"`
}

// is reports whether the entry is about this very PIN.
func (e *loginEntry) is(f pinValue) (bool, error) {
	switch {
	case f.id != nil:
		return e.File != nil && *e.File == *f.id, nil
	case e.Proof == nil || e.Source != f.source.String():
		return false, nil
	}
	return e.Proof.of(f.pin)
}

// refusedPIN remembers that a token refused a PIN, without telling the PIN.
type refusedPIN struct {
	Token worker.TokenRef `json:"token"`
	File  string          `json:"file"` // name of the PIN file, or another source
	Time  time.Time       `json:"time"`
	pinProof
}

// pinProof recognises a PIN without telling it.
type pinProof struct {
	Salt   []byte `json:"salt"`
	Rounds int    `json:"rounds"`
	Hash   []byte `json:"hash"` // PBKDF2-HMAC-SHA-256
}

// pinRounds is OWASP's figure for PBKDF2-HMAC-SHA-256.
const pinRounds = 600_000

func newProof(pin []byte, rounds int) (*pinProof, error) {
	p := &pinProof{Salt: make([]byte, 16), Rounds: rounds}
	_, _ = rand.Read(p.Salt) // never fails (crypto/rand)
	var err error
	p.Hash, err = p.hash(pin)
	return p, err
}

// hash views the PIN as a string instead of making one, which could not be cleared.
func (p *pinProof) hash(pin []byte) ([]byte, error) {
	h, err := pbkdf2.Key(sha256.New, unsafe.String(unsafe.SliceData(pin), len(pin)), p.Salt, p.Rounds, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("hashing a PIN: %w", err)
	}
	return h, nil
}

// of reports whether it was made from pin.
func (p *pinProof) of(pin []byte) (bool, error) {
	h, err := p.hash(pin)
	return err == nil && subtle.ConstantTimeCompare(h, p.Hash) == 1, err
}

func (p *pinProof) makesSense() bool {
	return p.Rounds >= 1 && p.Rounds <= 10*pinRounds && len(p.Hash) == sha256.Size
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
	if p.Version != 1 && p.Version != pinsVersion {
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
		if (e.File == nil) == (e.Proof == nil) || e.Proof != nil && !e.Proof.makesSense() {
			return fmt.Errorf("the login of token %s makes no sense", e.Token)
		}
	}
	for _, r := range p.Refused {
		if !r.makesSense() {
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
// just accepted the PIN in the file of source. It is for set-up programs that have
// logged in with that PIN themselves, and spares the daemon a first login of which
// nothing is known. The file may be moved afterwards, with its folder, but not
// written or touched. No daemon may be running on the journal. Of other sources
// than files there is nothing to note.
func RecordAcceptedPIN(journalPath string, token worker.TokenRef, source PINSource) error {
	if token.Label == "" || token.Serial == "" {
		return fmt.Errorf("recording an accepted PIN: token %s needs a label and a serial number", token)
	}
	if source.kind != fromFile {
		return nil
	}
	f, err := readPINFile(source)
	if err != nil {
		return fmt.Errorf("recording an accepted PIN: %w", err)
	}
	clear(f.pin)
	return ledgerBeside(journalPath).accepted(token, f, time.Now())
}

// AllowPINAgain lets the PIN of the token with this label be tried once more
// after a login of which nobody knows how it ended; forgotten is how many such
// logins there were. A PIN that the token refused is not tried again all the same.
// It is a person's decision, and no daemon may be running on the journal.
func AllowPINAgain(journalPath, tokenLabel string) (forgotten int, err error) {
	return ledgerBeside(journalPath).allowAgain(tokenLabel)
}

func (l *pinLedger) allowAgain(tokenLabel string) (forgotten int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(); err != nil {
		return 0, err
	}
	next := l.pins
	next.Logins = slices.DeleteFunc(slices.Clone(next.Logins), func(e loginEntry) bool {
		return e.Token.Label == tokenLabel && e.State == loginTrying
	})
	if forgotten = len(l.pins.Logins) - len(next.Logins); forgotten == 0 {
		return 0, nil
	}
	return forgotten, l.settle(next)
}

func ledgerBeside(journalPath string) *pinLedger {
	return newPINLedger(filepath.Join(filepath.Dir(journalPath), pinsFile))
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
		return &TerminalError{fmt.Errorf("the record of PINs %s is damaged: check all PINs, then remove it to have each tried once: %w", l.path, err)}
	}
	p.Version = pinsVersion
	l.pins, l.loaded = p, true
	return nil
}

// check decides on showing the PIN to the token. known means that the token
// accepted it before; otherwise begin must come first. A TerminalError says
// that it was shown, in vain or with no known end.
func (l *pinLedger) check(token worker.TokenRef, f pinValue) (known bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(); err != nil {
		return false, err
	}
	if err := l.wasRefused(token, f); err != nil {
		return false, &TerminalError{err}
	}
	e := l.pins.login(token)
	// Whoever types a PIN again has decided to have it tried again.
	if e == nil || f.source.kind == fromTerminal {
		return false, nil
	}
	if same, err := e.is(f); err != nil || !same {
		return false, err
	}
	if e.State == loginTrying {
		return false, &TerminalError{fmt.Errorf("on %s %w", e.Time.Format(time.RFC3339), cutOff(token, f))}
	}
	return true, nil
}

// cutOff says what to do when nobody knows whether the token judged the PIN.
func cutOff(token worker.TokenRef, f pinValue) error {
	again := fmt.Sprintf("type  qcity signer retry-pin --token %q  to have it tried once", token.Label)
	switch f.source.kind {
	case fromFile:
		again = fmt.Sprintf("touch the file (`touch %s`) to have it tried once", f.source.name)
	case fromTerminal:
		again = "type it again"
	}
	return fmt.Errorf("the login with the PIN from %s was cut off, token %s may have counted it as a wrong one: check the PIN, then %s", f.source, token, again)
}

func (l *pinLedger) wasRefused(token worker.TokenRef, f pinValue) error {
	for _, r := range l.pins.Refused {
		if r.Token != token {
			continue
		}
		same, err := r.of(f.pin)
		if err != nil {
			return err
		}
		if same {
			return fmt.Errorf("the PIN from %s was refused by token %s on %s and is not tried again, because tokens lock: correct it there (or remove %s if the token's PIN was changed to it since)",
				f.source, token, r.Time.Format(time.RFC3339), l.path)
		}
	}
	return nil
}

// begin records, durably, that the PIN is about to be shown to the token. After
// an error it must not be.
func (l *pinLedger) begin(token worker.TokenRef, f pinValue, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, err := l.entry(token, loginTrying, f, now)
	if err != nil {
		return err
	}
	next := l.pins.with(e)
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
func (l *pinLedger) accepted(token worker.TokenRef, f pinValue, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(); err != nil {
		return err
	}
	ofToken := func(r refusedPIN) bool { return r.Token == token }
	e := l.pins.login(token)
	settled := e == nil && f.id == nil || e != nil && f.id != nil && e.State == loginAccepted && e.File != nil && *e.File == *f.id
	if !l.dirty && settled && !slices.ContainsFunc(l.pins.Refused, ofToken) {
		return nil
	}
	next := l.pins.without(token)
	if f.id != nil { // of another source nothing may be kept
		next = l.pins.with(loginEntry{Token: token, State: loginAccepted, File: f.id, Time: stamp(now)})
	}
	next.Refused = slices.DeleteFunc(slices.Clone(next.Refused), ofToken)
	return l.settle(next)
}

// refused records that the token refused the PIN.
func (l *pinLedger) refused(token worker.TokenRef, f pinValue, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refuse(token, f, now)
}

// withdrawn records that the token refused a PIN it had accepted, provided that
// the file still holds that PIN.
func (l *pinLedger) withdrawn(token worker.TokenRef, f pinValue, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.pins.login(token); e == nil || e.State != loginAccepted || e.File == nil || f.id == nil || *e.File != *f.id {
		return nil
	}
	return l.refuse(token, f, now)
}

func (l *pinLedger) refuse(token worker.TokenRef, f pinValue, now time.Time) error {
	proof, err := newProof(f.pin, l.rounds)
	if err != nil {
		return err
	}
	where := f.source.String()
	if f.id != nil {
		where = f.id.Name
	}
	next := l.pins.without(token)
	next.Refused = append(slices.Clone(next.Refused), refusedPIN{token, where, stamp(now), *proof})
	return l.settle(next)
}

// entry makes a login of the form that the source's kind calls for.
func (l *pinLedger) entry(token worker.TokenRef, state loginState, f pinValue, now time.Time) (loginEntry, error) {
	e := loginEntry{Token: token, State: state, File: f.id, Time: stamp(now)}
	if f.id != nil {
		return e, nil
	}
	e.Source = f.source.String()
	var err error
	e.Proof, err = newProof(f.pin, l.rounds)
	return e, err
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
