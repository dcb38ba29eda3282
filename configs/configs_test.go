package configs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
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
		"unknown key":                  {"network = \"regtest\"\n[miner]\n  treads = 3\n", Error{Line: 3, Column: 3, Reason: `unknown key "miner.treads"`}},
		"unknown table":                {"[mimer]\nthreads = 3\n", Error{Line: 1, Column: 1, Reason: "unknown key"}},
		"wrong type":                   {"[miner]\nthreads = \"three\"\n", Error{Line: 2, Column: 11, Reason: "miner.threads"}},
		"syntax":                       {"network = \n", Error{Line: 1, Column: 11, Reason: "expected value"}},
		"twice":                        {"data = \"a\"\ndata = \"b\"\n", Error{Line: 2, Column: 1, Reason: "already"}},
		"value out of range":           {"[miner]\n# comment\nthreads = -1\n", Error{Line: 3, Column: 1, Reason: "miner.threads: want 0 to 4096"}},
		"device below its floor":       {"[[stratum.devices]]\nagent = \"x\"\nstart = 1.0\nfloor = 2.0\n", Error{Line: 1, Column: 1, Reason: "stratum.devices: want start and floor"}},
		"coinbase for no output":       {"[stratum]\nmax_coinbase = 127\n", Error{Line: 2, Column: 1, Reason: "stratum.max_coinbase: want 128 to 16384 bytes"}},
		"coinbase for no device":       {"[stratum]\nmax_coinbase = 16385\n", Error{Line: 2, Column: 1, Reason: "stratum.max_coinbase: want 128 to 16384 bytes"}},
		"no kernel":                    {"[miner]\nkernel = \"\"\n", Error{Line: 2, Column: 1, Reason: `miner.kernel: want "auto" or the name`}},
		"nonsense for CPUs":            {"[miner]\nthreads = 2\ncpus = \"all\"\n", Error{Line: 3, Column: 1, Reason: `miner.cpus: want "auto", "off" or a list of CPUs`}},
		"a number for CPUs":            {"[miner]\ncpus = 3\n", Error{Line: 2, Column: 8, Reason: "miner.cpus"}},
		"duty of nothing":              {"[miner]\nduty = 0\n", Error{Line: 2, Column: 1, Reason: "miner.duty: want 1 to 100 percent"}},
		"duty of too much":             {"[miner]\nduty = 101\n", Error{Line: 2, Column: 1, Reason: "miner.duty: want 1 to 100 percent"}},
		"freezing":                     {"[miner]\nmax_temperature = 7.5\n", Error{Line: 2, Column: 1, Reason: "miner.max_temperature: want 30 to 120 °C, or 0"}},
		"no number of degrees":         {"[miner]\nmax_temperature = nan\n", Error{Line: 2, Column: 1, Reason: "miner.max_temperature"}},
		"negative power":               {"[miner]\nmax_power = -65.0\n", Error{Line: 2, Column: 1, Reason: "miner.max_power: want 1 to 10000 watts, or 0"}},
		"listen without port":          {"[rpc]\nlisten = \"127.0.0.1\"\n", Error{Line: 2, Column: 1, Reason: "rpc.listen: want host:port"}},
		"wait that is no yes or no":    {"[signer]\nstartup_wait = 1\n", Error{Line: 2, Column: 16, Reason: "signer.startup_wait"}},
		"signer port without pins":     {"[signer]\nlisten = \"0.0.0.0:9340\"\nidentity = \"id\"\n", Error{Line: 1, Column: 1, Reason: "signer.pins: listen needs the pin"}},
		"signer port without identity": {"[signer]\nlisten = \"0.0.0.0:9340\"\npins = [\"" + testPin + "\"]\n", Error{Line: 1, Column: 1, Reason: "signer.identity: a link needs"}},
		"signer port without host":     {"[signer]\nlisten = \"9340\"\n", Error{Line: 2, Column: 1, Reason: "signer.listen: want host:port"}},
		"pin that is none":             {"[signer]\nidentity = \"id\"\nlisten = \":1\"\npins = [\"" + testPin + "\", \"ed25519:00\"]\n", Error{Line: 4, Column: 1, Reason: `"ed25519:00" is no pin`}},
		"pin twice":                    {"[signer]\npins = [\"" + testPin + "\", \"" + testPin + "\"]\n", Error{Line: 2, Column: 1, Reason: "twice"}},
		"pin of zeros":                 {"[signer]\npins = [\"ed25519:" + strings.Repeat("0", 64) + "\"]\n", Error{Line: 2, Column: 1, Reason: "is no pin"}},
		"node without identity":        {"[[signer.nodes]]\ndial = \"a:1\"\npin = \"" + testPin + "\"\n", Error{Line: 1, Column: 1, Reason: "signer.identity: a link needs"}},
		"node without pin":             {"[signer]\nidentity = \"id\"\n[[signer.nodes]]\ndial = \"a:1\"\n", Error{Line: 3, Column: 1, Reason: "signer.nodes.pin: node 1"}},
		"node with a wrong pin":        {"[signer]\nidentity = \"id\"\n[[signer.nodes]]\ndial = \"a:1\"\n pin = \"" + strings.ToUpper(testPin) + "\"\n", Error{Line: 5, Column: 2, Reason: "signer.nodes.pin: node 1"}},
		"node without address":         {"[signer]\nidentity = \"id\"\n[[signer.nodes]]\ndial = \"a\"\n", Error{Line: 4, Column: 1, Reason: "signer.nodes.dial: node 1"}},
		"node twice":                   {"[signer]\nidentity = \"id\"\n[[signer.nodes]]\ndial = \"a:1\"\npin = \"" + testPin + "\"\n[[signer.nodes]]\ndial = \"a:1\"\npin = \"" + testPin + "\"\n", Error{Line: 3, Column: 1, Reason: "a:1 is listed twice"}},
		"unknown key of a node":        {"[[signer.nodes]]\ndial = \"a:1\"\npins = \"x\"\n", Error{Line: 3, Column: 1, Reason: `unknown key "signer.nodes.pins"`}},
		"TLS that is no choice":        {"[stratum]\ntls = \"on\"\n", Error{Line: 2, Column: 1, Reason: `stratum.tls: want "auto" or "off"`}},
		"certificate without key":      {"[stratum]\ncert = \"cert.pem\"\n", Error{Line: 2, Column: 1, Reason: "stratum.cert: want cert and key, or neither"}},
		"difficulty below min":         {"[stratum]\nmin_difficulty = 2.0\nstart_difficulty = 1.0\n", Error{Line: 3, Column: 1, Reason: "between"}},
		"rewards of no rule":           {"[pool]\nrewards = \"pps\"\n", Error{Line: 2, Column: 1, Reason: "pool.rewards: want"}},
		"a fee above everything":       {"[pool]\nfee = 10001\n", Error{Line: 2, Column: 1, Reason: "pool.fee: want 0 to 10000"}},
		"a fee with a fraction":        {"[pool]\nfee = 0.5\n", Error{Line: 2, Column: 7, Reason: "pool.fee"}},
		"a window of nothing":          {"[pool]\npplns_factor = 0\n", Error{Line: 2, Column: 1, Reason: "pool.pplns_factor: want"}},
		"a window of no number":        {"[pool]\npplns_factor = nan\n", Error{Line: 2, Column: 1, Reason: "pool.pplns_factor: want"}},
		"dust":                         {"[pool]\nmin_payout = 1\n", Error{Line: 2, Column: 1, Reason: "pool.min_payout: want"}},
		"shares kept for no time":      {"[pool]\nretention_days = 0\n", Error{Line: 2, Column: 1, Reason: "pool.retention_days: want"}},
		"no room for shares":           {"[pool]\nmax_mib = 1\n", Error{Line: 2, Column: 1, Reason: "pool.max_mib: want"}},
		"etcd without a port":          {"[signer.cluster]\netcd = [\"https://etcd\"]\n", Error{Line: 2, Column: 1, Reason: "signer.cluster.etcd: want URLs"}},
		"etcd without TLS":             {"[signer.cluster]\nstate = \"pin\"\netcd = [\"http://10.0.0.1:2379\"]\n", Error{Line: 3, Column: 1, Reason: "signer.cluster.etcd: want URLs"}},
		"etcd without certificates":    {"[signer.cluster]\netcd = [\"https://etcd:2379\"]\nstate = \"pin\"\nca = \"ca\"\n", Error{Line: 4, Column: 1, Reason: "signer.cluster.ca: https needs"}},
		"etcd without state":           {"[signer.cluster]\netcd = [\"http://127.0.0.1:2379\"]\n", Error{Line: 1, Column: 1, Reason: "signer.cluster.state"}},
		"etcd without password":        {"[signer.cluster]\nusername = \"box\"\n", Error{Line: 2, Column: 1, Reason: "signer.cluster.username"}},
		"etcd prefix":                  {"[signer.cluster]\nprefix = \"qcity/\"\n", Error{Line: 2, Column: 1, Reason: "signer.cluster.prefix"}},
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

