package test

import (
	"strings"
	"testing"
)

// graph makes go list's answer from "a -> b", "a -test> b", "a cgo"
// and "a broken".
func graph(lines ...string) []pkg {
	var pkgs []pkg
	at := map[string]int{}
	add := func(path string) *pkg {
		if _, ok := at[path]; !ok {
			at[path] = len(pkgs)
			pkgs = append(pkgs, pkg{ImportPath: full(path)})
		}
		return &pkgs[at[path]]
	}
	for _, line := range lines {
		f := strings.Fields(line)
		p := add(f[0])
		switch {
		case len(f) == 1:
		case f[1] == "->":
			p.Imports = append(p.Imports, full(f[2]))
		case f[1] == "-test>":
			p.XTestImports = append(p.XTestImports, full(f[2]))
		case f[1] == "broken":
			p.Error = &struct{ Err string }{"syntax error"}
		case f[1] == "cgo":
			p.CgoFiles = []string{"c.go"}
		default:
			panic("bad line: " + line)
		}
	}
	return pkgs
}

func isRoom(path string) bool {
	_, ok := room(path)
	return ok
}

func full(path string) string {
	if isRoom(path) || strings.HasPrefix(path, "new/") {
		return module + "/" + path
	}
	return path
}

// TestRules proves on made-up graphs that each rule can fail, and that what
// the design asks for does not.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		name  string
		graph []string
		want  string // in the only complaint; empty: none
	}{
		{"the design's edges", []string{
			"node -> node/chain", "node -> node/store", "node -> miner/work", "node/chain -> node/consensus",
			"node/consensus -> node/types", "node/consensus -> math/big", "node/store -> go.etcd.io/bbolt",
			"node/store -> internal/durable", "signer -> node/consensus", "signer/pkcs11 -> github.com/miekg/pkcs11",
			"signer/pkcs11 cgo", "cmd/qcity-p11 -> signer/pkcs11", "cmd/qcity -> configs", "cmd/qcity -> stratum/server",
			"firmware-api -> github.com/gorilla/websocket", "hw -> github.com/klauspost/cpuid/v2",
			"node/issuer/bank -> node/ledger", "node/issuer/bank -> node/issuer/van",
		}, ""},
		{"tests have helpers", []string{
			"node/chain -test> node/consensus/chaingen", "node/store -test> internal/durable/durabletest",
			"node/consensus -test> time", "cmd/qcity -test> github.com/gorilla/websocket", "node -test> internal/simnet",
			"node/chain -test> node/store",
		}, ""},
		{"new room", []string{"new/room"}, "add it to the table on purpose"},
		{"edge outside the table", []string{"node/chain -> node/mempool"}, "does not allow"},
		{"unreadable file", []string{"node/rpc broken"}, "cannot be read"},
		{"clock in consensus", []string{"node/consensus -> time"}, "pure"},
		{"randomness in the ledger", []string{"node/ledger -> crypto/rand"}, "pure"},
		{"logger in types", []string{"node/types -> log/slog"}, "pure"},
		{"lock in consensus", []string{"node/consensus -> sync"}, "pure"},
		{"unknown library in consensus", []string{"node/consensus -> example.org/lib"}, "pure"},
		{"miner tests use the node", []string{"miner -test> node/types"}, "any chain"},
		{"stratum tests use the node", []string{"stratum/server -test> node"}, "any chain"},
		{"hw tests use the node", []string{"hw -test> node/types"}, "any chain"},
		{"signer tests use the store", []string{"signer -test> node/store"}, "trusts nothing"},
		{"signer tests use the chain", []string{"signer -test> node/chain"}, "trusts nothing"},
		{"worker tests use peers", []string{"cmd/qcity-p11 -test> node/p2p"}, "trusts nothing"},
		{"database outside the store", []string{"cmd/qcity -> go.etcd.io/bbolt"}, "database"},
		{"database in foreign tests", []string{"node/chain -test> go.etcd.io/bbolt"}, "database"},
		{"PKCS#11 outside the worker", []string{"signer -> github.com/miekg/pkcs11"}, "crash"},
		{"worker code in the main program", []string{"cmd/qcity -> signer/pkcs11"}, "worker process"},
		{"worker code in the signer's tests", []string{"signer -test> signer/pkcs11"}, "worker process"},
		{"cgo elsewhere", []string{"miner/sha256d cgo"}, "cgo"},
		{"probing in the main program", []string{"cmd/qcity -> signer/pkcs11/conformance"}, "worker process"},
		{"faults ship", []string{"cmd/qcity -> signer/faultmodule"}, "ships"},
		{"gorilla elsewhere", []string{"node/rpc -> github.com/gorilla/websocket"}, "firmware-api"},
		{"huma elsewhere", []string{"cmd/qcity -> github.com/danielgtaylor/huma/v2"}, "firmware-api"},
		{"metrics elsewhere", []string{"node -> github.com/prometheus/client_golang/prometheus"}, "firmware-api"},
		{"cpuid elsewhere", []string{"miner -> github.com/klauspost/cpuid/v2"}, "hw"},
		{"simulation ships", []string{"cmd/qcity -> internal/simnet"}, "ships"},
		{"failing files ship", []string{"cmd/qcity -> internal/durable/durabletest"}, "ships"},
		{"made-up blocks ship", []string{"node -> node/consensus/chaingen"}, "ships"},
		{"interop ships", []string{"cmd/qcity -> internal/interop/bitcoinjs"}, "ships"},
		{"etcd outside the claims", []string{"signer -> go.etcd.io/etcd/client/v3"}, "claims"},
		{"etcd in foreign tests", []string{"node -test> go.etcd.io/etcd/client/v3"}, "claims"},
		{"contenders ship", []string{"cmd/qcity -> signer/cluster/clustertest"}, "ships"},
		{"simulation reads config", []string{"internal/simnet -> configs"}, "file format"},
		{"program as a library", []string{"internal/simnet -> cmd/qcity"}, "nobody's library"},
		{"program as a test's library", []string{"node -test> cmd/qcity"}, "nobody's library"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := check(graph(c.graph...))
			switch {
			case c.want == "" && len(got) > 0:
				t.Errorf("complained: %q", got)
			case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
				t.Errorf("got %q, expected one complaint with %q", got, c.want)
			}
		})
	}
}

// TestRoomsNameRooms catches a misspelt room, which would allow nothing.
func TestRoomsNameRooms(t *testing.T) {
	known := func(pattern string) bool {
		base := strings.TrimSuffix(strings.TrimSuffix(pattern, "..."), "/")
		return base == "" || base == "cmd" || isRoom(base)
	}
	for from, may := range rooms {
		for _, to := range may {
			if !known(to) {
				t.Errorf("%s may import %s, which is not in the table", from, to)
			}
		}
	}
	for _, name := range pureRooms {
		if !known(name) {
			t.Errorf("pure room %s is not in the table", name)
		}
	}
	for _, x := range exclusive {
		for _, r := range x.rooms {
			if !known(r) {
				t.Errorf("%s: room %s is not in the table", x.imported, r)
			}
		}
	}
	for _, n := range never {
		for _, r := range append(n.from, n.to...) {
			if !known(r) {
				t.Errorf("forbidden edge: room %s is not in the table", r)
			}
		}
	}
}
