package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/types"
)

// BenchmarkSignedBlock measures, from outside, how soon a slot is signed: from
// the moment the slot's parent is handed to the node over RPC to the moment a
// miner on the Stratum port holds work on top of the signed block. Node, signer
// and PKCS#11 worker are real processes over SoftHSM2.
func BenchmarkSignedBlock(b *testing.B) {
	r := newRig(b, 0, signerSocket)
	r.signer.start()
	defer r.signer.stop()
	r.node.start()
	defer r.node.stop()
	m := r.miner()
	var took []time.Duration
	for b.Loop() {
		parent := r.mine()
		start := time.Now()
		if err := r.call(nil, "submitblock", hex.EncodeToString(parent.Bytes())); err != nil {
			b.Fatal(err)
		}
		m.waitAbove(b, parent)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	quantile := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(quantile(0.5), "p50-ms")
	b.ReportMetric(quantile(0.99), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// mine solves the next block, whose height is no slot, from getblocktemplate.
func (k *rig) mine() *types.Block {
	k.t.Helper()
	var t struct {
		Version           int32
		PreviousBlockHash types.Hash
		CoinbaseValue     int64
		CurTime           uint32
		Bits              string
		Height            uint32
		LongPollID        string
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for poll := ""; ctx.Err() == nil; poll = t.LongPollID {
		err := k.call(&t, "getblocktemplate", map[string]string{"longpollid": poll})
		if err == nil && t.Height%k.net.N != 0 {
			break
		}
	}
	coinbase := &types.Transaction{
		Version: 1,
		Inputs:  []types.TxIn{{Previous: types.NullOutPoint, SignatureScript: append(types.HeightScript(t.Height), 0, 0), Sequence: 0xffffffff}},
		Outputs: []types.TxOut{{Value: t.CoinbaseValue, PkScript: types.PubKeyHashScript([20]byte{2})}},
	}
	blk := &types.Block{Transactions: []*types.Transaction{coinbase}}
	var bits uint32
	if _, err := fmt.Sscanf(t.Bits, "%x", &bits); err != nil {
		k.t.Fatal(err)
	}
	blk.Header = types.Header{Version: t.Version, PrevBlock: t.PreviousBlockHash, MerkleRoot: coinbase.ID(), Time: t.CurTime, Bits: bits}
	target, err := types.CompactToTarget(bits)
	if err != nil {
		k.t.Fatal(err)
	}
	for !types.HashMeets(blk.Header.ID(), &target) {
		blk.Nonce++
	}
	return blk
}

// stratumMiner only listens: it keeps the parents that jobs build on.
type stratumMiner struct{ lines *bufio.Scanner }

func (k *rig) miner() *stratumMiner {
	k.t.Helper()
	var c net.Conn
	for deadline := time.Now().Add(limit); c == nil && time.Now().Before(deadline); pause(int64(10 * time.Millisecond)) {
		c, _ = net.Dial("tcp", k.stratum)
	}
	if c == nil {
		k.t.Fatal("no Stratum port: " + k.node.tail())
	}
	k.t.Cleanup(func() { _ = c.Close() })
	_, err := fmt.Fprint(c, `{"id":1,"method":"mining.subscribe","params":["bench"]}`+"\n"+
		`{"id":2,"method":"mining.authorize","params":["bench","x"]}`+"\n")
	if err != nil {
		k.t.Fatal(err)
	}
	return &stratumMiner{bufio.NewScanner(c)}
}

// waitAbove waits for a job that builds neither on the block's parent nor on
// the block itself: on the slot above it.
func (m *stratumMiner) waitAbove(b *testing.B, blk *types.Block) {
	b.Helper()
	for m.lines.Scan() {
		var line struct {
			Method string
			Params []json.RawMessage
		}
		if err := json.Unmarshal(m.lines.Bytes(), &line); err != nil {
			b.Fatal(err)
		}
		if line.Method != "mining.notify" {
			continue
		}
		var swapped string
		if err := json.Unmarshal(line.Params[1], &swapped); err != nil {
			b.Fatal(err)
		}
		if prev := unswap(b, swapped); prev != blk.PrevBlock && prev != blk.Header.ID() {
			return
		}
	}
	b.Fatal("the Stratum connection ended")
}

// unswap turns Stratum's previous hash, eight words each in the wrong byte
// order, into a hash in internal order.
func unswap(b *testing.B, text string) (h types.Hash) {
	b.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(h) {
		b.Fatalf("previous hash %q: %v", text, err)
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	return types.Hash(raw)
}
