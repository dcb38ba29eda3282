package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
)

// testKeys are points of secp256k1: G, 2G, 3G, and two more.
var testKeys = []string{
	"secp256k1:0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
	"secp256k1:02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
	"secp256k1:02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
	"secp256k1:02e493dbf1c10d80f3581e4904930b1404cc6c13900ee0758474fa94abe8c4cd13",
	"secp256k1:022f8bde4d1a07209355b4a7250a5c5128e88b84bddc619ab7cba8d569b240efe4",
}

// watermarks is a machine with a configuration for a signer.
type watermarks struct {
	t      *testing.T
	dir    string
	config string
	net    *consensus.Network
	keys   []types.PublicKey
}

// newWatermarks configures the first n keys. All machines are of one network.
func newWatermarks(t *testing.T, n int) *watermarks {
	t.Helper()
	w := &watermarks{t: t, dir: t.TempDir()}
	p, err := configs.DevnetProfile()
	if err != nil {
		t.Fatal(err)
	}
	p.GenesisTime, p.GenesisBits = 1_800_000_000, p.PowLimitBits
	for _, text := range testKeys {
		var k types.PublicKey
		if err := k.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		w.keys = append(w.keys, k)
	}
	p.Validators = w.keys
	if err := configs.WriteNetwork(filepath.Join(w.dir, networkFile), &p); err != nil {
		t.Fatal(err)
	}
	if w.net, err = consensus.NewNetwork(p); err != nil {
		t.Fatal(err)
	}
	w.configure(n)
	return w
}

func (w *watermarks) configure(n int) {
	w.t.Helper()
	c := configs.Default()
	c.Network, c.Data = networkFile, nodeDir
	c.Payout = w.net.Addresses.PubKeyHashAddress([20]byte{1})
	c.Signer = configs.Signer{Socket: "signer.sock", Journal: "journal", Module: "/none"}
	for _, k := range w.keys[:n] {
		c.Signer.Keys = append(c.Signer.Keys, configs.SignerKey{PublicKey: k.String(), Token: k.String()[:20], PIN: "file:" + k.String()[:20] + ".pin"})
	}
	w.config = filepath.Join(w.dir, configs.FileName)
	if err := os.Remove(w.config); err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	if err := c.Write(w.config); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watermarks) run(args ...string) (string, error) {
	var out strings.Builder
	root := newRoot()
	root.SetArgs(append(append([]string{"watermark"}, args...), "--config", w.config))
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(w.t.Context())
	return out.String(), err
}

func (w *watermarks) must(want string, args ...string) string {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil || !strings.Contains(out, want) {
		w.t.Fatalf("qcity watermark %s: %v\n%s\nwant %q", strings.Join(args, " "), err, out, want)
	}
	return out
}

// refused wants an error with this text; person: that of a case for a person.
func (w *watermarks) refused(person bool, want string, args ...string) {
	w.t.Helper()
	out, err := w.run(args...)
	if err == nil || !strings.Contains(err.Error(), want) || errors.As(err, &needsPerson{}) != person {
		w.t.Fatalf("qcity watermark %s: %v (for a person: %v)\n%s\nwant %q", strings.Join(args, " "), err, errors.As(err, &needsPerson{}), out, want)
	}
}

