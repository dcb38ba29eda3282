package mempool

import (
	"fmt"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Acceptance is what the pool found out about a transaction it would take.
type Acceptance struct {
	ID     types.Hash
	Bytes  int
	Fee    int64 // base units
	SigOps int
}

// candidate is a transaction on its way into the pool.
type candidate struct {
	Acceptance
	tx *types.Transaction
	// tip and coins are what it was checked against: every output it spends
	// that exists, on the chain or in the pool.
	tip     consensus.State
	coins   consensus.Coins
	parents []*entry
}

// Add takes a transaction into the pool and returns its id, also together with
// an error. Errors are a *consensus.RuleError when the transaction is invalid
// as of now, a *PolicyError when it is valid but not wanted, and an I/O
// failure otherwise.
func (p *Pool) Add(tx *types.Transaction) (types.Hash, error) {
	c, err := p.accept(tx, true)
	return c.ID, err
}

// TestAccept tells what Add would do, and does not do it. The one thing it
// cannot foresee is ReasonFull for a transaction that pays more than the
// present minimum.
func (p *Pool) TestAccept(tx *types.Transaction) (Acceptance, error) {
	c, err := p.accept(tx, false)
	return c.Acceptance, err
}

func (p *Pool) accept(tx *types.Transaction, keep bool) (candidate, error) {
	raw := tx.Bytes()
	c := candidate{tx: tx, Acceptance: Acceptance{ID: types.DoubleHash(raw), Bytes: len(raw)}}
	if c.Bytes > p.cfg.MaxTxBytes {
		return c, refused(ReasonBytes, "%d bytes, limit %d", c.Bytes, p.cfg.MaxTxBytes)
	}
	for {
		if err := p.prepare(&c); err != nil {
			return c, err
		}
		// Signatures take most of the time, so the pool is not locked meanwhile:
		// a costly transaction cannot keep a template waiting.
		spend, err := consensus.ValidateTransaction(&c.tip, tx, c.coins)
		if err != nil {
			return c, err
		}
		c.Fee, c.SigOps = spend.Fee, spend.SigOps
		if !keep {
			return c, nil
		}
		if done, err := p.commit(&c); done {
			return c, err
		}
	}
}

// prepare looks up what c spends and applies every policy that needs no
// signature to be checked.
func (p *Pool) prepare(c *candidate) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries[c.ID] != nil {
		return refused(ReasonKnown, "transaction %s", c.ID)
	}
	if err := p.tip.Network.CheckTransaction(c.tx); err != nil {
		return err
	}
	// Its own outputs are asked for too: they exist when it is confirmed.
	outpoints := make([]types.OutPoint, 0, len(c.tx.Inputs)+len(c.tx.Outputs))
	for i := range c.tx.Inputs {
		outpoints = append(outpoints, c.tx.Inputs[i].Previous)
	}
	for i := range c.tx.Outputs {
		outpoints = append(outpoints, types.OutPoint{TxID: c.ID, Index: uint32(i)})
	}
	coins, err := p.view(outpoints)
	if err != nil {
		return fmt.Errorf("mempool: looking up what transaction %s spends: %w", c.ID, err)
	}
	for i := range c.tx.Outputs {
		if _, exists := coins[types.OutPoint{TxID: c.ID, Index: uint32(i)}]; exists {
			return refused(ReasonConfirmed, "transaction %s", c.ID)
		}
	}
	c.tip, c.coins = p.tip, coins
	if err := p.link(c); err != nil {
		return err
	}
	if fee, known := inputFee(c); known {
		return p.checkFee(c, fee)
	}
	return nil // an input is missing, as ValidateTransaction will say
}

// commit inserts a validated candidate. done is false when the tip moved while
// its signatures were checked: then it has to be looked at again.
func (p *Pool) commit(c *candidate) (done bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tip.ID != c.tip.ID {
		return false, nil
	}
	if p.entries[c.ID] != nil {
		return true, refused(ReasonKnown, "transaction %s", c.ID)
	}
	// The chain is as it was, but the pool may have changed. A parent that left
	// leaves c.parents one short of what the coins were taken from.
	before := len(c.parents)
	if err := p.link(c); err != nil {
		return true, err
	}
	if len(c.parents) != before {
		return false, nil
	}
	if err := p.checkFee(c, c.Fee); err != nil {
		return true, err
	}
	p.insert(p.newEntry(c))
	p.trim()
	p.notify()
	if p.entries[c.ID] == nil {
		return true, refused(ReasonFull, "%d base units for %d bytes is less than what is in the pool pays: raise the fee", c.Fee, c.Bytes)
	}
	return true, nil
}

