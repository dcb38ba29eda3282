package ceremony_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

// golden reads a file that pins a format: what was written once must stay readable,
// and sheets with its hashes comparable.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestGoldenTranscript: two lines, whose hashes were computed by another program.
func TestGoldenTranscript(t *testing.T) {
	text := golden(t, "transcript.jsonl")
	entries, err := ceremony.ReadTranscript(text)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	var again []byte
	for _, e := range entries {
		again = append(append(again, ceremony.EncodeEntry(ceremony.Reseal(e))...), '\n')
	}
	if !bytes.Equal(again, text) {
		t.Errorf("written again it is\n%s", again)
	}
}

func TestGoldenRecord(t *testing.T) {
	text := golden(t, "record.json")
	r, err := ceremony.ParseRecord(text)
	if err != nil || !bytes.Equal(r.Encode(), text) {
		t.Errorf("%v; written again it is\n%s", err, r.Encode())
	}
	if r.Attributes.NeverExtractable != worker.True || r.Serial != "c916fd5d99694b1d" {
		t.Errorf("record %+v", r)
	}
}

// TestGoldenBackup opens a backup of a folder of this test, made by the first
// version of the format, with the first and the last of its shares.
func TestGoldenBackup(t *testing.T) {
	var shares []ceremony.Share
	for _, name := range []string{"custodian-1.share", "custodian-3.share"} {
		s, err := ceremony.ParseShare(golden(t, name))
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, s)
	}
	fresh := t.TempDir()
	token, err := ceremony.RestoreSoftHSM(golden(t, "token.backup"), shares, fresh)
	if err != nil || token != (worker.TokenRef{Label: "token", Serial: serial}) {
		t.Fatalf("%v, %v", token, err)
	}
	tokens := t.TempDir()
	fakeToken(t, tokens)
	got, want := contents(t, fresh), contents(t, tokens)
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s differs", name)
		}
	}
}

// FuzzTranscript: what is read was written by us, byte for byte, and nothing else
// gets through.
func FuzzTranscript(f *testing.F) {
	f.Add(golden(f, "transcript.jsonl"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := ceremony.ReadTranscript(text)
		if err != nil {
			var at *ceremony.LineError
			if !errors.As(err, &at) || at.Line != len(entries)+1 {
				t.Fatalf("%v after %d good lines", err, len(entries))
			}
			return
		}
		var again []byte
		for _, e := range entries {
			again = append(append(again, ceremony.EncodeEntry(e)...), '\n')
		}
		if !bytes.Equal(again, text) {
			t.Fatal("another text reads as the same transcript")
		}
		if s, err := parse("example", exampleText(t)); err != nil {
			t.Fatal(err)
		} else if _, err := ceremony.Verify(s, sum(exampleText(t)), entries, nil); err == nil {
			t.Fatal("a ceremony was made up")
		}
	})
}

// FuzzRestore: no file is a backup unless it was made as one.
func FuzzRestore(f *testing.F) {
	f.Add(golden(f, "token.backup"), golden(f, "custodian-1.share"), golden(f, "custodian-3.share"))
	f.Fuzz(func(t *testing.T, sealed, a, b []byte) {
		var shares []ceremony.Share
		for _, text := range [][]byte{a, b} {
			s, err := ceremony.ParseShare(text)
			if err != nil {
				if !errors.Is(err, ceremony.ErrBackup) {
					t.Fatal(err)
				}
				return
			}
			shares = append(shares, s)
		}
		fresh := t.TempDir()
		if _, err := ceremony.RestoreSoftHSM(sealed, shares, fresh); err != nil {
			if left, err := os.ReadDir(fresh); err != nil || len(left) > 0 {
				t.Fatalf("%d files were written (%v)", len(left), err)
			}
			return
		}
		if !bytes.Equal(sealed, golden(t, "token.backup")) {
			t.Fatal("another file opened")
		}
	})
}

// FuzzRecord: a record that is read says what it says, or is refused.
func FuzzRecord(f *testing.F) {
	f.Add(golden(f, "record.json"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ceremony.ParseRecord(text)
		if err != nil {
			return
		}
		again, err := ceremony.ParseRecord(r.Encode())
		if err != nil || again != r {
			t.Fatalf("%+v came back as %+v, %v", r, again, err)
		}
		if strings.Count(string(r.Encode()), "\n") < 5 || !json.Valid(r.Encode()) {
			t.Fatal("no JSON")
		}
	})
}
