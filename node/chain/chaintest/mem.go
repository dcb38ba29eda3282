// Package chaintest has a store for tests that keeps a chain in memory and
// fails on demand.
package chaintest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// ErrFault is what a Store that was told to fail returns.
var ErrFault = errors.New("injected fault")

// Store is a store in memory that fails on demand.
type Store struct {
	// Fail, unless nil, is asked before each call; after means that a Commit does
	// its work before it fails.
	Fail func(call string) (fails, after bool)

	mu      sync.Mutex
	tip     types.Hash
	best    map[uint32]types.Hash
	entries map[types.Hash]chain.Entry
	blocks  map[types.Hash][]byte
	spent   map[types.Hash][]consensus.UTXO
	coins   consensus.Coins

	certificates map[consensus.Link]consensus.Certificate
	final        consensus.Checkpoint
	leaves       map[types.Hash]bool
}

var _ chain.Store = (*Store)(nil)

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		best: map[uint32]types.Hash{}, entries: map[types.Hash]chain.Entry{},
		blocks: map[types.Hash][]byte{}, spent: map[types.Hash][]consensus.UTXO{}, coins: consensus.Coins{},
		certificates: map[consensus.Link]consensus.Certificate{}, leaves: map[types.Hash]bool{},
	}
}

// SetFail sets Fail while others use the store.
func (s *Store) SetFail(fail func(call string) (fails, after bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Fail = fail
}

func (s *Store) enter(call string) error {
	s.mu.Lock()
	if s.Fail != nil {
		if fails, _ := s.Fail(call); fails {
			return ErrFault
		}
	}
	return nil
}

// Tip implements chain.Store.
func (s *Store) Tip() (types.Hash, bool, error) {
	defer s.mu.Unlock()
	if err := s.enter("Tip"); err != nil {
		return types.Hash{}, false, err
	}
	return s.tip, !s.tip.IsZero(), nil
}

// BestID implements chain.Store.
func (s *Store) BestID(height uint32) (types.Hash, bool, error) {
	defer s.mu.Unlock()
	if err := s.enter("BestID"); err != nil {
		return types.Hash{}, false, err
	}
	id, ok := s.best[height]
	return id, ok, nil
}

// Entry implements chain.Store.
func (s *Store) Entry(id types.Hash) (chain.Entry, bool, error) {
	defer s.mu.Unlock()
	if err := s.enter("Entry"); err != nil {
		return chain.Entry{}, false, err
	}
	e, ok := s.entries[id]
	return e, ok, nil
}

// Block implements chain.Store.
func (s *Store) Block(id types.Hash) (*types.Block, bool, error) {
	defer s.mu.Unlock()
	if err := s.enter("Block"); err != nil {
		return nil, false, err
	}
	raw, ok := s.blocks[id]
	if !ok {
		return nil, false, nil
	}
	b, err := types.DecodeBlock(raw)
	return b, true, err
}

// Spent implements chain.Store.
func (s *Store) Spent(id types.Hash) ([]consensus.UTXO, bool, error) {
	defer s.mu.Unlock()
	if err := s.enter("Spent"); err != nil {
		return nil, false, err
	}
	spent, ok := s.spent[id]
	return slices.Clone(spent), ok, nil
}

// Coins implements chain.Store.
func (s *Store) Coins(outpoints []types.OutPoint) (consensus.Coins, error) {
	defer s.mu.Unlock()
	if err := s.enter("Coins"); err != nil {
		return nil, err
	}
	coins := consensus.Coins{}
	for _, o := range outpoints {
		if c, ok := s.coins[o]; ok {
			coins[o] = c
		}
	}
	return coins, nil
}

// Leaves implements chain.Store.
func (s *Store) Leaves() ([]types.Hash, error) {
	defer s.mu.Unlock()
	if err := s.enter("Leaves"); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(s.leaves)), nil
}

