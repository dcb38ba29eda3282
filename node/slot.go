package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Signer is the node's view of its signer. Its calls end when ctx does.
type Signer interface {
	// Keys returns the keys that can sign now.
	Keys(ctx context.Context) ([]types.PublicKey, error)
	// Anchor returns the end of the audit log of the signer that has the key, for the
	// next block it is asked to sign to carry; nil if it wants none.
	Anchor(ctx context.Context, key types.PublicKey) (*consensus.AuditAnchor, error)
	// Tell says how far the chain, whose tip is at this height, shows the signer's
	// keys to have signed. It has to be called when SignSlot or Attest fail with
	// ErrUntold.
	Tell(ctx context.Context, tip uint32, shown []Shown) error
	// SignSlot returns validator p.Index's signature over the proposal. An error
	// that wraps ErrRefused is the signer's last word on this block; any other
	// may pass.
	SignSlot(ctx context.Context, p *consensus.Proposal) ([64]byte, error)
	// Attest returns voter b.Index's signature over the ballot, with errors as
	// those of SignSlot.
	Attest(ctx context.Context, b *consensus.Ballot) ([64]byte, error)
}

// ErrRefused marks a signer's refusal: asking the same again is pointless.
var ErrRefused = errors.New("signer refuses")

// slotChain is what the slot driver needs of the chain.
type slotChain interface {
	Tip() consensus.State
	Header(id types.Hash) (types.SignedHeader, bool, error)
	AddBlock(b *types.Block) (chain.Result, error)
	Changed() <-chan struct{}
	Heard(since time.Time) []types.PublicKey
	Closed(parent *consensus.State) bool
}

// proposer builds the unsigned block of a slot.
type proposer interface {
	Proposal(parent consensus.State, parentHeader types.Header, index uint8, now time.Time, own ...consensus.Record) (*types.Block, consensus.Proposal, error)
}

// slotDriver has this box's validators sign the slots that are theirs.
type slotDriver struct {
	chain    slotChain
	store    Proposals
	proposer proposer
	signer   Signer
	now      func() time.Time
	log      *slog.Logger
	// wait leaves the first slot to others (S5): should a copy of these keys be
	// at work elsewhere, it shows before this one signs or votes.
	wait    bool
	started time.Time
	left    uint32 // height of that slot, 0 before it came
	// free is called when this box may vote, too.
	free func()
}

const (
	// retryDelay is how long a key, or the signer, is left alone after it failed.
	retryDelay = 500 * time.Millisecond
	// keyCheck is how often the signer is asked for its keys while the turn of
	// those it has is yet to come: one with an earlier turn may come back. It is
	// also how soon a clock that was set is noticed.
	keyCheck = time.Second
	// maxWarnings bounds what is logged as a warning about one slot.
	maxWarnings = 8
)

// run signs slots until ctx ends.
func (d *slotDriver) run(ctx context.Context) error {
	d.started = d.now()
	if !d.wait {
		d.free()
	}
	for {
		changed := d.chain.Changed()
		tip := d.chain.Tip()
		if tip.ChildIsSlot() && !d.leaves(ctx, &tip) {
			d.signUntil(ctx, changed, tip)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// leaves reports whether the slot after parent is left to others (S5). It is the
// first one that was open: those a node passes while it catches up are over. A
// box whose keys showed themselves meanwhile leaves every slot.
func (d *slotDriver) leaves(ctx context.Context, parent *consensus.State) bool {
	height := parent.ChildHeight()
	switch {
	case !d.wait:
		return false
	case d.left == 0 && d.chain.Closed(parent):
		return true
	case d.left == 0:
		d.left = height
		d.log.Info("leaving the first slot after the start to others", "height", height)
	}
	if height <= d.left || d.doubled(ctx) {
		return true
	}
	d.wait = false
	d.free()
	return false
}

// doubled reports whether one of this box's keys, which have done nothing since
// the start, signed or voted for a slot since then.
func (d *slotDriver) doubled(ctx context.Context) bool {
	keys, err := d.signer.Keys(ctx)
	if err != nil {
		d.log.Warn("leaving this slot to others: cannot ask signer for its keys", "err", err)
		return true
	}
	for _, k := range d.chain.Heard(d.started) {
		if slices.Contains(keys, k) {
			d.log.Error("another signer is at work with a key of this box, so this one neither signs nor votes: stop one of the two, then start this node again", "key", k)
			return true
		}
	}
	return false
}

// signUntil signs the slot after parent unless the tip changes before.
func (d *slotDriver) signUntil(ctx context.Context, changed <-chan struct{}, parent consensus.State) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			changed = d.chain.Changed()
			if tip := d.chain.Tip(); tip.ID != parent.ID {
				return
			}
			// Only votes came in: what was tried stays tried.
		}
	}()
	s := slot{slotDriver: d, parent: parent, tried: make(map[uint8]attempt), said: make(map[string]bool)}
	s.sign(ctx)
}

