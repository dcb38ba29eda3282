package audit

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"qcitycoin.org/qcity/node/types"
)

// Event says what happened, in a word that is stable across versions. Readers
// accept words they do not know.
type Event string

// The events.
const (
	EventStarted         Event = "started"          // the daemon, with what it found
	EventStopped         Event = "stopped"          // the daemon, in good order
	EventSigned          Event = "signed"           // a new signature, sealed and about to be released
	EventRepeated        Event = "repeated"         // a stored signature, about to be released once more
	EventRefused         Event = "refused"          // by a rule of policy
	EventFailed          Event = "failed"           // a request that was allowed came to nothing
	EventLogin           Event = "login"            // a token accepted the PIN
	EventLoginRefused    Event = "login-refused"    // a token did not
	EventHalted          Event = "halted"           // nothing is signed until resumed
	EventResuming        Event = "resuming"         // a first person asks for it
	EventResumed         Event = "resumed"          // a second one did
	EventFloorRaised     Event = "floor-raised"     // heights up to this one are closed to the key
	EventImported        Event = "imported"         // history of another signer
	EventExported        Event = "exported"         // history for another signer
	EventWorkerRestarted Event = "worker-restarted" // the PKCS#11 worker
	EventKeyReady        Event = "key-ready"        // found in its token, and checked
	EventKeyLost         Event = "key-lost"         // its token is away
	EventAdopted         Event = "adopted"          // the journal goes on at another place, as an operator said
	EventRotated         Event = "rotated"          // the last entry of a file; only the log itself writes it
)

// Kind says what a signature was asked for.
type Kind string

// The kinds. Readers accept others.
const (
	KindNone      Kind = ""
	KindBlock     Kind = "block"
	KindVote      Kind = "vote"
	KindSetChange Kind = "set-change"
)

// Limits of an entry. Longer texts are cut; a longer word is an error.
const (
	MaxWord   = 64   // bytes of Event, Kind and Rule
	MaxActor  = 128  // bytes
	MaxDetail = 1024 // bytes
)

// Entry is one line of the log. A zero field is one that does not apply.
type Entry struct {
	Time      time.Time // UTC, whole milliseconds, by the daemon's clock: it may step
	Event     Event
	Kind      Kind
	Height    uint32 // of the block, or of a vote's target
	Key       types.PublicKey
	Digest    types.Hash // what was signed, or would have been
	Signature [64]byte   // r ‖ s
	Rule      string     // name of the rule that refused
	Actor     string     // who asked, for example "uid 1000"
	Detail    string
}

// timeFormat is RFC 3339 with three decimals, in UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

// tidy makes of an entry what can be written: free text is never a reason not
// to log.
func (e *Entry) tidy() {
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	e.Actor, e.Detail = shorten(e.Actor, MaxActor), shorten(e.Detail, MaxDetail)
}

// shorten makes valid UTF-8 of at most limit bytes.
func shorten(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	const more = "…"
	end := limit - len(more)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}

// check says why a tidy entry cannot be in a log.
func (e *Entry) check() error {
	switch year := e.Time.Year(); {
	case year < 1970 || year > 9999:
		return fmt.Errorf("the year %d is not in 1970…9999", year)
	case e.Event == "":
		return fmt.Errorf("event is missing")
	case len(e.Actor) > MaxActor || len(e.Detail) > MaxDetail:
		return fmt.Errorf("actor of %d or detail of %d bytes: at most %d and %d are allowed", len(e.Actor), len(e.Detail), MaxActor, MaxDetail)
	}
	for _, word := range [...]string{string(e.Event), string(e.Kind), e.Rule} {
		if !isWord(word) {
			return fmt.Errorf("%.80q is no word of a-z, 0-9 and hyphens, of %d bytes at most", word, MaxWord)
		}
	}
	// Whether the point is on its curve is not asked: that takes longer than all
	// the rest of an entry, and the key was checked where it was configured.
	if e.Key != (types.PublicKey{}) && (e.Key.Algorithm != types.Secp256k1 && e.Key.Algorithm != types.P256 || e.Key.Point[0]&^1 != 2) {
		return fmt.Errorf("%s is no key", e.Key)
	}
	return nil
}

