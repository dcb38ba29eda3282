package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/types"
)

func export(tb testing.TB, all [][]byte, from uint64) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := Export(tb.Context(), &b, logPath, from, Options{FS: diskOf(all)}); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestExport(t *testing.T) {
	all, heads := smallLog(t)
	last := heads[len(heads)-1]
	o := VerifyOptions{Network: testNet, Head: &last}
	whole, err := verify(t, diskOf(all), VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for from := range uint64(len(heads)) {
		out := export(t, all, from)
		o.Anchors = heads[from:]
		report, err := VerifyExport(t.Context(), bytes.NewReader(out), o)
		if err != nil {
			t.Fatalf("from %d: %v\n%s", from, err, out)
		}
		switch from {
		case 0:
			if diff := cmp.Diff(whole, report, cmp.FilterPath(func(p cmp.Path) bool { return strings.HasPrefix(p.Last().String(), ".Anchor") }, cmp.Ignore())); diff != "" {
				t.Fatal(diff)
			}
		default:
			want := heads[from-1]
			if from == 1 && report.From == nil {
				break // its header is the first record of all: nothing is left out
			}
			if slices.Contains([]uint64{6, 11}, from) {
				want = heads[from-2] // the header before it is in the export
			}
			if report.From == nil || *report.From != want {
				t.Fatalf("from %d: begins after %v, want %v", from, report.From, want)
			}
		}
	}
	if err := Export(t.Context(), new(bytes.Buffer), logPath, 14, Options{FS: diskOf(all)}); !errors.Is(err, ErrSequence) {
		t.Fatal(err)
	}
	hurt := slices.Clone(all)
	hurt[1] = bytes.Clone(all[1])
	hurt[1][len(hurt[1])-1] ^= 1
	var b bytes.Buffer
	err = Export(t.Context(), &b, logPath, 0, Options{FS: diskOf(hurt)})
	wantBroken(t, err, 9, "checksum")
	if n := bytes.Count(b.Bytes(), []byte("\n")); n != 9 {
		t.Fatalf("%d lines before the broken record", n)
	}
}

// TestExportEveryFlippedBit: each is found at its line, at the end of the log, too,
// as a line has its own hash.
func TestExportEveryFlippedBit(t *testing.T) {
	t.Parallel()
	all, _ := logOf(t, 1)
	good := export(t, all, 0)
	line, start := uint64(0), int64(0)
	for i, c := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			_, err := VerifyExport(t.Context(), bytes.NewReader(bad), VerifyOptions{})
			var b *Broken
			// The second line may begin at any number, so it is named by the one it claims.
			if !errors.As(err, &b) || b.Offset != start || b.Seq != line && line != 1 {
				t.Fatalf("byte %d of line %d, bit %d: %v", i, line, bit, err)
			}
		}
		if c == '\n' {
			line, start = line+1, int64(i+1)
		}
	}
}

