package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// rig is a real node on regtest with its server on a real port.
type rig struct {
	t          testing.TB
	node       *node.Node
	net        *consensus.Network
	url        string
	cookieFile string
	cookie     string
	// address and script are of chaingen's payment key 0.
	address string
	script  []byte
}

func start(t testing.TB, change ...func(*node.Config)) *rig {
	t.Helper()
	network, err := configs.LoadNetwork("regtest")
	if err != nil {
		t.Fatal(err)
	}
	cfg := node.Config{
		Network: network, Dir: t.TempDir(), Payout: chaingen.PayToHash(0), Version: "1.2.3",
		HashRate: func() float64 { return 1234.5 },
	}
	for _, c := range change {
		c(&cfg)
	}
	n, err := node.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, l) }()
	r := &rig{
		t: t, node: n, net: cfg.Network, url: "http://" + l.Addr().String(),
		cookieFile: filepath.Join(cfg.Dir, node.CookieFile),
		script:     chaingen.PayToHash(0), address: cfg.Network.Addresses.Address(chaingen.PayToHash(0)),
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	r.send(http.MethodPost, "", nil) // answered once the cookie is written
	cookie, err := os.ReadFile(r.cookieFile)
	if err != nil {
		t.Fatal(err)
	}
	r.cookie = string(cookie)
	return r
}

// send makes one HTTP request with the cookie and returns status and body.
func (r *rig) send(method, body string, header http.Header) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url, bytes.NewReader([]byte(body)))
	if err != nil {
		r.t.Fatal(err)
	}
	if user, password, ok := bytes.Cut([]byte(r.cookie), []byte(":")); ok {
		req.SetBasicAuth(string(user), string(password))
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// reply is an answer of either version.
type reply struct {
	Result json.RawMessage
	Error  *rpcError
	ID     json.RawMessage
}

type rpcError struct {
	Code    int
	Message string
}

// try calls a method and returns the result, or the error of the answer.
func (r *rig) try(result any, method string, params ...any) *rpcError {
	r.t.Helper()
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"id": 1, "method": method, "params": params})
	if err != nil {
		r.t.Fatal(err)
	}
	_, text := r.send(http.MethodPost, string(body), nil)
	var a reply
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		r.t.Fatalf("%s: %v in %s", method, err, text)
	}
	if a.Error != nil {
		return a.Error
	}
	if result != nil {
		if err := json.Unmarshal(a.Result, result); err != nil {
			r.t.Fatalf("%s: %v in %s", method, err, a.Result)
		}
	}
	return nil
}

// call is try for calls that must succeed.
func (r *rig) call(result any, method string, params ...any) {
	r.t.Helper()
	if e := r.try(result, method, params...); e != nil {
		r.t.Fatalf("%s: %d %s", method, e.Code, e.Message)
	}
}

// generate mines blocks to the rig's address and returns their ids.
func (r *rig) generate(n int) []string {
	r.t.Helper()
	var ids []string
	r.call(&ids, "generatetoaddress", n, r.address)
	if len(ids) != n {
		r.t.Fatalf("%d blocks generated, want %d", len(ids), n)
	}
	return ids
}

// reward returns the coin that the block at a height paid the rig.
func (r *rig) reward(height uint32) consensus.UTXO {
	r.t.Helper()
	id, _, err := r.node.Chain.BestID(height)
	if err != nil {
		r.t.Fatal(err)
	}
	b, ok, err := r.node.Chain.Block(id)
	if err != nil || !ok {
		r.t.Fatalf("block at height %d: %v, %v", height, ok, err)
	}
	tx := b.Transactions[0]
	return consensus.UTXO{
		OutPoint: types.OutPoint{TxID: tx.ID()},
		Coin:     consensus.Coin{Output: tx.Outputs[0], Height: height, Coinbase: true},
	}
}

// spend returns a signed transaction that pays value to payment key 1; the
// rest of the coin is its fee.
func (r *rig) spend(coin consensus.UTXO, value int64) *types.Transaction {
	r.t.Helper()
	return chaingen.New(r.t, chaingen.Params()).Spend([]consensus.UTXO{coin}, chaingen.Pay(value, chaingen.PayToHash(1)))
}