// slot is the work on one slot: what was tried so far.
type slot struct {
	*slotDriver
	parent consensus.State
	tried  map[uint8]attempt
	count  int // of attempts
	said   map[string]bool
	alone  bool // too few other validators were heard lately
}

// attempt is the last failure of one key.
type attempt struct {
	number  int // of all attempts
	at      time.Time
	refused bool
}

// sign tries this box's keys, each from its turn on, until one has signed, the
// tip moves, or the slot is closed to validators.
func (s *slot) sign(ctx context.Context) {
	for ctx.Err() == nil && !s.chain.Closed(&s.parent) {
		index, wait, err := s.candidate(ctx)
		if err == nil && wait > 0 {
			sleep(ctx, min(wait, keyCheck))
			continue
		}
		if err == nil {
			if err = s.attempt(ctx, index); err == nil {
				return
			}
			s.count++
			s.tried[index] = attempt{s.count, s.now(), errors.Is(err, ErrRefused)}
		} else {
			wait = retryDelay
		}
		if ctx.Err() == nil {
			s.warn(err)
			sleep(ctx, wait)
		}
	}
	if ctx.Err() == nil && len(s.said) > 0 {
		s.log.Warn("slot closed to validators without this box's signature", "height", s.parent.ChildHeight(), "attempts", s.count)
	}
}

// warn logs an error the first time it is seen: a signer that is away for long
// must not fill the log.
func (s *slot) warn(err error) {
	level := slog.LevelDebug
	if text := err.Error(); !s.said[text] && len(s.said) < maxWarnings {
		s.said[text] = true
		level = slog.LevelWarn
	}
	s.log.Log(context.Background(), level, "slot not signed yet", "height", s.parent.ChildHeight(), "err", err)
}

var (
	errNoKey      = errors.New("no validator key of this box is ready")
	errAllRefused = errors.New("the signer refuses this slot with every key that is ready")
)

// candidate picks the key to try and says how long to wait for it. Of the keys
// whose time has come it is the one tried least recently, then the one of the
// lowest rank; when there is none, the one whose time comes first.
func (s *slot) candidate(ctx context.Context) (index uint8, wait time.Duration, err error) {
	keys, err := s.signer.Keys(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("ask signer for its keys: %w", err)
	}
	now, err := s.now(), errNoKey
	s.alone = s.isAlone(keys, now)
	for _, key := range keys {
		i := slices.Index(s.parent.Validators().Keys, key)
		if i < 0 || s.parent.Proven().IsDisabled(key) {
			continue
		}
		k := uint8(i)
		if s.tried[k].refused {
			if err != nil {
				err = errAllRefused
			}
			continue
		}
		w := max(0, s.due(k).Sub(now))
		if err != nil || w < wait || (w == wait && s.before(k, index)) {
			index, wait, err = k, w, nil
		}
	}
	return index, wait, err
}

// isAlone reports whether the validators of this box and those heard of during
// the last two slots are no majority: then this box may be the one that is cut
// off, and others go first (S4).
func (s *slot) isAlone(own []types.PublicKey, now time.Time) bool {
	n := s.parent.Network
	lately := now.Add(-2 * time.Duration(n.N*n.IntervalSeconds) * time.Second)
	seen := append(s.chain.Heard(lately), own...)
	set := s.parent.Validators().Keys
	count := 0
	for _, k := range set {
		if slices.Contains(seen, k) && !s.parent.Proven().IsDisabled(k) {
			count++
		}
	}
	return count < consensus.CertifyQuorum(len(set))
}