func TestExportTampered(t *testing.T) {
	all, heads := smallLog(t)
	good := bytes.SplitAfter(export(t, all, 0), []byte("\n"))
	good = good[:len(good)-1]
	middle := bytes.SplitAfter(export(t, all, 8), []byte("\n"))
	for name, c := range map[string]struct {
		lines [][]byte
		seq   uint64
	}{
		"empty":            {nil, 0},
		"first removed":    {good[1:], 0},
		"removed":          {slices.Delete(slices.Clone(good), 7, 8), 7},
		"second removed":   {slices.Delete(slices.Clone(good), 6, 7), 6},
		"doubled":          {slices.Insert(slices.Clone(good), 7, good[7]), 8},
		"header removed":   {slices.Delete(slices.Clone(good), 5, 6), 5},
		"last cut":         {append(slices.Clone(good[:13]), good[13][:80]), 13},
		"empty line":       {slices.Insert(slices.Clone(good), 3, []byte("\n")), 3},
		"long line":        {slices.Insert(slices.Clone(good), 3, append(bytes.Repeat([]byte("x"), maxLine), '\n')), 3},
		"end removed":      {good[:9], 9},
		"middle, one lost": {slices.Delete(slices.Clone(middle), 2, 3), 9},
	} {
		_, err := VerifyExport(t.Context(), bytes.NewReader(bytes.Join(c.lines, nil)), VerifyOptions{Head: &heads[13]})
		var b *Broken
		if !errors.As(err, &b) || b.Seq != c.seq {
			t.Errorf("%s: got %v, want record %d", name, err, c.seq)
		}
	}
	_, err := VerifyExport(t.Context(), bytes.NewReader(bytes.Join(middle, nil)), VerifyOptions{Anchors: heads[:1]})
	wantBroken(t, err, 0, "is before what is there")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := VerifyExport(ctx, bytes.NewReader(bytes.Join(good, nil)), VerifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

// golden is a small log with everything that can be in one, as bytes and as an export.
type golden struct {
	Network types.Hash   `json:"network"`
	Files   []string     `json:"files"`  // hex
	Hashed  []string     `json:"hashed"` // hex: what is hashed for each record, after the two tag hashes
	Heads   []Head       `json:"heads"`
	Broken  []goldenFlaw `json:"broken"`
}

type goldenFlaw struct {
	What  string   `json:"what"`
	Files []string `json:"files"`
	Seq   uint64   `json:"seq"`
	File  int      `json:"file"` // index
	At    int64    `json:"offset"`
}

const goldenFile, goldenExport = "testdata/golden.json", "testdata/golden.jsonl"

// TestGolden: logs that were written once stay readable, byte for byte, and what
// docs/audit.md says gives their hashes.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	var g golden
	if err := json.Unmarshal(need[[]byte](t)(os.ReadFile(goldenFile)), &g); err != nil {
		t.Fatal(err)
	}
	decode := func(list []string) (all [][]byte) {
		for _, s := range list {
			all = append(all, need[[]byte](t)(hex.DecodeString(s)))
		}
		return all
	}
	all := decode(g.Files)
	last := g.Heads[len(g.Heads)-1]
	need[Report](t)(verify(t, diskOf(all), VerifyOptions{Network: g.Network, Anchors: g.Heads, Head: &last}))
	if want := need[[]byte](t)(os.ReadFile(goldenExport)); !bytes.Equal(export(t, all, 0), want) {
		t.Fatal("the export is another one")
	}
	n := 0
	var prev types.Hash
	for i, file := range all {
		if !bytes.Equal(frame(payloads(t, file)), file) {
			t.Fatalf("file %d is framed otherwise", i)
		}
		for _, p := range payloads(t, file) {
			hashed := need[[]byte](t)(hex.DecodeString(g.Hashed[n]))
			if !bytes.HasSuffix(hashed, p) || !bytes.HasPrefix(hashed, g.Network[:]) {
				t.Fatalf("record %d: hashed %x", n, hashed)
			}
			if !bytes.Equal(p[:32], prev[:]) || types.TaggedHash("qcity/audit/entry", hashed) != g.Heads[n].Hash || g.Heads[n].Seq != uint64(n) {
				t.Fatalf("record %d does not have its hash", n)
			}
			prev = g.Heads[n].Hash
			n++
		}
	}
	if n != len(g.Heads) || n != len(g.Hashed) || n < 20 {
		t.Fatalf("%d records", n)
	}
	for _, flaw := range g.Broken {
		_, err := verify(t, diskOf(decode(flaw.Files)), VerifyOptions{})
		var b *Broken
		if !errors.As(err, &b) || b.Seq != flaw.Seq || b.Offset != flaw.At || b.File != filePath(logPath, flaw.File+1) {
			t.Errorf("%s: got %v, want record %d in file %d at %d", flaw.What, err, flaw.Seq, flaw.File, flaw.At)
		}
	}
	if len(g.Broken) < 3 {
		t.Fatal("no broken logs among them")
	}
}

func writeGolden(t *testing.T) {
	disk, l := memLog(t, Options{})
	p256 := types.PublicKey{Algorithm: types.P256, Point: [33]byte{3, 1: 0x6b, 32: 0x96}}
	entries := []Entry{
		{Event: EventStarted, Detail: "version 1.0.0, 5 keys"},
		{Event: EventLogin, Detail: "token \"qcity-1\""},
		{Event: EventKeyReady, Key: testKey},
		{Event: EventKeyReady, Key: p256},
		{Event: EventSigned, Kind: KindBlock, Height: 10, Key: testKey, Digest: types.Hash{1, 31: 2}, Signature: [64]byte{3, 63: 4}, Actor: "uid 1000"},
		{Event: EventSigned, Kind: KindVote, Height: 4294967290, Key: p256, Digest: types.Hash{5}, Signature: [64]byte{63: 6}, Actor: "uid 1000"},
		{Event: EventRepeated, Kind: KindBlock, Height: 10, Key: testKey, Digest: types.Hash{1, 31: 2}, Signature: [64]byte{3, 63: 4}, Actor: "uid 1000"},
		{Event: EventRefused, Kind: KindBlock, Height: 10, Key: testKey, Digest: types.Hash{7}, Rule: "double-sign", Actor: "uid 1000", Detail: "quotes \" \\ / controls \x00\x01\b\t\n\v\f\r\x1f\x7f <&> é € 𝄞 \u2028"},
		{Event: EventAdopted, Height: 20, Detail: l.Head().String()},
		{Event: EventHalted, Actor: "uid 0"},
		{Event: EventResumed, Actor: "uid 0", Detail: strings.Repeat("x", MaxDetail)},
		{Event: EventStopped},
	}
	for i, e := range entries {
		e.Time = testTime.Add(1e6 * 123456789 * 10 * (1 << i))
		need[Head](t)(l.Append(e))
		if i == 3 || i == 8 {
			if err := l.Rotate(e.Time); err != nil {
				t.Fatal(err)
			}
		}
	}
	need[Head](t)(l.Append(Entry{Time: testTime, Event: "of-a-later-version", Kind: "something-else"}))
	for i := range 4 {
		need[Head](t)(l.Append(testEntry(i)))
	}
	all := files(disk)
	g := golden{Network: testNet}
	encode := func(all [][]byte) (list []string) {
		for _, b := range all {
			list = append(list, hex.EncodeToString(b))
		}
		return list
	}
	g.Files = encode(all)
	var file FileID
	for r, err := range l.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Header != nil {
			file = r.Header.File
		}
		hashed := slices.Concat(testNet[:], file[:], []byte{byte(r.Seq), 0, 0, 0, 0, 0, 0, 0}, r.Prev[:], r.JSON)
		g.Hashed, g.Heads = append(g.Hashed, hex.EncodeToString(hashed)), append(g.Heads, r.Head)
	}
	flaw := func(what string, n int, change func([][]byte) [][]byte) {
		bad := slices.Clone(all)
		bad[n] = frame(change(payloads(t, bad[n])))
		_, err := verify(t, diskOf(bad), VerifyOptions{})
		var b *Broken
		if !errors.As(err, &b) {
			t.Fatal(what, err)
		}
		g.Broken = append(g.Broken, goldenFlaw{what, encode(bad), b.Seq, slices.IndexFunc([]int{1, 2, 3}, func(i int) bool { return filePath(logPath, i) == b.File }), b.Offset})
	}
	flaw("an entry removed", 0, func(l [][]byte) [][]byte { return slices.Delete(l, 2, 3) })
	flaw("two entries swapped", 1, func(l [][]byte) [][]byte { l[2], l[3] = l[3], l[2]; return l })
	flaw("the closing entry removed", 1, func(l [][]byte) [][]byte { return l[:len(l)-1] })
	flaw("an entry not canonical", 2, func(l [][]byte) [][]byte {
		l[1] = bytes.Replace(l[1], []byte(`,"event"`), []byte(`, "event"`), 1)
		return l
	})
	b := need[[]byte](t)(json.MarshalIndent(g, "", " "))
	if err := os.WriteFile(goldenFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenExport, export(t, all, 0), 0o644); err != nil {
		t.Fatal(err)
	}
}

