package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
)

// signerGroup are the signers of one node: with keys of their own, or, as a box
// and its stand-by, with the same ones. What a key is to sign goes to a signer
// that has it ready, the one that leads first; when it does not answer, to the
// next one. Journal and cluster see to it that no two sign differently.
type signerGroup struct {
	network *consensus.Network
	members []slotSigner

	mu   sync.Mutex
	late map[int]bool                     // members that did not answer the last time
	by   map[types.PublicKey][]slotSigner // as of the last call of Keys
}

// How long a signer that does not answer keeps the others waiting; and one that did
// not answer the last time, either.
const (
	statesTimeout = time.Second
	againTimeout  = 100 * time.Millisecond
)

// Keys returns the keys that any of them has ready. It fails when none answers.
func (g *signerGroup) Keys(ctx context.Context) ([]types.PublicKey, error) {
	states, errs := make([]signer.Status, len(g.members)), make([]error, len(g.members))
	var wg sync.WaitGroup
	for i, m := range g.members {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, g.patience(i))
			defer cancel()
			states[i], errs[i] = m.client.Status(ctx)
		})
	}
	wg.Wait()
	var keys []types.PublicKey
	by := make(map[types.PublicKey][]slotSigner)
	answered := false
	for i := range states {
		if errs[i] != nil {
			continue
		}
		answered = true
		if states[i].Halt != nil {
			continue
		}
		for _, k := range readyKeys(&states[i]) {
			if !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
			if states[i].Role == signer.RoleStandBy {
				by[k] = append(by[k], g.members[i])
			} else {
				by[k] = append([]slotSigner{g.members[i]}, by[k]...)
			}
		}
	}
	g.mu.Lock()
	for i, err := range errs {
		g.late[i] = err != nil
	}
	g.mu.Unlock()
	if !answered {
		return nil, errors.Join(errs...)
	}
	g.mu.Lock()
	g.by = by
	g.mu.Unlock()
	return keys, nil
}

func (g *signerGroup) patience(i int) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.late[i] {
		return againTimeout
	}
	return statesTimeout
}

func (g *signerGroup) of(key types.PublicKey) []slotSigner {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.by[key]
}

// Tell tells each of them; those that do not answer will ask.
func (g *signerGroup) Tell(ctx context.Context, tip uint32, shown []node.Shown) error {
	errs := make([]error, len(g.members))
	var wg sync.WaitGroup
	for i, m := range g.members {
		wg.Go(func() { errs[i] = m.Tell(ctx, tip, shown) })
	}
	wg.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	return errors.Join(errs...)
}

func (g *signerGroup) Anchor(ctx context.Context, key types.PublicKey) (*consensus.AuditAnchor, error) {
	return first(g, key, func(m slotSigner) (*consensus.AuditAnchor, error) { return m.Anchor(ctx, key) })
}

func (g *signerGroup) SignSlot(ctx context.Context, p *consensus.Proposal) ([64]byte, error) {
	key, _ := g.network.Key(p)
	return first(g, key, func(m slotSigner) ([64]byte, error) { return m.SignSlot(ctx, p) })
}

func (g *signerGroup) Attest(ctx context.Context, b *consensus.Ballot) ([64]byte, error) {
	key, err := g.network.ValidateBallot(b)
	if err != nil {
		return [64]byte{}, fmt.Errorf("%w: %w", node.ErrRefused, err)
	}
	return first(g, key, func(m slotSigner) ([64]byte, error) { return m.Attest(ctx, b) })
}

// first asks those that have the key one after the other. The error is that of
// the first one, unless another one wants to be told what the chain shows.
func first[T any](g *signerGroup, key types.PublicKey, ask func(slotSigner) (T, error)) (none T, err error) {
	members := g.of(key)
	if len(members) == 0 {
		return none, fmt.Errorf("no signer has %s ready", key)
	}
	for _, m := range members {
		got, failed := ask(m)
		if failed == nil {
			return got, nil
		}
		if err == nil || errors.Is(failed, node.ErrUntold) {
			err = failed
		}
	}
	return none, err
}
