package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// rig is a slot driver among honest fakes, in the bubble of a synctest. The
// tip is the parent of slot 10, and the clock starts at its time.
type rig struct {
	t      *testing.T
	g      *chaingen.Generator
	parent consensus.State
	start  time.Time     // of the bubble's clock
	skew   time.Duration // of the driver's clock
	log    warnings

	mu      sync.Mutex
	events  []string
	added   []addition
	addErrs []error
	tip     *chaingen.Node
	changed chan struct{}

	store  memoryProposals
	build  builds
	signer fakeSigner
	wait   bool // S5
	freed  int  // how often the voter was let go
	// heard is when validators last showed themselves; nil: all of them just now.
	heard map[types.PublicKey]time.Time
	stop  func()
}

// addition is a block the driver handed to the chain, and when.
type addition struct {
	block *types.Block
	at    time.Duration
}

func newRig(t *testing.T) *rig {
	t.Helper()
	g := chaingen.New(t, chaingen.Params())
	g.Fill("a", 9)
	return newRigOn(t, g)
}

// newRigOn is newRig at another slot: the tip of g is its parent.
func newRigOn(t *testing.T, g *chaingen.Generator) *rig {
	t.Helper()
	r := &rig{t: t, g: g, parent: g.Tip().State, start: time.Now(), tip: g.Tip(), changed: make(chan struct{})}
	r.store = memoryProposals{rig: r, kept: make(map[uint32][]byte)}
	r.build = builds{rig: r}
	r.signer = fakeSigner{rig: r, keys: []uint8{0, 1, 2, 3, 4}, signed: make(map[types.PublicKey]types.Hash), reply: make(map[uint8]func(context.Context) error)}
	return r
}

func (r *rig) elapsed() time.Duration { return time.Since(r.start) }

// now is the driver's wall clock.
func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Unix(int64(r.parent.Time), 0).Add(r.elapsed() + r.skew).Round(0)
}

func (r *rig) event(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf(format, args...))
}

// launch starts a driver; r.stop ends it as a kill would, and waits.
func (r *rig) launch() {
	d := &slotDriver{chain: r, store: &r.store, proposer: &r.build, signer: &r.signer, now: r.now, wait: r.wait, free: func() { r.freed++ }, log: slog.New(&r.log)}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	r.stop = func() {
		r.t.Helper()
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("run returned %v", err)
		}
	}
}

// pass lets the bubble's clock run and everything that is due happen.
func (r *rig) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// one returns the only block that was added.
func (r *rig) one() addition {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.added) != 1 {
		r.t.Fatalf("%d blocks were added, want 1", len(r.added))
	}
	return r.added[0]
}

func (r *rig) none() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.added) != 0 {
		r.t.Fatalf("a block was added after %v, want none", r.added[0].at)
	}
}

// wantSigned checks who signed and when.
func (r *rig) wantSigned(rank uint32, at time.Duration) {
	r.t.Helper()
	a := r.one()
	if got := a.block.VchBlockSig[0]; got != r.parent.ValidatorOfRank(rank) {
		r.t.Errorf("validator %d of rank %d signed, want rank %d", got, r.parent.Rank(got), rank)
	}
	if a.at != at {
		r.t.Errorf("signed after %v, want %v", a.at, at)
	}
}

func (r *rig) index(rank uint32) uint8 { return r.parent.ValidatorOfRank(rank) }

// setTip moves the tip to another block of the generator.
func (r *rig) setTip(n *chaingen.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tip = n
	close(r.changed)
	r.changed = make(chan struct{})
}

// moveTo moves the tip, and the clock to its time: a slot begins.
func (r *rig) moveTo(n *chaingen.Node) {
	r.mu.Lock()
	r.parent, r.start, r.skew = n.State, time.Now(), 0
	r.mu.Unlock()
	r.setTip(n)
}

// ring says that something changed, as votes do: not the tip.
func (r *rig) ring() {
	r.mu.Lock()
	tip := r.tip
	r.mu.Unlock()
	r.setTip(tip)
	synctest.Wait()
}

// hear notes validators, by rank, at a time by the driver's clock.
func (r *rig) hear(at time.Time, ranks ...uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heard == nil {
		r.heard = make(map[types.PublicKey]time.Time)
	}
	for _, rank := range ranks {
		r.heard[r.parent.Validators().Keys[r.parent.ValidatorOfRank(rank)]] = at
	}
}

// Heard, Tip, Changed, Header and AddBlock make the rig the driver's chain.
// Closed goes by the parent's time, at which the rig's parents arrive.
func (r *rig) Closed(parent *consensus.State) bool {
	_, to := parent.SignedWindow(parent.ValidatorOfRank(0))
	return r.now().Unix() > int64(to)
}

func (r *rig) Heard(since time.Time) []types.PublicKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heard == nil {
		return r.parent.Validators().Keys
	}
	var list []types.PublicKey
	for k, at := range r.heard {
		if !at.Before(since) {
			list = append(list, k)
		}
	}
	return list
}

// Tip returns the state of the tip.
func (r *rig) Tip() consensus.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tip.State
}

func (r *rig) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *rig) Header(id types.Hash) (types.SignedHeader, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := r.tip; n != nil; n = n.Parent {
		if n.State.ID == id {
			return n.Block.SignedHeader, true, nil
		}
	}
	return types.SignedHeader{}, false, nil
}

