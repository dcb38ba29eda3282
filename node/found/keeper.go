package found

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/types"
)

// Place is where a chain has a block.
type Place int

// The places.
const (
	Nowhere Place = iota // it is not stored
	Waiting              // it is stored, and the best chain is not as high yet
	Best                 // it is on the best chain
	Beaten               // another block has its height on the best chain
	Invalid              // it, or one it builds on, breaks a rule
)

// Stored reports whether the chain has the block on its disk.
func (p Place) Stored() bool { return p == Waiting || p == Best || p == Beaten }

// ErrNotNow marks an error of Offer that says nothing final about the block.
var ErrNotNow = errors.New("the chain cannot take this block now")

// Chain is where found blocks go.
type Chain interface {
	// Offer hands a block over. Without an error the chain has stored it, before or
	// now, or holds it in memory until it is due (work.Held; that may also be a
	// stored block). An error that is not ErrNotNow means that it never will be taken.
	Offer(b *types.Block) (work.Outcome, error)
	// Place says where a block of a height is, and which rule an invalid one breaks.
	Place(id types.Hash, height uint32) (p Place, rule string, err error)
	// Due is when the clock lets a block in.
	Due(b *types.Block) time.Time
	// Height is that of the best chain.
	Height() uint32
	// Changed returns a channel that is closed when the best chain next changes.
	Changed() <-chan struct{}
}

// Config is what a Keeper needs.
type Config struct {
	Path  string     // of the journal
	FS    durable.FS // nil: the real one
	Chain Chain
	// Hear is told of each block once its record is durable, or could not be made so,
	// and before the chain gets the block; and again after a restart while the record
	// is open. Miners and the block wait for it: it does no more than make a note. An
	// error keeps the record open, and Hear is called again a second later. Nil:
	// nobody wants to know.
	Hear func(Record) error
	Now  func() time.Time
	Log  *slog.Logger
}

const (
	// maxOpen bounds the records, and so the size of the journal. Only where blocks
	// cost nearly nothing do so many wait: what comes on top is not journaled.
	maxOpen = 64
	// pause is how long the keeper leaves alone what has failed, and how long closed
	// records may stay in the file.
	pause = time.Second
	// glance is how often it looks at the clock while something waits: timers do not
	// follow when the clock is set.
	glance = 5 * time.Second
	// giveUp is how many blocks the best chain is past a block that it cannot take,
	// before the record is closed.
	giveUp = 100
)

// Keeper has the open records.
type Keeper struct {
	cfg     Config
	journal journal
	wake    chan struct{}

	saving sync.Mutex // held while the file is written

	mu      sync.Mutex
	open    map[types.Hash]*entry
	count   uint64 // of records since the start
	version uint64 // of open
	saved   uint64 // the version that is durable
	savedAt time.Time
	failing bool                  // the last attempt to save failed
	refused map[types.Hash]string // why, of the blocks refused lately
}

// entry is an open record. Its fields below raw are guarded by Keeper.mu.
type entry struct {
	Record
	id     types.Hash
	number uint64
	raw    []byte        // the record in its frame
	ready  chan struct{} // closed once it was journaled and told

	busy  bool // Submit is at work on it
	told  bool
	again time.Time // not to be offered before
	// what was logged: that the chain, or the books, could not take it
	saidChain, saidBooks bool
}

// Open reads the journal. Nothing is offered to the chain before Resume.
func Open(c Config) (*Keeper, error) {
	if c.FS == nil {
		c.FS = durable.OS()
	}
	k := &Keeper{
		cfg: c, journal: journal{c.FS, c.Path}, wake: make(chan struct{}, 1),
		open: make(map[types.Hash]*entry), refused: make(map[types.Hash]string),
	}
	records, err := k.journal.load(c.Log)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		e := k.enter(r)
		e.busy = false
		close(e.ready)
	}
	if len(records) == 0 {
		return k, nil
	}
	// What a killed process wrote is not durable for being readable.
	if err := k.save(k.version); err != nil {
		c.Log.Error("the journal of found blocks cannot be written: free disk space, or look after the disk", "file", c.Path, "err", err)
	}
	return k, nil
}

// enter makes an entry, with mu held or before others know of k.
func (k *Keeper) enter(r Record) *entry {
	k.count++
	k.version++
	e := &entry{
		Record: r, id: r.Block.Header.ID(), number: k.count, raw: appendRecord(nil, &r),
		ready: make(chan struct{}), busy: true,
	}
	k.open[e.id] = e
	return e
}

