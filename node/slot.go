package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// SlotSigner is the node's view of its signer.
type SlotSigner interface {
	// Keys returns the indexes of the validators whose keys can sign now.
	Keys(ctx context.Context) ([]uint8, error)
	// SignSlot returns validator p.Index's signature over the proposal. An error
	// that wraps ErrRefused is the signer's last word on this block; any other
	// may pass.
	SignSlot(ctx context.Context, p *consensus.Proposal) ([64]byte, error)
}

// ErrRefused marks a signer's refusal: asking the same again is pointless.
var ErrRefused = errors.New("signer refuses")

// proposals keeps the block of a slot across a crash: a node killed after its
// signer has signed must ask again with the very same block, as the signer
// will never sign another one at that height.
type proposals interface {
	SaveProposal(height uint32, block []byte) error
	Proposal(height uint32) (block []byte, ok bool, err error)
}

// slotChain is what the slot driver needs of the chain.
type slotChain interface {
	Tip() consensus.State
	Header(id types.Hash) (types.SignedHeader, bool, error)
	AddBlock(b *types.Block) (chain.Result, error)
	Changed() <-chan struct{}
}

// proposer builds the unsigned block of a slot.
type proposer interface {
	Proposal(parent consensus.State, parentHeader types.Header, index uint8, now time.Time) (*types.Block, consensus.Proposal, error)
}

// slotDriver has this box's validators sign the slots that are theirs.
type slotDriver struct {
	chain    slotChain
	store    proposals
	proposer proposer
	signer   SlotSigner
	now      func() time.Time
	log      *slog.Logger
}

// retryDelay is how long the driver waits before it asks a signer again that
// could not be reached or had no key ready.
const retryDelay = 200 * time.Millisecond

// run signs slots until ctx ends.
func (d *slotDriver) run(ctx context.Context) error {
	for {
		changed := d.chain.Changed()
		if tip := d.chain.Tip(); tip.ChildIsSlot() {
			slot, cancel := context.WithCancel(ctx)
			go func() {
				select {
				case <-changed:
				case <-slot.Done():
				}
				cancel()
			}()
			d.sign(slot, tip)
			cancel()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// sign tries this box's keys at the slot after parent, the lowest rank first,
// until one has signed, the tip moves, or the slot is closed to validators.
func (d *slotDriver) sign(ctx context.Context, parent consensus.State) {
	failures := make(map[uint8]int)
	refused := make(map[uint8]bool)
	said := ""
	for ctx.Err() == nil && !d.closed(&parent) {
		index, err := d.candidate(ctx, &parent, failures, refused)
		if err == nil {
			if !d.waitTurn(ctx, &parent, index) {
				return
			}
			if err = d.attempt(ctx, parent, index); err == nil {
				return
			}
			failures[index]++
			if errors.Is(err, ErrRefused) {
				refused[index] = true
			}
		}
		if ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != said {
			d.log.Warn("slot not signed yet", "height", parent.ChildHeight(), "err", err)
			said = text
		}
		if !sleep(ctx, retryDelay) {
			return
		}
	}
}

func (d *slotDriver) closed(parent *consensus.State) bool {
	_, to := parent.SignedWindow(parent.ValidatorOfRank(0))
	return d.now().Unix() > int64(to)
}

var errNoKey = errors.New("no validator key of this box is ready")

// candidate picks the key to try: the one that failed least, then the lowest rank.
func (d *slotDriver) candidate(ctx context.Context, parent *consensus.State, failures map[uint8]int, refused map[uint8]bool) (uint8, error) {
	keys, err := d.signer.Keys(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask signer for its keys: %w", err)
	}
	best, found := uint8(0), false
	for _, k := range keys {
		if refused[k] {
			continue
		}
		better := failures[k] < failures[best] || (failures[k] == failures[best] && parent.Rank(k) < parent.Rank(best))
		if !found || better {
			best, found = k, true
		}
	}
	if !found {
		return 0, errNoKey
	}
	return best, nil
}

// waitTurn waits for the rank delay of a validator (C3, S4) and until the block
// would not be ahead of others' clocks. It reports false when the tip moved.
func (d *slotDriver) waitTurn(ctx context.Context, parent *consensus.State, index uint8) bool {
	from, _ := parent.SignedWindow(index)
	due := time.Unix(int64(from), 0)
	if parent.Rank(index) == 0 {
		// In turn: nothing to wait for, but the parent itself may be ahead of the clock.
		due = due.Add(-time.Duration(parent.Network.FutureLimitSeconds) * time.Second)
	}
	wait := due.Sub(d.now())
	return wait <= 0 || sleep(ctx, wait)
}

// attempt proposes a block, keeps it durably, has it signed and connects it.
func (d *slotDriver) attempt(ctx context.Context, parent consensus.State, index uint8) error {
	started := d.now()
	b, p, err := d.propose(parent, index)
	if err != nil {
		return err
	}
	sig, err := d.signer.SignSlot(ctx, &p)
	if err != nil {
		return fmt.Errorf("validator %d: %w", index, err)
	}
	b.VchBlockSig = types.BlockSig{Index: index, Signature: sig}.Bytes()
	result, err := d.chain.AddBlock(b)
	if err != nil {
		return fmt.Errorf("add signed block %s: %w", b.Header.ID(), err)
	}
	d.log.Info("slot signed", "height", p.Height, "block", b.Header.ID(), "validator", index,
		"rank", parent.Rank(index), "transactions", len(b.Transactions), "result", result, "took", d.now().Sub(started))
	return nil
}

// propose returns the block kept for this slot and validator, or a new one,
// which it keeps before anybody is asked to sign it.
func (d *slotDriver) propose(parent consensus.State, index uint8) (*types.Block, consensus.Proposal, error) {
	header, ok, err := d.chain.Header(parent.ID)
	if err != nil {
		return nil, consensus.Proposal{}, fmt.Errorf("read parent %s: %w", parent.ID, err)
	}
	if !ok {
		return nil, consensus.Proposal{}, fmt.Errorf("parent %s is not stored", parent.ID)
	}
	placeholder := types.BlockSig{Index: index}.Bytes()
	kept, ok, err := d.store.Proposal(parent.ChildHeight())
	if err != nil {
		return nil, consensus.Proposal{}, fmt.Errorf("read kept proposal: %w", err)
	}
	if ok {
		b, err := types.DecodeBlock(kept)
		if err != nil {
			return nil, consensus.Proposal{}, fmt.Errorf("read kept proposal: %w", err)
		}
		if b.PrevBlock == parent.ID && bytes.Equal(b.VchBlockSig, placeholder) {
			return b, consensus.NewProposal(&parent, header.Header, b, index), nil
		}
	}
	b, p, err := d.proposer.Proposal(parent, header.Header, index, d.now())
	if err != nil {
		return nil, consensus.Proposal{}, fmt.Errorf("build proposal: %w", err)
	}
	b.VchBlockSig = placeholder
	if err := d.store.SaveProposal(p.Height, b.Bytes()); err != nil {
		return nil, consensus.Proposal{}, fmt.Errorf("keep proposal: %w", err)
	}
	return b, p, nil
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
