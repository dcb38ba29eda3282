package mempool

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

func TestNewRefusesAPolicyThatCannotWork(t *testing.T) {
	c := newTestChain(t)
	for name, change := range map[string]func(*Config){
		"negative fee":          func(c *Config) { c.MinFeeRate = -1 },
		"no transaction fits":   func(c *Config) { c.MaxTxBytes = 0 },
		"smaller than its load": func(c *Config) { c.MaxBytes = c.MaxTxBytes - 1 },
		"expires at once":       func(c *Config) { c.Expiry = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			change(&cfg)
			if _, err := New(c, cfg, c.now, slog.New(slog.DiscardHandler)); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestAddRefuses(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(4)
	young := c.mine().Reward()
	confirmed := c.pay(10_000, 2, coins[3])
	c.mine(confirmed)
	cfg := DefaultConfig()
	cfg.MaxTxBytes = 2000
	p := c.pool(cfg)
	first := c.pay(10_000, 1, coins[0])
	add(t, p, first)
	forged := c.pay(10_000, 1, coins[1])
	forged.Outputs[0].Value--
	twice := c.Spend([]consensus.UTXO{coins[1], coins[1]}, chaingen.Pay(1, chaingen.PayToHash(0)))
	locked := c.pay(10_000, 1, coins[1])
	locked.LockTime, locked.Inputs[0].Sequence = c.tip.State.Height+1, 0xfffffffe
	c.SignInputs(locked, coins[1:2])
	odd := c.pay(10_000, 1, coins[1])
	odd.Outputs[0].PkScript = []byte{0x51}
	c.SignInputs(odd, coins[1:2])

	for name, tc := range map[string]struct {
		tx   *types.Transaction
		want error
	}{
		"known":                       {first, ReasonKnown},
		"confirmed":                   {confirmed, ReasonConfirmed},
		"conflict":                    {c.pay(20_000, 1, coins[0]), ReasonConflict},
		"too large":                   {c.pay(100_000, 60, coins[1]), ReasonBytes},
		"no fee":                      {c.pay(0, 1, coins[1]), ReasonFee},
		"one unit short":              {c.pay(requiredFee(t, c.pay(1000, 1, coins[1]), 1000)-1, 1, coins[1]), ReasonFee},
		"forged signature":            {forged, consensus.RuleTxScript},
		"same coin twice":             {twice, consensus.RuleTxDuplicate},
		"lock time ahead":             {locked, consensus.RuleTxLockTime},
		"no template":                 {odd, consensus.RuleTxTemplate},
		"immature coinbase":           {c.pay(10_000, 1, young), consensus.RuleTxImmature},
		"spends more than there is":   {c.pay(-1, 1, coins[1]), consensus.RuleTxValue},
		"unknown coin":                {c.pay(10_000, 1, output(c.pay(9, 1, coins[2]), 0)), consensus.RuleTxMissing},
		"spent coin of the chain":     {c.pay(10_000, 1, coins[3]), consensus.RuleTxMissing},
		"output of pool out of range": {c.pay(10_000, 1, consensus.UTXO{OutPoint: types.OutPoint{TxID: first.ID(), Index: 7}, Coin: coins[1].Coin}), consensus.RuleTxMissing},
		"coinbase":                    {c.tip.Block.Transactions[0], consensus.RuleTxNullInput},
		"nothing in it":               {&types.Transaction{}, consensus.RuleTxEmpty},
	} {
		t.Run(name, func(t *testing.T) {
			for _, try := range []func() error{
				func() error { _, err := p.Add(tc.tx); return err },
				func() error { _, err := p.TestAccept(tc.tx); return err },
			} {
				err := try()
				if !errors.Is(err, tc.want) {
					t.Errorf("error %v, want %v", err, tc.want)
				}
				var policy *PolicyError
				if _, rule := consensus.RuleOf(err); errors.As(err, &policy) == rule {
					t.Errorf("error %v is both or neither of a policy and a rule", err)
				}
			}
			check(t, c, p)
		})
	}
	if got := p.IDs(); !slices.Equal(got, []types.Hash{first.ID()}) {
		t.Errorf("pool holds %v", got)
	}
}

// requiredFee is the least fee at a rate per 1,000 bytes, spelled out again.
// Signatures vary by a byte or two, so tests pass the transaction itself.
func requiredFee(t *testing.T, tx *types.Transaction, rate int64) int64 {
	t.Helper()
	return (rate*int64(len(tx.Bytes())) + 999) / 1000
}

func TestDataOutputsCannotBeSpentInThePool(t *testing.T) {
	c := newTestChain(t)
	coin := c.rewards(1)[0]
	tx := c.Spend([]consensus.UTXO{coin}, chaingen.Pay(1_000_000, chaingen.PayToHash(0)), chaingen.Pay(0, types.NullDataScript([]byte("hello"))))
	p := c.pool(DefaultConfig())
	add(t, p, tx)
	next := c.Spend([]consensus.UTXO{output(tx, 0)}, chaingen.Pay(1000, chaingen.PayToHash(0)))
	next.Inputs[0].Previous.Index = 1
	if _, err := p.Add(next); !errors.Is(err, consensus.RuleTxMissing) {
		t.Errorf("error %v, want %v", err, consensus.RuleTxMissing)
	}
}

func TestTestAcceptKeepsNothing(t *testing.T) {
	c := newTestChain(t)
	tx := c.pay(10_000, 1, c.rewards(1)[0])
	p := c.pool(DefaultConfig())
	got, err := p.TestAccept(tx)
	want := Acceptance{ID: tx.ID(), Bytes: len(tx.Bytes()), Fee: 10_000, SigOps: 1}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if p.Has(tx.ID()) || p.Info().Count != 0 {
		t.Error("the transaction was kept")
	}
}

func TestChainsOfUnconfirmedTransactionsAreLimited(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(2)
	p := c.pool(DefaultConfig())

	tx := c.pay(10_000, 1, coins[0])
	add(t, p, tx)
	for range MaxAncestors - 1 {
		tx = c.pay(10_000, 1, output(tx, 0))
		add(t, p, tx)
	}
	long := c.pay(10_000, 1, output(tx, 0))
	if _, err := p.Add(long); !errors.Is(err, ReasonAncestors) {
		t.Errorf("a row of %d: error %v, want %v", MaxAncestors+1, err, ReasonAncestors)
	}
	fan := c.pay(10_000, 30, coins[1])
	add(t, p, fan)
	for i := range MaxDescendants - 1 {
		add(t, p, c.pay(10_000, 1, output(fan, i)))
	}
	if _, err := p.Add(c.pay(10_000, 1, output(fan, 29))); !errors.Is(err, ReasonDescendants) {
		t.Errorf("a fan of %d: error %v, want %v", MaxDescendants+1, err, ReasonDescendants)
	}
	check(t, c, p)

	// A block takes the head of the row: there is room for one more.
	head, _ := p.Get(p.IDs()[0])
	c.mine(head)
	add(t, p, long)
	check(t, c, p)
}

func TestEntriesDescribeRelations(t *testing.T) {
	c := newTestChain(t)
	p := c.pool(DefaultConfig())
	parent := c.pay(10_000, 2, c.rewards(1)[0])
	left, right := c.pay(20_000, 1, output(parent, 0)), c.pay(30_000, 1, output(parent, 1))
	join := c.pay(40_000, 1, output(left, 0), output(right, 0))
	add(t, p, parent, left, right, join)
	e, ok := p.Entry(left.ID())
	size := func(txs ...*types.Transaction) (n int) {
		for _, tx := range txs {
			n += len(tx.Bytes())
		}
		return n
	}
	want := Entry{
		ID: left.ID(), Tx: left, Bytes: size(left), Fee: 20_000, SigOps: 1, Added: c.clock, Height: c.tip.State.Height,
		Ancestors:   Package{Count: 2, Bytes: size(parent, left), Fee: 30_000},
		Descendants: Package{Count: 2, Bytes: size(left, join), Fee: 60_000},
		DependsOn:   []types.Hash{parent.ID()}, SpentBy: []types.Hash{join.ID()},
	}
	if diff := cmp.Diff(want, e); !ok || diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
	if got := p.Entries()[1]; got.ID != left.ID() {
		t.Errorf("second entry is %s", got.ID)
	}
	info := Info{Count: 4, Bytes: size(parent, left, right, join), MaxBytes: 50_000_000, Fees: 100_000, MinFeeRate: 1000, ConfigFeeRate: 1000}
	if diff := cmp.Diff(info, p.Info()); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	if id, ok := p.Spender(types.OutPoint{TxID: right.ID()}); !ok || id != join.ID() {
		t.Errorf("spender %s, %v", id, ok)
	}

	changed := p.Changed()
	if gone := p.Remove(right.ID()); !slices.Equal(gone, []types.Hash{join.ID(), right.ID()}) {
		t.Errorf("removed %v", gone)
	}
	<-changed
	check(t, c, p)
	if p.Remove(right.ID()) != nil || !p.Has(left.ID()) || p.Has(join.ID()) {
		t.Error("wrong transactions left")
	}
}

func TestAFullPoolKeepsWhatPaysMost(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(8)
	cfg := DefaultConfig()
	cfg.MaxTxBytes = 200
	cfg.MaxBytes = 3 * 192 // one input, one output: 191 or 192 bytes
	p := c.pool(cfg)
	poor, middle, rich := c.pay(1000, 1, coins[0]), c.pay(5000, 1, coins[1]), c.pay(9000, 1, coins[2])
	child := c.pay(50_000, 1, output(poor, 0))
	add(t, p, poor, middle, rich)

	// The poor parent is worth more with its child than the middle one alone.
	add(t, p, child)
	check(t, c, p)
	if p.Has(middle.ID()) || !p.Has(poor.ID()) {
		t.Error("a child did not pay for its parent's place")
	}
	if _, err := p.Add(c.pay(2000, 1, coins[3])); !errors.Is(err, ReasonFull) {
		t.Errorf("a transaction that pays less than what was evicted: %v", err)
	}
	// More than the present minimum, less than anything in the pool: it comes
	// in, is the cheapest and leaves again.
	slight := c.pay(8000, 1, coins[4])
	if _, err := p.Add(slight); !errors.Is(err, ReasonFull) || p.Has(slight.ID()) {
		t.Errorf("the cheapest of a full pool stayed: %v", err)
	}
	if p.Info().MinFeeRate <= cfg.MinFeeRate {
		t.Error("the minimum did not rise")
	}
	c.clock = c.clock.Add(100 * floorHalfLife)
	if got := p.Info().MinFeeRate; got != cfg.MinFeeRate {
		t.Errorf("after a long while the minimum is %d", got)
	}
	check(t, c, p)
}

func TestTransactionsExpireWithTheirDescendants(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(2)
	p := c.pool(DefaultConfig())
	old := c.pay(10_000, 1, coins[0])
	add(t, p, old)
	c.clock = c.clock.Add(8 * 24 * time.Hour)
	child, other := c.pay(10_000, 1, output(old, 0)), c.pay(10_000, 1, coins[1])
	add(t, p, child, other)
	c.clock = c.clock.Add(6 * 24 * time.Hour)
	c.mine()
	check(t, c, p)
	if p.Info().Count != 3 {
		t.Fatal("a transaction left before its time")
	}
	c.clock = c.clock.Add(time.Second)
	c.mine()
	check(t, c, p)
	if got := p.IDs(); !slices.Equal(got, []types.Hash{other.ID()}) {
		t.Errorf("left in the pool: %v, want %s", got, other.ID())
	}
}