// before orders keys whose time has come.
func (s *slot) before(a, b uint8) bool {
	if s.tried[a].number != s.tried[b].number {
		return s.tried[a].number < s.tried[b].number
	}
	return s.parent.Rank(a) < s.parent.Rank(b)
}

// due returns when a key may be tried: not before the rank delay of its
// validator (C3, S4), and a while after it failed.
func (s *slot) due(index uint8) time.Time {
	from, _ := s.parent.SignedWindow(index)
	due := time.Unix(int64(from), 0)
	n, rank := s.parent.Network, s.parent.Rank(index)
	switch {
	case s.alone:
		// As late as the last rank, and a part of its step later for each rank, so
		// that several who have not heard of each other yet do not sign at once.
		size := uint32(len(s.parent.Validators().Keys))
		step := time.Duration(n.RankStepSeconds) * time.Second
		due = time.Unix(int64(s.parent.Time), 0).Add(time.Duration(size-1)*step + time.Duration(rank)*step/time.Duration(size))
	case rank == 0:
		// In turn: nothing to wait for, but the parent itself may be ahead of the clock.
		due = due.Add(-time.Duration(n.FutureLimitSeconds) * time.Second)
	}
	if last, ok := s.tried[index]; ok && last.at.Add(retryDelay).After(due) {
		due = last.at.Add(retryDelay)
	}
	return due
}

// attempt proposes a block, keeps it durably, has it signed and connects it.
func (s *slot) attempt(ctx context.Context, index uint8) error {
	started := s.now()
	b, p, err := s.propose(ctx, index)
	if err != nil {
		return err
	}
	sig, err := s.signer.SignSlot(ctx, &p)
	if err != nil {
		return fmt.Errorf("validator %d: %w", index, err)
	}
	b.VchBlockSig = types.BlockSig{Index: index, Signature: sig}.Bytes()
	result, err := s.chain.AddBlock(b)
	if err != nil {
		return fmt.Errorf("add signed block %s: %w", b.Header.ID(), err)
	}
	s.log.Info("slot signed", "height", p.Height, "block", b.Header.ID(), "validator", index,
		"rank", s.parent.Rank(index), "transactions", len(b.Transactions), "result", result, "took", s.now().Sub(started))
	return nil
}

// propose returns the block kept for this slot and validator, or a new one,
// which it keeps before anybody is asked to sign it.
func (s *slot) propose(ctx context.Context, index uint8) (*types.Block, consensus.Proposal, error) {
	none := consensus.Proposal{}
	header, ok, err := s.chain.Header(s.parent.ID)
	if err != nil {
		return nil, none, fmt.Errorf("read parent %s: %w", s.parent.ID, err)
	}
	if !ok {
		return nil, none, fmt.Errorf("parent %s is not stored", s.parent.ID)
	}
	height := s.parent.ChildHeight()
	kept, err := loadKept(s.store, height)
	if err != nil && !errors.Is(err, errKeptUnreadable) {
		return nil, none, err
	}
	if err != nil {
		// A new block is safe: a signer that signed the old one refuses it.
		s.warn(err)
	}
	if b := kept.find(s.parent.ID, index); b != nil {
		return b, consensus.NewProposal(&s.parent, header.Header, b, index), nil
	}
	var own []consensus.Record
	anchor, err := s.signer.Anchor(ctx, s.parent.Validators().Keys[index])
	if err != nil {
		return nil, none, fmt.Errorf("ask signer for the end of its audit log: %w", err)
	}
	if anchor != nil {
		own = append(own, anchor)
	}
	b, p, err := s.proposer.Proposal(s.parent, header.Header, index, s.now(), own...)
	if err != nil {
		return nil, none, fmt.Errorf("build proposal: %w", err)
	}
	b.VchBlockSig = placeholder(index)
	if err := kept.add(b).save(s.store, height); err != nil {
		return nil, none, err
	}
	return b, p, nil
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
