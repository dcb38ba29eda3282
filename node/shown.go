package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Shown is how far the chain shows a key to have signed: the highest block of it,
// and the highest target that a certificate counts its vote for; 0: none.
type Shown struct {
	Key         types.PublicKey
	Block, Vote uint32
}

// ErrUntold marks a signer that has not been told yet, since its start, what the
// chain shows of its keys.
var ErrUntold = errors.New("signer was not told what the chain shows of its keys")

// shownSlots is how many slots below the tip are looked at: a key that signed none
// of them is one that the journal is left alone with.
const shownSlots = 1000

// shownChain is what shown reads.
type shownChain interface {
	Tip() consensus.State
	BestID(height uint32) (types.Hash, bool, error)
	Header(id types.Hash) (types.SignedHeader, bool, error)
	State(id types.Hash) (consensus.State, bool, error)
	Certificates() []consensus.Certificate
}

// shown returns what the best chain, and the newest certificates, show of keys.
func shown(c shownChain, keys []types.PublicKey) (tip uint32, list []Shown, err error) {
	at := make(map[types.PublicKey]*Shown, len(keys))
	for _, k := range keys {
		at[k] = &Shown{Key: k}
	}
	state := c.Tip()
	n := state.Network
	missing := len(at)
	for height, i := state.Height-state.Height%n.N, 0; height > 0 && missing > 0 && i < shownSlots; height, i = height-n.N, i+1 {
		signer, ok, err := signerAt(c, height)
		if err != nil {
			return 0, nil, err
		}
		if s := at[signer]; ok && s != nil && s.Block == 0 {
			s.Block = height
			missing--
		}
	}
	for _, cert := range c.Certificates() {
		voters, ok, err := votersOf(c, &cert)
		if err != nil {
			return 0, nil, err
		}
		for i := 0; ok && i < len(voters); i++ {
			if s := at[voters[i]]; s != nil && cert.Signers>>i&1 == 1 {
				s.Vote = max(s.Vote, cert.Target.Height)
			}
		}
	}
	for _, k := range keys {
		list = append(list, *at[k])
	}
	return state.Height, list, nil
}

// signerAt returns the key that signed the slot at height; ok is false if it was
// mined.
func signerAt(c shownChain, height uint32) (key types.PublicKey, ok bool, err error) {
	id, ok, err := c.BestID(height)
	if err != nil || !ok {
		return key, false, err
	}
	header, ok, err := c.Header(id)
	if err != nil || !ok || len(header.VchBlockSig) == 0 {
		return key, false, err
	}
	sig, err := types.ParseBlockSig(header.VchBlockSig)
	if err != nil {
		return key, false, fmt.Errorf("signature of the block at height %d: %w", height, err)
	}
	parent, ok, err := c.State(header.Header.PrevBlock)
	if err != nil || !ok || int(sig.Index) >= len(parent.Validators().Keys) {
		return key, false, err
	}
	return parent.Validators().Keys[sig.Index], true, nil
}

// votersOf returns the keys that the bits of a certificate stand for; ok is false
// while its target is not stored.
func votersOf(c shownChain, cert *consensus.Certificate) (keys []types.PublicKey, ok bool, err error) {
	header, ok, err := c.Header(cert.Target.ID)
	if err != nil || !ok {
		return nil, false, err
	}
	parent, ok, err := c.State(header.Header.PrevBlock)
	if err != nil || !ok {
		return nil, false, err
	}
	return parent.Voters().Keys(), true, nil
}

// teller is a signer that is told what the chain shows when it is first asked for
// something, and whenever it says that it does not know: it was restarted.
type teller struct {
	Signer
	chain shownChain
	first sync.Once
}

func (t *teller) Keys(ctx context.Context) ([]types.PublicKey, error) {
	keys, err := t.Signer.Keys(ctx)
	if err == nil && len(keys) > 0 {
		// If it fails, the signer will ask.
		t.first.Do(func() { _ = t.tell(ctx, keys) })
	}
	return keys, err
}

func (t *teller) SignSlot(ctx context.Context, p *consensus.Proposal) ([64]byte, error) {
	return t.telling(ctx, func() ([64]byte, error) { return t.Signer.SignSlot(ctx, p) })
}

func (t *teller) Attest(ctx context.Context, b *consensus.Ballot) ([64]byte, error) {
	return t.telling(ctx, func() ([64]byte, error) { return t.Signer.Attest(ctx, b) })
}

func (t *teller) telling(ctx context.Context, ask func() ([64]byte, error)) ([64]byte, error) {
	sig, err := ask()
	if !errors.Is(err, ErrUntold) {
		return sig, err
	}
	keys, err := t.Signer.Keys(ctx)
	if err != nil {
		return sig, err
	}
	if err := t.tell(ctx, keys); err != nil {
		return sig, err
	}
	return ask()
}

func (t *teller) tell(ctx context.Context, keys []types.PublicKey) error {
	tip, list, err := shown(t.chain, keys)
	if err != nil {
		return fmt.Errorf("looking for the signatures of this box's keys: %w", err)
	}
	if err := t.Tell(ctx, tip, list); err != nil {
		return fmt.Errorf("tell signer what the chain shows of its keys: %w", err)
	}
	return nil
}
