package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Report is what Verify found.
type Report struct {
	Tip        consensus.State
	Blocks     int // on the best chain, with genesis
	SideBlocks int // elsewhere, whose bodies are kept
	Coins      int // unspent outputs
	Supply     int64

	Certificates int                  // that are kept
	Final        consensus.Checkpoint // the stored final slot; zero before the first
	FinalBy      Proof                // empty before the first
}

// Verify re-checks a stored chain: every block from genesis by the rules of
// net, then that the index with that of the validators, the undo records, the
// set of unspent outputs and the tip are what comes out, that what is kept of
// side chains is readable and their index what follows from it, that the
// certificates are good, and that what is stored as final is. It holds the
// unspent outputs in memory. progress, which may be nil, is called
// after each block. An error names height, block, rule and file.
func Verify(ctx context.Context, net *consensus.Network, src BlockSource, progress func(height, of uint32)) (Report, error) {
	if progress == nil {
		progress = func(uint32, uint32) {}
	}
	if err := src.Check(); err != nil {
		return Report{}, err
	}
	v := verifier{net: net, src: src, coins: make(consensus.Coins)}
	tip, err := v.tip()
	if err != nil {
		return Report{}, err
	}
	for h := uint32(0); h <= tip.State.Height; h++ {
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		if err := v.block(h); err != nil {
			return Report{}, err
		}
		progress(h, tip.State.Height)
	}
	if !v.state.Equal(&tip.State) {
		return Report{}, fmt.Errorf("tip is block %s, the best chain ends in %s at height %d", tip.State.ID, v.state.ID, v.state.Height)
	}
	if id, more, err := src.BestID(v.state.ChildHeight()); err != nil {
		return Report{}, err
	} else if more {
		return Report{}, fmt.Errorf("best chain goes on after the tip, height %d, with block %s", v.state.Height, id)
	}
	side, err := v.sideBlocks(ctx)
	if err != nil {
		return Report{}, err
	}
	r := Report{Tip: v.state, Blocks: int(tip.State.Height) + 1, SideBlocks: side, Coins: len(v.coins)}
	if err := v.votes(&r); err != nil {
		return Report{}, err
	}
	for _, c := range v.coins {
		r.Supply += c.Output.Value
	}
	return r, v.compareCoins(ctx)
}

type verifier struct {
	net   *consensus.Network
	src   BlockSource
	state consensus.State // after the last block checked
	coins consensus.Coins
}

func (v *verifier) tip() (Entry, error) {
	id, ok, err := v.src.Tip()
	if err != nil {
		return Entry{}, err
	}
	if !ok {
		return Entry{}, errors.New("there is no chain here: was a node ever started with this data directory?")
	}
	e, ok, err := v.src.Entry(id)
	return e, there(ok, err, "index entry of tip "+id.String())
}

// block checks the block of the best chain at height.
func (v *verifier) block(height uint32) error {
	id, ok, err := v.src.BestID(height)
	if err == nil && !ok {
		err = errors.New("best chain has a gap")
	}
	if err != nil {
		return fmt.Errorf("height %d: %w", height, err)
	}
	if err := v.blockWithID(height, id); err != nil {
		return v.at(height, id, err)
	}
	return nil
}

func (v *verifier) at(height uint32, id types.Hash, err error) error {
	return fmt.Errorf("height %d, block %s, %s: %w", height, id, v.src.Where(id), err)
}

func (v *verifier) blockWithID(height uint32, id types.Hash) error {
	e, ok, err := v.src.Entry(id)
	if err := there(ok, err, "index entry"); err != nil {
		return err
	}
	b, err := v.body(&e, id)
	if err != nil {
		return err
	}
	diff, err := v.connect(height, b)
	if err != nil {
		return err
	}
	if !e.State.Equal(&v.state) {
		return errors.New("index entry does not fit the headers")
	}
	if e.Invalid != "" {
		return fmt.Errorf("best chain has a block that is marked invalid: %w", invalidity(&e))
	}
	spent, ok, err := v.src.Spent(id)
	if err := there(ok, err, "undo record"); err != nil {
		return err
	}
	if !slices.EqualFunc(spent, diff.Spent, sameUTXO) {
		return errors.New("undo record does not hold the coins that the block spends")
	}
	return nil
}

// there turns the absence of what must be there into an error.
func there(ok bool, err error, what string) error {
	if err == nil && !ok {
		err = errors.New(what + " is missing")
	}
	return err
}

