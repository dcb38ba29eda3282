package template

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

func TestATemplateSolvedByBruteForceConnects(t *testing.T) {
	r := newRig(t)
	coins := r.coins(3)
	a := r.pay(10_000, coins[0])
	txs := []*types.Transaction{a, r.pay(10_000, output(a, 0)), r.pay(10_000, coins[1])}
	r.pool.put(10_000, txs...)
	parent, now := r.Tip(), r.clock()
	tmpl, err := r.builder.Mined(parent, now, payout())
	if err != nil {
		t.Fatal(err)
	}
	job := tmpl.Job
	target := parent.NextTarget()
	type summary struct {
		Height, Time, MinTime, Bits, Version uint32
		Prev                                 types.Hash
		Target                               work.Target
		Fallback                             bool
		Value                                int64
	}
	want := summary{
		Height: parent.Height + 1, Time: uint32(now.Unix()), MinTime: parent.Time + 1, Bits: parent.NextBits(), Version: 0x20000000,
		Prev: parent.ID, Target: target.Bytes32(), Value: 50*types.Coin + 30_000,
	}
	got := summary{
		Height: job.Height, Time: job.Time, MinTime: job.MinTime, Bits: job.Bits, Version: job.Version,
		Prev: job.PrevBlock, Target: job.Target, Fallback: job.Fallback, Value: tmpl.CoinbaseValue,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("template (-want +got):\n%s", diff)
	}
	if job.Version&work.VersionMask != 0 {
		t.Errorf("version %08x leaves no bits to roll", job.Version)
	}

	// Everything a searcher may choose is chosen.
	sol := work.Solution{Version: job.Version | work.VersionMask, Time: job.Time + 7}
	copy(sol.Extranonce[:], "extra-nonce!")
	sol = solve(t, job, sol)
	block, err := tmpl.Block(sol)
	if err != nil {
		t.Fatal(err)
	}
	// The bytes a searcher hashed, assembled here without any of our code.
	raw := slices.Concat(job.CoinbasePrefix, sol.Extranonce[:], job.CoinbaseSuffix)
	header := job.Header(sol)
	wire := append(header[:], 0, 4) // no VchBlockSig, four transactions
	wire = append(wire, raw...)
	for _, tx := range txs {
		wire = append(wire, tx.Bytes()...)
	}
	if !bytes.Equal(block.Bytes(), wire) {
		t.Errorf("block\n%x\nwant\n%x", block.Bytes(), wire)
	}
	if outcome, err := r.AddBlock(block); outcome != work.Accepted || err != nil {
		t.Fatalf("%v, %v", outcome, err)
	}
	if tip := r.Tip(); tip.ID != types.Hash(header.Hash()) {
		t.Errorf("tip %s", tip.ID)
	}
}