// AddBlock checks the block as every node would, also against the clock.
func (r *rig) AddBlock(b *types.Block) (chain.Result, error) {
	r.event("add")
	now := r.now().Unix()
	r.mu.Lock()
	if len(r.addErrs) > 0 {
		err := r.addErrs[0]
		r.addErrs = r.addErrs[1:]
		r.mu.Unlock()
		return 0, err
	}
	parent := r.tip
	state, diff, err := consensus.Connect(&parent.State, b, nil)
	if err == nil {
		err = parent.State.Network.CheckFuture(&b.Header, now)
	}
	if err != nil {
		r.mu.Unlock()
		r.t.Errorf("the driver added an invalid block: %v", err)
		return 0, err
	}
	r.added = append(r.added, addition{b, r.elapsed()})
	r.mu.Unlock()
	r.setTip(&chaingen.Node{Block: b, Parent: parent, State: state, Diff: diff})
	return chain.Connected, nil
}

// memoryProposals keeps proposals over a "restart".
type memoryProposals struct {
	rig  *rig
	kept map[uint32][]byte
	// failBefore and failAfter make the next save fail: before or after keeping.
	failBefore, failAfter error
}

func (m *memoryProposals) SaveProposal(height uint32, kept []byte) error {
	if err := m.failBefore; err != nil {
		m.failBefore = nil
		return err
	}
	m.rig.event("save")
	m.kept[height] = append([]byte(nil), kept...)
	err := m.failAfter
	m.failAfter = nil
	return err
}

func (m *memoryProposals) Proposal(height uint32) ([]byte, bool, error) {
	kept, ok := m.kept[height]
	return kept, ok, nil
}

// builds builds proposals, each another block, and counts them.
type builds struct {
	rig   *rig
	count int
}

func (b *builds) Proposal(parent consensus.State, header types.Header, index uint8, now time.Time, own ...consensus.Record) (*types.Block, consensus.Proposal, error) {
	b.count++
	from, to := parent.SignedWindow(index)
	script := append(types.HeightScript(parent.ChildHeight()), 1, byte(b.count))
	block := &types.Block{Transactions: []*types.Transaction{{
		Version: 1,
		Inputs:  []types.TxIn{{Previous: types.NullOutPoint, SignatureScript: script, Sequence: 1<<32 - 1}},
		Outputs: []types.TxOut{{}, {PkScript: types.KeyScript(parent.Validators().Keys[index])}},
	}}}
	block.Header = types.Header{Version: 1, PrevBlock: parent.ID, Time: min(max(uint32(now.Unix()), from), to), Bits: parent.NextBits()}
	if len(own) > 0 {
		tx := block.Transactions[0]
		tx.Outputs = append(tx.Outputs, types.TxOut{PkScript: types.NullDataScript(consensus.EncodeRecords(own))})
	}
	chaingen.FixMerkleRoot(block)
	return block, consensus.NewProposal(&parent, header, block, index), nil
}

// fakeSigner signs one block per key at most, like the real one.
type fakeSigner struct {
	rig     *rig
	mu      sync.Mutex
	keys    []uint8 // numbers of chaingen's keys, which are the indexes in set 0
	keysErr error
	anchor  *consensus.AuditAnchor
	hung    bool // for replies that look at it
	asked   int  // calls of Keys
	signed  map[types.PublicKey]types.Hash
	calls   []signCall
	// reply, when set for a key, decides what becomes of its next answers:
	// before runs ahead of the signature, after loses it.
	reply map[uint8]func(context.Context) error
	lose  int // answers that are lost after signing
}

func (*fakeSigner) Tell(context.Context, uint32, []Shown) error { return nil }

func (s *fakeSigner) Anchor(context.Context, types.PublicKey) (*consensus.AuditAnchor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.anchor, s.keysErr
}

type signCall struct {
	index uint8
	block types.Hash
	at    time.Duration
}

func (s *fakeSigner) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *fakeSigner) Keys(context.Context) ([]types.PublicKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	var keys []types.PublicKey
	for _, i := range s.keys {
		keys = append(keys, chaingen.ValidatorKey(types.Secp256k1, int(i)).Public())
	}
	return keys, s.keysErr
}

func (s *fakeSigner) Attest(context.Context, *consensus.Ballot) ([64]byte, error) {
	s.rig.t.Error("the slot driver asked for a vote")
	return [64]byte{}, ErrRefused
}

func (s *fakeSigner) SignSlot(ctx context.Context, p *consensus.Proposal) (sig [64]byte, err error) {
	s.rig.event("sign")
	if err := s.rig.g.Network().ValidateProposal(p); err != nil {
		s.rig.t.Errorf("the driver asked for a signature under an invalid proposal: %v", err)
	}
	id := p.Header.ID()
	s.mu.Lock()
	s.calls = append(s.calls, signCall{p.Index, id, s.rig.elapsed()})
	reply := s.reply[p.Index]
	s.mu.Unlock()
	if reply != nil {
		if err := reply(ctx); err != nil {
			return sig, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key, ok := s.rig.g.Network().Key(p)
	if !ok {
		return sig, fmt.Errorf("%w: no validator %d", ErrRefused, p.Index)
	}
	if old, ok := s.signed[key]; ok && old != id {
		return sig, fmt.Errorf("%w: double sign", ErrRefused)
	}
	s.signed[key] = id
	if s.lose > 0 {
		s.lose--
		return sig, errors.New("connection reset")
	}
	return s.rig.g.Secret(key).Sign(s.rig.g.Network().Digest(p)), nil
}

// seen returns how often the keys were asked for, and all requests to sign.
func (s *fakeSigner) seen() (asked int, calls []signCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, append([]signCall(nil), s.calls...)
}

// callsOf counts the calls for one key.
func (s *fakeSigner) callsOf(index uint8) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.index == index {
			n++
		}
	}
	return n
}

func (s *fakeSigner) isHung() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hung
}

// always is a reply that never changes.
func always(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}
