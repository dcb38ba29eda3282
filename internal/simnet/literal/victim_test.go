package literal_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/simnet/literal"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// victim is a node under attack, by whichever rules it lives. The scripts ask it
// for what depends on the rules and decide nothing by them themselves.
type victim interface {
	add(b *types.Block) (chain.Result, error)
	tip() consensus.State
	state(id types.Hash) (consensus.State, bool)
	block(id types.Hash) *types.Block

	// child is the state after a block that the victim need not know.
	child(parent consensus.State, b *types.Block) consensus.State
	bits(parent consensus.State) uint32
	// minTime is the earliest time of a mined block at a height that is no slot,
	// on a block that the victim knows.
	minTime(parent consensus.State) uint32
	futureLimit() time.Duration

	// signTime is the time an honest validator gives the block it signs now on a
	// parent; false when it must not sign any more.
	signTime(parent consensus.State, index uint8) (uint32, bool)
	// digest is what a validator signs.
	digest(parent consensus.State, b *types.Block) types.Hash
	// vote adds the votes of all validators for a signed slot, if the rules have votes.
	vote(w *world, slot consensus.State)
	stop()
}

// rules makes victims. Virtual time is that of the synctest bubble.
type rules func(t *testing.T, net *consensus.Network) victim

// literalVictim is a node by the source text.
type literalVictim struct{ *literal.Chain }

func byTheText(_ *testing.T, net *consensus.Network) victim {
	return literalVictim{literal.New(net, time.Now)}
}

func (v literalVictim) add(b *types.Block) (chain.Result, error) {
	known := v.Block(b.Header.ID()) != nil
	switch better, err := v.Add(b); {
	case err != nil:
		return 0, err
	case better:
		return chain.Connected, nil
	case known:
		return chain.Known, nil
	}
	return chain.SideChain, nil
}

func (v literalVictim) tip() consensus.State                        { return v.Tip() }
func (v literalVictim) state(id types.Hash) (consensus.State, bool) { return v.State(id) }
func (v literalVictim) block(id types.Hash) *types.Block            { return v.Block(id) }
func (v literalVictim) bits(consensus.State) uint32                 { return v.Bits() }
func (v literalVictim) minTime(parent consensus.State) uint32       { return v.MinTime(parent.ID) }
func (v literalVictim) futureLimit() time.Duration                  { return literal.FutureLimit }
func (v literalVictim) vote(*world, consensus.State)                {}
func (v literalVictim) stop()                                       {}

func (v literalVictim) child(parent consensus.State, b *types.Block) consensus.State {
	return v.Child(parent, &b.Header)
}

func (v literalVictim) signTime(parent consensus.State, _ uint8) (uint32, bool) {
	return v.SignTime(parent.ID)
}

func (v literalVictim) digest(_ consensus.State, b *types.Block) types.Hash {
	return literal.Digest(b.Transactions[0])
}

// poofVictim is the production chain manager, on a store in memory.
type poofVictim struct {
	*chain.Manager
	t      *testing.T
	cancel context.CancelFunc
	done   *sync.WaitGroup
}

func byPoOF(t *testing.T, net *consensus.Network) victim {
	m, err := chain.New(net, chaintest.NewStore(), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	v := poofVictim{m, t, cancel, new(sync.WaitGroup)}
	v.done.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return v
}

func (v poofVictim) stop() {
	v.cancel()
	v.done.Wait()
}

func (v poofVictim) add(b *types.Block) (chain.Result, error) { return v.AddBlock(b) }
func (v poofVictim) tip() consensus.State                     { return v.Tip() }
func (v poofVictim) bits(parent consensus.State) uint32       { return parent.NextBits() }
func (v poofVictim) minTime(parent consensus.State) uint32    { return parent.MinTime() }

func (v poofVictim) futureLimit() time.Duration {
	return time.Duration(v.Network().FutureLimitSeconds) * time.Second
}

func (v poofVictim) child(parent consensus.State, b *types.Block) consensus.State {
	return parent.Child(&b.SignedHeader, b.Transactions[0])
}

func (v poofVictim) state(id types.Hash) (consensus.State, bool) {
	s, ok, err := v.State(id)
	if err != nil {
		v.t.Fatal(err)
	}
	return s, ok
}

func (v poofVictim) block(id types.Hash) *types.Block {
	b, _, err := v.Block(id)
	if err != nil {
		v.t.Fatal(err)
	}
	return b
}

// signTime follows S4: a validator signs while the parent is known to it for less
// than a slot is open, with a time inside the slot's window.
func (v poofVictim) signTime(parent consensus.State, index uint8) (uint32, bool) {
	from, to := parent.SignedWindow(index)
	return min(max(unixNow(), from), to), !v.Closed(&parent)
}

func (v poofVictim) digest(parent consensus.State, b *types.Block) types.Hash {
	return consensus.SlotDigest(v.Network().ID, parent.ValidatorSetID(), parent.ChildHeight(), b.Header.ID())
}

func (v poofVictim) vote(w *world, slot consensus.State) {
	parent, _ := v.state(v.block(slot.ID).PrevBlock)
	voters := parent.Voters()
	l := consensus.Link{Set: voters.ID(), Source: v.Standing().Certified, Target: slot.Checkpoint()}
	for i, key := range voters.Keys() {
		a := consensus.Attestation{Link: l, Index: uint8(i), Signature: w.gen.Secret(key).Sign(l.Digest(w.net.ID))}
		if _, err := v.AddAttestation(a); err != nil {
			w.fatalf("vote %d for slot %d: %v", i, slot.Height, err)
		}
	}
}

func unixNow() uint32 { return uint32(time.Now().Unix()) }
