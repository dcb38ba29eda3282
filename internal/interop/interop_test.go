package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// script runs one of the programs in bitcoinjs/ with v as its input.
func script(t *testing.T, name string, v any) []byte {
	t.Helper()
	in, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", filepath.Join("bitcoinjs", name))
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v (`make deps-test unit` installs Node.js and its packages)", name, err)
	}
	return out
}

// regtest is a running node with its RPC server.
type regtest struct {
	t      *testing.T
	net    *consensus.Network
	url    string
	cookie string
}

func startRegtest(t *testing.T) *regtest {
	t.Helper()
	network, err := configs.LoadNetwork("regtest")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	n, err := node.Open(node.Config{Network: network, Dir: dir}, slog.New(slog.DiscardHandler))
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
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &regtest{t: t, net: network, url: "http://" + l.Addr().String()}
	// The server writes the cookie before it answers anything.
	resp, err := http.Post(r.url, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	cookie, err := os.ReadFile(filepath.Join(dir, node.CookieFile))
	if err != nil {
		t.Fatal(err)
	}
	r.cookie = string(cookie)
	return r
}

// try makes an RPC call and returns its result, or the error of the answer.
func (r *regtest) try(result any, method string, params ...any) error {
	r.t.Helper()
	body, err := json.Marshal(map[string]any{"jsonrpc": "1.0", "id": "t", "method": method, "params": params})
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	user, password, _ := strings.Cut(r.cookie, ":")
	req.SetBasicAuth(user, password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var answer struct {
		Result json.RawMessage
		Error  *struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		r.t.Fatalf("%s: %v in %s", method, err, raw)
	}
	if answer.Error != nil {
		return fmt.Errorf("%d: %s", answer.Error.Code, answer.Error.Message)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

func (r *regtest) call(result any, method string, params ...any) {
	r.t.Helper()
	if err := r.try(result, method, params...); err != nil {
		r.t.Fatalf("%s: %v", method, err)
	}
}

// coinbase returns the coinbase of the block with this id, in hex.
func (r *regtest) coinbase(blockID string) string {
	r.t.Helper()
	var block struct{ Tx []struct{ Hex string } }
	r.call(&block, "getblock", blockID, 2)
	return block.Tx[0].Hex
}

type input struct {
	Previous string   `json:"previous"`
	Index    int      `json:"index"`
	WIFs     []string `json:"wifs"`
	Redeem   *redeem  `json:"redeem,omitempty"`
	Sequence *uint32  `json:"sequence,omitempty"`
}

type redeem struct {
	M    int      `json:"m"`
	Keys []string `json:"keys"`
}

type output struct {
	Address string `json:"address,omitempty"`
	Value   int64  `json:"value"`
	Data    string `json:"data,omitempty"`
}

// MarshalJSON leaves out what the kind of output does not have.
func (o output) MarshalJSON() ([]byte, error) {
	if o.Data != "" {
		return json.Marshal(map[string]any{"data": o.Data})
	}
	return json.Marshal(map[string]any{"address": o.Address, "value": o.Value})
}

// TestTransactionsOfBitcoinjs has an independent Bitcoin library, configured
// with our version bytes, derive addresses and sign payments of every kind;
// the node must accept and mine them.
func TestTransactionsOfBitcoinjs(t *testing.T) {
	r := startRegtest(t)
	versions := r.net.Addresses
	wifs := make([]string, 3)
	for i := range wifs {
		key, err := secp256k1.GeneratePrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		wifs[i] = versions.WIF([32]byte(key.Serialize()))
	}
	var theirs struct {
		P2PKH []string
		P2SH  string
		Keys  []string
	}
	if err := json.Unmarshal(script(t, "addresses.mjs", map[string]any{"versions": versions, "wifs": wifs, "m": 2}), &theirs); err != nil {
		t.Fatal(err)
	}
	for i, address := range append(theirs.P2PKH, theirs.P2SH) {
		var v struct {
			IsValid  bool
			IsScript bool
		}
		r.call(&v, "validateaddress", address)
		if !v.IsValid || v.IsScript != (i == len(theirs.P2PKH)) {
			t.Fatalf("address %s of bitcoinjs: %+v", address, v)
		}
	}

	// Slots are mined too, as fallback blocks: there is no signer here.
	var ids []string
	r.call(&ids, "generatetoaddress", 120, theirs.P2PKH[0])
	build := func(inputs []input, outputs []output, lockTime uint32) string {
		return string(script(t, "build-tx.mjs", map[string]any{"versions": versions, "inputs": inputs, "outputs": outputs, "lockTime": lockTime}))
	}
	const fee = 10_000
	subsidy := r.net.Subsidy
	mined := func(tx string) (txid string) {
		t.Helper()
		r.call(&txid, "sendrawtransaction", tx)
		var block []string
		r.call(&block, "generatetoaddress", 1, theirs.P2PKH[1])
		var seen struct {
			Confirmations int
			Hex           string
		}
		r.call(&seen, "getrawtransaction", txid, true, block[0])
		if seen.Confirmations != 1 || seen.Hex != tx {
			t.Fatalf("transaction %s: %+v", txid, seen)
		}
		return txid
	}

	pay := build([]input{{Previous: r.coinbase(ids[0]), WIFs: wifs[:1]}}, []output{
		{Address: theirs.P2SH, Value: subsidy / 2},
		{Address: theirs.P2PKH[2], Value: subsidy/2 - fee},
		{Data: "c0ffee"},
	}, 0)
	mined(pay)
	spendMultisig := build([]input{{Previous: pay, WIFs: []string{wifs[0], wifs[2]}, Redeem: &redeem{2, theirs.Keys}}},
		[]output{{Address: theirs.P2PKH[1], Value: subsidy/2 - fee}}, 0)
	mined(spendMultisig)
	final := uint32(0xfffffffe)
	two := build([]input{
		{Previous: pay, Index: 1, WIFs: wifs[2:], Sequence: &final},
		{Previous: r.coinbase(ids[1]), WIFs: wifs[:1], Sequence: &final},
	}, []output{{Address: theirs.P2PKH[0], Value: subsidy + subsidy/2 - 2*fee}}, 100)
	mined(two)

	t.Run("refused", func(t *testing.T) {
		for name, c := range map[string]struct{ tx, want string }{
			"spent":    {spendMultisig, "-27"},
			"immature": {build([]input{{Previous: r.coinbase(ids[119]), WIFs: wifs[:1]}}, []output{{Address: theirs.P2PKH[0], Value: 1}}, 0), string(consensus.RuleTxImmature)},
			"underpaid": {
				build([]input{{Previous: r.coinbase(ids[2]), WIFs: wifs[:1]}}, []output{{Address: theirs.P2PKH[0], Value: subsidy - 1}}, 0),
				"fee",
			},
			"locked": {build([]input{{Previous: r.coinbase(ids[3]), WIFs: wifs[:1], Sequence: &final}}, []output{{Address: theirs.P2PKH[0], Value: subsidy - fee}}, 5000), string(consensus.RuleTxLockTime)},
			"tampered": {
				flipOutput(t, build([]input{{Previous: r.coinbase(ids[4]), WIFs: wifs[:1]}}, []output{{Address: theirs.P2PKH[0], Value: subsidy - fee}}, 0)),
				string(consensus.RuleTxScript),
			},
		} {
			if err := r.try(nil, "sendrawtransaction", c.tx, 0); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: error %v, want one with %q", name, err, c.want)
			}
		}
	})
}

// flipOutput changes what a signed transaction pays.
func flipOutput(t *testing.T, digits string) string {
	t.Helper()
	var raw []byte
	if _, err := fmt.Sscanf(digits, "%x", &raw); err != nil {
		t.Fatal(err)
	}
	tx, err := types.DecodeTransaction(raw)
	if err != nil {
		t.Fatal(err)
	}
	tx.Outputs[0].Value--
	return fmt.Sprintf("%x", tx.Bytes())
}
