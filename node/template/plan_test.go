package template

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// planner is Payouts made of a function.
type planner func(height uint32, reward int64) Plan

func (p planner) Plan(height uint32, reward int64) Plan { return p(height, reward) }

// shared pays n addresses, the first whatever the division leaves over.
func shared(n int, note string) planner {
	return func(_ uint32, reward int64) Plan {
		p := Plan{Note: []byte(note)}
		for i := range n {
			p.Outputs = append(p.Outputs, types.TxOut{Value: reward / int64(n), PkScript: chaingen.PayToHash(i % 16)})
		}
		p.Outputs[0].Value += reward % int64(n)
		return p
	}
}

// planned returns a source that pays by a plan, and its first template.
func planned(t *testing.T, r *rig, p Payouts, change ...func(*SourceConfig)) (*Source, *Template) {
	t.Helper()
	s, _ := r.source(r.clock, append(change, func(c *SourceConfig) { c.Payouts = p })...)
	if err := s.update(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, s.Current()
}

// TestPlanIsPaid: as many outputs as fit, to the last unit, in a block that the
// chain takes; the note goes with the block, not into it.
func TestPlanIsPaid(t *testing.T) {
	r := newRig(t)
	coin := r.coins(1)[0]
	r.pool.put(10_001, r.pay(10_001, coin))
	fit := MaxOutputs(DefaultMaxCoinbase, "test", chaingen.PayToHash(0))
	s, tmpl := planned(t, r, shared(fit, "plan 7"))
	sol := easy(t, tmpl)
	sol.Finder = "rig.1"
	if outcome, _, err := s.SubmitSolution(t.Context(), sol); outcome != work.Accepted || err != nil {
		t.Fatalf("%v, %v", outcome, err)
	}
	found := r.found[0]
	reward := 50*int64(types.Coin) + 10_001
	want := shared(fit, "plan 7")(0, reward)
	if diff := cmp.Diff(want.Outputs, found.Block.Transactions[0].Outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if found.Finder != "rig.1" || string(found.Note) != "plan 7" || found.Height != r.Tip().Height || found.Reward != reward || tmpl.Job.Reward != reward {
		t.Errorf("found %+v", found)
	}
	if size := len(found.Block.Transactions[0].Bytes()); size > DefaultMaxCoinbase || bytes.Contains(found.Block.Bytes(), []byte("plan 7")) {
		t.Errorf("coinbase of %d bytes, or the note is in the block", size)
	}
	if len(r.log.lines()) != 0 {
		t.Errorf("logged %q", r.log.lines())
	}
}

// TestPlanFollowsTheClock: a refreshed template is paid by a plan of its own.
func TestPlanFollowsTheClock(t *testing.T) {
	r := newRig(t)
	now, plans := r.clock(), 0
	s, _ := r.source(func() time.Time { return now }, func(c *SourceConfig) {
		c.Payouts = planner(func(h uint32, reward int64) Plan { plans++; return shared(1+plans%2, "")(h, reward) })
	})
	for range 2 {
		if err := s.update(t.Context()); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	if plans != 2 || s.Current().Reason != Refresh {
		t.Errorf("%d plans, last template: %v", plans, s.Current().Reason)
	}
}

func TestWrongPlanPaysTheOperator(t *testing.T) {
	good := shared(2, "good")
	for name, tc := range map[string]struct {
		plan planner
		want string
	}{
		"nothing":       {func(uint32, int64) Plan { return Plan{Note: []byte("none")} }, "has no outputs"},
		"a unit less":   {func(h uint32, reward int64) Plan { return good(h, reward-1) }, "pays 4999999999 of a reward of 5000000000"},
		"a unit more":   {func(h uint32, reward int64) Plan { return good(h, reward+1) }, "pays 5000000001"},
		"too many":      {shared(5, "five"), "stratum.max_coinbase"},
		"negative":      {amounts(-1, 50*types.Coin+1), "output 0 pays -1"},
		"overflow":      {amounts(1<<62, 1<<62), "output 0 pays"},
		"sum too large": {amounts(types.MaxMoney, types.MaxMoney), "output 1 pays"},
		"no template":   {paying([]byte{0x51}), "script 51"},
		"data":          {paying(types.NullDataScript([]byte("x"))), "nobody can spend"},
		"validator's":   {paying(types.KeyScript(types.PublicKey{Algorithm: types.P256})), "nobody can spend"},
		"long note": {func(h uint32, reward int64) Plan {
			return Plan{Outputs: good(h, reward).Outputs, Note: make([]byte, MaxNote+1)}
		}, "note of 8388609 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			s, tmpl := planned(t, r, tc.plan)
			if outcome, _, err := s.SubmitSolution(t.Context(), easy(t, tmpl)); outcome != work.Accepted || err != nil {
				t.Fatalf("%v, %v", outcome, err)
			}
			want := []types.TxOut{{Value: 50 * types.Coin, PkScript: payout()}}
			if diff := cmp.Diff(want, r.found[0].Block.Transactions[0].Outputs); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
			if r.found[0].Note != nil {
				t.Errorf("the note of a plan that was not used is kept: %q", r.found[0].Note)
			}
			if got := r.log.lines(); len(got) != 1 || !strings.Contains(got[0], tc.want) || !strings.Contains(got[0], "operator") {
				t.Errorf("logged %q, want %q", got, tc.want)
			}
		})
	}
}

// amounts pays these, to whomever.
func amounts(list ...int64) planner {
	return func(uint32, int64) (p Plan) {
		for _, v := range list {
			p.Outputs = append(p.Outputs, types.TxOut{Value: v, PkScript: payout()})
		}
		return p
	}
}

func paying(script []byte) planner {
	return func(_ uint32, reward int64) Plan {
		return Plan{Outputs: []types.TxOut{{Value: reward, PkScript: script}}}
	}
}

// TestWrongPlanIsSaidOnceAMinute: a template may come every three seconds.
func TestWrongPlanIsSaidOnceAMinute(t *testing.T) {
	r := newRig(t)
	now := r.clock()
	s, _ := r.source(func() time.Time { return now }, func(c *SourceConfig) { c.Payouts = amounts(1) })
	for i, want := range []int{1, 1, 2} {
		s.plan(1, 100)
		if got := len(r.log.lines()); got != want {
			t.Errorf("call %d: %d lines, want %d", i+1, got, want)
		}
		now = now.Add(40 * time.Second)
	}
}

// TestPlanThatBreaksARule: what passes the check and is invalid all the same does
// not stop the work either.
func TestPlanThatBreaksARule(t *testing.T) {
	r := newRig(t, func(p *consensus.Params) { p.MaxBlockBytes = 2500 })
	s, tmpl := planned(t, r, shared(100, ""), func(c *SourceConfig) { c.MaxCoinbase = 16_384 })
	if outcome, _, err := s.SubmitSolution(t.Context(), easy(t, tmpl)); outcome != work.Accepted || err != nil {
		t.Fatalf("%v, %v", outcome, err)
	}
	if outs := r.found[0].Block.Transactions[0].Outputs; len(outs) != 1 || len(r.log.lines()) != 1 {
		t.Errorf("%d outputs, logged %q", len(outs), r.log.lines())
	}
}

// TestLargeCoinbaseLeavesRoom: with a full pool the block stays within its limit.
func TestLargeCoinbaseLeavesRoom(t *testing.T) {
	const many = 300
	r := newRig(t, func(p *consensus.Params) { p.MaxBlockBytes = 14_000 })
	for _, u := range r.coins(25) {
		r.pool.put(10_000, r.pay(10_000, u))
	}
	s, tmpl := planned(t, r, shared(many, ""), func(c *SourceConfig) { c.MaxCoinbase = 12_000 })
	if outcome, _, err := s.SubmitSolution(t.Context(), easy(t, tmpl)); outcome != work.Accepted || err != nil {
		t.Fatalf("%v, %v", outcome, err)
	}
	b := r.found[0].Block
	if len(b.Transactions[0].Outputs) != many || len(b.Transactions) < 2 || len(r.log.lines()) != 0 {
		t.Errorf("%d outputs, %d transactions, logged %q", len(b.Transactions[0].Outputs), len(b.Transactions), r.log.lines())
	}
}

// TestNotesAreBounded: with long notes fewer templates are remembered.
func TestNotesAreBounded(t *testing.T) {
	r := newRig(t)
	s, _ := planned(t, r, planner(func(h uint32, reward int64) Plan {
		return Plan{Outputs: shared(1, "")(h, reward).Outputs, Note: make([]byte, MaxNote)}
	}))
	for range 20 {
		s.publish(s.builder.refreshed(s.Current(), r.clock(), s.plan), Refresh)
	}
	if got, want := len(s.recent), keptNotes/MaxNote+1; got != want {
		t.Errorf("%d templates are remembered, want %d", got, want)
	}
}

func TestOutputsThatFit(t *testing.T) {
	multisig, key := chaingen.PayToMultisig(), chaingen.PayToKey(0)
	for _, tc := range []struct {
		most   int
		tag    string
		script []byte
		want   int
	}{
		{DefaultMaxCoinbase, "/qcity/", chaingen.PayToHash(0), 4},
		{DefaultMaxCoinbase, "/qcity/", multisig, 4},
		{DefaultMaxCoinbase, "/qcity/", key, 3},
		{DefaultMaxCoinbase, strings.Repeat("t", maxTag), key, 2},
		{500, "/qcity/", chaingen.PayToHash(0), 12},
		{16_384, "/qcity/", chaingen.PayToHash(0), 479},
		{10, "/qcity/", key, 0},
	} {
		if got := MaxOutputs(tc.most, tc.tag, tc.script); got != tc.want {
			t.Errorf("%d bytes, tag %q, script of %d: %d outputs, want %d", tc.most, tc.tag, len(tc.script), got, tc.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(0, 20_000).Draw(t, "most")
		tag := strings.Repeat("t", rapid.IntRange(0, maxTag).Draw(t, "tag"))
		script := rapid.SampledFrom([][]byte{multisig, key, payout()}).Draw(t, "script")
		n := MaxOutputs(most, tag, script)
		outs := slices.Repeat([]types.TxOut{{Value: 1, PkScript: script}}, n+1)
		parent := consensus.State{Height: rapid.Uint32Range(0, 1<<32-2).Draw(t, "height")}
		size := len(coinbasePrefix(&parent, tag)) + work.ExtranonceSize + len(coinbaseSuffix(1, tag, outs[:n]))
		if n > 0 && size > most || coinbaseSize(tag, outs[:n]) < size || coinbaseSize(tag, outs) <= most {
			t.Fatalf("%d outputs in %d bytes: %d at this height; one more: %d", n, most, size, coinbaseSize(tag, outs))
		}
		if n > 0 && n <= 252 && n*OutputSize(script) > CoinbaseRoom(most, tag) {
			t.Fatalf("%d outputs of %d bytes in a room of %d", n, OutputSize(script), CoinbaseRoom(most, tag))
		}
	})
}
