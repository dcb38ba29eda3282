package consensus_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// ledger is the model: the unspent outputs as a map, changed by diffs, next to
// the same map kept by reading the blocks naively.
type ledger struct {
	coins consensus.Coins
	naive map[types.OutPoint]types.TxOut
}

func (l *ledger) apply(d consensus.Diff) {
	for _, u := range d.Spent {
		delete(l.coins, u.OutPoint)
	}
	for _, u := range d.Created {
		l.coins[u.OutPoint] = u.Coin
	}
}

func (l *ledger) revert(d consensus.Diff) {
	for _, u := range d.Created {
		delete(l.coins, u.OutPoint)
	}
	for _, u := range d.Spent {
		l.coins[u.OutPoint] = u.Coin
	}
}

func (l *ledger) read(b *types.Block) {
	for _, tx := range b.Transactions {
		for i := range tx.Inputs {
			delete(l.naive, tx.Inputs[i].Previous)
		}
		for i, out := range tx.Outputs {
			if len(out.PkScript) > 0 && out.PkScript[0] != 0x6a { // neither empty nor data
				l.naive[types.OutPoint{TxID: tx.ID(), Index: uint32(i)}] = out
			}
		}
	}
}

// TestApplyRevertIsIdentity grows random chains: blocks of every kind with
// payments that spend coins of earlier blocks and of the block itself.
func TestApplyRevertIsIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := chaingen.Params()
		p.CoinbaseMaturity = 2
		g := chaingen.New(t, p)
		l := &ledger{coins: consensus.Coins{}, naive: map[types.OutPoint]types.TxOut{}}
		for step := range rapid.IntRange(3, 25).Draw(t, "blocks") {
			txs := payments(t, g, l)
			name := fmt.Sprint("b", step)
			parent := g.Tip()
			var node *chaingen.Node
			switch {
			case parent.State.ChildIsSlot() && rapid.Bool().Draw(t, "fallback"):
				node = g.NextFallback(name, g.Include(txs...))
			case parent.State.ChildIsSlot():
				node = g.NextSigned(name, uint8(rapid.IntRange(0, 4).Draw(t, "index")), g.Include(txs...))
			default:
				node = g.Next(name, g.Include(txs...))
			}
			if node.Err != nil {
				t.Fatalf("%s: %v", name, node.Err)
			}
			before := maps.Clone(l.coins)
			l.apply(node.Diff)
			l.read(node.Block)
			l.revert(node.Diff)
			if diff := cmp.Diff(before, l.coins); diff != "" {
				t.Fatalf("%s: reverting does not restore the coins:\n%s", name, diff)
			}
			if diff := cmp.Diff(node.Diff, consensus.Undo(&parent.State, node.Block, node.Diff.Spent)); diff != "" {
				t.Fatalf("%s: Undo differs from what Connect returned:\n%s", name, diff)
			}
			l.apply(node.Diff)
			if len(l.coins) != len(l.naive) {
				t.Fatalf("%s: %d coins, the blocks say %d", name, len(l.coins), len(l.naive))
			}
			for at, out := range l.naive {
				if diff := cmp.Diff(out, l.coins[at].Output); diff != "" {
					t.Fatalf("%s: coin %s differs:\n%s", name, at, diff)
				}
			}
		}
		conserved(t, g, l)
	})
}

// conserved checks that the coins add up to all subsidies: fees only move.
func conserved(t *rapid.T, g *chaingen.Generator, l *ledger) {
	var sum, subsidies int64
	for _, c := range l.coins {
		sum += c.Output.Value
	}
	for node := g.Tip(); node.Parent != nil; node = node.Parent {
		if !node.Block.IsSigned() {
			subsidies += node.Parent.State.Subsidy()
		}
	}
	if sum != subsidies {
		t.Fatalf("the coins add up to %d, the subsidies to %d", sum, subsidies)
	}
}

