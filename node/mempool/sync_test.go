package mempool

import (
	"errors"
	"slices"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

func TestABlockTakesWhatItConfirmsAndContradicts(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(3)
	p := c.pool(DefaultConfig())
	confirmed := c.pay(10_000, 1, coins[0])
	child := c.pay(10_000, 1, output(confirmed, 0))
	loser := c.pay(10_000, 1, coins[1])
	loserChild := c.pay(10_000, 1, output(loser, 0))
	bystander := c.pay(10_000, 1, coins[2])
	add(t, p, confirmed, child, loser, loserChild, bystander)

	changed := p.Changed()
	c.mine(confirmed, c.pay(20_000, 1, coins[1]))
	check(t, c, p)
	<-changed
	if got, want := p.IDs(), []types.Hash{child.ID(), bystander.ID()}; !slices.Equal(got, want) {
		t.Errorf("left in the pool: %v, want %v", got, want)
	}
	if e, _ := p.Entry(child.ID()); e.Ancestors.Count != 1 {
		t.Errorf("the child still has %d ancestors", e.Ancestors.Count)
	}
}

func TestAReorganisationBringsTransactionsBack(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(4)
	p := c.pool(DefaultConfig())
	fork := c.tip
	free := c.pay(0, 1, coins[0])         // a miner took it for nothing: too cheap for this pool, yet it comes back
	below := c.pay(0, 1, output(free, 0)) // in the block after
	freeChild := c.pay(10_000, 1, output(below, 0))
	gone := c.pay(10_000, 1, coins[1])
	goneChild := c.pay(10_000, 1, output(gone, 0))
	both := c.pay(10_000, 1, coins[2])
	pending := c.pay(10_000, 1, coins[3])
	c.mine(free, both)
	c.mine(below, gone)
	add(t, p, freeChild, goneChild, pending)
	check(t, c, p)

	c.move(fork)
	c.mine(c.pay(30_000, 1, coins[1])) // spends what gone spends
	c.mine(both)
	c.mine()
	check(t, c, p)
	if got, want := p.IDs(), []types.Hash{free.ID(), below.ID(), freeChild.ID(), pending.ID()}; !slices.Equal(got, want) {
		t.Errorf("in the pool: %v, want %v", got, want)
	}
}

func TestAReorganisationToALowerHeightRechecksWhatDependsOnIt(t *testing.T) {
	c := newTestChain(t, func(p *consensus.Params) { p.N = 1000 })
	// Outputs of an ordinary transaction: those of a coinbase are always rechecked.
	split := c.pay(10_000, 5, c.rewards(1)[0])
	block := c.mine(split)
	var coins []consensus.UTXO
	for i := range split.Outputs {
		coins = append(coins, block.Output(split, uint32(i)))
	}
	fork := c.tip
	for range 4 {
		c.mine()
	}
	// A reward that matures exactly at the present height, not at the fork's.
	edge := c.Node(nodeAt(c, c.tip.State.Height+1-c.Network().CoinbaseMaturity)).Reward()
	p := c.pool(DefaultConfig())

	immature := c.pay(10_000, 1, edge)
	byHeight := c.pay(10_000, 1, coins[0])
	byHeight.LockTime, byHeight.Inputs[0].Sequence = c.tip.State.Height, 0xfffffffe
	c.SignInputs(byHeight, coins[:1])
	byTime := c.pay(10_000, 1, coins[1])
	byTime.LockTime, byTime.Inputs[0].Sequence = c.tip.State.Time-1, 0xfffffffe
	c.SignInputs(byTime, coins[1:2])
	relative := c.pay(10_000, 1, coins[2])
	relative.Inputs[0].Sequence = c.tip.State.Height + 1 - coins[2].Coin.Height
	c.SignInputs(relative, coins[2:3])
	negative := c.pay(10_000, 1, coins[3]) // BIP 68 reads the version without its sign
	negative.Version, negative.Inputs[0].Sequence = -1, c.tip.State.Height+1-coins[3].Coin.Height
	c.SignInputs(negative, coins[3:4])
	child := c.pay(10_000, 1, output(relative, 0))
	plain := c.pay(10_000, 1, coins[4])
	add(t, p, immature, byHeight, byTime, relative, negative, child, plain)

	c.move(fork)
	c.mine()
	check(t, c, p)
	for name, tx := range map[string]*types.Transaction{"immature": immature, "lock height": byHeight, "lock time": byTime, "relative": relative, "negative version": negative, "child": child} {
		if p.Has(tx.ID()) {
			t.Errorf("%s: still in the pool", name)
		}
	}
	if !p.Has(plain.ID()) {
		t.Error("a transaction that depends on no height or time is gone")
	}
}

func nodeAt(c *testChain, height uint32) string {
	n := c.tip
	for n.State.Height > height {
		n = n.Parent
	}
	return n.Name
}

func TestABrokenWalkIsRepairedByTheNext(t *testing.T) {
	for _, fails := range []int{1, 2, 3} {
		c := newTestChain(t)
		coins := c.rewards(2)
		p := c.pool(DefaultConfig())
		parent := c.pay(10_000, 1, coins[0])
		child := c.pay(10_000, 1, output(parent, 0))
		other := c.pay(10_000, 1, coins[1])
		add(t, p, parent, child, other)
		fork := c.tip
		c.mine(parent)
		for range 2 * pathBlocks {
			c.mine()
		}
		c.pathFails = fails
		if _, _, _, err := p.Select(10_000, 100); !errors.Is(err, errDisk) {
			t.Fatalf("failure %d: error %v, want %v", fails, err, errDisk)
		}
		c.pathFails = 1
		if _, err := p.Add(c.pay(10_000, 1, output(child, 0))); !errors.Is(err, errDisk) {
			t.Fatalf("added to a pool that stands on no block: %v", err)
		}
		// Before the next try the block that confirmed the parent is gone.
		c.move(fork)
		c.mine()
		check(t, c, p)
		if !p.Has(other.ID()) || p.Has(child.ID()) != p.Has(parent.ID()) {
			t.Errorf("failure %d: in the pool: %v", fails, p.IDs())
		}
	}
}

func TestTheChainMayMoveWhileATransactionIsChecked(t *testing.T) {
	for name, tc := range map[string]struct {
		move func(c *testChain, coin consensus.UTXO, tx *types.Transaction)
		want error
	}{
		"empty block":        {func(c *testChain, _ consensus.UTXO, _ *types.Transaction) { c.mine() }, nil},
		"block confirms it":  {func(c *testChain, _ consensus.UTXO, tx *types.Transaction) { c.mine(tx) }, ReasonConfirmed},
		"block conflicts it": {func(c *testChain, u consensus.UTXO, _ *types.Transaction) { c.mine(c.pay(77, 1, u)) }, consensus.RuleTxMissing},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestChain(t)
			coin := c.rewards(1)[0]
			p := c.pool(DefaultConfig())
			tx := c.pay(10_000, 1, coin)
			// The block comes between reading the coins and inserting; somebody
			// else's call makes the pool notice it.
			cand := candidate{tx: tx, Acceptance: Acceptance{ID: tx.ID(), Bytes: len(tx.Bytes()), Fee: 10_000, SigOps: 1}}
			if err := p.prepare(&cand); err != nil {
				t.Fatal(err)
			}
			tc.move(c, coin, tx)
			if err := p.Sync(); err != nil {
				t.Fatal(err)
			}
			if done, err := p.commit(&cand); done || err != nil {
				t.Fatalf("committed on another tip: %v, %v", done, err)
			}
			if _, err := p.Add(tx); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			check(t, c, p)
		})
	}
}

