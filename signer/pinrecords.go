package signer

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"qcitycoin.org/qcity/signer/worker"
)

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