const testPin = "ed25519:19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"

func TestMissingConfigSaysWhatToDo(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), FileName))
	if err == nil || !strings.Contains(err.Error(), "qcity demo") {
		t.Fatalf("error %v does not say what to do", err)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	c := Default()
	c.Payout = "address"
	c.Signer.Cluster = Cluster{
		Etcd: []string{"https://a:2379", "https://b:2379", "https://c:2379"}, CA: "ca", Cert: "cert", Key: "key",
		Username: "box", PasswordFile: "password", State: "cluster.pin", Prefix: "/qcity", AllowSingleMember: true,
	}
	c.Stratum.Devices = []StratumDevice{{Agent: "Rig/", Start: 64, Floor: 1, Extranonce2: 4}}
	c.Signer.Keys = []SignerKey{{PublicKey: "secp256k1:02", Token: "t", Serial: "s", Label: "l", ID: "01", PIN: "file:pin"}}
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

// TestAuditLog: it is named, or lies beside the journal.
func TestAuditLog(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"[signer]\njournal = \"signer/journal\"\n":                         "signer/audit.log",
		"[signer]\njournal = \"signer/journal\"\naudit = \"log/signer\"\n": "log/signer",
	} {
		file := write(t, text)
		c, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if want != "" {
			want = filepath.Join(filepath.Dir(file), want)
		}
		if got := c.AuditLog(); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestCPUList(t *testing.T) {
	for _, c := range []struct {
		text string
		want []int
		err  string
	}{
		{"auto", nil, ""},
		{"off", nil, ""},
		{"0", []int{0}, ""},
		{"0,2-5", []int{0, 2, 3, 4, 5}, ""},
		{"3, 1", []int{3, 1}, ""},
		{"1023", []int{1023}, ""},
		{"", nil, `"" is none`},
		{"1024", nil, "0 to 1023"},
		{"-1", nil, `"-1" is none`},
		{"5-2", nil, `"5-2" is none`},
		{"1-2-3", nil, `"1-2-3" is none`},
		{"0,,1", nil, `"" is none`},
		{"0-3,2", nil, "CPU 2 is listed twice"},
		{"0x1", nil, "is none"},
		{"99999999999999999999", nil, "is none"},
	} {
		t.Run(c.text, func(t *testing.T) {
			m := Miner{CPUs: c.text}
			got, err := m.CPUList()
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || !slices.Equal(got, c.want) {
				t.Fatalf("%v, error %v; want %v, %q", got, err, c.want, c.err)
			}
		})
	}
}

// TestMinerDefaults: as many threads as make sense here, less the node's own.
func TestMinerDefaults(t *testing.T) {
	c, err := Load(write(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	usable := hw.Detect(os.DirFS("/")).Usable.Threads
	want := Miner{Threads: max(1, usable-1), Kernel: "auto", Nice: 10, CPUs: "auto", Duty: 100}
	if c.Miner != want {
		t.Errorf("%+v, want %+v", c.Miner, want)
	}
}

// TestStartupWait: it is on unless the file says otherwise (S5).
func TestStartupWait(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                     true,
		"[signer]\nsocket = \"signer.sock\"\n": true,
		"[signer]\nstartup_wait = true\n":      true,
		"[signer]\nstartup_wait = false\n":     false,
	} {
		c, err := Load(write(t, text))
		if err != nil || c.Signer.StartupWait != want {
			t.Errorf("%q: %t, %v", text, c.Signer.StartupWait, err)
		}
	}
	c := Default()
	c.Signer.StartupWait = false
	file := filepath.Join(t.TempDir(), FileName)
	if err := c.Write(file); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(file); err != nil || c.Signer.StartupWait {
		t.Errorf("switched off, written and read again: %t, %v", c.Signer.StartupWait, err)
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
	through := func() *consensus.Network {
		t.Helper()
		file := filepath.Join(t.TempDir(), "network.toml")
		if err := WriteNetwork(file, &p); err != nil {
			t.Fatal(err)
		}
		got, err := LoadNetwork(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, got.Params); diff != "" {
			t.Fatalf("changed on its way through the file: %s", diff)
		}
		return got
	}
	if got := through(); got.ID != want.ID {
		t.Fatalf("network id changed from %s to %s on its way through the file", want.ID, got.ID)
	}
	// A release may vouch for a block of the network; that makes no other network.
	p.Release = &consensus.ReleaseCheckpoint{Height: 50, Block: types.Hash{31: 0xab}}
	got := through()
	if got.ID != want.ID {
		t.Fatalf("with a release the network id is %s, without %s", got.ID, want.ID)
	}
	if got.Release.Checkpoint() != (consensus.Checkpoint{Height: 50, ID: types.Hash{31: 0xab}}) {
		t.Fatalf("release %+v", got.Release)
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

// TestNetworkErrorsSayWhere: a wrong value is named with its file, line and key.
func TestNetworkErrorsSayWhere(t *testing.T) {
	good, err := networkFiles.ReadFile("networks/regtest.toml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(string(good), "\n")
	id := strings.Repeat("00", 31) + "ab"
	for name, c := range map[string]struct {
		add    string // behind the file, or in place of old
		old    string
		line   int // counted from the end of the file when something is added
		reason string
	}{
		"release at no slot":      {"[release]\nheight = 15\nblock = \"" + id + "\"\n", "", 2, "release.height: want the height of a slot"},
		"release at genesis":      {"[release]\nblock = \"" + id + "\"\nheight = 0\n", "", 3, "release.height"},
		"release without height":  {"[release]\nblock = \"" + id + "\"\n", "", 1, "release.height"},
		"release without block":   {"[release]\nheight = 20\n", "", 1, "release.block: want the id"},
		"release of a short hash": {"[release]\nheight = 20\nblock = \"00ab\"\n", "", 3, "release.block"},
		"release of no hash":      {"[release]\nheight = 20\nblock = \"" + strings.Repeat("xy", 32) + "\"\n", "", 3, "release.block"},
		"release by number":       {"[release]\nheight = \"20\"\n", "", 2, "release.height"},
		"release of more":         {"[release]\nheight = 20\nblock = \"" + id + "\"\nhash = 1\n", "", 4, "unknown key \"release.hash\""},
		"slots at every block":    {"n = 1", "n = 10", 10, "n = 1: want at least 2"},
		"future limit":            {"futureLimitSeconds = 61", "futureLimitSeconds = 60", 16, "futureLimitSeconds"},
		"addresses":               {"scriptHash = 111", "scriptHash = 196", 35, "addresses"},
	} {
		t.Run(name, func(t *testing.T) {
			text, line := string(good)+c.add, lines+c.line
			if c.old != "" {
				text, line = strings.Replace(string(good), c.old, c.add, 1), c.line
			}
			file := filepath.Join(t.TempDir(), "network.toml")
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := LoadNetwork(file)
			var at *Error
			if !errors.As(err, &at) || at.File != file || !strings.Contains(at.Reason, c.reason) {
				t.Fatalf("error %v, want one in %s with %q", err, file, c.reason)
			}
			if at.Line != line {
				t.Errorf("line %d, want %d: %v", at.Line, line, err)
			}
		})
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
