package chain

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Result is what AddBlock did with a valid block.
type Result int

// The results; 0 goes with an error.
const (
	Connected Result = iota + 1 // block is on the best chain now (tip, or a reorganisation to it)
	SideChain                   // stored, on a chain that is not the best
	Known                       // was stored before
	Held                        // good so far, but its time is ahead of the clock: kept in memory, added by itself when due
)

func (r Result) String() string {
	switch r {
	case Connected:
		return "connected"
	case SideChain:
		return "side-chain"
	case Known:
		return "known"
	case Held:
		return "held"
	}
	return fmt.Sprintf("result(%d)", int(r))
}

var (
	// ErrUnknownParent means that the block before this one is not stored (one
	// that is only held is not stored either).
	ErrUnknownParent = errors.New("parent block is not known")
	// ErrInvalidAncestor means that the block builds on one that breaks a rule.
	// The error also unwraps to that *consensus.RuleError.
	ErrInvalidAncestor = errors.New("block builds on an invalid block")
	// ErrUnknownBlock means that a block asked for was never on the best chain.
	ErrUnknownBlock = errors.New("block was never on the best chain")
)

// Manager is the chain of one node. Its methods may be called from many
// goroutines; blocks are added one at a time.
type Manager struct {
	net   *consensus.Network
	store Store
	now   func() time.Time
	log   *slog.Logger
	rules []consensus.Option
	wake  chan struct{} // tells Run that a block was held; never blocks

	mu      sync.RWMutex
	tip     Entry
	stale   error // a Commit failed and the store could not be read since
	held    map[types.Hash]*types.Block
	stuck   bool // storing a held block failed, and that was said
	changed chan struct{}
}

// New resumes the chain that store holds, or starts it with the genesis block
// of net. now is the wall clock; rules go to the validator.
func New(net *consensus.Network, store Store, now func() time.Time, log *slog.Logger, rules ...consensus.Option) (*Manager, error) {
	m := &Manager{
		net: net, store: store, now: now, log: log, rules: rules,
		wake:    make(chan struct{}, 1),
		held:    make(map[types.Hash]*types.Block),
		changed: make(chan struct{}),
	}
	_, started, err := store.Tip()
	if err == nil && !started {
		err = store.Commit(genesisBatch(net))
	}
	if err == nil {
		err = m.load()
	}
	if err == nil {
		err = m.checkGenesis()
	}
	if err != nil {
		return nil, fmt.Errorf("opening the chain: %w", err)
	}
	return m, nil
}

func genesisBatch(net *consensus.Network) Batch {
	genesis := net.Genesis()
	return Batch{
		Entries: []Entry{{Header: genesis.SignedHeader, State: net.GenesisState()}},
		Blocks:  []*types.Block{genesis},
		Spent:   map[types.Hash][]consensus.UTXO{net.ID: nil},
		Best:    map[uint32]types.Hash{0: net.ID},
		Tip:     net.ID,
	}
}

func (m *Manager) checkGenesis() error {
	id, _, err := m.store.BestID(0)
	if err == nil && id != m.net.ID {
		err = fmt.Errorf("stored chain starts with block %s, network %q with %s: use the data directory of this network", id, m.net.Name, m.net.ID)
	}
	return err
}

// load reads the tip from the store.
func (m *Manager) load() error {
	id, ok, err := m.store.Tip()
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("store has no tip")
	}
	e, err := m.entry(id)
	if err != nil {
		return err
	}
	m.stale = nil
	if e.State.ID != m.tip.State.ID {
		m.tip = e
		close(m.changed)
		m.changed = make(chan struct{})
	}
	return nil
}

// commit commits b and follows the tip to wherever the store has it then: a
// failed commit may be there all the same.
func (m *Manager) commit(b Batch) error {
	err := m.store.Commit(b)
	if lerr := m.load(); lerr != nil {
		m.stale = errors.Join(err, lerr)
		return m.stale
	}
	return err
}

// fresh reports whether the tip in memory is the stored one.
func (m *Manager) fresh() error {
	if m.stale != nil {
		return fmt.Errorf("state of the store is not known since a write failed: %w", m.stale)
	}
	return nil
}

