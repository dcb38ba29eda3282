package rpc_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// world is a node whose chain has every type of block: 25 high, slot 10 signed
// by the validator in turn, slot 20 a fallback block, rewards to payment key 0
// (mature up to height 15).
type world struct {
	*rig
	g *chaingen.Generator
}

func newWorld(t *testing.T) world {
	t.Helper()
	g := chaingen.New(t, chaingen.Params())
	r := start(t, func(c *node.Config) { c.Network = g.Network() })
	g.Fill("a", 19)
	g.NextFallback("fallback")
	g.Fill("b", 5)
	for _, b := range g.Path("b5") {
		if _, err := r.node.Chain.AddBlock(b); err != nil {
			t.Fatal(err)
		}
	}
	return world{r, g}
}

// want compares a result with JSON text.
func (w *world) want(t *testing.T, want, method string, params ...any) {
	t.Helper()
	var got, expected any
	w.call(&got, method, params...)
	if err := json.Unmarshal([]byte(want), &expected); err != nil {
		t.Fatalf("%v in %s", err, want)
	}
	if diff := cmp.Diff(expected, got); diff != "" {
		t.Errorf("%s %v: want -, got +\n%s", method, params, diff)
	}
}

func (w *world) fails(t *testing.T, code int, message, method string, params ...any) {
	t.Helper()
	switch e := w.try(nil, method, params...); {
	case e == nil:
		t.Errorf("%s %v: no error", method, params)
	case e.Code != code || !strings.Contains(e.Message, message):
		t.Errorf("%s %v: %d %q, want %d with %q", method, params, e.Code, e.Message, code, message)
	}
}

const (
	unknownHash = "00000000000000000000000000000000000000000000000000000000000000aa"
	addressBad  = "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfm"
	// degraded is what the world's validators owe.
	degraded = "degraded: no validator has signed a slot since 20: blocks are secured by work alone"
)