// verifyElsewhere runs the verifier in JavaScript, which knows only the document.
func verifyElsewhere(t *testing.T, out []byte, anchors ...Head) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"testdata/verify.mjs", file}
	for _, a := range anchors {
		args = append(args, a.String())
	}
	said, err := exec.CommandContext(t.Context(), "node", args...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("Node.js is needed, scripts/deps installs it: %v", err)
	}
	if exit != nil && exit.ExitCode() != 1 {
		t.Fatalf("%v: %s", err, exit.Stderr)
	}
	return string(said), err
}

// TestVerifiedElsewhere: a program in another language, written from the document
// alone, comes to the same answer on good and on broken logs.
func TestVerifiedElsewhere(t *testing.T) {
	all, heads := smallLog(t)
	last := heads[len(heads)-1]
	good := export(t, all, 0)
	for from, lines := range map[uint64]int{0: 14, 8: 7, 12: 3} {
		if said, err := verifyElsewhere(t, export(t, all, from), last); err != nil || said != fmt.Sprintf("%d records, head %s\n", lines, last) {
			t.Fatalf("from %d: %q, %v", from, said, err)
		}
	}
	if said, err := verifyElsewhere(t, need[[]byte](t)(os.ReadFile(goldenExport))); err != nil || !strings.Contains(said, "22 records") {
		t.Fatalf("golden: %q, %v", said, err)
	}
	if said, err := verifyElsewhere(t, good, Head{3, types.Hash{1}}); err == nil || !strings.Contains(said, "anchor 3:") {
		t.Fatalf("wrong anchor: %q", said)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	for name, bad := range map[string][]byte{
		"broken at record 4": bytes.Replace(good, []byte("goes on in audit.log.2"), []byte("goes on in audit.log.3"), 1),
		"broken at record 7": bytes.Join(slices.Delete(slices.Clone(lines), 7, 8), nil),
		"broken at record 5": bytes.Join(slices.Delete(slices.Clone(lines), 5, 6), nil),
		"broken at record 1": bytes.Replace(good, []byte(`,"event"`), []byte(`, "event"`), 1),
	} {
		said, err := verifyElsewhere(t, bad)
		if err == nil || !strings.Contains(said, name) {
			t.Fatalf("%s: %q, %v", name, said, err)
		}
		_, err = VerifyExport(t.Context(), bytes.NewReader(bad), VerifyOptions{})
		var b *Broken
		if !errors.As(err, &b) || fmt.Sprint("broken at record ", b.Seq) != name {
			t.Fatalf("%s: %v", name, err)
		}
	}
}
