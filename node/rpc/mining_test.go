package rpc_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// What follows builds blocks from getblocktemplate as pool software does,
// with nothing of this module's own code: only bytes, SHA-256 and BIP 22.

// gbt holds the members of a template that a pool needs.
type gbt struct {
	Version           int32
	PreviousBlockHash string
	Transactions      []struct {
		Data, TxID, Hash string
		Depends          []int
		Fee              int64
		SigOps           int
	}
	CoinbaseValue int64
	LongPollID    string
	Target        string
	MinTime       uint32
	CurTime       uint32
	Bits          string
	Height        uint32
	Slot          bool
}

// solver turns a template into a block. Its fields may be changed before solve.
type solver struct {
	version  int32
	prev     []byte // internal order
	time     uint32
	bits     uint32
	value    int64
	extra    byte // tells coinbases apart
	payTo    []byte
	height   uint32
	rest     [][]byte
	badRoot  bool
	overdone bool // look for a hash above the target
	target   *big.Int
}

func newSolver(t *testing.T, g *gbt, payTo []byte) *solver {
	t.Helper()
	s := &solver{version: g.Version, time: g.CurTime, value: g.CoinbaseValue, payTo: payTo, height: g.Height}
	prev := unhex(t, g.PreviousBlockHash)
	slices.Reverse(prev)
	s.prev = prev
	s.bits = binary.BigEndian.Uint32(unhex(t, g.Bits))
	s.target = new(big.Int).SetBytes(unhex(t, g.Target))
	for _, tx := range g.Transactions {
		s.rest = append(s.rest, unhex(t, tx.Data))
	}
	return s
}

func unhex(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatalf("%v in %q", err, digits)
	}
	return b
}

func sha256d(b []byte) []byte {
	first := sha256.Sum256(b)
	second := sha256.Sum256(first[:])
	return second[:]
}

func (s *solver) coinbase() []byte {
	// BIP 34: a height up to 16 is OP_1 … OP_16, above that a script number.
	script := []byte{byte(0x50 + s.height)}
	if s.height > 16 {
		script = []byte{1, byte(s.height)}
		if s.height > 127 {
			script = []byte{2, byte(s.height), byte(s.height >> 8)}
		}
	}
	script = append(script, 3, 'm', 'e', s.extra)
	b := []byte{1, 0, 0, 0, 1}
	b = append(b, make([]byte, 32)...)
	b = append(b, 0xff, 0xff, 0xff, 0xff, byte(len(script)))
	b = append(b, script...)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 1)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.value))
	b = append(b, byte(len(s.payTo)))
	b = append(b, s.payTo...)
	return append(b, 0, 0, 0, 0)
}

// merkle folds hashes level by level, the last of an odd level twice.
func merkle(level [][]byte) []byte {
	for len(level) > 1 {
		if len(level)%2 == 1 {
			level = append(level, level[len(level)-1])
		}
		var up [][]byte
		for i := 0; i < len(level); i += 2 {
			up = append(up, sha256d(append(slices.Clone(level[i]), level[i+1]...)))
		}
		level = up
	}
	return level[0]
}

// solve returns the header and the transactions with their count: with nothing
// in between Bitcoin's serialisation, with a zero byte Qcity's.
func (s *solver) solve() (header, txs []byte) {
	all := append([][]byte{s.coinbase()}, s.rest...)
	var ids [][]byte
	txs = []byte{byte(len(all))}
	for _, tx := range all {
		ids = append(ids, sha256d(tx))
		txs = append(txs, tx...)
	}
	root := merkle(ids)
	if s.badRoot {
		root[0] ^= 1
	}
	h := binary.LittleEndian.AppendUint32(nil, uint32(s.version))
	h = append(append(h, s.prev...), root...)
	h = binary.LittleEndian.AppendUint32(h, s.time)
	h = binary.LittleEndian.AppendUint32(h, s.bits)
	h = append(h, 0, 0, 0, 0)
	for nonce := uint32(0); ; nonce++ {
		binary.LittleEndian.PutUint32(h[76:], nonce)
		hash := sha256d(h)
		slices.Reverse(hash)
		if met := new(big.Int).SetBytes(hash).Cmp(s.target) <= 0; met != s.overdone {
			return h, txs
		}
	}
}

