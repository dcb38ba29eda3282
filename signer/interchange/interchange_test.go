package interchange

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

var testNet = types.Hash{0xaa}

// documents returns the good documents of the test vectors.
func documents(tb testing.TB) (list []*Document) {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 50 {
		tb.Fatalf("%d vectors, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		var v struct{ Start json.RawMessage }
		if err := json.Unmarshal(b, &v); err != nil {
			tb.Fatal(err)
		}
		d, err := Parse(v.Start, testNet, 10)
		if err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		list = append(list, d)
	}
	return list
}

// golden is a document with everything in its canonical form.
const golden = `{
  "metadata": {"format":"qcity-watermarks","version":1,"network":"00000000000000000000000000000000000000000000000000000000000000aa","journal":"01020000000000000000000000000000","strategy":"complete"},
  "keys": [
    {
      "publicKey": "p256:036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
      "floor": 7,
      "blocks": [],
      "votes": [],
      "setChanges": []
    },
    {
      "publicKey": "secp256k1:0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
      "floor": 0,
      "blocks": [
        {"height":10},
        {"height":20,"digest":"0000000000000000000000000000000000000000000000000000000000000001"}
      ],
      "votes": [
        {"source":{"height":10},"target":{"height":20}},
        {"source":{"height":20,"id":"0000000000000000000000000000000000000000000000000000000000000003"},"target":{"height":30,"id":"0000000000000000000000000000000000000000000000000000000000000004"},"set":"0000000000000000000000000000000000000000000000000000000000000002","digest":"DIGEST"}
      ],
      "setChanges": [
        {"number":1},
        {"number":3,"digest":"0000000000000000000000000000000000000000000000000000000000000005"}
      ]
    }
  ]
}
`

func goldenDocument(tb testing.TB) (*Document, string) {
	tb.Helper()
	var p256, secp types.PublicKey
	if err := p256.UnmarshalText([]byte("p256:036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")); err != nil {
		tb.Fatal(err)
	}
	if err := secp.UnmarshalText([]byte("secp256k1:0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")); err != nil {
		tb.Fatal(err)
	}
	l := &consensus.Link{Set: types.Hash{2}, Source: consensus.Checkpoint{Height: 20, ID: types.Hash{3}}, Target: consensus.Checkpoint{Height: 30, ID: types.Hash{4}}}
	d := &Document{Network: testNet, Journal: [16]byte{1, 2}, Strategy: Complete, Keys: []Key{
		{
			PublicKey: secp, Blocks: []Block{{Height: 20, Digest: &types.Hash{1}}, {Height: 10}},
			Votes:      []Vote{{Source: 20, Target: 30, Link: l}, {Source: 10, Target: 20}},
			SetChanges: []SetChange{{Number: 3, Digest: &types.Hash{5}}, {Number: 1}},
		},
		{PublicKey: p256, Floor: 7},
	}}
	return d, strings.Replace(golden, "DIGEST", l.Digest(testNet).String(), 1)
}

// TestGolden pins the format: documents written long ago stay readable.
func TestGolden(t *testing.T) {
	d, want := goldenDocument(t)
	if got := string(d.Encode()); got != want {
		t.Fatalf("written as\n%s\nwant\n%s", got, want)
	}
	back, err := Parse([]byte(want), testNet, 10)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(back.Encode()); got != want {
		t.Fatalf("read as\n%s", got)
	}
	if err := back.Verify(); err != nil {
		t.Fatal(err)
	}
}

func TestTooLarge(t *testing.T) {
	_, text := goldenDocument(t)
	big := text + strings.Repeat(" ", MaxBytes-len(text))
	if _, err := Parse([]byte(big), testNet, 10); err != nil {
		t.Fatalf("%d bytes: %v", len(big), err)
	}
	if _, err := Parse([]byte(big+" "), testNet, 10); err == nil || !strings.Contains(err.Error(), "--minimal") {
		t.Fatalf("one byte more: %v", err)
	}
}

// TestOneForm: what JSON readers differ in is refused: null for a member that is left
// out, and digits in upper case.
func TestOneForm(t *testing.T) {
	d, text := goldenDocument(t)
	for name, change := range map[string][2]string{
		"digest":         {`{"height":10}`, `{"height":10,"digest":null}`},
		"signature":      {`{"height":10}`, `{"height":10,"signature":null}`},
		"number":         {`{"height":10}`, `{"height":10,"number":null}`},
		"vote's parts":   {`{"source":{"height":10},"target":{"height":20}}`, `{"source":{"height":10,"id":null},"target":{"height":20,"id":null},"set":null,"digest":null}`},
		"journal":        {`"journal":"0102`, `"journal":"0A02`},
		"key":            {`6b17d1f2e12c`, `6B17D1F2E12C`},
		"network":        {`aa","journal"`, `AA","journal"`},
		"vote's id":      {`0003"`, `000A"`},
		"block's digest": {`0001"`, `000B"`},
	} {
		changed := strings.Replace(text, change[0], change[1], 1)
		if changed == text {
			t.Fatalf("%s: nothing was changed", name)
		}
		if name == "vote's id" {
			l := *d.Keys[0].Votes[0].Link
			digest := l.Digest(testNet).String()
			l.Source.ID = types.Hash{10}
			changed = strings.Replace(changed, digest, l.Digest(testNet).String(), 1)
		}
		if _, err := Parse([]byte(changed), testNet, 10); err == nil {
			t.Errorf("%s: %s was taken in", name, change[1])
		}
	}
}

func TestDepth(t *testing.T) {
	for _, text := range []string{strings.Repeat("[", 1<<20), strings.Repeat(`{"keys":`, 1<<18)} {
		if _, err := Parse([]byte(text), testNet, 10); err == nil {
			t.Fatal("parsed")
		}
	}
}

// FuzzParse: what is accepted has one canonical form, which means the same.
func FuzzParse(f *testing.F) {
	for _, d := range documents(f) {
		f.Add(d.Encode())
	}
	_, text := goldenDocument(f)
	f.Add([]byte(text))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b, testNet, 10)
		if err != nil {
			if d != nil || err.Error() == "" || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v with error %q", d, err)
			}
			return
		}
		first := d.Encode()
		again, err := Parse(first, testNet, 10)
		if err != nil {
			t.Fatalf("the canonical form is refused: %v\n%s", err, first)
		}
		if second := again.Encode(); !bytes.Equal(first, second) {
			t.Fatalf("two forms:\n%s\n%s", first, second)
		}
		m, err := Parse(d.Minimal().Encode(), testNet, 10)
		if err != nil {
			t.Fatalf("the minimal form is refused: %v", err)
		}
		if again := m.Minimal().Encode(); !bytes.Equal(again, m.Encode()) {
			t.Fatalf("the minimal form of the minimal form is another:\n%s\n%s", m.Encode(), again)
		}
	})
}