// payments draws transactions that spend mature coins, and each other's outputs.
func payments(t *rapid.T, g *chaingen.Generator, l *ledger) []*types.Transaction {
	height := g.Tip().State.ChildHeight()
	var pool []consensus.UTXO
	for _, at := range slices.SortedFunc(maps.Keys(l.coins), func(a, b types.OutPoint) int {
		return slices.Compare(append(a.TxID[:], byte(a.Index)), append(b.TxID[:], byte(b.Index)))
	}) {
		if c := l.coins[at]; c.Output.Value > 10 && (!c.Coinbase || height >= c.Height+2) {
			pool = append(pool, consensus.UTXO{OutPoint: at, Coin: c})
		}
	}
	var txs []*types.Transaction
	for range rapid.IntRange(0, 3).Draw(t, "payments") {
		if len(pool) == 0 {
			break
		}
		i := rapid.IntRange(0, len(pool)-1).Draw(t, "coin")
		coin := pool[i]
		pool = slices.Delete(pool, i, i+1)
		value := coin.Coin.Output.Value
		fee := rapid.Int64Range(0, 3).Draw(t, "fee")
		scripts := [][]byte{chaingen.PayToHash(1), chaingen.PayToKey(2), chaingen.PayToMultisig()}
		script := rapid.SampledFrom(scripts).Draw(t, "script")
		tx := g.Spend([]consensus.UTXO{coin},
			chaingen.Pay(value/2, script), data("note"), chaingen.Pay(value-value/2-fee, chaingen.PayToHash(3)))
		txs = append(txs, tx)
		for _, index := range []uint32{0, 2} {
			pool = append(pool, consensus.UTXO{
				OutPoint: types.OutPoint{TxID: tx.ID(), Index: index},
				Coin:     consensus.Coin{Output: tx.Outputs[index], Height: height},
			})
		}
	}
	return txs
}

func TestSpendsWithinABlockNetOut(t *testing.T) {
	f := newFixture(t, mined)
	coinbase := f.block.Transactions[0]
	first := f.payment(func(*types.Transaction) {})
	second := f.Spend([]consensus.UTXO{f.parent.Output(first, 0)}, chaingen.Pay(1, chaingen.PayToHash(0)))
	f.block.Transactions = []*types.Transaction{coinbase, first, second}
	f.seal()
	_, diff, err := f.connect()
	if err != nil {
		t.Fatal(err)
	}
	if len(diff.Spent) != 1 || diff.Spent[0].OutPoint != f.matureMulti.OutPoint {
		t.Errorf("spent: %v", diff.Spent)
	}
	if diff := cmp.Diff(f.matureMulti, diff.Spent[0]); diff != "" {
		t.Errorf("the spent coin is not kept whole:\n%s", diff)
	}
	var made []types.OutPoint
	for _, u := range diff.Created {
		made = append(made, u.OutPoint)
	}
	want := []types.OutPoint{{TxID: coinbase.ID()}, {TxID: second.ID()}}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Errorf("created:\n%s", diff)
	}
	if c := diff.Created[0].Coin; !c.Coinbase || c.Height != 16 || c.ParentTime != f.parent.State.Time {
		t.Errorf("the coinbase's coin is %+v", c)
	}
	if diff.Created[1].Coin.Coinbase {
		t.Error("a payment's coin must mature")
	}
}

// TestConnectLeavesItsArgumentsAlone: coins are the caller's, and may be shared.
func TestConnectLeavesItsArgumentsAlone(t *testing.T) {
	f := newFixture(t, mined)
	coins := f.CoinsFor(f.block)
	before, raw, state := maps.Clone(coins), f.block.Bytes(), f.parent.State
	if _, _, err := consensus.Connect(&f.parent.State, f.block, coins); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, coins); diff != "" {
		t.Errorf("coins changed:\n%s", diff)
	}
	if state != f.parent.State || !slices.Equal(raw, f.block.Bytes()) {
		t.Error("the parent or the block changed")
	}
}

func TestStateAndCoinEncodings(t *testing.T) {
	n := chaingen.New(t, chaingen.Params()).Network()
	rapid.Check(t, func(t *rapid.T) {
		s := n.GenesisState()
		s.Height = rapid.Uint32().Draw(t, "height")
		s.Time = rapid.Uint32().Draw(t, "time")
		s.SignedSlots = rapid.Uint32().Draw(t, "slots")
		s.LastSigned = rapid.Uint32().Draw(t, "last")
		s.ID = types.DoubleHash(rapid.SliceOf(rapid.Byte()).Draw(t, "id"))
		for i := range s.Work {
			s.Work[i] = rapid.Uint64().Draw(t, "work")
		}
		d := types.NewDecoder(s.AppendTo(nil))
		if got, authority := n.DecodeState(d); d.Finish() != nil || got != s || authority != (types.Hash{}) {
			t.Fatalf("state %+v came back as %+v under %s, %v", s, got, authority, d.Err())
		}
		c := consensus.Coin{
			Output:     types.TxOut{Value: rapid.Int64Range(0, math.MaxInt64).Draw(t, "value"), PkScript: rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "script")},
			Height:     rapid.Uint32().Draw(t, "coin height"),
			ParentTime: rapid.Uint32().Draw(t, "coin time"),
			Coinbase:   rapid.Bool().Draw(t, "coinbase"),
		}
		d = types.NewDecoder(c.AppendTo(nil))
		var back consensus.Coin
		if back.DecodeFrom(d); d.Finish() != nil {
			t.Fatal(d.Err())
		}
		if diff := cmp.Diff(c, back); diff != "" {
			t.Fatal(diff)
		}
	})
}
