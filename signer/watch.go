package signer

import (
	"context"
	"slices"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

// How often tokens are looked after. A key that is not ready is looked for after a
// pause of five times what the last look took, so that looking takes at most a
// sixth of the time, and a token whose module answers quickly signs again within a
// second of its return. While all keys are ready, whether their tokens are still
// there is asked now and then: a slot may be an hour away, and the operator should
// not have to wait for it to hear that a token was pulled.
const (
	shortestLook = 300 * time.Millisecond
	longestLook  = 30 * time.Second
	checkEvery   = 15 * time.Second
)

func pauseAfter(took time.Duration) time.Duration {
	return min(max(5*took, shortestLook), longestLook)
}

// watch looks for absent tokens until ctx ends, without a login before the token
// is there.
func (t *tokens) watch(ctx context.Context) {
	pause := shortestLook
	for {
		if !t.waiting() {
			pause = checkEvery
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-t.missed:
			timer.Stop()
		case <-timer.C:
		}
		began := t.clock()
		t.present(ctx)
		if err := t.prepare(ctx); err != nil && ctx.Err() == nil {
			t.log.Error("a key needs a person, then a restart of the signer", "err", err)
		}
		pause = pauseAfter(t.clock().Sub(began))
	}
}

// waiting reports whether a key may become ready by itself.
func (t *tokens) waiting() bool {
	return slices.ContainsFunc(t.keys, func(k *heldKey) bool {
		err := t.Ready(k.PublicKey)
		return err != nil && !IsTerminal(err)
	})
}

// present asks whether the tokens of the keys that are ready are still there.
func (t *tokens) present(ctx context.Context) {
	ready := slices.DeleteFunc(slices.Clone(t.keys), func(k *heldKey) bool { return t.Ready(k.PublicKey) != nil })
	if len(ready) == 0 {
		return
	}
	list, err := t.hsm.ListTokens(ctx)
	if ctx.Err() != nil {
		return
	}
	for _, k := range ready {
		t.mu.Lock()
		ref := k.ref
		t.mu.Unlock()
		lost := err
		if err == nil && !slices.ContainsFunc(list, func(i worker.TokenInfo) bool { return i.TokenRef == ref.Token }) {
			lost = &worker.Error{Kind: worker.ErrTokenNotFound, Message: "token " + ref.Token.String() + " went away: connect it again"}
		}
		if lost != nil {
			t.set(k, ref, lost)
			t.log.Warn("key is not available", "key", k.PublicKey, "err", lost)
		}
	}
}