func merge(tb rapid.TB, docs ...*Document) *Document {
	d, err := Merge(docs...)
	if err != nil {
		tb.Fatal(err)
	}
	d.Journal = [16]byte{}
	return d
}

// TestMerge: the order does not matter, nothing counts twice, and every mark is
// at least as high as before.
func TestMerge(t *testing.T) {
	all := documents(t)
	draw := rapid.SampledFrom(all)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw.Draw(t, "a"), draw.Draw(t, "b"), draw.Draw(t, "c")
		ab := merge(t, a, b)
		for name, other := range map[string]*Document{
			"ba": merge(t, b, a), "aba": merge(t, a, b, a), "ab again": merge(t, ab, ab), "ab with a": merge(t, ab, a),
		} {
			if ab.Strategy == other.Strategy && !bytes.Equal(ab.Encode(), other.Encode()) {
				t.Fatalf("%s differs:\n%s\n%s", name, ab.Encode(), other.Encode())
			}
		}
		if left, right := merge(t, ab, c), merge(t, a, merge(t, b, c)); left.Strategy == Complete && ab.Strategy == Complete && merge(t, b, c).Strategy == Complete &&
			!bytes.Equal(left.Encode(), right.Encode()) {
			t.Fatalf("(ab)c is not a(bc):\n%s\n%s", left.Encode(), right.Encode())
		}
		for _, d := range []*Document{a, b} {
			for i := range d.Keys {
				k := &d.Keys[i]
				m := ab.Find(k.PublicKey)
				block, vote := k.Highest()
				mergedBlock, mergedVote := m.Highest()
				if m.Floor < k.Floor || mergedBlock < block || mergedVote < vote {
					t.Fatalf("%s sank", k.PublicKey)
				}
			}
		}
		if _, err := Parse(ab.Encode(), testNet, 10); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := Merge(); err == nil {
		t.Error("nothing was merged")
	}
	foreign := *all[0]
	foreign.Network = types.Hash{0xbb}
	if _, err := Merge(all[0], &foreign); err == nil {
		t.Error("two networks were merged")
	}
}

// TestMinimalVotes: the one vote that is left forbids what all of them did.
func TestMinimalVotes(t *testing.T) {
	link := func(source uint32, salt byte, target uint32) *consensus.Link {
		return &consensus.Link{Source: consensus.Checkpoint{Height: source, ID: types.Hash{salt}}, Target: consensus.Checkpoint{Height: target}}
	}
	known := func(source uint32, salt byte, target uint32) Vote {
		return Vote{Source: source, Target: target, Link: link(source, salt, target)}
	}
	for _, c := range []struct {
		name   string
		votes  []Vote
		source uint32
		exact  bool // the source itself may be voted from again
	}{
		{"one", []Vote{known(10, 1, 20)}, 10, true},
		{"same source", []Vote{known(10, 1, 20), known(10, 1, 30)}, 10, true},
		{"higher source", []Vote{known(10, 1, 20), known(20, 1, 30)}, 20, true},
		{"twin source", []Vote{known(10, 1, 20), known(10, 2, 30)}, 10, false},
		{"source of before is higher", []Vote{known(20, 1, 30), known(10, 1, 40)}, 20, false},
		{"blind", []Vote{{Source: 10, Target: 20}}, 10, false},
		{"blind before", []Vote{{Source: 10, Target: 20}, known(10, 1, 30)}, 10, false},
		{"blind below", []Vote{{Source: 10, Target: 20}, known(20, 1, 30)}, 20, true},
		{"blind after", []Vote{known(20, 1, 30), {Source: 10, Target: 40}}, 20, false},
	} {
		k := Key{Votes: c.votes}
		m := k.latest()
		if v := m.Votes[0]; len(m.Votes) != 1 || v.Source != c.source || (v.Link != nil) != c.exact || v.Target != c.votes[len(c.votes)-1].Target {
			t.Errorf("%s: %+v", c.name, m.Votes)
		}
	}
}