func TestCoinbase(t *testing.T) {
	r := newRig(t)
	multisig := chaingen.PayToMultisig()
	for name, tc := range map[string]struct {
		height uint32
		tag    string
		script []byte
		push   []byte
	}{
		"height pushed by one opcode": {1, "", payout(), []byte{0x51}},
		"sixteen":                     {16, "x", payout(), []byte{0x60}},
		"seventeen":                   {17, "/qcity/", payout(), []byte{1, 17}},
		"sign bit":                    {128, "/qcity/", multisig, []byte{2, 128, 0}},
		"largest of everything":       {math.MaxUint32, strings.Repeat("t", maxTag), chaingen.PayToKey(0), []byte{5, 255, 255, 255, 255, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			parent := r.Tip()
			parent.Height = tc.height - 1
			out := types.TxOut{Value: 5, PkScript: tc.script}
			outs := []types.TxOut{out}
			raw := slices.Concat(coinbasePrefix(&parent, tc.tag), []byte("EXTRANONCE!!"), coinbaseSuffix(0x0102030405, tc.tag, outs))
			most := coinbaseSize(tc.tag, outs)
			if height := len(types.HeightScript(math.MaxUint32)) - len(tc.push); len(raw) != most-height || most > 220 {
				t.Errorf("%d bytes, computed were at most %d: small firmware takes 220", len(raw), most)
			}
			tx, err := types.DecodeTransaction(raw)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Concat(tc.push, []byte{12}, []byte("EXTRANONCE!!"), []byte{4, 5, 4, 3, 2})
			if tc.tag != "" {
				want = slices.Concat(want, []byte{byte(len(tc.tag))}, []byte(tc.tag))
			}
			if got := tx.Inputs[0].SignatureScript; !bytes.Equal(got, want) {
				t.Errorf("script %x, want %x", got, want)
			}
			if diff := cmp.Diff([]types.TxOut{out}, tx.Outputs); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := NewBuilder(r, r.pool, strings.Repeat("t", maxTag+1), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a tag that is too long was taken")
	}
}

func TestNoSolutionCountsForTwoJobs(t *testing.T) {
	r := newRig(t)
	var jobs []*work.Job
	for range 2 {
		tmpl, err := r.builder.Mined(r.Tip(), r.clock(), payout())
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, tmpl.Job)
	}
	if jobs[0].ID >= jobs[1].ID || jobs[0].MerkleRoot([12]byte{}) == jobs[1].MerkleRoot([12]byte{}) {
		t.Error("two jobs have the same work")
	}
}

func TestTemplateTime(t *testing.T) {
	r := newRig(t)
	r.advance(8)
	mined := r.Tip()
	r.advance(9)
	slot := r.Tip()
	for name, tc := range map[string]struct {
		parent   consensus.State
		now      int64
		want     uint32
		fallback bool
	}{
		"clock behind the parent":  {mined, int64(mined.Time) - 1000, mined.Time + 1, false},
		"clock at the parent":      {mined, int64(mined.Time), mined.Time + 1, false},
		"clock ahead":              {mined, int64(mined.Time) + 90, mined.Time + 90, false},
		"slot, first second":       {slot, int64(slot.Time), slot.Time + 121, true},
		"slot, long open":          {slot, int64(slot.Time) + 500, slot.Time + 500, true},
		"clock before the epoch":   {mined, -5, mined.Time + 1, false},
		"clock past 32-bit header": {mined, 1 << 40, math.MaxUint32, false},
	} {
		t.Run(name, func(t *testing.T) {
			r.tip = r.nodes[tc.parent.ID]
			tmpl, err := r.builder.Mined(tc.parent, time.Unix(tc.now, 0), payout())
			if err != nil {
				t.Fatal(err)
			}
			if tmpl.Job.Time != tc.want || tmpl.Job.Fallback != tc.fallback || tmpl.Job.MinTime != tc.parent.MinedTime() {
				t.Errorf("time %d (%+d), fallback %v, earliest %d", tmpl.Job.Time, int64(tmpl.Job.Time)-int64(tc.want), tmpl.Job.Fallback, tmpl.Job.MinTime)
			}
		})
	}
}

func TestAPoisonedPoolCannotStopTemplates(t *testing.T) {
	for name, tc := range map[string]struct {
		stubborn bool
		poison   func(r *rig, coins []consensus.UTXO) []*types.Transaction
		kept     int // of two good transactions
	}{
		"forged signature": {false, func(r *rig, coins []consensus.UTXO) []*types.Transaction {
			bad := r.pay(10_000, coins[2])
			bad.Outputs[0].Value--
			return []*types.Transaction{bad, r.pay(10_000, output(bad, 0))}
		}, 2},
		"spent twice": {false, func(r *rig, coins []consensus.UTXO) []*types.Transaction {
			return []*types.Transaction{r.pay(10_001, coins[0])}
		}, 2},
		"coin that never was": {false, func(r *rig, coins []consensus.UTXO) []*types.Transaction {
			return []*types.Transaction{r.pay(10_000, output(coinlike(coins[2]), 0))}
		}, 2},
		"coinbase": {false, func(r *rig, _ []consensus.UTXO) []*types.Transaction {
			return []*types.Transaction{r.tip.block.Transactions[0]}
		}, 2},
		"pool insists": {true, func(r *rig, coins []consensus.UTXO) []*types.Transaction {
			return []*types.Transaction{r.pay(10_001, coins[0])}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			coins := r.coins(3)
			bad := tc.poison(r, coins)
			good := []*types.Transaction{r.pay(10_000, coins[0]), r.pay(10_000, coins[1])}
			r.pool.put(10_000, good[0])
			r.pool.put(10_000, bad...)
			r.pool.put(10_000, good[1])
			r.pool.stubborn = tc.stubborn
			tmpl, err := r.builder.Mined(r.Tip(), r.clock(), payout())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(tmpl.Transactions, good[:tc.kept]) {
				t.Errorf("%d transactions in the template", len(tmpl.Transactions))
			}
			if want := 50*types.Coin + int64(tc.kept)*10_000; tmpl.CoinbaseValue != want {
				t.Errorf("coinbase value %d, want %d", tmpl.CoinbaseValue, want)
			}
			if !tc.stubborn && len(r.pool.removed) != len(bad) {
				t.Errorf("%d transactions dropped, want %d", len(r.pool.removed), len(bad))
			}
			b, err := tmpl.Block(solve(t, tmpl.Job, work.Solution{Version: tmpl.Job.Version, Time: tmpl.Job.Time}))
			if err != nil {
				t.Fatal(err)
			}
			if outcome, err := r.AddBlock(b); outcome != work.Accepted || err != nil {
				t.Errorf("%v, %v", outcome, err)
			}
		})
	}
}

// coinlike returns a transaction that is nowhere, with an output like a coin.
func coinlike(u consensus.UTXO) *types.Transaction {
	return &types.Transaction{Outputs: []types.TxOut{u.Coin.Output}}
}

func TestABlockWithoutACulpritIsMadeEmpty(t *testing.T) {
	// Each transaction is valid alone, together they need too many signature
	// checks, and the pool has counted wrongly.
	r := newRig(t, func(p *consensus.Params) { p.MaxSigOps = 1 })
	coins := r.coins(2)
	r.pool.put(10_000, r.pay(10_000, coins[0]), r.pay(10_000, coins[1]))
	for i := range r.pool.spends {
		r.pool.spends[i].SigOps = 0
	}
	tmpl, err := r.builder.Mined(r.Tip(), r.clock(), payout())
	if err != nil {
		t.Fatal(err)
	}
	if len(tmpl.Transactions) != 0 || len(r.pool.removed) != 0 {
		t.Errorf("%d transactions in the template, %d dropped", len(tmpl.Transactions), len(r.pool.removed))
	}
}

func TestMinedFails(t *testing.T) {
	disk := errors.New("disk on fire")
	for name, tc := range map[string]struct {
		prepare func(r *rig)
		payout  []byte
		want    error
	}{
		"payout is no template":      {func(*rig) {}, []byte{0x51}, consensus.RuleTxTemplate},
		"pool stands elsewhere":      {func(r *rig) { at := r.net.GenesisState(); r.pool.at = &at }, payout(), ErrParentMoved},
		"disk fails":                 {func(r *rig) { r.viewErr = disk }, payout(), disk},
		"tip moves while it is made": {func(r *rig) { r.onView = func() { r.advance(r.Tip().Height + 1) } }, payout(), ErrParentMoved},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.advance(3)
			tc.prepare(r)
			if _, err := r.builder.Mined(r.Tip(), r.clock(), tc.payout); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

func TestBlocksStayWithinTheLimits(t *testing.T) {
	r := newRig(t, func(p *consensus.Params) { p.MaxBlockBytes, p.MaxSigOps = 2500, 6 })
	coins := r.coins(9)
	for _, u := range coins {
		r.pool.put(10_000, r.pay(10_000, u))
	}
	tmpl, err := r.builder.Mined(r.Tip(), r.clock(), payout())
	if err != nil {
		t.Fatal(err)
	}
	if len(tmpl.Transactions) != 6 {
		t.Errorf("%d transactions, want 6", len(tmpl.Transactions))
	}
}