// entry returns an entry that must be there.
func (m *Manager) entry(id types.Hash) (Entry, error) {
	e, ok, err := m.store.Entry(id)
	if err == nil && !ok {
		err = fmt.Errorf("stored chain lacks block %s: check it with \"qcity chain verify\"", id)
	}
	return e, err
}

func (m *Manager) parentOf(e *Entry) (Entry, error) { return m.entry(e.Header.PrevBlock) }

// AddBlock checks a block and puts it where it belongs. The caller must not
// change b afterwards. Whatever the error, the chain is as good as before. It is
// a *consensus.RuleError when the block is at fault, ErrUnknownParent,
// ErrInvalidAncestor, or a failure of the store, which says nothing about the
// block: it may be added again.
func (m *Manager) AddBlock(b *types.Block) (Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.add(b)
}

func (m *Manager) add(b *types.Block) (Result, error) {
	if m.stale != nil {
		if err := m.load(); err != nil {
			return 0, err
		}
	}
	id := b.Header.ID()
	if known, ok, err := m.store.Entry(id); err != nil {
		return 0, err
	} else if ok {
		return Known, invalidity(&known)
	}
	parent, ok, err := m.store.Entry(b.PrevBlock)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("block %s: %w: %s", id, ErrUnknownParent, b.PrevBlock)
	}
	// A header that fails is not remembered: VchBlockSig is not part of the id, so
	// that anybody could have spoiled it on the way.
	if err := consensus.ValidateHeader(&parent.State, &b.SignedHeader); err != nil {
		return 0, err
	}
	if parent.Invalid != "" {
		return 0, m.refuseChild(&parent, b)
	}
	if err := m.net.CheckBlock(b); err != nil {
		return 0, m.refuseNew(&parent, b, err)
	}
	if err := m.net.CheckFuture(&b.Header, m.now().Unix()); err != nil {
		return m.hold(id, b, err)
	}
	return m.accept(&parent, b)
}

// accept stores a checked block and moves to it if it is better.
func (m *Manager) accept(parent *Entry, b *types.Block) (Result, error) {
	e := newEntry(parent, b)
	better, err := m.better(&e)
	if err != nil {
		return 0, err
	}
	if better {
		return m.reorganise(&e, b)
	}
	if err := m.commit(Batch{Entries: []Entry{e}, Blocks: []*types.Block{b}}); err != nil {
		return 0, fmt.Errorf("storing block %s: %w", e.State.ID, err)
	}
	return SideChain, nil
}

func newEntry(parent *Entry, b *types.Block) Entry {
	return Entry{Header: b.SignedHeader, State: parent.State.Child(&b.SignedHeader)}
}

// refuseChild remembers the header of a block on an invalid one, so that what
// builds on it is recognised as well. Every such header has cost its full work.
func (m *Manager) refuseChild(parent *Entry, b *types.Block) error {
	e := newEntry(parent, b)
	e.Invalid, e.Detail, e.InvalidBlock = parent.Invalid, parent.Detail, parent.InvalidBlock
	if err := m.commit(Batch{Entries: []Entry{e}}); err != nil {
		return fmt.Errorf("marking block %s invalid: %w", e.State.ID, err)
	}
	return ancestorError(&e)
}

// refuseNew remembers a block that can never be valid.
func (m *Manager) refuseNew(parent *Entry, b *types.Block, cause error) error {
	if !consensus.BlamesBlock(cause) {
		return cause
	}
	e := newEntry(parent, b)
	return m.refuse(&e, &e, cause)
}

// invalidity returns the remembered error of an entry, nil if it has none.
func invalidity(e *Entry) error {
	switch {
	case e.Invalid == "":
		return nil
	case e.InvalidBlock == e.State.ID:
		return ruleError(e)
	}
	return ancestorError(e)
}

// ancestorError is for blocks that build on e or on what e builds on.
func ancestorError(e *Entry) error {
	return fmt.Errorf("%w: %s: %w", ErrInvalidAncestor, e.InvalidBlock, ruleError(e))
}

func ruleError(e *Entry) *consensus.RuleError {
	return &consensus.RuleError{Rule: e.Invalid, Detail: e.Detail}
}