// calls has a test for every method. TestHelp compares it with what help lists.
var calls = map[string]func(t *testing.T, w *world){
	"getblockcount":    func(t *testing.T, w *world) { w.want(t, `25`, "getblockcount") },
	"getbestblockhash": func(t *testing.T, w *world) { w.want(t, `"`+w.id("b5")+`"`, "getbestblockhash") },
	"getblockhash": func(t *testing.T, w *world) {
		w.want(t, `"`+w.net.ID.String()+`"`, "getblockhash", 0)
		w.want(t, `"`+w.id("a10")+`"`, "getblockhash", 10)
		w.want(t, `"`+w.id("b5")+`"`, "getblockhash", 25)
		for _, h := range []int64{-1, 26, 1 << 32, 1 << 40} {
			w.fails(t, -8, "out of range", "getblockhash", h)
		}
	},
	"getdifficulty": func(t *testing.T, w *world) {
		w.want(t, difficulty(w.g.Node("b5").Block.Bits), "getdifficulty")
	},
	"getblockheader": func(t *testing.T, w *world) {
		for _, name := range []string{"genesis", "a9", "a10", "fallback", "b5"} {
			n := w.g.Node(name)
			var digits string
			w.call(&digits, "getblockheader", n.State.ID, false)
			raw, err := hex.DecodeString(digits)
			if err != nil || len(raw) != 80 || types.DoubleHash(raw) != n.State.ID {
				t.Errorf("%s: %d bytes with another hash (%v)", name, len(raw), err)
			}
		}
		signed := w.g.Node("a10")
		w.want(t, fmt.Sprintf(`{"hash":%q,"confirmations":16,"height":10,"version":1,"versionHex":"00000001","merkleroot":%q,
			"time":%d,"mediantime":%d,"nonce":0,"bits":"%08x","difficulty":%s,"chainwork":"%064x","type":"signed",
			"status":"signed","vchblocksig":"%x","signer":1,"previousblockhash":%q,"nextblockhash":%q}`,
			w.id("a10"), signed.Block.MerkleRoot, signed.State.Time, signed.State.Time, signed.Block.Bits,
			difficulty(signed.Block.Bits), signed.State.Work.Bytes32(), signed.Block.VchBlockSig, w.id("a9"), w.id("a11")),
			"getblockheader", w.id("a10"))
		for name, want := range map[string]string{"genesis": "genesis", "a9": "mined", "fallback": "fallback", "b5": "mined"} {
			var h struct {
				Type, VchBlockSig, PreviousBlockHash, NextBlockHash string
				Signer                                              *int
			}
			w.call(&h, "getblockheader", w.id(name), true)
			if h.Type != want || h.VchBlockSig != "" || h.Signer != nil || (h.PreviousBlockHash == "") != (name == "genesis") || (h.NextBlockHash == "") != (name == "b5") {
				t.Errorf("%s: %+v", name, h)
			}
		}
		w.fails(t, -5, "not found", "getblockheader", unknownHash)
		w.fails(t, -8, "64 hexadecimal", "getblockheader", "00")
		w.fails(t, -3, "wrong type", "getblockheader", w.id("a9"), "yes")
	},
	"getblock": func(t *testing.T, w *world) {
		b := w.g.Node("a10").Block
		full := hex.EncodeToString(b.Bytes())
		for _, level := range []any{0, false, -1} {
			w.want(t, `"`+full+`"`, "getblock", w.id("a10"), level)
		}
		var one struct {
			Tx                                 []string
			NTx, Size, StrippedSize, Weight, N int
			Confirmations                      int
			Type                               string
		}
		w.call(&one, "getblock", w.id("a10"))
		if !slices.Equal(one.Tx, []string{b.Transactions[0].ID().String()}) || one.NTx != 1 || one.Size != len(full)/2 || one.Weight != 2*len(full) || one.Type != "signed" {
			t.Errorf("%+v", one)
		}
		for _, level := range []any{1, true} {
			w.call(&one, "getblock", w.id("a10"), level)
		}
		var two struct{ Tx []map[string]any }
		w.call(&two, "getblock", w.id("a10"), 2)
		vin, _ := two.Tx[0]["vin"].([]any)
		if len(vin) != 1 || vin[0].(map[string]any)["coinbase"] != hex.EncodeToString(b.Transactions[0].Inputs[0].SignatureScript) {
			t.Errorf("%v", two.Tx)
		}
		w.fails(t, -5, "not found", "getblock", unknownHash)
		w.fails(t, -3, "wrong type", "getblock", w.id("a10"), "full")
	},
	"getblockchaininfo": func(t *testing.T, w *world) {
		s := w.g.Tip().State
		w.want(t, fmt.Sprintf(`{"chain":"chaingen","networkid":%q,"blocks":25,"headers":25,"bestblockhash":%q,"bits":"%08x",
			"difficulty":%s,"time":%d,"mediantime":%d,"verificationprogress":1,"initialblockdownload":false,"chainwork":"%064x",
			"signedslots":1,"certified":{"height":0,"hash":%q},"final":{"height":0,"hash":%q},"pruned":false,"warnings":[%q]}`,
			w.net.ID, w.id("b5"), w.g.Node("b5").Block.Bits, difficulty(w.g.Node("b5").Block.Bits), s.Time, s.Time, s.Work.Bytes32(),
			w.net.ID, w.net.ID, degraded), "getblockchaininfo")
	},
	"getslotinfo": func(t *testing.T, w *world) {
		past := fmt.Sprintf(`[{"height":20,"hash":%q,"time":%d,"type":"fallback","status":"pow","signer":null},
			{"height":10,"hash":%q,"time":%d,"type":"signed","status":"signed","signer":1}]`,
			w.id("fallback"), w.g.Node("fallback").State.Time, w.id("a10"), w.g.Node("a10").State.Time)
		// Slot 30 is number 3: rank 0 is validator 3.
		w.want(t, `{"height":30,"blocksuntil":5,"open":false,"inturn":3,"turns":[{"validator":3,"rank":0},{"validator":4,"rank":1},
			{"validator":0,"rank":2},{"validator":1,"rank":3},{"validator":2,"rank":4}],"past":`+past+`}`, "getslotinfo")
		w.g.Fill("c", 4)
		for i := range 4 {
			if _, err := w.node.Chain.AddBlock(w.g.Node(fmt.Sprintf("c%d", i+1)).Block); err != nil {
				t.Fatal(err)
			}
		}
		at := func(d uint32) uint32 { return w.g.Tip().State.Time + d }
		turns := make([]string, 5)
		for rank, delay := range []uint32{1, 20, 40, 60, 80} {
			turns[rank] = fmt.Sprintf(`{"validator":%d,"rank":%d,"from":%d,"until":%d}`, (3+rank)%5, rank, at(delay), at(600))
		}
		w.want(t, fmt.Sprintf(`{"height":30,"blocksuntil":1,"open":true,"inturn":3,"turns":[%s],"signeduntil":%d,"fallbackfrom":%d,"past":%s}`,
			strings.Join(turns, ","), at(600), at(121), past), "getslotinfo")
	},

	"getmempoolinfo": func(t *testing.T, w *world) {
		w.want(t, `{"loaded":true,"size":0,"bytes":0,"usage":0,"total_fee":0,"mempoolminfee":0.00001,"minrelaytxfee":0.00001}`, "getmempoolinfo")
		tx := w.sent(1, 49*types.Coin)
		n := len(tx.Bytes())
		w.want(t, fmt.Sprintf(`{"loaded":true,"size":1,"bytes":%d,"usage":%d,"total_fee":1,"mempoolminfee":0.00001,"minrelaytxfee":0.00001}`, n, n), "getmempoolinfo")
	},
	"getrawmempool": func(t *testing.T, w *world) {
		w.want(t, `[]`, "getrawmempool")
		w.want(t, `{}`, "getrawmempool", true)
		a, b := w.sent(1, 49*types.Coin), w.sent(2, 49*types.Coin)
		ids := []string{a.ID().String(), b.ID().String()}
		slices.Sort(ids)
		w.want(t, fmt.Sprintf(`[%q,%q]`, ids[0], ids[1]), "getrawmempool", false)
		var entries map[string]struct {
			VSize, Weight, Height int
			Time                  int64
			Fees                  struct{ Base json.Number }
		}
		w.call(&entries, "getrawmempool", true)
		if e := entries[a.ID().String()]; len(entries) != 2 || e.VSize != len(a.Bytes()) || e.Height != 25 || e.Fees.Base != "1.00000000" || e.Time == 0 {
			t.Errorf("%+v", entries)
		}
		// They leave with the block that holds them, also as seen by the next call.
		var block []string
		w.call(&block, "generatetoaddress", 1, w.address)
		w.want(t, `[]`, "getrawmempool")
	},
	"getrawtransaction": func(t *testing.T, w *world) {
		tx := w.sent(1, 49*types.Coin)
		id, digits := tx.ID().String(), hex.EncodeToString(tx.Bytes())
		for _, level := range []any{nil, 0, false} {
			w.want(t, `"`+digits+`"`, "getrawtransaction", id, level)
		}
		out := chaingen.PayToHash(1)
		w.want(t, fmt.Sprintf(`{"txid":%q,"hash":%q,"version":2,"size":%d,"vsize":%d,"weight":%d,"locktime":0,"hex":%q,
			"vin":[{"txid":%q,"vout":0,"scriptSig":{"hex":"%x"},"sequence":4294967295}],
			"vout":[{"value":49,"n":0,"scriptPubKey":{"hex":"%x","type":"pubkeyhash","address":%q}}]}`,
			id, id, len(digits)/2, len(digits)/2, 2*len(digits), digits, tx.Inputs[0].Previous.TxID, tx.Inputs[0].SignatureScript,
			out, w.net.Addresses.Address(out)), "getrawtransaction", id, true)
		coinbase := w.g.Node("a10").Block.Transactions[0]
		w.fails(t, -5, "name the block", "getrawtransaction", coinbase.ID())
		w.want(t, `"`+hex.EncodeToString(coinbase.Bytes())+`"`, "getrawtransaction", coinbase.ID(), 0, w.id("a10"))
		var in struct {
			BlockHash       string
			Confirmations   int
			BlockTime, Time uint32
			InActiveChain   bool `json:"in_active_chain"`
			Vin             []struct{ Coinbase string }
		}
		w.call(&in, "getrawtransaction", coinbase.ID(), 1, w.id("a10"))
		if in.BlockHash != w.id("a10") || in.Confirmations != 16 || in.BlockTime != w.g.Node("a10").State.Time || !in.InActiveChain || in.Vin[0].Coinbase == "" {
			t.Errorf("%+v", in)
		}
		w.fails(t, -5, "does not hold", "getrawtransaction", id, 0, w.id("a10"))
		w.fails(t, -5, "not found", "getrawtransaction", id, 0, unknownHash)
		w.fails(t, -8, "txid", "getrawtransaction", "xyz")
	},
	"decoderawtransaction": func(t *testing.T, w *world) {
		tx := w.spend(w.reward(1), 1)
		var m map[string]any
		w.call(&m, "decoderawtransaction", hex.EncodeToString(tx.Bytes()))
		if m["txid"] != tx.ID().String() || m["hex"] != nil || m["vout"].([]any)[0].(map[string]any)["value"] != 1e-8 {
			t.Errorf("%v", m)
		}
		for _, bad := range []string{"", "0", "xx", "01000000", hex.EncodeToString(tx.Bytes()) + "00"} {
			w.fails(t, -22, "TX", "decoderawtransaction", bad)
		}
		w.fails(t, -3, "wrong type", "decoderawtransaction", 1)
	},
	"sendrawtransaction": func(t *testing.T, w *world) {
		send := func(tx *types.Transaction) string { return hex.EncodeToString(tx.Bytes()) }
		tx := w.spend(w.reward(1), 50*types.Coin-2000)
		for range 2 { // in the pool already: its id once more, as bitcoind does
			w.want(t, `"`+tx.ID().String()+`"`, "sendrawtransaction", send(tx))
		}
		w.fails(t, -26, "conflict", "sendrawtransaction", send(w.spend(w.reward(1), 50*types.Coin-4000)))
		w.fails(t, -26, "fee-too-low", "sendrawtransaction", send(w.spend(w.reward(2), 50*types.Coin)))
		w.fails(t, -26, "tx-immature", "sendrawtransaction", send(w.spend(w.reward(25), 50*types.Coin-2000)))
		w.fails(t, -26, "tx-value", "sendrawtransaction", send(w.spend(w.reward(2), 51*types.Coin)))
		unsigned := w.spend(w.reward(2), 50*types.Coin-2000)
		unsigned.Inputs[0].SignatureScript = nil
		w.fails(t, -26, "tx-script", "sendrawtransaction", send(unsigned))
		nowhere := w.reward(2)
		nowhere.OutPoint.Index = 7
		w.fails(t, -25, "missingorspent", "sendrawtransaction", send(w.spend(nowhere, 50*types.Coin-2000)))
		w.fails(t, -22, "TX", "sendrawtransaction", "00")

		dear := w.spend(w.reward(3), 49*types.Coin)
		w.fails(t, -26, "max-fee-exceeded", "sendrawtransaction", send(dear))
		w.fails(t, -26, "max-fee-exceeded", "sendrawtransaction", send(dear), 1)
		w.fails(t, -3, "maxfeerate", "sendrawtransaction", send(dear), -1)
		w.fails(t, -3, "maxfeerate", "sendrawtransaction", send(dear), "much")
		w.want(t, `[`+`"`+tx.ID().String()+`"`+`]`, "getrawmempool")
		w.want(t, `"`+dear.ID().String()+`"`, "sendrawtransaction", send(dear), 0)
		dear = w.spend(w.reward(4), 49*types.Coin)
		w.want(t, `"`+dear.ID().String()+`"`, "sendrawtransaction", send(dear), "10")

		w.call(nil, "generatetoaddress", 1, w.address)
		w.fails(t, -27, "already in utxo set", "sendrawtransaction", send(tx))
	},
	"testmempoolaccept": func(t *testing.T, w *world) {
		good, low, dear := w.spend(w.reward(1), 50*types.Coin-2000), w.spend(w.reward(2), 50*types.Coin), w.spend(w.reward(3), 49*types.Coin)
		gone := w.reward(2)
		gone.OutPoint.Index = 9
		missing := w.spend(gone, 1)
		var list []map[string]any
		w.call(&list, "testmempoolaccept", []string{txHex(good), txHex(low), txHex(dear), txHex(missing)})
		want := []map[string]any{
			{"txid": good.ID().String(), "wtxid": good.ID().String(), "allowed": true, "vsize": float64(len(good.Bytes())), "fees": map[string]any{"base": 2e-5}},
			{"txid": low.ID().String(), "wtxid": low.ID().String(), "allowed": false, "reject-reason": "fee-too-low"},
			{"txid": dear.ID().String(), "wtxid": dear.ID().String(), "allowed": false, "reject-reason": "max-fee-exceeded"},
			{"txid": missing.ID().String(), "wtxid": missing.ID().String(), "allowed": false, "reject-reason": "bad-txns-inputs-missingorspent"},
		}
		for i := range list { // of a reason only the word counts
			if why, ok := list[i]["reject-reason"].(string); ok {
				list[i]["reject-reason"], _, _ = strings.Cut(why, ":")
			}
		}
		if diff := cmp.Diff(want, list); diff != "" {
			t.Error(diff)
		}
		w.want(t, `[]`, "getrawmempool")
		w.call(&list, "testmempoolaccept", []string{txHex(dear)}, 0)
		if list[0]["allowed"] != true {
			t.Errorf("without a limit: %v", list)
		}
		w.fails(t, -8, "1 to 25", "testmempoolaccept", []string{})
		w.fails(t, -8, "1 to 25", "testmempoolaccept", make([]string, 26))
		w.fails(t, -22, "TX", "testmempoolaccept", []string{"00"})
		w.fails(t, -3, "wrong type", "testmempoolaccept", txHex(good))
	},
	"gettxout": func(t *testing.T, w *world) {
		coin := w.reward(1)
		id := coin.OutPoint.TxID.String()
		unspent := fmt.Sprintf(`{"bestblock":%q,"confirmations":25,"status":"signed","value":50,"coinbase":true,"scriptPubKey":{"hex":"%x","type":"pubkeyhash","address":%q}}`,
			w.id("b5"), w.script, w.address)
		w.want(t, unspent, "gettxout", id, 0)
		w.want(t, `null`, "gettxout", id, 1)
		w.want(t, `null`, "gettxout", unknownHash, 0)
		tx := w.sent(1, 49*types.Coin)
		w.want(t, `null`, "gettxout", id, 0)
		w.want(t, `null`, "gettxout", id, 0, true)
		w.want(t, unspent, "gettxout", id, 0, false)
		out := chaingen.PayToHash(1)
		w.want(t, fmt.Sprintf(`{"bestblock":%q,"confirmations":0,"status":null,"value":49,"coinbase":false,"scriptPubKey":{"hex":"%x","type":"pubkeyhash","address":%q}}`,
			w.id("b5"), out, w.net.Addresses.Address(out)), "gettxout", tx.ID(), 0)
		w.want(t, `null`, "gettxout", tx.ID(), 1)
		w.want(t, `null`, "gettxout", tx.ID(), 0, false)
		data := w.g.Spend([]consensus.UTXO{w.reward(2)}, chaingen.Pay(49*types.Coin, out), types.TxOut{PkScript: types.NullDataScript([]byte("data"))})
		w.call(nil, "sendrawtransaction", txHex(data), 0)
		w.want(t, `null`, "gettxout", data.ID(), 1) // nobody can spend it
		w.fails(t, -3, "wrong type", "gettxout", id, -1)
	},
	"validateaddress": func(t *testing.T, w *world) {
		w.want(t, fmt.Sprintf(`{"isvalid":true,"address":%q,"scriptPubKey":"%x","isscript":false,"iswitness":false}`, w.address, w.script), "validateaddress", w.address)
		multi := chaingen.PayToMultisig()
		address := w.net.Addresses.Address(multi)
		w.want(t, fmt.Sprintf(`{"isvalid":true,"address":%q,"scriptPubKey":"%x","isscript":true,"iswitness":false}`, address, multi), "validateaddress", address)
		for _, bad := range []string{"", "x", addressBad + "x", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"} {
			var v struct {
				IsValid bool
				Error   string
			}
			w.call(&v, "validateaddress", bad)
			if v.IsValid || v.Error == "" {
				t.Errorf("%q: %+v", bad, v)
			}
		}
	},

	"getmininginfo": func(t *testing.T, w *world) {
		w.sent(1, 49*types.Coin)
		s, bits := w.g.Tip().State, w.g.Node("b5").Block.Bits
		// 24 of the 25 blocks were hashed for, at about two hashes each.
		hashes := 0.0
		for n := w.g.Tip(); n.Parent != nil; n = n.Parent {
			if target := n.Parent.State.NextTarget(); !n.Block.IsSigned() {
				hashes += math.Floor(math.Ldexp(1, 256) / (target.Float64() + 1)) // work is a whole number
			}
		}
		target := s.NextTarget()
		var m struct{ NetworkHashPS float64 }
		w.call(&m, "getmininginfo")
		if rate := hashes / float64(s.Time-w.net.GenesisTime); math.Abs(m.NetworkHashPS/rate-1) > 1e-6 {
			t.Errorf("%g hashes per second, want %g", m.NetworkHashPS, rate)
		}
		w.want(t, fmt.Sprintf(`{"blocks":25,"difficulty":%s,"bits":"%08x","networkhashps":%s,"localhashps":1234.5,"pooledtx":1,"chain":"chaingen","warnings":[%q],
			"next":{"height":26,"bits":"%08x","difficulty":%s,"target":"%064x"}}`, difficulty(bits), bits, strconv.FormatFloat(m.NetworkHashPS, 'g', -1, 64),
			degraded, s.NextBits(), difficulty(s.NextBits()), target.Bytes32()), "getmininginfo")
	},
	"generatetoaddress": func(t *testing.T, w *world) {
		var ids []string
		w.call(&ids, "generatetoaddress", 6, w.address, 1000000)
		if len(ids) != 6 || w.node.Chain.Tip().Height != 31 || w.node.Chain.Tip().ID.String() != ids[5] {
			t.Errorf("%v, height %d", ids, w.node.Chain.Tip().Height)
		}
		var slot struct{ Type string }
		w.call(&slot, "getblockheader", ids[4])
		if slot.Type != "fallback" {
			t.Errorf("block 30 is %s", slot.Type)
		}
		w.want(t, `[]`, "generatetoaddress", 0, w.address)
		w.fails(t, -8, "nblocks", "generatetoaddress", -1, w.address)
		w.fails(t, -8, "nblocks", "generatetoaddress", 1_000_000, w.address)
		w.fails(t, -5, "address", "generatetoaddress", 1, "nobody")
		w.fails(t, -3, "wrong type", "generatetoaddress", 1, w.address, "many")
	},
	"getnetworkinfo": func(t *testing.T, w *world) {
		w.want(t, fmt.Sprintf(`{"version":10203,"subversion":"/qcity:1.2.3/","protocolversion":0,"localservices":"0000000000000000",
			"localservicesnames":[],"localrelay":false,"timeoffset":0,"networkactive":false,"connections":0,"connections_in":0,
			"connections_out":0,"networks":[],"localaddresses":[],"networkid":%q,"relayfee":0.00001,"incrementalfee":0.00001,"warnings":[%q]}`,
			w.net.ID, degraded), "getnetworkinfo")
	},
	"uptime": func(t *testing.T, w *world) {
		var seconds int64 = -1
		w.call(&seconds, "uptime")
		if seconds < 0 {
			t.Errorf("%d s", seconds)
		}
	},
	"help": func(t *testing.T, w *world) { w.call(nil, "help", "help") }, // more in TestHelp

	"getblocktemplate": testTemplateShape, // more in mining_test.go
	"submitblock": func(t *testing.T, w *world) {
		w.want(t, `"duplicate"`, "submitblock", hex.EncodeToString(w.g.Node("a10").Block.Bytes()))
		next := w.g.Next("c1").Block
		w.want(t, `null`, "submitblock", hex.EncodeToString(next.Bytes()), "ignored")
		w.want(t, `"`+w.id("c1")+`"`, "getbestblockhash")
		w.fails(t, -22, "Block", "submitblock", "00")
		w.fails(t, -22, "Block", "submitblock", "0")
		w.fails(t, -1, "hexdata", "submitblock")
	},
}