// view returns those of the outpoints that exist on the chain, as of p.tip,
// which follows the chain to its tip.
func (p *Pool) view(outpoints []types.OutPoint) (consensus.Coins, error) {
	for {
		state, coins, err := p.chain.View(outpoints)
		if err != nil {
			return nil, err
		}
		if state.ID == p.tip.ID {
			return coins, nil
		}
		if err := p.sync(); err != nil {
			return nil, err
		}
	}
}

// link finds the candidate's parents in the pool, adds the outputs it spends of
// them to its coins, and refuses conflicts and chains that are too long.
func (p *Pool) link(c *candidate) error {
	c.parents = nil
	for i := range c.tx.Inputs {
		prev := c.tx.Inputs[i].Previous
		if other := p.spenders[prev]; other != nil {
			return refused(ReasonConflict, "output %s is spent by transaction %s, which was here first", prev, other.id)
		}
		parent := p.entries[prev.TxID]
		if parent == nil {
			continue
		}
		if coin, ok := poolCoin(&c.tip, parent.tx, prev.Index); ok {
			c.coins[prev] = coin
		}
		c.parents = appendNew(c.parents, parent)
	}
	ancestors := ancestorsOf(c.parents...)
	if n := len(ancestors) + 1; n > MaxAncestors {
		return refused(ReasonAncestors, "%d unconfirmed transactions in a row, limit %d: wait for a block", n, MaxAncestors)
	}
	for _, a := range ancestors {
		if a.descendants.count+1 > MaxDescendants {
			return refused(ReasonDescendants, "%d unconfirmed transactions depend on %s, limit %d: wait for a block", a.descendants.count, a.id, MaxDescendants)
		}
	}
	return nil
}

// poolCoin returns an output of an unconfirmed transaction as the coin it is
// for another one in the same block.
func poolCoin(tip *consensus.State, tx *types.Transaction, index uint32) (consensus.Coin, bool) {
	if int64(index) >= int64(len(tx.Outputs)) {
		return consensus.Coin{}, false
	}
	out := tx.Outputs[index]
	if t, err := types.ParseTemplate(out.PkScript); err != nil || t.Kind == types.NullData {
		return consensus.Coin{}, false
	}
	return consensus.Coin{Output: out, Height: tip.ChildHeight(), ParentTime: tip.Time}, true
}

// inputFee returns the fee before signatures are checked, and false when an
// input is missing or amounts make no sense, which validation will explain.
func inputFee(c *candidate) (fee int64, known bool) {
	for i := range c.tx.Inputs {
		coin, ok := c.coins[c.tx.Inputs[i].Previous]
		if !ok {
			return 0, false
		}
		if fee += coin.Output.Value; !types.ValidAmount(fee) {
			return 0, false
		}
	}
	for _, out := range c.tx.Outputs {
		fee -= out.Value
	}
	return fee, fee >= 0
}

func (p *Pool) checkFee(c *candidate, fee int64) error {
	least := p.minFeeRate()
	if compareRates(sum{fee: fee, bytes: c.Bytes}, sum{fee: least, bytes: 1000}) >= 0 {
		return nil
	}
	if least > p.cfg.MinFeeRate {
		return refused(ReasonFull, "%d base units for %d bytes: the pool is full and takes %d for 1,000 bytes", fee, c.Bytes, least)
	}
	return refused(ReasonFee, "%d base units for %d bytes: the least is %d for 1,000 bytes", fee, c.Bytes, least)
}

func (p *Pool) newEntry(c *candidate) *entry {
	return &entry{
		tx: c.tx, id: c.ID, bytes: c.Bytes,
		spend:      consensus.Spend{Fee: c.Fee, SigOps: c.SigOps},
		added:      p.now(),
		height:     p.tip.Height,
		contextual: isContextual(c.tx, c.coins),
		parents:    c.parents,
	}
}

// isContextual reports whether a valid transaction could be too early in
// another chain that has the same coins: the rules that compare with the height
// or time of the parent block are lock times (absolute, and relative unless
// switched off as in BIP 68) and coinbase maturity.
func isContextual(tx *types.Transaction, coins consensus.Coins) bool {
	const relativeOff = 1 << 31
	for i := range tx.Inputs {
		in := &tx.Inputs[i]
		if coins[in.Previous].Coinbase || (uint32(tx.Version) >= 2 && in.Sequence&relativeOff == 0) {
			return true
		}
	}
	return tx.LockTime != 0
}

func appendNew(list []*entry, e *entry) []*entry {
	for _, have := range list {
		if have == e {
			return list
		}
	}
	return append(list, e)
}
