package consensus_test

import (
	"math"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// lockFixture is a state of chosen height and time with a coin to spend.
func lockFixture(t *testing.T, height, time uint32) (*chaingen.Generator, consensus.State) {
	t.Helper()
	g := chaingen.New(t, chaingen.Params())
	state := g.Network().GenesisState()
	state.Height, state.Time = height, time
	return g, state
}

func spendCoin(g *chaingen.Generator, coin consensus.Coin, change func(*types.Transaction)) (*types.Transaction, consensus.Coins) {
	coin.Output = chaingen.Pay(1000, chaingen.PayToHash(1))
	u := consensus.UTXO{OutPoint: types.OutPoint{TxID: types.Hash{1}}, Coin: coin}
	tx := g.Spend([]consensus.UTXO{u}, chaingen.Pay(900, chaingen.PayToHash(2)))
	change(tx)
	g.SignInputs(tx, []consensus.UTXO{u})
	return tx, consensus.Coins{u.OutPoint: u.Coin}
}

func TestLockTime(t *testing.T) {
	const parentTime = 1_600_000_000
	cases := []struct {
		name     string
		parent   uint32 // height; the block has one more
		lockTime uint32
		sequence uint32
		want     bool
	}{
		{"none", 99, 0, 0, true},
		{"height before the block's", 99, 99, 0, true},
		{"the block's height", 99, 100, 0, false},
		{"the block's height, all inputs final", 99, 100, 0xffffffff, true},
		{"the block's height, input almost final", 99, 100, 0xfffffffe, false},
		{"highest height", 99, 499_999_999, 0, false},
		{"lowest time", 99, 500_000_000, 0, true},
		{"second before the parent's time", 99, parentTime - 1, 0, true},
		{"the parent's time", 99, parentTime, 0, false},
		{"last second of all", 99, math.MaxUint32, 0, false},
		{"last second of all, final", 99, math.MaxUint32, 0xffffffff, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g, state := lockFixture(t, c.parent, parentTime)
			tx, coins := spendCoin(g, consensus.Coin{}, func(tx *types.Transaction) {
				tx.LockTime = c.lockTime
				tx.Version = 1 // no relative lock times
				tx.Inputs[0].Sequence = c.sequence
			})
			_, err := consensus.ValidateTransaction(&state, tx, coins)
			if rule, _ := consensus.RuleOf(err); (err == nil) != c.want || (err != nil && rule != consensus.RuleTxLockTime) {
				t.Errorf("got %v, want valid: %t", err, c.want)
			}
		})
	}
}

func TestSequence(t *testing.T) {
	const (
		parentTime = 1_600_000_000
		byTime     = 1 << 22
		disabled   = 1 << 31
	)
	cases := []struct {
		name             string
		version          int32
		coinHeight, time uint32
		sequence         uint32
		want             bool
	}{
		{"zero blocks, coin of this very block", 2, 100, parentTime, 0, true},
		{"one block, coin of this very block", 2, 100, parentTime, 1, false},
		{"one block, coin of the parent", 2, 99, parentTime, 1, true},
		{"ten blocks at nine", 2, 91, parentTime, 10, false},
		{"ten blocks at ten", 2, 90, parentTime, 10, true},
		{"65,535 blocks", 2, 0, parentTime, 0xffff, false},
		{"bits outside the mask mean nothing", 2, 90, parentTime, 10 | 0x003f_0000 | 0x7f80_0000, true},
		{"version 1", 1, 91, parentTime, 10, true},
		{"version 0", 0, 91, parentTime, 10, true},
		{"version 3", 3, 91, parentTime, 10, false},
		{"version −1 is a large one", -1, 91, parentTime, 10, false},
		{"disabled", 2, 91, parentTime, disabled | 10, true},
		{"512 s at 511", 2, 90, parentTime - 511, byTime | 1, false},
		{"512 s at 512", 2, 90, parentTime - 512, byTime | 1, true},
		{"0 s", 2, 100, parentTime, byTime, true},
		{"65,535 units at one second less", 2, 90, parentTime - 65_535*512 + 1, byTime | 0xffff, false},
		{"65,535 units", 2, 90, parentTime - 65_535*512, byTime | 0xffff, true},
		{"coin time near the end", 2, 90, math.MaxUint32, byTime | 0xffff, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g, state := lockFixture(t, 99, parentTime)
			coin := consensus.Coin{Height: c.coinHeight, ParentTime: c.time}
			tx, coins := spendCoin(g, coin, func(tx *types.Transaction) {
				tx.Version = c.version
				tx.Inputs[0].Sequence = c.sequence
			})
			_, err := consensus.ValidateTransaction(&state, tx, coins)
			if rule, _ := consensus.RuleOf(err); (err == nil) != c.want || (err != nil && rule != consensus.RuleTxSequence) {
				t.Errorf("got %v, want valid: %t", err, c.want)
			}
		})
	}
}
