package cluster

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// generator is a key that anybody can write down: the generator of secp256k1.
func generator(t testing.TB) types.PublicKey {
	var k types.PublicKey
	if err := k.UnmarshalText([]byte("secp256k1:0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")); err != nil {
		t.Fatal(err)
	}
	return k
}

// TestFormat is the format of everything kept: boxes of other versions read it.
func TestFormat(t *testing.T) {
	k := generator(t)
	vote := Claim{Kind: Vote, Key: k, Height: 120, Source: consensus.Checkpoint{Height: 110, ID: types.Hash{2}}, Digest: types.Hash{1}}
	block := Claim{Kind: Block, Key: k, Height: 120, Digest: types.Hash{1}}
	n := newNames("/qcity/signer", types.Hash{7})
	const (
		network = "0000000000000000000000000000000000000000000000000000000000000007"
		one     = "0000000000000000000000000000000000000000000000000000000000000001"
		two     = "0000000000000000000000000000000000000000000000000000000000000002"
		key     = "secp256k1:0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
		base    = "/qcity/signer/" + network + "/"
	)
	floor, last := Mark{Kind: Vote, Key: k, Floor: 90}, Mark{Kind: Vote, Key: k, Height: 120, Source: vote.Source, Digest: vote.Digest, Floor: 90}
	s := state{
		Network: types.Hash{7}, Cluster: 0xcdf818194e3a8c32, Members: []id{1, 2, 0x8e9e05c52164694d}, Revision: 42,
		Marks: []pinMark{{k, Block, 120, block.encode(), 0}, {k, Vote, 0, "", 90}},
	}
	for got, want := range map[string]string{
		n.asked():      base + "asked",
		n.first():      base + "first",
		n.claim(vote):  base + key + "/vote/0000000120/claim",
		n.seal(block):  base + key + "/block/0000000120/seal",
		block.encode(): `{"digest":"` + one + `"}`,
		vote.encode():  `{"digest":"` + one + `","source":{"height":110,"id":"` + two + `"}}`,
		last.encode():  `{"floor":90,"height":120,"digest":"` + one + `","source":{"height":110,"id":"` + two + `"}}`,
		floor.encode(): `{"floor":90,"digest":"` + strings.Repeat("0", 64) + `"}`,
		string(s.encode()): `{"network":"` + network + `","cluster":"cdf818194e3a8c32","members":["1","2","8e9e05c52164694d"],"revision":42,` +
			`"marks":[{"key":"` + key + `","kind":"block","height":120,"value":"{\"digest\":\"` + one + `\"}"},` +
			`{"key":"` + key + `","kind":"vote","height":0,"value":"","floor":90}]}` + "\n" +
			"a71a78da20c0a44c68dea720172077f1ccaa6cf5bd5f5408fe9ea0a8f1075654\n",
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if n.last(slot{SetChange, k}) != base+key+"/set-change/last" {
		t.Error(n.last(slot{SetChange, k}))
	}
	if got, err := decodeClaim(slot{Vote, k}, 120, []byte(vote.encode())); err != nil || got != vote {
		t.Errorf("%v, %v", got, err)
	}
	for _, m := range []Mark{floor, last} {
		if got, err := decodeMark(slot{Vote, k}, []byte(m.encode())); err != nil || got != m {
			t.Errorf("%v, %v", got, err)
		}
	}
	if got, err := decodeState(s.encode()); err != nil || got.Revision != 42 || got.Cluster != s.Cluster || !slices.Equal(got.Marks, s.Marks) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestStateBitFlips: no flipped bit of the pin's file goes unnoticed.
func TestStateBitFlips(t *testing.T) {
	s := state{Network: types.Hash{7}, Cluster: 1, Members: []id{1, 2, 3}, Revision: 1 << 40}
	good := s.encode()
	for i := range 8 * len(good) {
		bad := slices.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := decodeState(bad); err == nil {
			t.Fatalf("bit %d: not noticed", i)
		}
	}
}

func TestReadState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pin")
	read := func() error {
		_, err := readState(file, types.Hash{7})
		return err
	}
	if err := read(); !errors.Is(err, ErrMisconfigured) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	s := state{Network: types.Hash{7}}
	p := newPin(file, s)
	p.saw(5)
	if err := p.save(); err != nil {
		t.Fatal(err)
	}
	if got, err := readState(file, types.Hash{7}); err != nil || got.Revision != 5 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := readState(file, types.Hash{8}); !errors.Is(err, ErrMisconfigured) {
		t.Errorf("other network: %v", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := read(); !errors.Is(err, ErrDamaged) {
		t.Errorf("empty: %v", err)
	}
}

// TestPinNeverSinks.
func TestPinNeverSinks(t *testing.T) {
	k := generator(t)
	p := newPin("", state{Revision: 10})
	p.saw(5, Claim{Kind: Block, Key: k, Height: 20, Digest: types.Hash{1}})
	p.saw(12, Claim{Kind: Block, Key: k, Height: 10, Digest: types.Hash{2}})
	if m, ok := p.mark(slot{Block, k}); !ok || m.Height != 20 || p.revision() != 12 {
		t.Errorf("%v, revision %d", m, p.revision())
	}
}

// TestPinIsClosed: whoever takes the lock after us finds nothing written later.
func TestPinIsClosed(t *testing.T) {
	p := newPin(filepath.Join(t.TempDir(), "pin"), state{Network: types.Hash{7}})
	p.close()
	if err := p.save(); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if _, err := os.Stat(p.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file was written: %v", err)
	}
}

func TestJudge(t *testing.T) {
	for version, want := range map[string]string{
		"3.3.27": "refuse", "3.4.23": "refuse", "3.4.31": "refuse", "3.5.0": "refuse", "3.5.2": "refuse",
		"3.4.32": "warn", "3.4.40": "warn", "3.5.3": "warn", "3.5.13": "warn", "4.0.0": "warn", "2.3.8": "warn", "new": "warn", "": "warn", "3.5": "warn",
		"3.5.14": "", "3.6.0": "", "3.7.3": "", "3.8.0-alpha.0": "",
	} {
		refuse, warn := judge(version)
		got := map[bool]string{true: "refuse"}[refuse != ""] + map[bool]string{true: "warn"}[warn != ""]
		if got != want {
			t.Errorf("%s: %q, want %q", version, got, want)
		}
	}
}

func TestClassify(t *testing.T) {
	for want, list := range map[ErrorKind][]error{
		ErrUnavailable: {
			rpctypes.ErrTimeout, rpctypes.ErrNoLeader, rpctypes.ErrTooManyRequests, rpctypes.ErrNoSpace, rpctypes.ErrTimeoutDueToLeaderFail,
			rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrGRPCInvalidAuthToken, errors.New("unknown"), os.ErrDeadlineExceeded,
			status.Error(codes.Unavailable, "down"), status.Error(codes.Internal, "broken frame"), rpctypes.ErrStopped,
		},
		ErrMisconfigured: {
			rpctypes.ErrPermissionDenied, rpctypes.ErrAuthFailed, rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCTooManyOps,
			status.Error(codes.Unauthenticated, "who"), status.Error(codes.Unimplemented, "no etcd"),
		},
		ErrDamaged: {rpctypes.ErrGRPCCorrupt, rpctypes.ErrCorrupt},
	} {
		for _, err := range list {
			if got := classify(err); got != want {
				t.Errorf("%v: %s, want %s", err, got, want)
			}
		}
	}
}

func TestConfigCheck(t *testing.T) {
	good := func() Config {
		return Config{
			Endpoints: []string{"https://etcd1:2379"}, CA: "ca", Cert: "cert", Key: "key",
			Network: types.Hash{1}, Keys: []types.PublicKey{generator(t)}, StatePath: "pin",
		}.withDefaults()
	}
	c := good()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"no endpoint":       func(c *Config) { c.Endpoints = nil },
		"without TLS":       func(c *Config) { c.Endpoints = append(c.Endpoints, "http://etcd2:2379") },
		"needs all three":   func(c *Config) { c.CA = "" },
		"both or neither":   func(c *Config) { c.Username = "box" },
		"state":             func(c *Config) { c.StatePath = "" },
		"no network":        func(c *Config) { c.Network = types.Hash{} },
		"no key":            func(c *Config) { c.Keys = nil },
		"want /name":        func(c *Config) { c.Prefix = "qcity/" },
		"whole seconds":     func(c *Config) { c.Timeouts.Lease = 1500 * time.Millisecond },
		"https://host:port": func(c *Config) { c.Endpoints = []string{"etcd:2379"} },
	} {
		c := good()
		change(&c)
		if err := c.Check(); !errors.Is(err, ErrMisconfigured) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for endpoint, ok := range map[string]bool{
		"http://127.0.0.1:2379": true, "http://[::1]:2379": true, "http://localhost:2379": true, "https://10.0.0.1:2379": true,
		"http://10.0.0.1:2379": false, "https://etcd": false, "https://a:b@etcd:2379": false, "https://etcd:2379/x": false, "unix:///run/etcd": false, "": false,
	} {
		if err := CheckEndpoint(endpoint); (err == nil) != ok {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

func TestReadPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	for _, c := range []struct {
		text string
		mode os.FileMode
		ok   bool
	}{{"secret\n", 0o400, true}, {"secret", 0o600, true}, {"secret\n", 0o644, false}, {"", 0o400, false}, {"two\nlines\n", 0o400, false}} {
		_ = os.Remove(file)
		if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if got, err := readPassword(file); (err == nil) != c.ok || c.ok && got != "secret" {
			t.Errorf("%q, mode %o: %q, %v", c.text, c.mode, got, err)
		}
	}
}

// TestNoClockIsRead: time passes in time-outs only, so a step of the clock has
// nothing to act on.
func TestNoClockIsRead(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until"}, s.Sel.Name) {
					t.Errorf("%s uses time.%s", file, s.Sel.Name)
				}
			}
			return true
		})
	}
}

