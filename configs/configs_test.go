package configs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/consensus"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestBrokenConfigNamesLineAndColumn(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Error
	}{
		"unknown key":          {"network = \"regtest\"\n[miner]\n  treads = 3\n", Error{Line: 3, Column: 3, Reason: `unknown key "miner.treads"`}},
		"unknown table":        {"[mimer]\nthreads = 3\n", Error{Line: 1, Column: 1, Reason: "unknown key"}},
		"wrong type":           {"[miner]\nthreads = \"three\"\n", Error{Line: 2, Column: 11, Reason: "miner.threads"}},
		"syntax":               {"network = \n", Error{Line: 1, Column: 11, Reason: "expected value"}},
		"twice":                {"data = \"a\"\ndata = \"b\"\n", Error{Line: 2, Column: 1, Reason: "already"}},
		"value out of range":   {"[miner]\n# comment\nthreads = -1\n", Error{Line: 3, Column: 1, Reason: "miner.threads: want 0 to 4096"}},
		"listen without port":  {"[rpc]\nlisten = \"127.0.0.1\"\n", Error{Line: 2, Column: 1, Reason: "rpc.listen: want host:port"}},
		"difficulty below min": {"[stratum]\nmin_difficulty = 2.0\nstart_difficulty = 1.0\n", Error{Line: 3, Column: 1, Reason: "between"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, c.text)
			_, err := Load(file)
			var got *Error
			if !errors.As(err, &got) {
				t.Fatalf("error %v: want one with a position", err)
			}
			if got.File != file || got.Line != c.want.Line || got.Column != c.want.Column || !strings.Contains(got.Reason, c.want.Reason) {
				t.Fatalf("got %v, want %d:%d: …%s…", got, c.want.Line, c.want.Column, c.want.Reason)
			}
		})
	}
}

func TestMissingConfigSaysWhatToDo(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), FileName))
	if err == nil || !strings.Contains(err.Error(), "qcity demo") {
		t.Fatalf("error %v does not say what to do", err)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	c := Default()
	c.Payout = "address"
	c.Signer.Keys = []SignerKey{{PublicKey: "secp256k1:02", Token: "t", Serial: "s", Label: "l", PINFile: "pin"}}
	file := filepath.Join(t.TempDir(), FileName)
	if err := c.Write(file); err != nil {
		t.Fatal(err)
	}
	got, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.Path("x") != filepath.Join(filepath.Dir(file), "x") || got.Path("") != "" || got.Path("/x") != "/x" {
		t.Fatalf("paths do not count from the file's folder: %q", got.Path("x"))
	}
	got.dir = ""
	if diff := cmp.Diff(c, got, cmp.AllowUnexported(Config{})); diff != "" {
		t.Fatal(diff)
	}
	if err := c.Write(file); err == nil {
		t.Fatal("an existing configuration was overwritten")
	}
}

func TestRegtestKeysAreTheDocumentedOnes(t *testing.T) {
	n, err := LoadNetwork("regtest")
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range n.Validators {
		private := sha256.Sum256(fmt.Appendf(nil, "qcity/regtest/validator/%d", i))
		want := secp256k1.PrivKeyFromBytes(private[:]).PubKey().SerializeCompressed()
		if string(k.Point[:]) != string(want) {
			t.Fatalf("validator %d is %s, want %x", i, k, want)
		}
	}
}

func TestNetworkFileRoundTrip(t *testing.T) {
	p, err := DevnetProfile()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consensus.NewNetwork(p); err == nil {
		t.Fatal("the devnet profile is no network before it is completed")
	}
	regtest, err := LoadNetwork("regtest")
	if err != nil {
		t.Fatal(err)
	}
	p.GenesisTime, p.GenesisBits, p.Validators = 1_700_000_000, 0x1f00ffff, regtest.Validators
	want, err := consensus.NewNetwork(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "network.toml")
	if err := WriteNetwork(file, &p); err != nil {
		t.Fatal(err)
	}
	got, err := LoadNetwork(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != want.ID {
		t.Fatalf("network id changed from %s to %s on its way through the file", want.ID, got.ID)
	}
}

func TestNetworkErrors(t *testing.T) {
	if _, err := LoadNetwork("mainnett"); err == nil || !strings.Contains(err.Error(), "regtest") {
		t.Fatalf("error %v does not list the networks there are", err)
	}
	file := filepath.Join(t.TempDir(), "n.toml")
	for text, want := range map[string]string{
		"name = \"x\"\nvalidators = [\"secp256k1:00\"]\n": ":2:",
		"name = \"x\"\npowLimitBits = \"1d00fff\"\n":      ":2:",
		"name = \"X Y\"\n": "name",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadNetwork(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("network = \"regtest\"\n[miner]\nthreads = 2\n")
	f.Add("[stratum]\nlisten = 3\n")
	f.Add("\x10") // the library reports it at position -1
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		err := decode("fuzz.toml", []byte(text), &c)
		var at *Error
		if err != nil && (!errors.As(err, &at) || at.Line < 1 || at.Column < 1) {
			t.Fatalf("error without a position: %v", err)
		}
	})
}