func TestThePoolMayChangeWhileATransactionIsChecked(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(1)
	p := c.pool(DefaultConfig())
	parent := c.pay(10_000, 1, coins[0])
	add(t, p, parent)
	tx := c.pay(10_000, 1, output(parent, 0))
	prepare := func(tx *types.Transaction) candidate {
		cand := candidate{tx: tx, Acceptance: Acceptance{ID: tx.ID(), Bytes: len(tx.Bytes()), Fee: 10_000, SigOps: 1}}
		if err := p.prepare(&cand); err != nil {
			t.Fatal(err)
		}
		return cand
	}
	orphaned := prepare(tx)
	p.Remove(parent.ID())
	if done, err := p.commit(&orphaned); done || err != nil {
		t.Errorf("committed without its parent: %v, %v", done, err)
	}
	add(t, p, parent)
	again, rival := prepare(tx), prepare(tx)
	if done, err := p.commit(&again); !done || err != nil {
		t.Errorf("commit: %v, %v", done, err)
	}
	if done, err := p.commit(&rival); !done || !errors.Is(err, ReasonKnown) {
		t.Errorf("committed twice: %v, %v", done, err)
	}
	check(t, c, p)
}

func TestTheChainMayMoveWhileThePoolFollows(t *testing.T) {
	c := newTestChain(t)
	coins := c.rewards(2)
	p := c.pool(DefaultConfig())
	a, b := c.pay(10_000, 1, coins[0]), c.pay(10_000, 1, coins[1])
	add(t, p, a, b)
	fork := c.tip
	c.mine(a)
	c.onView = func() { // between the walk and the look at the coins
		c.move(fork)
		c.mine(b)
		c.mine()
	}
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := p.IDs(); !slices.Equal(got, []types.Hash{a.ID()}) {
		t.Errorf("in the pool: %v, want %s", got, a.ID())
	}
	check(t, c, p)
}