// bitcoin returns the block in Bitcoin's serialisation, in hex.
func (s *solver) bitcoin() string {
	header, txs := s.solve()
	return hex.EncodeToString(append(header, txs...))
}

func blockID(t *testing.T, digits string) string {
	id := sha256d(unhex(t, digits)[:80])
	slices.Reverse(id)
	return hex.EncodeToString(id)
}

// submit returns what submitblock says: "" for null.
func (r *rig) submit(digits string) string {
	r.t.Helper()
	var word *string
	r.call(&word, "submitblock", digits)
	if word == nil {
		return ""
	}
	return *word
}

func (r *rig) template(request ...any) *gbt {
	r.t.Helper()
	var g gbt
	r.call(&g, "getblocktemplate", request...)
	return &g
}

// templateAt waits for a template at a height, with a long poll as a pool would.
func (r *rig) templateAt(height uint32) *gbt {
	r.t.Helper()
	g := r.template()
	for g.Height != height {
		g = r.template(map[string]any{"longpollid": g.LongPollID})
	}
	return g
}

func testTemplateShape(t *testing.T, w *world) {
	w.templateAt(26)
	var m map[string]any
	w.call(&m, "getblocktemplate", map[string]any{"rules": []string{"segwit"}, "capabilities": []string{"longpoll", "coinbasetxn"}, "mode": "template"})
	for _, name := range []string{
		"capabilities", "rules", "vbavailable", "vbrequired", "version", "previousblockhash", "transactions", "coinbaseaux", "coinbasevalue",
		"longpollid", "target", "mintime", "mutable", "noncerange", "sigoplimit", "sizelimit", "curtime", "bits", "height",
	} {
		if m[name] == nil {
			t.Errorf("member %q is missing", name)
		}
	}
	s := w.g.Tip().State
	target := s.NextTarget()
	if m["previousblockhash"] != w.id("b5") || m["height"] != 26.0 || m["coinbasevalue"] != 50e8 || m["mintime"] != float64(s.Time+1) ||
		m["target"] != fmt.Sprintf("%064x", target.Bytes32()) || m["version"] != float64(0x20000000) || m["slot"] != false {
		t.Errorf("%v", m)
	}
	w.fails(t, -8, "proposal", "getblocktemplate", map[string]any{"mode": "proposal"})
	w.fails(t, -3, "wrong type", "getblocktemplate", "template")
}

// output returns the first output of a transaction that waits.
func output(tx *types.Transaction) consensus.UTXO {
	return consensus.UTXO{OutPoint: types.OutPoint{TxID: tx.ID()}, Coin: consensus.Coin{Output: tx.Outputs[0]}}
}

// TestTemplateRoundTrip mines a block with two dependent transactions.
func TestTemplateRoundTrip(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"Bitcoin's", "ours"} {
		t.Run(form, func(t *testing.T) {
			w := newWorld(t)
			first := w.spend(w.reward(1), 50*types.Coin-5000)
			w.call(nil, "sendrawtransaction", txHex(first))
			child := w.g.Spend([]consensus.UTXO{output(first)}, chaingen.Pay(50*types.Coin-12000, chaingen.PayToHash(2)))
			w.call(nil, "sendrawtransaction", txHex(child))
			g := w.templateAt(26)
			for len(g.Transactions) < 2 {
				g = w.template(map[string]any{"longpollid": g.LongPollID})
			}
			if a, b := g.Transactions[0], g.Transactions[1]; a.TxID != first.ID().String() || b.TxID != child.ID().String() || a.Fee != 5000 || b.Fee != 7000 ||
				len(a.Depends) != 0 || !slices.Equal(b.Depends, []int{1}) || a.SigOps != 1 || a.Hash != a.TxID {
				t.Fatalf("transactions %+v", g.Transactions)
			}
			if g.CoinbaseValue != 50*types.Coin+12000 {
				t.Errorf("coinbase value %d", g.CoinbaseValue)
			}
			header, txs := newSolver(t, g, chaingen.PayToHash(5)).solve()
			block := append(slices.Clone(header), txs...)
			if form == "ours" {
				block = append(append(slices.Clone(header), 0), txs...)
			}
			digits := hex.EncodeToString(block)
			if word := w.submit(digits); word != "" {
				t.Fatalf("refused: %s", word)
			}
			w.want(t, `"`+blockID(t, digits)+`"`, "getbestblockhash")
			var stored string
			w.call(&stored, "getblockheader", blockID(t, digits), false)
			if stored != hex.EncodeToString(header) {
				t.Error("another header is stored")
			}
			w.want(t, `[]`, "getrawmempool")
			if word := w.submit(digits); word != "duplicate" {
				t.Errorf("again: %q", word)
			}
		})
	}
}