func (w *watermarks) open() *signer.Journal {
	w.t.Helper()
	j, err := signer.OpenJournal(filepath.Join(w.dir, "journal"), w.net.ID, w.keys[:1])
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// claim has the journal claim a block without a signature.
func (w *watermarks) claim(j *signer.Journal, height uint32) error {
	_, err := j.Claim(&signer.Claim{Height: height, Key: w.keys[0], Digest: types.Hash{byte(height)}})
	return err
}

// TestWatermark walks a key from one machine to another.
func TestWatermark(t *testing.T) {
	old := newWatermarks(t, 2)
	old.refused(true, "is missing", "show")
	old.refused(false, `required flag(s) "floor" not set`, "init")
	old.must("for 2 keys, floor 0", "init", "--floor", "0")
	old.refused(false, "never made twice", "init", "--floor", "0")
	j := old.open()
	for h := uint32(10); h <= 30; h += 10 {
		if err := old.claim(j, h); err != nil {
			t.Fatal(err)
		}
	}
	old.must("block       30, no signature known", "show") // also while it is in use
	for _, args := range [][]string{{"export"}, {"raise", "--all", "--height", "5"}, {"init", "--add", "--floor", "0"}, {"adopt", "--nothing-newer"}} {
		old.refused(false, "is in use: stop the signer first", args...)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "watermarks.json")
	old.must("2 keys, signed up to height 30", "export", "--out", file)
	if text := old.must(`"strategy":"complete"`, "export"); text != contents(t, file) {
		t.Fatal("two forms of one document")
	}
	old.must(`"strategy":"minimal"`, "export", "--minimal")

	now := newWatermarks(t, 1)
	now.must("for 1 keys, floor 0", "init", "--floor", "0")
	now.refused(false, "no such file", "import", file+"x")
	now.refused(false, "no JSON document", "import", now.config)
	out := now.must(now.keys[0].String()+": block raised from 0 to 30", "import", file)
	if !strings.Contains(out, now.keys[1].String()+" left out") {
		t.Fatalf("nothing is said of the other key:\n%s", out)
	}
	var in signer.Import
	if err := json.Unmarshal([]byte(now.must("", "import", file, "--json")), &in); err != nil || in.Changed || len(in.Before) != 1 || len(in.Ignored) != 1 {
		t.Fatalf("%+v, %v", in, err)
	}
	now.must("nothing changed", "import", file)
	j = now.open()
	for height, want := range map[uint32]error{10: signer.RuleElsewhere, 20: signer.RuleElsewhere, 25: signer.RuleWatermark, 40: nil} {
		if err := now.claim(j, height); !errors.Is(err, want) {
			t.Errorf("height %d: %v, want %v", height, err, want)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	now.configure(3)
	now.must("added "+now.keys[1].String()+", floor 70", "init", "--add", "--floor", "70")
	now.refused(false, "nothing to add", "init", "--add", "--floor", "70")
	now.must("floor raised from 0 to 55", "raise", "--key", now.keys[0].String(), "--height", "55")
	now.must("floor stays at 55", "raise", "--key", now.keys[0].String(), "--height", "5")
	now.must("floor raised from 70 to 80", "raise", "--all", "--height", "80")
	now.refused(false, "does not have", "raise", "--key", now.keys[4].String(), "--height", "90")
	now.refused(false, "at least one of the flags", "raise", "--height", "90")
	var shown struct {
		Network types.Hash
		Journal signer.JournalStatus
		Keys    []signer.KeyMarks
		Refusal string
	}
	if err := json.Unmarshal([]byte(now.must("", "show", "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Network != now.net.ID || len(shown.Keys) != 3 || len(shown.Journal.FileID) != 32 || shown.Refusal != "" {
		t.Fatalf("%+v", shown)
	}
	for _, m := range shown.Keys {
		if m.Floor != 80 || m.FloorSource != signer.FloorRaised || (m.Key == now.keys[0]) != (m.Block == 40) {
			t.Errorf("%+v", m)
		}
	}
}

// TestWatermarkAdopt restores a journal from a backup, and copies it.
func TestWatermarkAdopt(t *testing.T) {
	w := newWatermarks(t, 1)
	w.must("", "init", "--floor", "0")
	journal := filepath.Join(w.dir, "journal")
	backup := contents(t, journal)
	j := w.open()
	if err := w.claim(j, 10); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journal, []byte(backup), 0o600); err != nil {
		t.Fatal(err)
	}
	w.refused(true, "an older copy was put in its place", "show")
	w.refused(true, "an older copy was put in its place", "export")
	w.refused(false, "at least one of the flags", "adopt")
	w.refused(false, "something newer exists", "adopt", "--nothing-newer")
	w.must("adopted "+journal, "adopt", "--floor", "10")
	w.must("floor       10 (raised)", "show")

	away := newWatermarks(t, 1)
	for _, name := range []string{"journal", "journal.mark"} {
		if err := os.WriteFile(filepath.Join(away.dir, name), []byte(contents(t, filepath.Join(w.dir, name))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	away.refused(true, "is a copy", "raise", "--all", "--height", "20")
	away.must("adopted", "adopt", "--nothing-newer")
	away.must("floor raised from 10 to 20", "raise", "--all", "--height", "20")
}

func contents(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
