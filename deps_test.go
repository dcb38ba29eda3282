// Package test holds the checks that concern the whole module.
package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "qcitycoin.org/qcity"

// rooms says which of our packages each package may import: the table of the
// design. "x/..." stands for x and everything below it; as a key it covers
// packages that have no entry of their own. A package without an entry fails:
// a new room is added here on purpose.
var rooms = map[string][]string{
	".": {}, // this test

	"node/types":              {},
	"node/ledger":             {"node/types"},
	"node/consensus":          {"node/types", "node/ledger"},
	"node/consensus/chaingen": {"node/types", "node/consensus"},
	"node/chain":              {"node/types", "node/consensus"},
	"node/chain/chaintest":    {"node/types", "node/consensus", "node/chain"},
	"node/store":              {"node/types", "node/consensus", "internal/durable"},
	"node/mempool":            {"node/types", "node/consensus"},
	"node/template":           {"node/types", "node/consensus", "miner/work"},
	"node/found":              {"node/types", "miner/work", "internal/durable"}, // a journal beside the chain
	"node/p2p":                {"node/types", "node/consensus"},
	"node/syncer":             {"node/types", "node/consensus"},
	"node/rpc":                {"node/types", "node/consensus", "miner/work"},
	"node/simulate":           {"internal/plot"},
	"node/issuer/...":         {"node/types", "node/ledger", "node/issuer/..."},
	"node":                    {"node/...", "miner/work", "internal/durable"},

	"hw":                   {},
	"miner/work":           {},
	"miner/sha256d":        {"hw", "miner/work", "miner/sha256d/tables"},
	"miner/sha256d/tables": {},
	"miner/sha256d/gen":    {"miner/sha256d/tables"},
	"miner":                {"hw", "miner/work", "miner/sha256d"},
	"miner/bench":          {"hw", "miner/work", "miner/sha256d"},
	"miner/probe":          {"hw", "miner/sha256d"},
	"stratum":              {"miner/work"},
	"stratum/pool/canon":   {}, // one spelling for every value, of journal and notes
	// Who is owed what: arithmetic that knows neither files nor clocks nor miners.
	"stratum/pool/reward": {"stratum/pool/canon"},
	"stratum/pool":        {"miner/work", "stratum", "internal/durable", "stratum/pool/canon", "stratum/pool/reward"},
	"stratum/port":        {"internal/durable"}, // a certificate of its own is kept
	"stratum/load":        {"miner/work", "stratum"},
	"stratum/server":      {"miner/work", "stratum", "stratum/pool", "stratum/port"},
	"stratum/client":      {"miner/work", "stratum"},
	"stratum/sv2":         {"miner/work", "stratum"},

	"signer/worker": {},
	// Tokens of every kind to test on, made by the tools of their packages.
	"signer/tokentest": {"signer/worker"},
	// What the library for PKCS#11 does not do, once for both kinds of worker.
	"signer/pkcs11/native": {},
	"signer/link":          {}, // keys, TLS and lines: it knows nothing of what they say
	"signer/pkcs11":        {"signer/worker", "signer/pkcs11/native"},
	"signer/audit":         {"node/types", "internal/durable"}, // who verifies a log needs nothing else of the signer
	// What moves between signers is read by other programs, too: a pure format.
	"signer/interchange": {"node/types", "node/consensus"},
	// A proof of possession, which ceremonies make and set changes ask for.
	"signer/proof": {"node/types"},
	// Pure: what the officers of several boxes hand around, and the rules for signing it.
	"signer/authority": {"node/types", "node/consensus", "signer/proof"},

	// What breaks each rule, for the tests of the rules and of the signer.
	"signer/authority/authoritytest": {"node/types", "node/consensus", "node/consensus/chaingen", "signer/authority", "signer/proof"},

	"signer/cluster":             {"node/types", "node/consensus", "internal/durable"},
	"signer/cluster/clustertest": {"node/types", "node/consensus", "signer/cluster"},
	// The making of keys in front of witnesses. It has a worker of its own and no
	// part in the daemon, which never makes a key.
	"signer/ceremony":           {"node/types", "node/consensus", "internal/durable", "signer/worker", "signer/proof"},
	"signer/faultmodule":        {"signer/worker"},
	"signer/conformance":        {"signer/worker"},
	"signer/pkcs11/conformance": {"signer/worker", "signer/conformance", "signer/pkcs11/native"},
	"signer":                    {"node/types", "node/consensus", "internal/durable", "signer/worker", "signer/audit", "signer/authority", "signer/cluster", "signer/interchange", "signer/link", "signer/proof"},

	"firmware-api": {"node/types", "hw", "miner/work"},
	"configs":      {"hw", "node/types", "node/consensus", "internal/durable"},

	"internal/durable":             {},
	"internal/durable/durabletest": {"internal/durable"},
	"internal/plot":                {},
	"internal/seat":                {"node", "signer"}, // the one place that knows both
	"internal/simnet/...":          {"..."},
	"internal/interop/...":         {"..."},

	"cmd/qcity":     {"..."},
	"cmd/qcity-p11": {"signer/worker", "signer/conformance", "signer/pkcs11", "signer/pkcs11/conformance"},
}

