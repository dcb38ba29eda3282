package chain

import (
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// reorganise makes the end of a path the tip. Unless it is stored already, b is
// its block. The way there, back to the fork and up the new branch, is gone in
// memory and committed whole.
func (m *Manager) reorganise(p *path, b *types.Block) (Result, error) {
	fork, branch, e := p.fork, p.up, p.end()
	w := walk{m: m, coins: overlay{store: m.store, coins: make(map[types.OutPoint]*consensus.Coin)}}
	w.batch = Batch{
		Spent: make(map[types.Hash][]consensus.UTXO),
		Best:  make(map[uint32]types.Hash),
		Tip:   e.State.ID,
	}
	if b != nil {
		w.batch.Entries, w.batch.Blocks = []Entry{*e}, []*types.Block{b}
	}
	old := m.tip.State
	if err := w.revertTo(fork.State.ID); err != nil {
		return 0, err
	}
	parent := &fork
	for i := range branch {
		next := &branch[i]
		block := b
		if b == nil || next.State.ID != e.State.ID {
			var err error
			if block, err = m.stored(next); err != nil {
				return 0, err
			}
		}
		if err := w.connect(parent, next, block); err != nil {
			return 0, m.refuse(e, next, b != nil, err)
		}
		parent = next
	}
	w.batch.Coins = w.coins.coins
	if err := m.commit(w.batch); err != nil {
		return 0, fmt.Errorf("storing block %s: %w", e.State.ID, err)
	}
	if old.ID != fork.State.ID {
		m.log.Info("reorganised", "fork", fork.State.Height, "reverted", old.Height-fork.State.Height,
			"applied", len(branch), "from", old.ID, "to", e.State.ID)
	}
	return Connected, nil
}

// branch returns the last block that e's chain shares with the best one, and
// the entries from there to e.
func (m *Manager) branch(e *Entry) (fork Entry, up []Entry, err error) {
	for at := *e; ; {
		if id, ok, err := m.store.BestID(at.State.Height); err != nil {
			return Entry{}, nil, err
		} else if ok && id == at.State.ID {
			slices.Reverse(up)
			return at, up, nil
		}
		up = append(up, at)
		if at, err = m.parentOf(&at); err != nil {
			return Entry{}, nil, err
		}
	}
}

// stored returns the body of an entry, which must be there.
func (m *Manager) stored(e *Entry) (*types.Block, error) {
	b, ok, err := m.store.Block(e.State.ID)
	if err == nil && !ok {
		err = fmt.Errorf("body of block %s at height %d is missing: check the chain with \"qcity chain verify\"", e.State.ID, e.State.Height)
	}
	return b, err
}

// walk is a reorganisation in progress.
type walk struct {
	m     *Manager
	coins overlay
	batch Batch
}

func (w *walk) revertTo(fork types.Hash) error {
	for at := w.m.tip; at.State.ID != fork; {
		parent, err := w.m.parentOf(&at)
		if err != nil {
			return err
		}
		u, err := w.m.update(&parent, &at)
		if err != nil {
			return err
		}
		w.coins.revert(&u.Diff)
		w.batch.Best[at.State.Height] = types.Hash{}
		at = parent
	}
	return nil
}

func (w *walk) connect(parent, e *Entry, b *types.Block) error {
	coins, err := w.coins.spentBy(b)
	if err != nil {
		return err
	}
	state, diff, err := consensus.Connect(&parent.State, b, coins, verifyAhead(b, coins, w.m.rules)...)
	if err != nil {
		return err
	}
	if !state.Equal(&e.State) {
		return fmt.Errorf("index entry of block %s at height %d is wrong: check the chain with \"qcity chain verify\"", e.State.ID, e.State.Height)
	}
	w.coins.apply(&diff)
	w.batch.Best[state.Height] = state.ID
	if !e.HasUndo {
		w.batch.Spent[state.ID] = diff.Spent
	}
	return nil
}

// overlay is the set of unspent outputs with changes that are not stored.
type overlay struct {
	store Store
	coins map[types.OutPoint]*consensus.Coin // nil: spent
}

// spentBy returns the coins that b spends and that existed before it.
func (o *overlay) spentBy(b *types.Block) (consensus.Coins, error) {
	coins := make(consensus.Coins)
	var ask []types.OutPoint
	for _, outpoint := range Inputs(b) {
		switch c, changed := o.coins[outpoint]; {
		case !changed:
			ask = append(ask, outpoint)
		case c != nil:
			coins[outpoint] = *c
		}
	}
	stored, err := o.store.Coins(ask)
	if err != nil {
		return nil, err
	}
	for outpoint, c := range stored {
		coins[outpoint] = c
	}
	return coins, nil
}

// Inputs returns the outpoints that the transactions of a block spend, without
// that of its first transaction.
func Inputs(b *types.Block) []types.OutPoint {
	var list []types.OutPoint
	for _, tx := range b.Transactions[1:] {
		for i := range tx.Inputs {
			list = append(list, tx.Inputs[i].Previous)
		}
	}
	return list
}

func (o *overlay) apply(d *consensus.Diff) {
	o.remove(d.Spent)
	o.add(d.Created)
}

func (o *overlay) revert(d *consensus.Diff) {
	o.remove(d.Created)
	o.add(d.Spent)
}

func (o *overlay) remove(list []consensus.UTXO) {
	for i := range list {
		o.coins[list[i].OutPoint] = nil
	}
}

func (o *overlay) add(list []consensus.UTXO) {
	for i := range list {
		o.coins[list[i].OutPoint] = &list[i].Coin
	}
}