func TestCalls(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			calls[name](t, &w)
		})
	}
}

func (w *world) id(name string) string { return w.g.Node(name).State.ID.String() }

// sent hands in a transaction that spends the reward of a height.
func (w *world) sent(height uint32, value int64) *types.Transaction {
	w.t.Helper()
	tx := w.spend(w.reward(height), value)
	w.call(nil, "sendrawtransaction", txHex(tx), 0)
	return tx
}

func txHex(tx *types.Transaction) string { return hex.EncodeToString(tx.Bytes()) }

// difficulty is 0xffff·2^208 over the target, by floats alone.
func difficulty(bits uint32) string {
	d := float64(0xffff) / float64(bits&0xffffff)
	for shift := int(bits>>24) - 0x1d; shift > 0; shift-- {
		d /= 256
	}
	text, _ := json.Marshal(d)
	return string(text)
}

// TestGenerateOnlyInstant: a network with real difficulty refuses, as does one
// whose chain has come up to the clock.
func TestGenerateOnlyInstant(t *testing.T) {
	t.Run("real difficulty", func(t *testing.T) {
		p := chaingen.Params()
		p.Name, p.GenesisBits = "hard", 0x1d00ffff
		network, err := consensus.NewNetwork(p)
		if err != nil {
			t.Fatal(err)
		}
		w := world{rig: start(t, func(c *node.Config) { c.Network = network })}
		w.fails(t, -1, "blocks cannot be generated on hard: only on regtest", "generatetoaddress", 1, w.address)
	})
	t.Run("next block has to wait", func(t *testing.T) {
		p := chaingen.Params()
		p.GenesisTime = uint32(time.Now().Unix())
		network, err := consensus.NewNetwork(p)
		if err != nil {
			t.Fatal(err)
		}
		w := world{rig: start(t, func(c *node.Config) { c.Network = network })}
		// The first block is a minute ahead, which is as far as one may be.
		w.fails(t, -1, "of 9 generated", "generatetoaddress", 9, w.address)
	})
	t.Run("ahead of the clock", func(t *testing.T) {
		p := chaingen.Params()
		p.GenesisTime = 1<<32 - 1000 // the year 2106
		network, err := consensus.NewNetwork(p)
		if err != nil {
			t.Fatal(err)
		}
		w := world{rig: start(t, func(c *node.Config) { c.Network = network })}
		w.fails(t, -1, "the chain has come up to the clock", "generatetoaddress", 3, w.address)
		if height := w.node.Chain.Tip().Height; height != 0 {
			t.Errorf("height %d", height)
		}
	})
}