// pure packages may import only these standard packages and libraries. What
// is not here has a clock, randomness, I/O, goroutines, locks or a logger.
var (
	pureRooms   = []string{"node/types", "node/consensus", "node/ledger", "signer/interchange"}
	pureImports = []string{
		"bytes", "cmp", "crypto/ecdsa", "crypto/elliptic", "crypto/hmac", "crypto/sha256", "crypto/sha512",
		"crypto/subtle", "encoding", "encoding/base64", "encoding/binary", "encoding/hex", "encoding/json",
		"errors", "fmt", "hash", "io", "iter", "maps", "math", "math/big", "math/bits", "slices", "sort",
		"strconv", "strings", "unicode", "unicode/utf8",
		"github.com/decred/dcrd/...", "github.com/holiman/uint256", "github.com/mr-tron/base58/...",
	}
)

// exclusive names the only rooms that may import a package.
var exclusive = []struct {
	imported string
	rooms    []string
	// tests: anybody's tests may, too.
	tests bool
	why   string
}{
	{"go.etcd.io/bbolt/...", []string{"node/store"}, false, "the database format is a private matter of node/store"},
	{"github.com/miekg/pkcs11/...", []string{"signer/pkcs11", "signer/pkcs11/conformance", "signer/pkcs11/native"}, false, "it needs cgo, and an HSM library may crash its process"},
	{"signer/pkcs11/...", []string{"cmd/qcity-p11"}, false, "HSM libraries run in the worker process only, where a crash harms nobody"},
	{"signer/tokentest", nil, true, "tokens whose PINs everybody knows have no place in what ships"},
	{"signer/faultmodule", nil, true, "an HSM that fails on purpose has no place in what ships"},
	{"github.com/gorilla/...", []string{"firmware-api", "stratum/port"}, true, "HTTP and WebSocket are firmware-api's business, and stratum/port's, which tells them apart from miners"},
	{"github.com/danielgtaylor/huma/...", []string{"firmware-api"}, true, "HTTP and its documents are firmware-api's business"},
	{"github.com/prometheus/...", []string{"firmware-api"}, true, "others hand out numbers, firmware-api publishes them"},
	{"github.com/klauspost/cpuid/...", []string{"hw", "miner/sha256d"}, true, "everybody else asks hw what the machine can do"},
	{"go.etcd.io/etcd/...", []string{"signer/cluster"}, false, "claims are the one thing asked of etcd, and package cluster checks every answer"},
	{"signer/cluster/clustertest", nil, true, "boxes that contend on purpose have no place in what ships"},
	{"configs", []string{"cmd/qcity"}, true, "packages take the values they need from their constructor, not from a file format"},
	{"internal/simnet/...", nil, true, "a simulation has no place in what ships"},
	{"internal/interop/...", nil, true, "checks against foreign programs have no place in what ships"},
	{"internal/durable/durabletest", []string{"internal/simnet"}, true, "a file system that fails on purpose has no place in what ships"},
	{"signer/authority/authoritytest", nil, true, "requests that break a rule on purpose have no place in what ships"},
	{"node/consensus/chaingen", []string{"internal/simnet", "signer/authority/authoritytest"}, true, "made-up blocks have no place in what ships"},
	{"node/chain/chaintest", []string{"internal/simnet"}, true, "a chain that is lost at the end has no place in what ships"},
	{"cmd/...", nil, false, "a program is nobody's library"},
}

