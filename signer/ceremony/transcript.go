package ceremony

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"qcitycoin.org/qcity/node/types"
)

// What a line of a transcript records.
const (
	KindStarted = "started" // a step that changes a token is about to
	KindDone    = "done"    // a step was shown and confirmed
	KindRefused = "refused" // it was shown and not confirmed
	KindResumed = "resumed" // the ceremony goes on after an interruption
)

// Entry is one line of a transcript.
type Entry struct {
	Seq      int               `json:"seq"`  // from 1
	Time     string            `json:"time"` // RFC 3339, of this machine's clock
	Kind     string            `json:"kind"`
	Step     string            `json:"step"`
	Role     string            `json:"role"`
	Shown    []string          `json:"shown,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`    // the same for machines
	Asked    string            `json:"asked,omitempty"`    // what was to be typed
	Answer   string            `json:"answer,omitempty"`   // the same, once it was typed; nothing else that was typed is kept
	Scripted bool              `json:"scripted,omitempty"` // no person typed it
	Prev     string            `json:"prev"`               // hash of the line before
	Hash     string            `json:"hash"`
}

// firstPrev is what the first line has for the hash of the line before.
var firstPrev = hex.EncodeToString(make([]byte, 32))

// seal returns the hash of the entry:
// TaggedHash("qcity/ceremony/line", JSON of the entry with an empty hash).
// The JSON has the hash of the line before in it.
func (e Entry) seal() string {
	e.Hash = ""
	h := types.TaggedHash("qcity/ceremony/line", e.encode())
	return hex.EncodeToString(h[:])
}

func (e Entry) encode() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic("an entry has no field that cannot be encoded: " + err.Error())
	}
	return b
}

// ReadTranscript parses a transcript and checks its chain. The error is a
// *LineError with the first line that is not as it was written. Whoever can write
// the file can write another chain: compare the last hash with the one that was
// written down in the room.
func ReadTranscript(text []byte) ([]Entry, error) {
	var out []Entry
	prev := firstPrev
	for n := 1; len(text) > 0; n++ {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		bad := func(format string, args ...any) error { return &LineError{n, fmt.Sprintf(format, args...)} }
		var e Entry
		switch err := decodeJSON(line, &e); {
		case !ended:
			return out, bad("it is cut off")
		case err != nil:
			return out, bad("%v", err)
		case !bytes.Equal(e.encode(), line):
			return out, bad("it is not in the form in which it was written")
		case e.Seq != n:
			return out, bad("it has number %d: lines are missing or out of order", e.Seq)
		case e.Prev != prev:
			return out, bad("it does not follow the line before it")
		case e.Hash != e.seal():
			return out, bad("its hash is wrong: it was changed")
		}
		out, prev, text = append(out, e), e.Hash, rest
	}
	return out, nil
}

// log appends to the file of a transcript.
type log struct {
	file    *os.File
	entries []Entry
}

// openLog opens or creates a transcript. A last line without its end was being
// written when the machine stopped; nobody was told that it is there, so it goes.
func openLog(path string) (*log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the transcript: %w", err)
	}
	l, err := readLog(f, path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

func readLog(f *os.File, path string) (*log, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the transcript: %w", err)
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	entries, err := ReadTranscript(whole)
	if err != nil {
		return nil, err
	}
	if len(whole) < len(text) {
		if err := f.Truncate(int64(len(whole))); err != nil {
			return nil, fmt.Errorf("cut off the transcript's unfinished line: %w", err)
		}
	}
	if _, err := f.Seek(int64(len(whole)), 0); err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	return &log{f, entries}, errors.Join(f.Sync(), dir.Sync(), dir.Close())
}

// append numbers, chains, writes and syncs an entry.
func (l *log) append(e Entry) error {
	e.Seq, e.Prev = len(l.entries)+1, firstPrev
	if e.Seq > 1 {
		e.Prev = l.entries[e.Seq-2].Hash
	}
	e.Hash = e.seal()
	if _, err := l.file.Write(append(e.encode(), '\n')); err != nil {
		return fmt.Errorf("write the transcript: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("write the transcript: %w", err)
	}
	l.entries = append(l.entries, e)
	return nil
}

// done returns the facts of the steps that were confirmed, by step.
func done(entries []Entry) map[string]map[string]string {
	out := make(map[string]map[string]string)
	for _, e := range entries {
		if e.Kind == KindDone {
			out[e.Step] = e.Facts
		}
	}
	return out
}
