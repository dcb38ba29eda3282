package ceremony_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

const serial = "0123456789abcdef"

// fakeToken is a folder as SoftHSM makes one.
func fakeToken(t interface {
	Helper()
	Fatal(...any)
}, dir string,
) map[string]string {
	t.Helper()
	folder := filepath.Join(dir, "11111111-2222-3333-0123-456789abcdef")
	files := map[string]string{"token.object": "token", "token.lock": "", "key.object": strings.Repeat("key", 1000)}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestShares: any threshold of the shares open a backup, fewer never do.
func TestShares(t *testing.T) {
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(root, fmt.Sprint(n))
		tokens, fresh := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		for _, d := range []string{tokens, fresh} {
			if err := os.MkdirAll(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		files := fakeToken(t, tokens)
		total := rapid.IntRange(2, 7).Draw(t, "total")
		threshold := rapid.IntRange(2, total).Draw(t, "threshold")
		var names []string
		for i := range total {
			names = append(names, fmt.Sprintf("person %d", i))
		}
		split, err := ceremony.NewSplit(names, threshold)
		if err != nil {
			t.Fatal(err)
		}
		token := worker.TokenRef{Label: "token", Serial: serial}
		sealed, err := ceremony.SealSoftHSM(tokens, token, split)
		if err != nil {
			t.Fatal(err)
		}
		var shares []ceremony.Share
		for _, s := range rapid.Permutation(split.Shares).Draw(t, "order") {
			again, err := ceremony.ParseShare(s.Encode())
			if err != nil || again != s {
				t.Fatalf("share %v came back as %v (%v)", s, again, err)
			}
			shares = append(shares, again)
		}
		if _, err := ceremony.RestoreSoftHSM(sealed, shares[:threshold-1], fresh); !errors.Is(err, ceremony.ErrBackup) {
			t.Fatalf("%d of %d shares: %v", threshold-1, threshold, err)
		}
		got, err := ceremony.RestoreSoftHSM(sealed, shares[:threshold], fresh)
		if err != nil || got != token {
			t.Fatalf("restored %v, %v", got, err)
		}
		for name, text := range files {
			data, err := os.ReadFile(filepath.Join(fresh, "11111111-2222-3333-0123-456789abcdef", name))
			if err != nil || string(data) != text {
				t.Fatalf("%s: %q, %v", name, data, err)
			}
		}
	})
}

// TestBadBackups: whatever is wrong is refused, by name, and writes nothing.
func TestBadBackups(t *testing.T) {
	tokens := t.TempDir()
	fakeToken(t, tokens)
	token := worker.TokenRef{Label: "token", Serial: serial}
	names := []string{"Carl", "Cora", "Cleo"}
	split, err := ceremony.NewSplit(names, 2)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ceremony.NewSplit(names, 2)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := ceremony.SealSoftHSM(tokens, token, split)
	if err != nil {
		t.Fatal(err)
	}
	good := split.Shares[:2]
	mistyped := good[1]
	digit := "0"
	if mistyped.Value[0] == '0' {
		digit = "1"
	}
	mistyped.Value = digit + mistyped.Value[1:]
	head := bytes.IndexByte(sealed, '\n')
	for name, c := range map[string]struct {
		spoil  func([]byte) []byte
		shares []ceremony.Share
		want   string
	}{
		"share of another backup": {nil, []ceremony.Share{good[0], other.Shares[1]}, "custodian 2 (Cora)"},
		"mistyped share":          {nil, []ceremony.Share{good[0], mistyped}, "custodian 2 (Cora)"},
		"one share twice":         {nil, []ceremony.Share{good[0], good[0]}, "given twice"},
		"no share":                {nil, nil, "the backup needs 2"},
		"flipped byte":            {func(b []byte) []byte { b[head+100] ^= 1; return b }, good, "damaged"},
		"cut off":                 {func(b []byte) []byte { return b[:len(b)-1] }, good, "damaged"},
		"another token's name": {func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"token":"token"`), []byte(`"token":"tokem"`), 1)
		}, good, "damaged"},
		"another serial": {func(b []byte) []byte { return bytes.Replace(b, []byte("89abcdef"), []byte("89abcdee"), 1) }, good, "damaged"},
		"no backup":      {func([]byte) []byte { return []byte("{}\n") }, good, "no backup"},
		"nothing":        {func([]byte) []byte { return nil }, good, "no backup"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(sealed)
			if c.spoil != nil {
				b = c.spoil(b)
			}
			fresh := t.TempDir()
			_, err := ceremony.RestoreSoftHSM(b, c.shares, fresh)
			if !errors.Is(err, ceremony.ErrBackup) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want one with %q", err, c.want)
			}
			if strings.Contains(fmt.Sprint(err), good[0].Value) {
				t.Error("the error tells a share")
			}
			if left, err := os.ReadDir(fresh); err != nil || len(left) > 0 {
				t.Errorf("%d files were written (%v)", len(left), err)
			}
		})
	}
	if _, err := ceremony.RestoreSoftHSM(sealed, good, tokens); !errors.Is(err, ceremony.ErrBackup) {
		t.Errorf("restored over tokens: %v", err)
	}
	if _, err := ceremony.SealSoftHSM(tokens, worker.TokenRef{Label: "token", Serial: "fedcba9876543210"}, split); !errors.Is(err, ceremony.ErrBackup) {
		t.Errorf("a token that is not there: %v", err)
	}
	if _, err := ceremony.NewSplit(names, 1); !errors.Is(err, ceremony.ErrBackup) {
		t.Errorf("a threshold of 1: %v", err)
	}
	if _, err := ceremony.ParseShare([]byte(`{"format":"x"}`)); !errors.Is(err, ceremony.ErrBackup) {
		t.Errorf("a foreign share: %v", err)
	}
}

// softHSM starts a worker on a token directory.
func softHSM(t testing.TB, tokens string) *worker.Supervisor {
	t.Helper()
	module, err := worker.SoftHSMModule()
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "softhsm2.conf")
	if err := os.WriteFile(conf, []byte(worker.SoftHSMConf(tokens)), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(worker.Config{
		Binary: workerBinary, Module: module, Env: []string{"SOFTHSM2_CONF=" + conf}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// contents reads all files below a folder.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		out[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRestoreLeavesTheOriginal backs a real token up, restores it elsewhere, lets
// the copy sign, and finds the original as it was, byte for byte. Then its record is
// held against it, and against what else might be there.
func TestRestoreLeavesTheOriginal(t *testing.T) {
	tokens, fresh := t.TempDir(), t.TempDir()
	w := softHSM(t, tokens)
	token, err := ceremony.NewToken(t.Context(), w, "original", []byte("admin-pin"), []byte("user-pin"))
	if err != nil {
		t.Fatal(err)
	}
	for i, alg := range []worker.Algorithm{worker.Secp256k1, worker.P256} {
		key, err := ceremony.NewKey(t.Context(), w, token.TokenRef, alg, alg.String(), []byte{byte(i + 1)})
		if err != nil {
			t.Fatal(err)
		}
		checkRecord(t, w, ceremony.NewRecord(token.TokenRef, key))
	}
	if c, err := w.ListCertificates(t.Context(), token.TokenRef); err != nil || len(c) != 0 {
		t.Errorf("%d certificates, %v", len(c), err)
	}
	if b, err := w.ListBlanks(t.Context()); err != nil || len(b) != 1 {
		t.Errorf("%d blank tokens, %v", len(b), err)
	}
	keys, err := w.ListKeys(t.Context(), token.TokenRef)
	if err != nil || len(keys) != 2 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	split, err := ceremony.NewSplit([]string{"a", "b"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := ceremony.SealSoftHSM(tokens, token.TokenRef, split)
	if err != nil {
		t.Fatal(err)
	}
	before := contents(t, tokens)
	restored, err := ceremony.RestoreSoftHSM(sealed, split.Shares, fresh)
	if err != nil {
		t.Fatal(err)
	}
	copyOf := softHSM(t, fresh)
	if err := copyOf.Login(t.Context(), restored, []byte("user-pin")); err != nil {
		t.Fatal(err)
	}
	network := types.TaggedHash("test", nil)
	for _, k := range keys {
		p, err := ceremony.Prove(t.Context(), copyOf, ceremony.Ref(restored, ceremony.Public(k)), network, []byte("2026-11-28 challenge"))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(network); err != nil || p.Key != ceremony.Public(k) {
			t.Errorf("%v, key %s", err, p.Key)
		}
	}
	if after := contents(t, tokens); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Error("the original was touched")
	}
}

func checkRecord(t *testing.T, w *worker.Supervisor, r ceremony.Record) {
	t.Helper()
	again, err := ceremony.ParseRecord(r.Encode())
	if err != nil || again != r {
		t.Fatalf("record %+v came back as %+v (%v)", r, again, err)
	}
	if err := r.Check(t.Context(), w); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*ceremony.Record){
		"label":     func(r *ceremony.Record) { r.Label = "x" },
		"id":        func(r *ceremony.Record) { r.ID = "0f" },
		"key":       func(r *ceremony.Record) { r.PublicKey.Point[0] ^= 1 },
		"attribute": func(r *ceremony.Record) { r.Attributes.Sign = worker.False },
		"all":       func(r *ceremony.Record) { r.Label, r.ID, r.PublicKey = "x", "0f", types.PublicKey{} },
	} {
		bad := r
		spoil(&bad)
		if err := bad.Check(t.Context(), w); !errors.Is(err, ceremony.ErrRecord) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	r.Serial = "0000000000000000"
	if err := r.Check(t.Context(), w); err == nil {
		t.Error("another token passed")
	}
}
