package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/types"
)

func drawEntry(t *rapid.T) Entry {
	word := rapid.StringMatching(`[a-z0-9-]{1,64}`)
	maybe := func(g *rapid.Generator[string]) string {
		return rapid.OneOf(rapid.Just(""), g).Draw(t, "text")
	}
	e := Entry{
		Time:   time.UnixMilli(rapid.Int64Range(0, 253402300799999).Draw(t, "time")),
		Event:  Event(word.Filter(func(s string) bool { return s != string(EventRotated) }).Draw(t, "event")),
		Kind:   Kind(maybe(word)),
		Height: rapid.OneOf(rapid.Just(uint32(0)), rapid.Uint32()).Draw(t, "height"),
		Rule:   maybe(word),
		Actor:  maybe(rapid.String()),
		Detail: maybe(rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))),
	}
	if rapid.Bool().Draw(t, "has key") {
		e.Key.Algorithm = rapid.SampledFrom([]types.KeyAlgorithm{types.Secp256k1, types.P256}).Draw(t, "algorithm")
		copy(e.Key.Point[:], rapid.SliceOfN(rapid.Byte(), 33, 33).Draw(t, "point"))
		e.Key.Point[0] = 2 | e.Key.Point[0]&1
	}
	if rapid.Bool().Draw(t, "has signature") {
		copy(e.Digest[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		copy(e.Signature[:], rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "signature"))
	}
	return e
}

// asJSON is an entry as any JSON library reads it: what the scanner must agree with.
type asJSON struct {
	Actor     string     `json:"actor"`
	Detail    string     `json:"detail"`
	Digest    types.Hash `json:"digest"`
	Event     Event      `json:"event"`
	Height    uint32     `json:"height"`
	Key       string     `json:"key"`
	Kind      Kind       `json:"kind"`
	Rule      string     `json:"rule"`
	Signature string     `json:"signature"`
	Time      time.Time  `json:"time"`
}

func sameAsJSON(t interface{ Fatalf(string, ...any) }, text []byte, e Entry) {
	var want asJSON
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&want); err != nil {
		t.Fatalf("%s is not JSON: %v", text, err)
	}
	got := asJSON{e.Actor, e.Detail, e.Digest, e.Event, e.Height, "", e.Kind, e.Rule, "", e.Time}
	if e.Key != (types.PublicKey{}) {
		got.Key = e.Key.String()
	}
	if e.Signature != [64]byte{} {
		got.Signature = hex.EncodeToString(e.Signature[:])
	}
	if want.Time = want.Time.UTC(); got != want {
		t.Fatalf("%s was read as %+v, by another library as %+v", text, got, want)
	}
}

// TestEntryRoundTrip: what is written is read back, here and by another library.
func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEntry(t)
		e.tidy()
		if err := e.check(); err != nil {
			t.Fatal(err)
		}
		text := e.appendTo(nil)
		if len(text) > maxRecord-32 {
			t.Fatalf("%d bytes", len(text))
		}
		back, err := decodeEntry(text, new([]byte))
		if err != nil || back != e {
			t.Fatalf("%s was read as %+v, %v; want %+v", text, back, err, e)
		}
		sameAsJSON(t, text, e)
	})
}

// TestAppendVerify: whatever entries are appended, with rotations anywhere, the log
// verifies to the heads that were handed out, opens again, and exports.
func TestAppendVerify(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := durabletest.New()
		o := Options{FS: disk, FileSize: int64(rapid.IntRange(1, 5000).Draw(t, "file size"))}
		if err := Create(logPath, testNet, o); err != nil {
			t.Fatal(err)
		}
		l, err := Open(logPath, testNet, o)
		if err != nil {
			t.Fatal(err)
		}
		var heads []Head
		for range rapid.IntRange(0, 20).Draw(t, "entries") {
			h, err := l.Append(drawEntry(t))
			if err != nil {
				t.Fatal(err)
			}
			heads = append(heads, h)
		}
		head := l.Head()
		want := VerifyOptions{Network: testNet, Anchors: heads, Head: &head, Options: o}
		if _, err := Verify(ctx, logPath, want); err != nil {
			t.Fatal(err)
		}
		if again, err := Open(logPath, testNet, Options{FS: disk.Kill()}); err != nil || again.Head() != head {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := Export(ctx, &b, logPath, 0, o); err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyExport(ctx, &b, want); err != nil {
			t.Fatal(err)
		}
	})
}

