package signer

import (
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