// never holds the edges that stay forbidden even to tests: a test that needs
// both sides belongs with the program or under internal.
var never = []struct {
	from, to []string
	why      string
}{
	{
		[]string{"miner/...", "stratum/...", "hw/..."},
		[]string{"node/..."},
		"mining speaks the vocabulary of miner/work and works against any chain",
	},
	{
		[]string{"signer/...", "cmd/qcity-p11"},
		[]string{"node/chain", "node/store", "node/p2p"},
		"the signer trusts nothing of the node: it judges what it is sent by the pure rules alone",
	},
}

// pkg is what go list tells about one package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	CgoFiles                           []string
	// Error says that a file could not be parsed: its imports are unknown.
	Error *struct{ Err string }
}

// edge is one import statement, with our own paths cut short.
type edge struct {
	from, to   string
	ours, test bool
}

func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// matches reports whether path is pattern, or lies below it for "x/...".
func matches(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	base, tree := strings.CutSuffix(pattern, "/...")
	return path == base || tree && strings.HasPrefix(path, base+"/")
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}

// room finds the entry of a package, the longest pattern winning.
func room(path string) (may []string, ok bool) {
	best := ""
	for pattern := range rooms {
		if matches(pattern, path) && len(pattern) > len(best) {
			best = pattern
		}
	}
	return rooms[best], best != ""
}

// check returns one sentence for each broken rule.
func check(pkgs []pkg) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for _, p := range pkgs {
		from := short(p.ImportPath)
		if p.Error != nil {
			fault("%s cannot be read: %s", from, p.Error.Err)
		}
		may, ok := room(from)
		if !ok {
			fault("%s is not in the table of rooms: add it to the table on purpose, with what it may import", from)
		}
		if len(p.CgoFiles) > 0 && !matches("signer/pkcs11/...", from) {
			fault("%s uses cgo (%s): only signer/pkcs11 and what is below it may, everything else builds with cgo off", from, strings.Join(p.CgoFiles, ", "))
		}
		for _, e := range edges(p) {
			if e.ours && !e.test && ok && !matchesAny(may, e.to) {
				fault("%s imports %s, which the table of rooms does not allow", e.from, e.to)
			}
			if !e.ours && !e.test && slices.Contains(pureRooms, from) && !matchesAny(pureImports, e.to) {
				fault("%s imports %s: it is pure, without clock, randomness, I/O, goroutines, locks and logger, so that every node computes the same", e.from, e.to)
			}
			faults = append(faults, checkEdge(e)...)
		}
	}
	return faults
}

// edges lists a package's imports once each; those of tests only are marked.
func edges(p pkg) []edge {
	from := short(p.ImportPath)
	seen := map[string]bool{from: true, "C": true}
	var all []edge
	for i, list := range [][]string{p.Imports, p.TestImports, p.XTestImports} {
		for _, path := range list {
			if to := short(path); !seen[to] {
				seen[to] = true
				all = append(all, edge{from, to, to != path, i > 0})
			}
		}
	}
	return all
}

func checkEdge(e edge) (faults []string) {
	how := "imports"
	if e.test {
		how = "imports in its tests"
	}
	for _, x := range exclusive {
		if matches(x.imported, e.to) && !matches(x.imported, e.from) && !slices.Contains(x.rooms, e.from) && !(x.tests && e.test) {
			faults = append(faults, fmt.Sprintf("%s %s %s: %s", e.from, how, e.to, x.why))
		}
	}
	for _, n := range never {
		if matchesAny(n.from, e.from) && matchesAny(n.to, e.to) {
			faults = append(faults, fmt.Sprintf("%s %s %s: %s", e.from, how, e.to, n.why))
		}
	}
	return faults
}

// list asks go for every package of the module. Cgo is on, or the files that
// use it would stay out of sight.
func list(t *testing.T) []pkg {
	t.Helper()
	// -e: a room under construction, with imports that do not resolve yet, is
	// judged by what it imports all the same.
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports,CgoFiles,Error", "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// TestServerStaysOut: etcd's server is linked by a module of its own only.
func TestServerStaysOut(t *testing.T) {
	b, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("go.etcd.io/etcd/client/v3 ")) || bytes.Contains(b, []byte("go.etcd.io/etcd/server")) {
		t.Error("go.mod: want etcd's client, and its server in signer/cluster/embedtest only")
	}
}

// TestImports holds the real import graph against the rules.
func TestImports(t *testing.T) {
	pkgs := list(t)
	if len(pkgs) < 2 {
		t.Fatalf("go list found %d packages", len(pkgs))
	}
	for _, sentence := range check(pkgs) {
		t.Error(sentence)
	}
}
