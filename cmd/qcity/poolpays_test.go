package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/consensus"
)

// Two accounts mine at a real box that divides its rewards. The coinbase of the
// second block pays both by their work, and the books say the same after the box
// was killed.
func TestPoolPays(t *testing.T) {
	const share, block = 0xffff00, 0xfffff // highest words of a hash: difficulty 2^-24, bits 1f0fffff
	k := newRig(t, 0, "no-signer.sock", func(p *consensus.Params) {
		p.N, p.GenesisBits, p.CoinbaseMaturity = 100, 0x1f0fffff, 1
	})
	config := filepath.Join(k.dir, "node.toml")
	c, err := configs.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	c.Pool.Rewards, c.Pool.Fee = "proportional", 100
	c.Stratum.MaxDifficulty = c.Stratum.MinDifficulty
	if err := errors.Join(os.Remove(config), c.Write(config)); err != nil {
		t.Fatal(err)
	}
	a, b := k.net.Addresses.PubKeyHashAddress([20]byte{0xa}), k.net.Addresses.PubKeyHashAddress([20]byte{0xb})
	k.node.start()
	// Whatever the outcome, no process is left behind.
	stopped := false
	defer func() {
		if !stopped {
			k.node.stop()
		}
	}()
	ma, mb := dialMinerAs(t, k.stratum, a+".rig1"), dialMinerAs(t, k.stratum, b)
	good := func(m *lineMiner, lo, hi uint32) {
		t.Helper()
		if result := m.answer(m.submit(lo, hi)); string(result) != "true" {
			t.Fatalf("share refused: %s", result)
		}
	}
	for range 3 {
		good(ma, block, share)
	}
	good(mb, block, share)
	good(mb, 0, block) // a block by work handed out before there were shares: the operator's
	ma.newJob()
	mb.newJob()
	good(ma, 0, block) // divided by what was done when its work was handed out: 3 to 2
	wait := func(height uint32) {
		t.Helper()
		retry(t, func() error {
			tip, err := k.tip()
			if err == nil && tip.height != height {
				err = fmt.Errorf("height %d, want %d\n%s", tip.height, height, k.node.tail())
			}
			return err
		})
	}
	wait(2)
	var id string
	var blk struct {
		Tx []struct {
			Vout []struct {
				Value        json.Number
				ScriptPubKey struct{ Address string }
			}
		}
	}
	if err := k.call(&id, "getblockhash", 2); err != nil {
		t.Fatal(err)
	}
	if err := k.call(&blk, "getblock", id, 2); err != nil {
		t.Fatal(err)
	}
	paid := map[string]int64{}
	for _, out := range blk.Tx[0].Vout {
		v, err := out.Value.Float64()
		if err != nil {
			t.Fatal(err)
		}
		paid[out.ScriptPubKey.Address] += int64(math.Round(v * 1e8))
	}
	const reward, fee = 50_0000_0000, 5000_0000
	// Work for height 2 was handed out while the share that made block 1 was being
	// booked: it counts for this block or for the next.
	for _, shares := range []int64{1, 2} {
		rest := int64(reward - fee)
		pb := rest * shares / (3 + shares)
		if paid[b] == pb {
			rest -= pb
			if want := map[string]int64{a: rest, b: pb, c.Payout: fee}; fmt.Sprint(paid) == fmt.Sprint(want) {
				paid = nil
			}
		}
	}
	if paid != nil {
		t.Errorf("the coinbase pays %v: neither 3 to 1 nor 3 to 2, less one percent", paid)
	}

	type report struct {
		Accounts []payoutRow
		Totals   payoutTotals
	}
	read := func() (r report) {
		t.Helper()
		out, said, code := qcity(t, "pool", "payouts", "--config", config, "--json")
		if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil {
			t.Fatalf("exit code %d, %v: %s%s", code, err, out, said)
		}
		return r
	}
	retry(t, func() error { // the books follow the chain
		if r := read(); r.Totals.Rewards != 2*reward {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	before := read()
	if s := before.Totals; s.Credited != reward-fee || s.Operator != reward+fee || s.Paid != reward-fee || s.Held != reward+fee || s.Owed != 0 {
		t.Errorf("%+v", s)
	}
	k.node.kill()
	stopped = true
	k.node.start()
	stopped = false
	dialMiner(t, k.stratum) // it is ready
	wait(2)
	if after := read(); fmt.Sprintf("%+v", after) != fmt.Sprintf("%+v", before) {
		t.Errorf("after a kill %+v, before %+v", after, before)
	}
}
