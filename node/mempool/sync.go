package mempool

import (
	"fmt"
	"maps"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// pathBlocks is how many blocks of a change of chain are held at a time.
const pathBlocks = 16

// Sync brings the pool to the chain's tip: what was confirmed leaves, what
// contradicts it leaves with all that depends on it, and the transactions of
// reverted blocks come back when they are still valid. Every method that
// depends on the tip does this by itself; Sync is for those who want it done
// now. An error is an I/O failure, after which the next call tries again.
func (p *Pool) Sync() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sync()
}

// way is a change of chain that the pool is following.
type way struct {
	at       types.Hash           // block whose transactions are accounted for
	reverted bool                 // at least one block was, or an earlier walk broke off
	returned []*types.Transaction // of reverted blocks, in chain order
}

func (p *Pool) sync() error {
	w := way{at: p.tip.ID, reverted: p.torn}
	for {
		if err := p.follow(&w); err != nil {
			return fmt.Errorf("mempool: following the chain from block %s: %w", w.at, err)
		}
		if w.at == p.tip.ID && !w.reverted {
			return nil
		}
		state, coins, err := p.chain.View(p.rebuildOutpoints(&w))
		if err != nil {
			return fmt.Errorf("mempool: reading coins as of block %s: %w", w.at, err)
		}
		if state.ID != w.at {
			continue // the chain moved on meanwhile
		}
		p.tip = state
		if w.reverted {
			p.rebuild(w.returned, coins)
		}
		p.torn = false
		p.expire()
		p.notify()
		return nil
	}
}

// follow walks to the chain's tip, block by block.
func (p *Pool) follow(w *way) error {
	for {
		reverted, applied, err := p.chain.Path(w.at, pathBlocks)
		if err != nil {
			return err
		}
		if len(reverted)+len(applied) == 0 {
			return nil
		}
		// Until the walk ends, what was confirmed has left although p.tip is
		// where it was. Should it fail here, the next one rebuilds everything.
		p.torn = true
		for _, b := range reverted {
			w.reverted = true
			w.returned = append(slices.Clone(b.Transactions[1:]), w.returned...)
			w.at = b.PrevBlock
		}
		for _, b := range applied {
			p.confirm(w, b)
			w.at = b.Header.ID()
		}
	}
}

// confirm removes what a block contains and what it contradicts.
func (p *Pool) confirm(w *way, b *types.Block) {
	ids := make(map[types.Hash]bool, len(b.Transactions))
	for _, tx := range b.Transactions[1:] {
		id := tx.ID()
		ids[id] = true
		if e := p.entries[id]; e != nil {
			p.removeOne(e)
			continue
		}
		for i := range tx.Inputs {
			if e := p.spenders[tx.Inputs[i].Previous]; e != nil {
				gone := p.removeTree(e)
				p.log.Info("transaction contradicts a block", "tx", e.id, "block", b.Header.ID(), "count", len(gone))
			}
		}
	}
	w.returned = slices.DeleteFunc(w.returned, func(tx *types.Transaction) bool { return ids[tx.ID()] })
}

// rebuildOutpoints lists what every transaction spends that rebuild will insert.
func (p *Pool) rebuildOutpoints(w *way) []types.OutPoint {
	if !w.reverted {
		return nil
	}
	outpoints := slices.Collect(maps.Keys(p.spenders))
	for _, tx := range w.returned {
		for i := range tx.Inputs {
			outpoints = append(outpoints, tx.Inputs[i].Previous)
		}
	}
	return outpoints
}

// rebuild fills the pool anew after a reorganisation: first with what came back
// from reverted blocks, then with what it held. Nothing of the former can
// depend on the latter, so parents always come first.
func (p *Pool) rebuild(returned []*types.Transaction, coins consensus.Coins) {
	held := p.sorted()
	p.clear()
	for _, tx := range returned {
		p.reinsert(&entry{tx: tx, id: tx.ID(), bytes: len(tx.Bytes()), added: p.now(), height: p.tip.Height, contextual: true}, coins)
	}
	for _, e := range held {
		p.reinsert(e, coins)
	}
	p.trim()
}

// reinsert puts a transaction back when it is valid on the new chain. Fee and
// size are no reason to lose one that was in a block or in the pool. What
// VerifyInput checks cannot have changed, as a spent output is named by the
// hash of its transaction: only contextual entries are validated again.
func (p *Pool) reinsert(e *entry, coins consensus.Coins) {
	if p.entries[e.id] != nil {
		return
	}
	c := candidate{tx: e.tx, tip: p.tip, coins: make(consensus.Coins, len(e.tx.Inputs)), Acceptance: Acceptance{ID: e.id}}
	for i := range e.tx.Inputs {
		prev := e.tx.Inputs[i].Previous
		if coin, ok := coins[prev]; ok {
			c.coins[prev] = coin
		}
	}
	err := p.link(&c)
	if err == nil && (e.contextual || len(c.coins) < len(e.tx.Inputs)) {
		e.spend, err = consensus.ValidateTransaction(&p.tip, e.tx, c.coins)
		e.contextual = isContextual(e.tx, c.coins)
	}
	if err != nil {
		p.log.Info("transaction does not fit the new chain", "tx", e.id, "reason", err)
		return
	}
	e.parents, e.children = c.parents, nil
	p.insert(e)
}

func (p *Pool) clear() {
	clear(p.entries)
	clear(p.spenders)
	p.cheapest = nil
	p.bytes = 0
}

// sorted returns all entries in the order they were inserted.
func (p *Pool) sorted() []*entry {
	return slices.SortedFunc(maps.Values(p.entries), bySeq)
}