func FuzzDecodeValue(f *testing.F) {
	k := generator(f)
	for _, s := range []string{"", "{}", `{"digest":"00"}`, `{"floor":1,"digest":"` + strings.Repeat("0", 64) + `"}`, `{"height":1,"digest":"` + strings.Repeat("1", 64) + `","source":{"height":0,"id":"` + strings.Repeat("0", 64) + `"}}`} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, vote bool) {
		s := slot{Block, k}
		if vote {
			s.kind = Vote
		}
		if c, err := decodeClaim(s, 10, b); err == nil && c.encode() != string(b) {
			t.Errorf("claim %q is written %q", b, c.encode())
		}
		if m, err := decodeMark(s, b); err == nil && m.encode() != string(b) {
			t.Errorf("mark %q is written %q", b, m.encode())
		}
		if sig, err := decodeSeal(b); err == nil && sig == [64]byte{} && string(b) != strings.Repeat("0", 128) {
			t.Errorf("seal %q is read as nothing", b)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	s := state{Network: types.Hash{7}, Cluster: 1, Members: []id{1, 2, 3}, Revision: 5, Marks: []pinMark{{generator(f), Block, 10, (&Claim{Kind: Block, Digest: types.Hash{1}}).encode(), 0}}}
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		if again, err := decodeState(s.encode()); err != nil || again.Revision != s.Revision {
			t.Errorf("%v, %v", again, err)
		}
	})
}
