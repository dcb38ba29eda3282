package chain_test

import (
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

var errFault = errors.New("injected fault")

// memStore is a store in memory that fails on demand.
type memStore struct {
	net *consensus.Network
	// fail is asked before each call; after means that a Commit does its work
	// before it fails.
	fail func(call string) (fails, after bool)

	mu      sync.Mutex
	tip     types.Hash
	best    map[uint32]types.Hash
	entries map[types.Hash]chain.Entry
	blocks  map[types.Hash][]byte
	spent   map[types.Hash][]consensus.UTXO
	coins   consensus.Coins
}

var _ chain.Store = (*memStore)(nil)

func newMemStore(net *consensus.Network) *memStore {
	return &memStore{
		net: net, best: map[uint32]types.Hash{}, entries: map[types.Hash]chain.Entry{},
		blocks: map[types.Hash][]byte{}, spent: map[types.Hash][]consensus.UTXO{}, coins: consensus.Coins{},
	}
}

func (s *memStore) enter(call string) error {
	s.mu.Lock()
	if s.fail != nil {
		if fails, _ := s.fail(call); fails {
			return errFault
		}
	}
	return nil
}

func (s *memStore) Tip() (types.Hash, bool, error) {
	defer s.mu.Unlock()
	if err := s.enter("Tip"); err != nil {
		return types.Hash{}, false, err
	}
	return s.tip, !s.tip.IsZero(), nil
}

func (s *memStore) BestID(height uint32) (types.Hash, bool, error) {
	defer s.mu.Unlock()
	if err := s.enter("BestID"); err != nil {
		return types.Hash{}, false, err
	}
	id, ok := s.best[height]
	return id, ok, nil
}

func (s *memStore) Entry(id types.Hash) (chain.Entry, bool, error) {
	defer s.mu.Unlock()
	if err := s.enter("Entry"); err != nil {
		return chain.Entry{}, false, err
	}
	e, ok := s.entries[id]
	return e, ok, nil
}

func (s *memStore) Block(id types.Hash) (*types.Block, bool, error) {
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

func (s *memStore) Spent(id types.Hash) ([]consensus.UTXO, bool, error) {
	defer s.mu.Unlock()
	if err := s.enter("Spent"); err != nil {
		return nil, false, err
	}
	spent, ok := s.spent[id]
	return slices.Clone(spent), ok, nil
}

func (s *memStore) Coins(outpoints []types.OutPoint) (consensus.Coins, error) {
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

func (s *memStore) Leaves() ([]types.Hash, error) {
	defer s.mu.Unlock()
	if err := s.enter("Leaves"); err != nil {
		return nil, err
	}
	leaves := maps.Clone(s.entries)
	for _, e := range s.entries {
		delete(leaves, e.Header.PrevBlock)
	}
	return slices.Collect(maps.Keys(leaves)), nil
}

func (s *memStore) Entries() iter.Seq2[chain.Entry, error] {
	return func(yield func(chain.Entry, error) bool) {
		for _, e := range maps.Clone(s.entries) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (s *memStore) UTXOs() iter.Seq2[consensus.UTXO, error] {
	return func(yield func(consensus.UTXO, error) bool) {
		for o, c := range maps.Clone(s.coins) {
			if !yield(consensus.UTXO{OutPoint: o, Coin: c}, nil) {
				return
			}
		}
	}
}

func (s *memStore) Where(types.Hash) string { return "memory" }
func (s *memStore) Check() error            { return nil }

func (s *memStore) Commit(b chain.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fails, after := false, false
	if s.fail != nil {
		fails, after = s.fail("Commit")
	}
	if !fails || after {
		s.apply(b)
	}
	if fails {
		return errFault
	}
	return nil
}

func (s *memStore) apply(b chain.Batch) {
	for _, e := range b.Entries {
		old, ok := s.entries[e.State.ID]
		if e.Sequence = old.Sequence; !ok {
			e.Sequence = uint64(len(s.entries) + 1)
		}
		s.entries[e.State.ID] = e
	}
	for _, block := range b.Blocks {
		s.blocks[block.Header.ID()] = block.Bytes()
	}
	for id, spent := range b.Spent {
		s.spent[id] = slices.Clone(spent)
	}
	for id, e := range s.entries {
		_, e.HasBlock = s.blocks[id]
		_, e.HasUndo = s.spent[id]
		s.entries[id] = e
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
}