// TestEntryIsStrict: one value has one text.
func TestEntryIsStrict(t *testing.T) {
	e := testEntry(0)
	e.Detail = "a\nb"
	good := string(e.appendTo(nil))
	if _, err := decodeEntry([]byte(good), new([]byte)); err != nil {
		t.Fatal(err)
	}
	replace := func(from, to string) string {
		t.Helper()
		if !strings.Contains(good, from) {
			t.Fatalf("%q is not in %s", from, good)
		}
		return strings.Replace(good, from, to, 1)
	}
	for name, text := range map[string]string{
		"nothing":            "",
		"empty":              "{}",
		"list":               "[" + good + "]",
		"twice":              good + good,
		"newline after it":   good + "\n",
		"space":              replace(",", ", "),
		"space before it":    " " + good,
		"cut":                good[:len(good)-1],
		"unknown member":     replace(`{`, `{"aaa":"b",`),
		"unknown at the end": replace(`}`, `,"zzz":"b"}`),
		"member twice":       replace(`"event":"signed"`, `"event":"signed","event":"signed"`),
		"other order":        replace(`"event":"signed","height":10`, `"height":10,"event":"signed"`),
		"empty text":         replace(`"event"`, `"detail":"","event"`),
		"member in capitals": replace(`"event"`, `"Event"`),
		"null":               replace(`"uid 1000"`, `null`),
		"escape not needed":  replace(`uid 1000`, `\u0075id 1000`),
		"long escape":        replace(`a\nb`, `a\u000ab`),
		"bad escape":         replace(`a\nb`, `a\xb`),
		"raw newline":        replace(`a\nb`, "a\nb"),
		"escaped slash":      replace(`a\nb`, `a\/b`),
		"not UTF-8":          replace(`uid 1000`, "uid \xff"),
		"half a surrogate":   replace(`a\nb`, `a\ud800b`),
		"hex in capitals":    replace(`"digest":"09`, `"digest":"0A`),
		"digest of zeros":    replace(`"digest":"`+e.Digest.String(), `"digest":"`+strings.Repeat("0", 64)),
		"digest too short":   replace(`"digest":"09`, `"digest":"`),
		"height 0":           replace(`"height":10`, `"height":0`),
		"height with zero":   replace(`"height":10`, `"height":010`),
		"height too large":   replace(`"height":10`, `"height":4294967296`),
		"height as text":     replace(`"height":10`, `"height":"10"`),
		"height negative":    replace(`"height":10`, `"height":-10`),
		"height 1e1":         replace(`"height":10`, `"height":1e1`),
		"unknown algorithm":  replace(`secp256k1:`, `ed25519:`),
		"key uncompressed":   replace(`secp256k1:02`, `secp256k1:04`),
		"key too short":      replace(`secp256k1:02`, `secp256k1:`),
		"time with offset":   replace(`.123Z`, `.123+00:00`),
		"time in seconds":    replace(`.123Z`, `Z`),
		"time with comma":    replace(`.123Z`, `,123Z`),
		"31 February":        replace(`2026-11-28`, `2026-02-31`),
		"no time":            replace(`,"time":"2026-11-28T06:40:50.123Z"`, ``),
		"no event":           replace(`"event":"signed",`, ``),
		"event in capitals":  replace(`"signed"`, `"SIGNED"`),
		"detail too long":    replace(`a\nb`, strings.Repeat("a", MaxDetail+1)),
	} {
		if e, err := decodeEntry([]byte(text), new([]byte)); err == nil {
			t.Errorf("%s: %s was read as %+v", name, text, e)
		}
	}
}