func isWord(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return len(s) <= MaxWord
}

// appendTo writes the entry's one text.
func (e *Entry) appendTo(b []byte) []byte {
	o := object{append(b, '{')}
	o.text("actor", e.Actor)
	o.text("detail", e.Detail)
	o.hash("digest", e.Digest)
	o.text("event", string(e.Event))
	if e.Height != 0 {
		o.number("height", uint64(e.Height))
	}
	if e.Key != (types.PublicKey{}) {
		o.text("key", e.Key.String())
	}
	o.text("kind", string(e.Kind))
	o.text("rule", e.Rule)
	if e.Signature != [64]byte{} {
		o.hex("signature", e.Signature[:])
	}
	o.member("time")
	o.b = append(e.Time.AppendFormat(append(o.b, '"'), timeFormat), '"')
	return append(o.b, '}')
}

// decodeEntry reads what appendTo writes and nothing else. scratch is reused
// memory, or nil.
func decodeEntry(b []byte, scratch *[]byte) (e Entry, err error) {
	s := scanner{rest: b}
	s.begin()
	e.Actor = s.text("actor")
	e.Detail = s.text("detail")
	e.Digest = s.hash("digest")
	e.Event = Event(s.word("event"))
	e.Height = uint32(s.number("height", 32))
	e.Key = s.key("key")
	e.Kind = Kind(s.word("kind"))
	e.Rule = s.word("rule")
	s.hex("signature", e.Signature[:])
	if e.Time, err = time.Parse(timeFormat, string(s.bare("time"))); err != nil {
		s.fail("time: %w", err)
	}
	if err := s.finish(); err != nil {
		return Entry{}, err
	}
	if err := e.check(); err != nil {
		return Entry{}, err
	}
	return e, same(b, e.appendTo((*scratch)[:0]), scratch)
}

// same wants what was read to be what would have been written.
func same(read, written []byte, scratch *[]byte) error {
	*scratch = written
	if !bytes.Equal(read, written) {
		return errNotCanonical
	}
	return nil
}

// hash writes a hash the way all of Qcity shows one: its bytes reversed. The
// null hash is left out.
func (o *object) hash(name string, h types.Hash) {
	if !h.IsZero() {
		slices.Reverse(h[:])
		o.hex(name, h[:])
	}
}

func (s *scanner) hash(name string) (h types.Hash) {
	s.hex(name, h[:])
	slices.Reverse(h[:])
	return h
}

// word returns a word, without memory of its own for those that are known.
func (s *scanner) word(name string) string {
	b := s.bare(name)
	if known, ok := knownWords[string(b)]; ok {
		return known
	}
	return string(b)
}

var knownWords = func() map[string]string {
	m := make(map[string]string)
	for _, w := range []Event{
		EventStarted, EventStopped, EventSigned, EventRepeated, EventRefused, EventFailed, EventLogin, EventLoginRefused,
		EventHalted, EventResuming, EventResumed, EventFloorRaised, EventImported, EventExported, EventWorkerRestarted, EventKeyReady,
		EventKeyLost, EventAdopted, EventRotated, Event(KindBlock), Event(KindVote), Event(KindSetChange),
	} {
		m[string(w)] = string(w)
	}
	return m
}()

func (s *scanner) key(name string) (k types.PublicKey) {
	algorithm, digits, _ := bytes.Cut(s.bare(name), []byte{':'})
	switch string(algorithm) {
	case "":
		return k
	case "secp256k1":
		k.Algorithm = types.Secp256k1
	case "p256":
		k.Algorithm = types.P256
	default:
		s.fail("%s has the unknown algorithm %.20q", name, algorithm)
	}
	if len(digits) != 2*len(k.Point) {
		s.fail("%s has %d digits: want %d", name, len(digits), 2*len(k.Point))
		return k
	}
	if _, err := hex.Decode(k.Point[:], digits); err != nil {
		s.fail("%s: %w", name, err)
	}
	return k
}
