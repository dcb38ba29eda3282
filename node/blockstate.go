package node

import (
	"errors"
	"fmt"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/found"
	"qcitycoin.org/qcity/node/types"
)

// FoundBlock is what the books hear of a block that this box found.
type FoundBlock struct {
	ID     types.Hash // internal order
	Height uint32
	Time   time.Time // when it was found, by this box's clock
	Reward int64     // what its coinbase pays, base units
	Finder string    // the solution's: the worker, as it named itself
	// Note is that of the plan by which the coinbase pays; nil where it pays all to
	// Config.Payout, because there was no plan or none that could be used.
	Note []byte
}

// BlockStatus is what became of a block that was found.
type BlockStatus string

// The statuses. Each may turn into any other but BlockRefused, which stays, until a
// block is final: a reorganisation can take a block off the best chain and back.
const (
	BlockHeld    BlockStatus = "held"     // not decided: its time has not come, or the best chain is not as high yet
	BlockOnChain BlockStatus = "on-chain" // on the best chain
	BlockStale   BlockStatus = "stale"    // another block has its height
	BlockRefused BlockStatus = "refused"  // the chain refused it, or does not have it and nobody is about to offer it
)

// BlockState is what became of a block that was found.
type BlockState struct {
	Status BlockStatus
	// Depth counts the blocks of the best chain from this one to the tip: 1 for the
	// tip itself. 0 unless BlockOnChain.
	Depth uint32
	// Final: no reorganisation can take it off the chain any more; or, for a stale
	// block, put it back.
	Final bool
	// Mature: what its coinbase pays can be spent in the next block.
	Mature bool
	// Reason is why the chain refused it, where that is still known.
	Reason string
}

// BlockState says what became of a block of this box. It is to be asked again
// whenever Chain.Changed rings, until the block is final or refused.
func (n *Node) BlockState(id types.Hash) (BlockState, error) {
	// The keeper first: it closes a record only after the chain has stored the block.
	waits := n.found.Has(id)
	for {
		standing := n.Chain.Standing()
		s, err := n.blockState(id, &standing)
		if err != nil {
			return s, err
		}
		if after := n.Chain.Tip(); after.ID != standing.Tip.ID {
			continue // what was read belongs to two chains
		}
		if s.Status == BlockRefused && waits {
			s = BlockState{Status: BlockHeld}
		}
		return s, nil
	}
}

func (n *Node) blockState(id types.Hash, standing *consensus.Standing) (BlockState, error) {
	state, stored, err := n.Chain.State(id)
	if err != nil {
		return BlockState{}, err
	}
	if !stored {
		why, _ := n.found.Refusal(id)
		return BlockState{Status: BlockRefused, Reason: why}, nil
	}
	place, rule, err := foundChain{n.Chain}.Place(id, state.Height)
	if err != nil {
		return BlockState{}, err
	}
	s := BlockState{Final: state.Height <= standing.Final.Height}
	switch place {
	case found.Best:
		s.Status = BlockOnChain
		s.Depth = standing.Tip.Height - min(standing.Tip.Height, state.Height) + 1
		s.Mature = s.Depth >= standing.Tip.Network.CoinbaseMaturity
	case found.Beaten:
		s.Status = BlockStale
	case found.Invalid:
		s.Status, s.Reason = BlockRefused, rule
	default:
		s.Status, s.Final = BlockHeld, false
	}
	return s, nil
}

// hear tells the books of a found block.
func (n *Node) hear(r found.Record) error {
	if n.cfg.OnFound == nil {
		return nil
	}
	return n.cfg.OnFound(FoundBlock{
		ID: r.Block.Header.ID(), Height: r.Height, Time: r.Time, Reward: r.Reward, Finder: r.Finder, Note: r.Note,
	})
}

// foundChain shows the chain to the keeper of found blocks.
type foundChain struct{ *chain.Manager }

var _ found.Chain = foundChain{}

// Offer hands a block to the chain in the terms of the work feed.
func (c foundChain) Offer(b *types.Block) (work.Outcome, error) {
	result, err := c.AddBlock(b)
	if err != nil {
		if c.passes(b, err) {
			err = fmt.Errorf("%w: %w", found.ErrNotNow, err)
		}
		return work.Rejected, err
	}
	switch result {
	case chain.Held, chain.Parked:
		return work.Held, nil
	case chain.SideChain:
		return work.Stale, nil
	case chain.Known:
		return c.known(b.Header.ID())
	}
	return work.Accepted, nil
}

// passes reports whether an error of AddBlock may pass: a full disk, a parent that a
// chain that was reset has yet to find again, too many blocks held at once. A time
// so far ahead that no chain will wait for it does not pass.
func (c foundChain) passes(b *types.Block, err error) bool {
	if errors.Is(err, chain.ErrUnknownParent) {
		return true
	}
	if errors.Is(err, consensus.RuleTimeFuture) {
		wait := time.Duration(c.Network().SlotCloseSeconds) * time.Second
		return time.Until(c.Due(b)) <= wait
	}
	_, rule := consensus.RuleOf(err)
	return !rule
}

// known is the outcome of a block that is stored already.
func (c foundChain) known(id types.Hash) (work.Outcome, error) {
	state, ok, err := c.State(id)
	if err != nil || !ok {
		return work.Stale, err
	}
	switch place, _, err := c.Place(id, state.Height); place {
	case found.Best:
		return work.Accepted, err
	case found.Waiting:
		return work.Held, err
	default:
		return work.Stale, err
	}
}

// Place implements found.Chain.
func (c foundChain) Place(id types.Hash, height uint32) (found.Place, string, error) {
	_, stored, err := c.State(id)
	if err != nil || !stored {
		return found.Nowhere, "", err
	}
	if rule, bad, err := c.InvalidReason(id); err != nil || bad {
		return found.Invalid, rule, err
	}
	best, ok, err := c.BestID(height)
	switch {
	case err != nil:
		return found.Nowhere, "", err
	case !ok:
		return found.Waiting, "", nil
	case best == id:
		return found.Best, "", nil
	}
	return found.Beaten, "", nil
}

// Due implements found.Chain.
func (c foundChain) Due(b *types.Block) time.Time {
	return time.Unix(int64(b.Time)-int64(c.Network().FutureLimitSeconds), 0)
}

// Height implements found.Chain.
func (c foundChain) Height() uint32 {
	tip := c.Tip()
	return tip.Height
}