func TestHeaderIsStrict(t *testing.T) {
	good := `{"continues":"01000000000000000000000000000000","file":"02000000000000000000000000000000","format":1,"network":"01000000000000000000000000000000000000000000000000000000000000aa","seq":7}`
	h, err := decodeHeader([]byte(good), new([]byte))
	if want := (Header{Network: testNet, File: FileID{2}, Continues: FileID{1}, Seq: 7}); err != nil || h != want {
		t.Fatalf("%+v, %v", h, err)
	}
	for _, change := range []string{`"format":1>"format":2`, `"seq":7>"seq":07`, `"seq":7>"seq":18446744073709551616`, `,"seq":7>`, `"file">"File"`, `}>} `} {
		from, to, _ := strings.Cut(change, ">")
		if h, err := decodeHeader([]byte(strings.Replace(good, from, to, 1)), new([]byte)); err == nil {
			t.Errorf("%s: %+v", change, h)
		}
	}
	for name, c := range map[string]struct {
		prev types.Hash
		h    Header
	}{
		"no id":                  {types.Hash{}, Header{Network: testNet}},
		"begins and goes on":     {types.Hash{}, Header{Network: testNet, File: FileID{1}, Continues: FileID{2}}},
		"begins with a past":     {types.Hash{1}, Header{Network: testNet, File: FileID{1}}},
		"goes on from nothing":   {types.Hash{1}, Header{Network: testNet, File: FileID{1}, Seq: 3}},
		"goes on without a past": {types.Hash{}, Header{Network: testNet, File: FileID{1}, Seq: 3, Continues: FileID{2}}},
	} {
		c0 := chain{anywhere: true}
		if _, err := c0.add(c.prev, c.h.appendTo(nil)); err == nil || c0.started {
			t.Errorf("%s: it was taken", name)
		}
	}
	c := chain{}
	if _, err := c.add(types.Hash{}, (&Header{Network: testNet, File: FileID{1}, Seq: math.MaxUint64}).appendTo(nil)); err == nil {
		t.Error("the last number of all is a beginning")
	}
}

func FuzzEntry(f *testing.F) {
	for i := range 3 {
		e := testEntry(i)
		f.Add(e.appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := decodeEntry(in, new([]byte))
		if err != nil {
			return
		}
		if out := e.appendTo(nil); !bytes.Equal(in, out) {
			t.Fatalf("%q was read and written as %q", in, out)
		}
		sameAsJSON(t, in, e)
		before := e
		if e.tidy(); e != before || e.check() != nil {
			t.Fatalf("%q would not have been written: %+v", in, e)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte(`{"continues":"01000000000000000000000000000000","file":"02000000000000000000000000000000","format":1,"network":"01000000000000000000000000000000000000000000000000000000000000aa","seq":7}`))
	f.Add([]byte(`{"file":"02000000000000000000000000000000","format":1,"seq":0}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := decodeHeader(in, new([]byte))
		if err == nil && (!bytes.Equal(in, h.appendTo(nil)) || !json.Valid(in)) {
			t.Fatalf("%q was read as %+v", in, h)
		}
	})
}

// FuzzRecord feeds a chain that has begun: what it takes becomes its head.
func FuzzRecord(f *testing.F) {
	h := Header{Network: testNet, File: FileID{1}}
	begun := chain{}
	first, err := begun.add(types.Hash{}, h.appendTo(nil))
	if err != nil {
		f.Fatal(err)
	}
	e := testEntry(0)
	f.Add(false, first.payload())
	f.Add(true, (&Record{Prev: first.Hash, JSON: e.appendTo(nil)}).payload())
	f.Fuzz(func(t *testing.T, after bool, in []byte) {
		c := chain{}
		if after {
			c = begun
		}
		before := c.head
		r, err := c.addPayload(in)
		if err != nil {
			if c.head != before {
				t.Fatal("a refused record changed the chain")
			}
			return
		}
		if !bytes.Equal(r.payload(), in) || r.Head != c.head || (r.Header != nil) == after {
			t.Fatalf("%q was read as %+v", in, r)
		}
	})
}

// FuzzLine: a line of an export that is read is written back byte for byte, and a
// whole export never ends in anything but success or a place.
func FuzzLine(f *testing.F) {
	r := Record{Head: Head{1, types.Hash{2}}, Prev: types.Hash{3}, JSON: []byte(`{"event":"started"}`)}
	f.Add(r.AppendLine(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := parseLine(in, new([]byte))
		if err == nil && !bytes.Equal(r.AppendLine(nil), in) {
			t.Fatalf("%q was read and written as %q", in, r.AppendLine(nil))
		}
		x := exportReader{chain: chain{anywhere: true}}
		if _, err := x.take(in); err == nil && !json.Valid(in) {
			t.Fatalf("%q is no JSON and was taken", in)
		}
	})
}