// Submit journals a found block, tells the books of it and hands it to the chain,
// whose answer it returns; a block that the chain cannot take now, a full disk being
// the usual reason, is work.Held and offered again. A block whose record is open, or
// that the chain has stored, is only handed over.
func (k *Keeper) Submit(r Record) (work.Outcome, error) {
	r.Time = r.Time.Truncate(time.Millisecond)
	e, version := k.admit(r)
	switch {
	case e == nil && version == 0: // known to the chain
		return k.cfg.Chain.Offer(r.Block)
	case e == nil:
		k.cfg.Log.Warn("found block is not journaled: too many wait for the chain already", "block", r.Block.Header.ID(), "height", r.Height, "waiting", maxOpen)
		if err := k.hear(r); err != nil {
			k.cfg.Log.Error("the books did not take a found block", "block", r.Block.Header.ID(), "height", r.Height, "err", err)
		}
		return k.cfg.Chain.Offer(r.Block)
	case version == 0: // somebody else has submitted it, too
		<-e.ready
	default:
		if err := k.save(version); err != nil {
			k.cfg.Log.Error("found block is not journaled, and goes to the chain all the same: it would be lost if this box stopped before the chain has stored it. Free disk space, or look after the disk",
				"block", e.id, "height", e.Height, "file", k.cfg.Path, "err", err)
		}
		k.tell(e)
		close(e.ready)
		defer k.release(e)
	}
	outcome, err := k.cfg.Chain.Offer(r.Block)
	k.judge(e, err)
	if errors.Is(err, ErrNotNow) && k.Has(e.id) {
		return work.Held, nil // here
	}
	return outcome, err
}

// admit makes a record of a block: then version is that of the journal it has to
// be in. With version 0 the block has an entry, or needs none.
func (k *Keeper) admit(r Record) (e *entry, version uint64) {
	id := r.Block.Header.ID()
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.open[id]; e != nil {
		return e, 0
	}
	// If the chain cannot tell, the block counts as new.
	if p, _, err := k.cfg.Chain.Place(id, r.Height); err == nil && p != Nowhere {
		return nil, 0
	}
	if len(k.open) >= maxOpen {
		return nil, 1
	}
	return k.enter(r), k.version
}

// release lets the keeper look after an entry.
func (k *Keeper) release(e *entry) {
	k.mu.Lock()
	e.busy = false
	k.mu.Unlock()
	k.ring()
}

func (k *Keeper) ring() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// save makes a version of the open records durable. Those who come while the file
// is being written share the next write.
func (k *Keeper) save(version uint64) error {
	k.saving.Lock()
	defer k.saving.Unlock()
	k.mu.Lock()
	if k.saved >= version {
		k.mu.Unlock()
		return nil
	}
	version = k.version
	var raw [][]byte
	for _, e := range k.sorted() {
		raw = append(raw, e.raw)
	}
	k.mu.Unlock()
	err := k.journal.save(raw)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.savedAt = k.cfg.Now()
	if err == nil {
		k.saved = version
	}
	if err == nil && k.failing {
		k.cfg.Log.Info("the journal of found blocks can be written again")
	}
	k.failing = err != nil
	return err
}

// sorted returns the open entries, oldest first; mu is held.
func (k *Keeper) sorted() []*entry {
	return slices.SortedFunc(maps.Values(k.open), func(a, b *entry) int { return cmp.Compare(a.number, b.number) })
}

func (k *Keeper) hear(r Record) error {
	if k.cfg.Hear == nil {
		return nil
	}
	return k.cfg.Hear(r)
}

// tell tells the books, unless they know.
func (k *Keeper) tell(e *entry) {
	k.mu.Lock()
	told := e.told
	k.mu.Unlock()
	if told {
		return
	}
	err := k.hear(e.Record)
	k.mu.Lock()
	said := e.saidBooks
	e.told, e.saidBooks = err == nil, err != nil
	k.mu.Unlock()
	if err != nil && !said {
		k.cfg.Log.Error("the books did not take a found block, its record stays open until they do", "block", e.id, "height", e.Height, "err", err)
	}
}

// Has reports whether the record of a block is open.
func (k *Keeper) Has(id types.Hash) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.open[id] != nil
}

// Len returns how many records are open.
func (k *Keeper) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.open)
}

// Refusal returns why the chain refused a block lately.
func (k *Keeper) Refusal(id types.Hash) (string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	why, ok := k.refused[id]
	return why, ok
}
