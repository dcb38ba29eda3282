package chain

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// reorganise makes e, the entry of the new block b, the tip. The way there,
// back to the fork and up the new branch, is gone in memory and committed whole.
func (m *Manager) reorganise(e *Entry, b *types.Block) (Result, error) {
	fork, branch, err := m.branch(e)
	if err != nil {
		return 0, err
	}
	w := walk{m: m, coins: overlay{store: m.store, coins: make(map[types.OutPoint]*consensus.Coin)}}
	w.batch = Batch{
		Entries: []Entry{*e},
		Blocks:  []*types.Block{b},
		Spent:   make(map[types.Hash][]consensus.UTXO),
		Best:    make(map[uint32]types.Hash),
		Tip:     e.State.ID,
	}
	old := m.tip.State
	if err := w.revertTo(fork.State.ID); err != nil {
		return 0, err
	}
	parent := &fork
	for i := range branch {
		next := &branch[i]
		block := b
		if next.State.ID != e.State.ID {
			if block, err = m.stored(next); err != nil {
				return 0, err
			}
		}
		if err := w.connect(parent, next, block); err != nil {
			return 0, m.refuse(e, next, err)
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
	if !sameState(state, e.State) {
		return fmt.Errorf("index entry of block %s at height %d is wrong: check the chain with \"qcity chain verify\"", e.State.ID, e.State.Height)
	}
	w.coins.apply(&diff)
	w.batch.Best[state.Height] = state.ID
	if !e.HasUndo {
		w.batch.Spent[state.ID] = diff.Spent
	}
	return nil
}

// maxDetail bounds what is remembered of an error; some quote whole scripts.
const maxDetail = 300

// refuse ends a reorganisation to e that failed at bad, e or an ancestor of
// it. If bad is proven invalid, it and all that builds on it are marked.
//
// The best chain stays, and no other candidate has to be tried: all others were
// weighed against the best chain when they arrived, and it has only become
// better since.
func (m *Manager) refuse(e, bad *Entry, cause error) error {
	rule, ok := consensus.RuleOf(cause)
	switch {
	case !ok:
		return fmt.Errorf("connecting block %s: %w", bad.State.ID, cause)
	case !consensus.BlamesBlock(cause) && bad.State.ID == e.State.ID:
		return cause
	case !consensus.BlamesBlock(cause):
		// The cause is not wrapped: nobody may blame the new block for it.
		return fmt.Errorf("stored block %s (%s) is damaged: %v; check the chain with \"qcity chain verify\"",
			bad.State.ID, m.store.Where(bad.State.ID), cause)
	}
	detail := strings.TrimPrefix(cause.Error(), string(rule)+": ")
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") + "…"
	}
	list, err := m.descendants(bad)
	if err != nil {
		return errors.Join(err, fmt.Errorf("marking block %s invalid (%v)", bad.State.ID, cause))
	}
	list = append(list, *bad)
	if bad.State.ID != e.State.ID {
		list = append(list, *e)
	}
	for i := range list {
		list[i].Invalid, list[i].Detail, list[i].InvalidBlock = rule, detail, bad.State.ID
	}
	m.log.Warn("block is invalid", "id", bad.State.ID, "height", bad.State.Height, "rule", rule, "detail", detail, "descendants", len(list)-1)
	if err := m.commit(Batch{Entries: list}); err != nil {
		return fmt.Errorf("marking block %s invalid (%v): %w", bad.State.ID, cause, err)
	}
	if bad.State.ID == e.State.ID {
		return cause
	}
	return ancestorError(&list[0])
}

// descendants returns the stored blocks that build on e, which is on no best chain.
func (m *Manager) descendants(e *Entry) ([]Entry, error) {
	leaves, err := m.store.Leaves()
	if err != nil {
		return nil, err
	}
	var list []Entry
	seen := make(map[types.Hash]bool)
	for _, id := range leaves {
		if id == m.tip.State.ID {
			continue
		}
		at, err := m.entry(id)
		if err != nil {
			return nil, err
		}
		var above []Entry
		for at.State.Height > e.State.Height && !seen[at.State.ID] {
			above = append(above, at)
			if at, err = m.parentOf(&at); err != nil {
				return nil, err
			}
		}
		if at.State.ID != e.State.ID && !seen[at.State.ID] {
			continue
		}
		for i := range above {
			seen[above[i].State.ID] = true
		}
		list = append(list, above...)
	}
	return list, nil
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