// TestSubmitWords: what BIP 22 and bitcoind call the ways a block can fail.
func TestSubmitWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.templateAt(26)
	made := func(change func(s *solver)) string {
		s := newSolver(t, g, chaingen.PayToHash(5))
		change(s)
		return s.bitcoin()
	}
	greedy := made(func(s *solver) { s.value++ })
	for _, c := range []struct{ name, block, want string }{
		{"hash above the target", made(func(s *solver) { s.overdone = true }), "high-hash"},
		{"time of the parent", made(func(s *solver) { s.time = g.MinTime - 1 }), "time-too-old"},
		{"an hour ahead", made(func(s *solver) { s.time += 3600 }), "time-too-new"},
		{"other bits", made(func(s *solver) { s.bits-- }), "bad-diffbits"},
		{"other Merkle root", made(func(s *solver) { s.badRoot = true }), "bad-txnmrklroot"},
		{"unknown parent", made(func(s *solver) { s.prev = bytes.Repeat([]byte{7}, 32) }), "prev-blk-not-found"},
		{"wrong height", made(func(s *solver) { s.height++ }), "bad-cb-height"},
		{"too much money", greedy, "bad-cb-amount"},
		{"the same again", greedy, "duplicate-invalid"},
		{"script of no template", made(func(s *solver) { s.payTo = []byte{0x51} }), "tx-template"},
		{"spends what is not there", made(func(s *solver) {
			coin := w.reward(1)
			coin.OutPoint.Index = 3
			s.rest = [][]byte{w.spend(coin, 1).Bytes()}
		}), "bad-txns-inputs-missingorspent"},
		{"two coinbases", made(func(s *solver) {
			other := *s
			other.extra = 9
			s.rest = [][]byte{other.coinbase()}
		}), "bad-cb-multiple"},
		{"a transaction twice", made(func(s *solver) { s.rest = [][]byte{s.coinbase()} }), "bad-txns-duplicate"},
		{"good", made(func(s *solver) { s.extra = 1 }), ""},
		{"good, second at its height", made(func(s *solver) { s.extra = 2 }), "inconclusive"},
		{"that again", made(func(s *solver) { s.extra = 2 }), "duplicate"},
	} {
		if got := w.submit(c.block); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	id, err := types.ParseHash(blockID(t, greedy))
	if err != nil {
		t.Fatal(err)
	}
	refused, ok, err := w.node.Chain.State(id)
	if err != nil || !ok {
		t.Fatalf("the refused block is not remembered: %v", err)
	}
	child := made(func(s *solver) {
		s.prev, s.time, s.bits = id[:], refused.Time+1, refused.NextBits()
		s.height++
	})
	for _, want := range []string{"bad-prevblk", "duplicate-invalid"} {
		if got := w.submit(child); got != want {
			t.Errorf("child of a refused block: %q, want %q", got, want)
		}
	}
}

