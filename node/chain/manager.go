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
	Parked                      // stored, and better, but it came too early to be followed yet (L1)
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
	case Parked:
		return "parked"
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
	wake  chan struct{} // tells Run that a block was held or parked; never blocks
	// started stands in for the arrival of what was stored before.
	started time.Time

	mu        sync.RWMutex
	tip       Entry
	weight    consensus.Weight     // of the best chain
	certified consensus.Checkpoint // highest on the best chain
	stale     error                // a Commit failed and the store could not be read since
	changed   chan struct{}

	held  map[types.Hash]*types.Block
	stuck bool // storing a held block failed, and that was said

	arrivals map[types.Hash]time.Time
	deep     map[types.Hash]time.Time // see deepSince
	// deepCertified is the highest certified slot since which deep was filled.
	deepCertified consensus.Checkpoint
	parkedUntil   time.Time             // when a chain that is parked may next be followed
	leaves        map[types.Hash]uint32 // see openLeaves; nil: not known
	recent        *path                 // to the side block stored last, nil when the best chain has changed since

	// unsettled: something besides a new block may have made another chain better
	// or a slot final, and follow is still to do what that takes.
	unsettled bool
	failing   bool // follow failed, and that was said

	tally        *consensus.Tally
	proven       proven                                   // of the tally
	certificates map[consensus.Link]consensus.Certificate // stored, too
	unstored     map[consensus.Link]bool                  // what the tally has of these links is still to be stored
	rival        consensus.Checkpoint                     // final, but on another chain, and that was said
	spent        map[turn]error                           // refusals of votes that are one too many
	twins        map[uint32]map[types.PublicKey]signedSlot
	freeTwins    int
	accused      map[types.PublicKey]*consensus.SlotEvidence
	change       *consensus.SetChange       // to be carried; nil: none
	heard        map[types.PublicKey]uint32 // newest time of a slot
}

// New resumes the chain that store holds, or starts it with the genesis block
// of net. now is the wall clock; rules go to the validator.
func New(net *consensus.Network, store Store, now func() time.Time, log *slog.Logger, rules ...consensus.Option) (*Manager, error) {
	m := &Manager{
		net: net, store: store, now: now, log: log, rules: rules,
		wake:    make(chan struct{}, 1),
		started: now(), parkedUntil: noTime,
		held:         make(map[types.Hash]*types.Block),
		changed:      make(chan struct{}),
		arrivals:     make(map[types.Hash]time.Time),
		deep:         make(map[types.Hash]time.Time),
		certificates: make(map[consensus.Link]consensus.Certificate),
		unstored:     make(map[consensus.Link]bool),
		spent:        make(map[turn]error),
		twins:        make(map[uint32]map[types.PublicKey]signedSlot),
		freeTwins:    freeTwins,
		accused:      make(map[types.PublicKey]*consensus.SlotEvidence),
		heard:        make(map[types.PublicKey]uint32),
	}
	_, started, err := store.Tip()
	if err == nil && !started {
		err = store.Commit(genesisBatch(net))
	}
	if err == nil {
		err = m.load()
	}
	if err == nil {
		err = errors.Join(m.checkGenesis(), m.checkRelease())
	}
	if err == nil {
		err = m.loadVotes()
	}
	if err == nil {
		m.unsettled = true
		err = m.follow()
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

// checkRelease refuses a chain that the release does not vouch for (L7).
func (m *Manager) checkRelease() error {
	r := m.net.Release
	if r == nil {
		return nil
	}
	id, ok, err := m.store.BestID(r.Height)
	if err == nil && ok && id != r.Block {
		err = fmt.Errorf("stored chain has block %s at height %d, this release knows %s: if you trust the release, start with an empty data directory", id, r.Height, r.Block)
	}
	return err
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
	if err := m.refresh(); err != nil {
		return 0, err
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
	if err := m.belowFinal(&parent, id); err != nil {
		return 0, err
	}
	// A header that fails is not remembered: VchBlockSig is not part of the id, so
	// that anybody could have spoiled it on the way.
	if err := consensus.ValidateHeader(&parent.State, &b.SignedHeader); err != nil {
		return 0, err
	}
	p, err := m.path(&parent)
	if err != nil {
		return 0, err
	}
	if err := m.besideFinal(&p); err != nil {
		return 0, err
	}
	if err := m.twin(&parent.State, &b.SignedHeader); err != nil {
		return 0, err
	}
	if parent.Invalid != "" {
		return 0, m.refuseChild(&parent, b)
	}
	if err := parent.State.CheckBlock(b); err != nil {
		return 0, m.refuseNew(&parent, b, err)
	}
	if err := m.net.CheckFuture(&b.Header, m.now().Unix()); err != nil {
		return m.hold(id, b, err)
	}
	return m.accept(p, b)
}

// accept stores a checked block, the next one of a path, and moves to it if it
// is better, or to what the certificates it carries make better.
func (m *Manager) accept(p path, b *types.Block) (Result, error) {
	failing := m.unsettled // refresh has just tried
	if err := m.carried(b); err != nil {
		return 0, err
	}
	e := newEntry(p.end(), b)
	m.arrived(&e)
	parent := p.end().State
	p.up = append(p.up, e)
	result, err := m.place(&p, b)
	if _, rule := consensus.RuleOf(err); err == nil || rule {
		m.countTwin(&parent, &e)
	}
	if m.unsettled && !failing {
		if ferr := m.follow(); err == nil {
			err = ferr
		}
		if best, _, berr := m.store.BestID(e.State.Height); berr == nil && best == e.State.ID {
			result = Connected
		} else if result == Connected {
			result = SideChain
		}
	}
	if err != nil {
		return 0, err
	}
	return result, nil
}

// place stores a new block, the end of a path, and moves to it if that is better
// and may be now.
func (m *Manager) place(p *path, b *types.Block) (Result, error) {
	better, err := m.better(p)
	if err != nil {
		return 0, err
	}
	e, result := p.end(), SideChain
	if better {
		now := *p
		if err := m.park(&now); err != nil {
			return 0, err
		}
		if len(now.up) == len(p.up) {
			return m.reorganise(p, b)
		}
		result = Parked
		m.wakeRun()
	}
	if err := m.commit(Batch{Entries: []Entry{*e}, Blocks: []*types.Block{b}}); err != nil {
		return 0, fmt.Errorf("storing block %s: %w", e.State.ID, err)
	}
	if stored, err := m.entry(e.State.ID); err == nil {
		*e, m.recent = stored, p
	}
	return result, nil
}

func newEntry(parent *Entry, b *types.Block) Entry {
	return Entry{Header: b.SignedHeader, State: parent.State.Child(&b.SignedHeader, firstTx(b))}
}

// firstTx is nil in a block that is no block: the rules refuse it.
func firstTx(b *types.Block) *types.Transaction {
	if len(b.Transactions) == 0 {
		return new(types.Transaction)
	}
	return b.Transactions[0]
}
