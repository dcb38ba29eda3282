package signer

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/interchange"
)

// vector is one file of interchange/testdata. A journal of the start's keys takes
// the start in, then each import; then the attempts are made, one after the other.
type vector struct {
	Name      string          `json:"name"`
	Network   types.Hash      `json:"network"`
	SlotEvery uint32          `json:"slotEvery"`
	Start     json.RawMessage `json:"start"`
	Imports   []struct {
		Document json.RawMessage `json:"document"`
		Text     string          `json:"text"`  // instead, what is no JSON object
		Error    string          `json:"error"` // part of what the import is refused with; empty: it is not
	} `json:"imports"`
	Attempts []attemptVector `json:"attempts"`
}

type attemptVector struct {
	Block *struct {
		Key    types.PublicKey `json:"key"`
		Height uint32          `json:"height"`
		Digest types.Hash      `json:"digest"`
	} `json:"block"`
	Vote *struct {
		Key    types.PublicKey  `json:"key"`
		Set    types.Hash       `json:"set"`
		Source vectorCheckpoint `json:"source"`
		Target vectorCheckpoint `json:"target"`
	} `json:"vote"`
	SetChange *struct {
		Key    types.PublicKey `json:"key"`
		Number uint32          `json:"number"`
		Digest types.Hash      `json:"digest"`
	} `json:"setChange"`
	// Expect is "allowed" (the token may be asked), "repeated" (the signature of
	// before is returned) or the name of the rule that refuses.
	Expect string `json:"expect"`
	// Signature is what is returned when it is repeated.
	Signature Hex `json:"signature"`
}

type vectorCheckpoint struct {
	Height uint32     `json:"height"`
	ID     types.Hash `json:"id"`
}

// TestInterchangeVectors runs the test vectors of the format against the journal.
func TestInterchangeVectors(t *testing.T) {
	files, err := filepath.Glob("interchange/testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("%d vectors", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var v vector
			d := json.NewDecoder(strings.NewReader(string(b)))
			d.DisallowUnknownFields()
			if err := d.Decode(&v); err != nil {
				t.Fatal(err)
			}
			if v.Name != t.Name()[strings.Index(t.Name(), "/")+1:] || len(v.Attempts) == 0 {
				t.Fatalf("vector %q has %d attempts", v.Name, len(v.Attempts))
			}
			v.run(t)
		})
	}
}

func (v *vector) run(t *testing.T) {
	start, err := interchange.Parse(v.Start, v.Network, v.SlotEvery)
	if err != nil {
		t.Fatal(err)
	}
	var keys []types.PublicKey
	for _, k := range start.Keys {
		keys = append(keys, k.PublicKey)
	}
	path := t.TempDir() + "/journal"
	if err := CreateJournal(path, v.Network, keys, 0); err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(path, v.Network, keys)
	if err != nil {
		t.Fatal(err)
	}
	mustImport(t, j, start)
	for i, in := range v.Imports {
		text := in.Text
		if text == "" {
			text = string(in.Document)
		}
		doc, err := interchange.Parse([]byte(text), v.Network, v.SlotEvery)
		if err == nil {
			_, err = j.Import(doc)
		}
		if in.Error == "" && err != nil || in.Error != "" && (err == nil || !strings.Contains(err.Error(), in.Error)) {
			t.Fatalf("import %d: %v; want %q", i, err, in.Error)
		}
	}
	// What was taken in is in the file, not just in memory.
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = OpenJournal(path, v.Network, keys); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for i, a := range v.Attempts {
		seal, err := a.make(j)
		got := "allowed"
		var refusal *Refusal
		switch {
		case errors.As(err, &refusal):
			got = string(refusal.Rule)
		case err != nil:
			t.Fatalf("attempt %d: %v", i, err)
		case seal != nil:
			got = "repeated"
		}
		if got != a.Expect {
			t.Errorf("attempt %d: %s, want %s: %v", i, got, a.Expect, err)
		}
		if seal != nil && string(seal[:]) != string(a.Signature) {
			t.Errorf("attempt %d: signature %x, want %x", i, *seal, a.Signature)
		}
	}
}

func (a *attemptVector) make(j *Journal) (*[64]byte, error) {
	switch {
	case a.Block != nil:
		return j.Claim(&Claim{Height: a.Block.Height, Key: a.Block.Key, Digest: a.Block.Digest})
	case a.Vote != nil:
		return j.ClaimVote(a.Vote.Key, consensus.Link{
			Set: a.Vote.Set, Source: consensus.Checkpoint(a.Vote.Source), Target: consensus.Checkpoint(a.Vote.Target),
		})
	case a.SetChange != nil:
		return j.ClaimSetChange(a.SetChange.Key, a.SetChange.Number, a.SetChange.Digest)
	}
	return nil, errors.New("an attempt at nothing")
}