// TestSubmitHeld: work on a slot is done before the slot opens to miners. The
// block is neither accepted nor refused, and another parent does not count.
func TestSubmitHeld(t *testing.T) {
	t.Parallel()
	params := chaingen.Params()
	params.GenesisTime = uint32(time.Now().Unix()) - 9*60
	g := chaingen.New(t, params)
	g.Fill("a", 9) // the parent of slot 10 has the time of the clock
	w := world{start(t, func(c *node.Config) { c.Network = g.Network() }), g}
	for _, b := range g.Path("a9") {
		if _, err := w.node.Chain.AddBlock(b); err != nil {
			t.Fatal(err)
		}
	}
	tmpl := w.templateAt(10)
	if parent := g.Tip().State.Time; !tmpl.Slot || tmpl.CurTime != parent+121 || tmpl.MinTime != parent+121 {
		t.Fatalf("template of a slot: %+v", tmpl)
	}
	block := newSolver(t, tmpl, chaingen.PayToHash(5)).bitcoin()
	for range 2 {
		if word := w.submit(block); word != "inconclusive" {
			t.Errorf("held block: %q", word)
		}
	}
	early := newSolver(t, tmpl, chaingen.PayToHash(5))
	early.time--
	if word := w.submit(early.bitcoin()); word != "fallback-early" {
		t.Errorf("block before the slot opens: %q", word)
	}
	w.want(t, `9`, "getblockcount")
}

// TestLongPoll: a poll ends with the next template, and not before.
func TestLongPoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.templateAt(26)
	if again := w.template(); again.LongPollID != g.LongPollID {
		t.Errorf("without a change another id: %s, %s", g.LongPollID, again.LongPollID)
	}
	answers := make(chan string)
	go func() {
		body, _ := json.Marshal(map[string]any{"method": "getblocktemplate", "params": []any{map[string]string{"longpollid": g.LongPollID}}})
		_, text := w.send(http.MethodPost, string(body), nil)
		answers <- text
	}()
	block := newSolver(t, g, chaingen.PayToHash(5)).bitcoin()
	if word := w.submit(block); word != "" {
		t.Fatal(word)
	}
	var a struct{ Result gbt }
	if err := json.Unmarshal([]byte(<-answers), &a); err != nil {
		t.Fatal(err)
	}
	if a.Result.PreviousBlockHash != blockID(t, block) || a.Result.LongPollID == g.LongPollID {
		t.Errorf("the poll ended with a template on %s", a.Result.PreviousBlockHash)
	}
	// An id of long ago, or of another node, does not wait.
	if w.template(map[string]any{"longpollid": "of another node"}).Height != 27 {
		t.Error("another template for an unknown id")
	}
}

// TestNoPayout: a node without payout says what to configure; all else works.
func TestNoPayout(t *testing.T) {
	t.Parallel()
	w := world{rig: start(t, func(c *node.Config) { c.Payout = nil })}
	w.fails(t, -1, "set payout", "getblocktemplate")
	w.fails(t, -1, "set payout", "getblocktemplate", map[string]any{"longpollid": "x"})
	w.generate(2)
	w.want(t, `2`, "getblockcount")
	if info := w.try(nil, "getmininginfo"); info != nil {
		t.Error(info)
	}
}

// TestRegtestPayment: on the network that ships, a payment goes from coinbase
// through mempool and block to output, also without templates.
func TestRegtestPayment(t *testing.T) {
	t.Parallel()
	w := world{rig: start(t, func(c *node.Config) { c.Payout = nil })}
	w.generate(101)
	tx := w.spend(w.reward(1), 50*types.Coin-2000)
	w.call(nil, "sendrawtransaction", txHex(tx))
	block := w.generate(1)[0]
	var b struct{ Tx []string }
	w.call(&b, "getblock", block)
	if len(b.Tx) != 2 || b.Tx[1] != tx.ID().String() {
		t.Errorf("block holds %v", b.Tx)
	}
	w.want(t, `[]`, "getrawmempool")
	var out struct{ Confirmations int }
	w.call(&out, "gettxout", tx.ID(), 0)
	if out.Confirmations != 1 {
		t.Errorf("%+v", out)
	}
	w.fails(t, -27, "already", "sendrawtransaction", txHex(tx))
	if e := w.try(nil, "getrawtransaction", tx.ID()); e == nil || !strings.Contains(e.Message, "name the block") {
		t.Errorf("%v", e)
	}
}