// body reads a block and checks that it is the one its entry describes.
func (v *verifier) body(e *Entry, id types.Hash) (*types.Block, error) {
	b, ok, err := v.src.Block(id)
	if err := there(ok, err, "body"); err != nil {
		return nil, err
	}
	if b.Header != e.Header.Header || !bytes.Equal(b.VchBlockSig, e.Header.VchBlockSig) || b.Header.ID() != id {
		return nil, errors.New("body has another header than the index")
	}
	return b, nil
}

// connect applies the rules and moves state and coins on.
func (v *verifier) connect(height uint32, b *types.Block) (consensus.Diff, error) {
	if height == 0 {
		if !bytes.Equal(b.Bytes(), v.net.Genesis().Bytes()) {
			return consensus.Diff{}, fmt.Errorf("not the genesis block of network %q", v.net.Name)
		}
		v.state = v.net.GenesisState()
		return consensus.Diff{}, nil
	}
	if len(b.Transactions) == 0 {
		return consensus.Diff{}, &consensus.RuleError{Rule: consensus.RuleNoCoinbase, Detail: "block has no transactions"}
	}
	spends := make(consensus.Coins)
	for _, o := range Inputs(b) {
		if c, ok := v.coins[o]; ok {
			spends[o] = c
		}
	}
	state, diff, err := consensus.Connect(&v.state, b, spends)
	if err != nil {
		return consensus.Diff{}, err
	}
	for _, u := range diff.Spent {
		delete(v.coins, u.OutPoint)
	}
	for _, u := range diff.Created {
		v.coins[u.OutPoint] = u.Coin
	}
	v.state = state
	return diff, nil
}

// sideBlocks reads everything that is kept of blocks outside the best chain.
func (v *verifier) sideBlocks(ctx context.Context) (count int, err error) {
	for e, err := range v.src.Entries() {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return 0, err
		}
		id := e.State.ID
		if best, _, err := v.src.BestID(e.State.Height); err != nil {
			return 0, err
		} else if best == id {
			continue
		}
		if e.HasBlock {
			count++
		}
		if err := v.checkSide(&e); err != nil {
			return 0, v.at(e.State.Height, id, err)
		}
		if e.HasUndo {
			if _, _, err := v.src.Spent(id); err != nil {
				return 0, v.at(e.State.Height, id, err)
			}
		}
	}
	return count, nil
}

// checkSide applies the rules about a block that need no coins, if its body is
// kept, and derives its index entry from that of its parent.
func (v *verifier) checkSide(e *Entry) error {
	parent, ok, err := v.src.Entry(e.Header.PrevBlock)
	if err := there(ok, err, "index entry of the parent"); err != nil {
		return err
	}
	first := new(types.Transaction)
	if e.HasBlock {
		b, err := v.body(e, e.State.ID)
		if err != nil {
			return err
		}
		if err := parent.State.CheckBlock(b); err != nil {
			return err
		}
		first = firstTx(b)
	}
	// Of a signed block that proved invalid at once the records are gone.
	if want := parent.State.Child(&e.Header, first); (e.HasBlock || !e.Header.IsSigned()) && !want.Equal(&e.State) {
		return errors.New("index entry does not fit the headers")
	}
	return nil
}

// compareCoins compares the stored set of unspent outputs with the one that
// came out of the blocks. It empties the latter.
func (v *verifier) compareCoins(ctx context.Context) error {
	for u, err := range v.src.UTXOs() {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		c, ok := v.coins[u.OutPoint]
		if !ok {
			return fmt.Errorf("stored unspent output %s does not follow from the blocks", u.OutPoint)
		}
		if !sameUTXO(u, consensus.UTXO{OutPoint: u.OutPoint, Coin: c}) {
			return fmt.Errorf("stored unspent output %s of height %d differs from what the blocks say", u.OutPoint, c.Height)
		}
		delete(v.coins, u.OutPoint)
	}
	for o, c := range v.coins {
		return fmt.Errorf("unspent output %s of height %d is not stored (%d are missing)", o, c.Height, len(v.coins))
	}
	return nil
}

func sameUTXO(a, b consensus.UTXO) bool {
	return a.OutPoint == b.OutPoint && bytes.Equal(a.Coin.AppendTo(nil), b.Coin.AppendTo(nil))
}