// Entries implements chain.Store.
func (s *Store) Entries() iter.Seq2[chain.Entry, error] {
	return func(yield func(chain.Entry, error) bool) {
		for _, e := range maps.Clone(s.entries) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// UTXOs implements chain.Store.
func (s *Store) UTXOs() iter.Seq2[consensus.UTXO, error] {
	return func(yield func(consensus.UTXO, error) bool) {
		for o, c := range maps.Clone(s.coins) {
			if !yield(consensus.UTXO{OutPoint: o, Coin: c}, nil) {
				return
			}
		}
	}
}

// Certificates implements chain.Store.
func (s *Store) Certificates() ([]consensus.Certificate, error) {
	defer s.mu.Unlock()
	if err := s.enter("Certificates"); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Values(s.certificates)), nil
}

// Final implements chain.Store.
func (s *Store) Final() (consensus.Checkpoint, error) {
	defer s.mu.Unlock()
	if err := s.enter("Final"); err != nil {
		return consensus.Checkpoint{}, err
	}
	return s.final, nil
}

// Where implements chain.Store.
func (s *Store) Where(types.Hash) string { return "memory" }

// Check implements chain.Store.
func (s *Store) Check() error { return nil }

// Commit implements chain.Store.
func (s *Store) Commit(b chain.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fails, after := false, false
	if s.Fail != nil {
		fails, after = s.Fail("Commit")
	}
	if !fails || after {
		s.apply(b)
	}
	if fails {
		return ErrFault
	}
	return nil
}

func (s *Store) apply(b chain.Batch) {
	for _, e := range b.Entries {
		old, ok := s.entries[e.State.ID]
		if e.Sequence = old.Sequence; !ok {
			e.Sequence = uint64(len(s.entries) + 1)
			delete(s.leaves, e.Header.PrevBlock)
			s.leaves[e.State.ID] = true
		}
		s.entries[e.State.ID] = e
	}
	for _, block := range b.Blocks {
		s.blocks[block.Header.ID()] = block.Bytes()
	}
	for id, spent := range b.Spent {
		s.spent[id] = slices.Clone(spent)
	}
	mark := func(id types.Hash) {
		e := s.entries[id]
		_, e.HasBlock = s.blocks[id]
		_, e.HasUndo = s.spent[id]
		s.entries[id] = e
	}
	for _, e := range b.Entries {
		mark(e.State.ID)
	}
	for _, block := range b.Blocks {
		mark(block.Header.ID())
	}
	for id := range b.Spent {
		mark(id)
	}
	for height, id := range b.Best {
		if s.best[height] = id; id.IsZero() {
			delete(s.best, height)
		}
	}
	if !b.Tip.IsZero() {
		s.tip = b.Tip
	}
	for o, c := range b.Coins {
		if c == nil {
			delete(s.coins, o)
		} else {
			s.coins[o] = *c
		}
	}
	for _, c := range b.Certificates {
		s.certificates[c.Link] = c
	}
	for _, l := range b.Forget {
		delete(s.certificates, l)
	}
	if b.Final != (consensus.Checkpoint{}) {
		s.final = b.Final
	}
}

// Damage replaces the body of a block by that of another one.
func (s *Store) Damage(id types.Hash, b *types.Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks[id] = b.Bytes()
}

// Dump returns everything the store holds in a form that can be compared.
func (s *Store) Dump() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := sha256.New()
	for _, id := range slices.SortedFunc(maps.Keys(s.entries), types.Hash.Compare) {
		e := s.entries[id]
		fmt.Fprintf(h, "%x %x %d %v %v %s %s %s %x\n", e.State.AppendTo(nil), e.Header.AppendTo(nil), e.Sequence, e.HasBlock, e.HasUndo, e.Invalid, e.Detail, e.InvalidBlock, s.blocks[id])
		fmt.Fprintln(h, s.spent[id], s.leaves[id])
	}
	for _, height := range slices.Sorted(maps.Keys(s.best)) {
		fmt.Fprintln(h, height, s.best[height])
	}
	fmt.Fprintln(h, s.coins, s.tip, s.final) // fmt sorts maps
	for _, c := range slices.SortedFunc(maps.Values(s.certificates), func(a, b consensus.Certificate) int {
		return bytes.Compare(a.AppendTo(nil), b.AppendTo(nil))
	}) {
		fmt.Fprintf(h, "%x\n", c.AppendTo(nil))
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
