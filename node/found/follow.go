package found

import (
	"context"
	"errors"
	"time"
)

// judge closes the record of a block whose fate is decided, and says when another
// may be offered again. offered is what the chain said to it.
func (k *Keeper) judge(e *entry, offered error) {
	place, rule, err := k.cfg.Chain.Place(e.id, e.Height)
	switch {
	case err != nil:
		k.later(e, err)
	case place == Best:
		k.close(e, "connected", nil)
	case place == Beaten:
		k.close(e, "beaten", nil)
	case place == Invalid:
		k.close(e, "refused", errors.New(rule))
	case place == Waiting:
	case offered == nil: // held in memory
		k.later(e, nil)
	case !errors.Is(offered, ErrNotNow):
		k.close(e, "refused", offered)
	case k.cfg.Chain.Height() >= e.Height+giveUp:
		k.close(e, "refused", offered)
	default:
		k.later(e, offered)
	}
}

// later has a block offered again once it is due.
func (k *Keeper) later(e *entry, why error) {
	k.mu.Lock()
	e.again = k.cfg.Now()
	if due := k.cfg.Chain.Due(e.Block); due.After(e.again) {
		e.again = due
	}
	// By then the chain has released by itself what it holds.
	e.again = e.again.Add(pause)
	said := e.saidChain
	e.saidChain = e.saidChain || why != nil
	k.mu.Unlock()
	if why != nil && !said {
		k.cfg.Log.Error("the chain cannot take a found block now, trying again", "block", e.id, "height", e.Height, "err", why)
	}
}

// close drops a record, unless the books still have to hear of it.
func (k *Keeper) close(e *entry, fate string, why error) {
	k.mu.Lock()
	if k.open[e.id] != e || !e.told {
		k.mu.Unlock()
		return
	}
	delete(k.open, e.id)
	k.version++
	if why != nil {
		if len(k.refused) >= maxOpen {
			clear(k.refused)
		}
		k.refused[e.id] = why.Error()
	}
	k.mu.Unlock()
	k.ring()
	log := k.cfg.Log.With("block", e.id, "height", e.Height, "finder", e.Finder)
	switch {
	case why != nil:
		log.Error("found block: refused by the chain for good", "err", why)
	default:
		log.Info("found block: " + fate)
	}
}

// Resume offers the blocks of all open records to the chain. It is called at the
// start, before there is new work.
func (k *Keeper) Resume() {
	k.mu.Lock()
	for _, e := range k.sorted() {
		k.cfg.Log.Info("found block: offered to the chain again", "block", e.id, "height", e.Height, "found", e.Time)
	}
	k.mu.Unlock()
	k.round()
}

// Run follows the open records until ctx ends, which is no error.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		changed := k.cfg.Chain.Changed()
		var timer <-chan time.Time
		if wait, waiting := k.round(); waiting {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer:
		case <-k.wake:
		}
	}
}

// Close writes what is not written yet. Nothing may be submitted any more.
func (k *Keeper) Close() error { return k.save(k.current()) }

func (k *Keeper) current() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.version
}

// round looks at every open record, and says how long the next look can wait.
func (k *Keeper) round() (wait time.Duration, waiting bool) {
	k.mu.Lock()
	entries := k.sorted()
	k.mu.Unlock()
	for _, e := range entries {
		k.mu.Lock()
		busy, due := e.busy, !k.cfg.Now().Before(e.again)
		k.mu.Unlock()
		if busy {
			continue
		}
		k.tell(e)
		k.follow(e, due)
	}
	late := k.tidy()
	k.mu.Lock()
	defer k.mu.Unlock()
	wait, waiting = glance, len(k.open) > 0 || late
	now := k.cfg.Now()
	for _, e := range k.open {
		switch {
		case !e.told:
			wait = min(wait, pause)
		case e.again.After(now):
			wait = min(wait, e.again.Sub(now))
		}
	}
	if late {
		wait = min(wait, pause)
	}
	return wait, waiting
}

// follow offers a block that the chain does not have, if it is time to.
func (k *Keeper) follow(e *entry, due bool) {
	place, _, err := k.cfg.Chain.Place(e.id, e.Height)
	switch {
	case err != nil || place != Nowhere:
		k.judge(e, nil)
	case due:
		_, err := k.cfg.Chain.Offer(e.Block)
		k.judge(e, err)
	}
}

// tidy writes the journal when it holds closed records, or lacks open ones, but not
// at once: the next block that is found may do it. It reports whether it has to be
// called again.
func (k *Keeper) tidy() (late bool) {
	k.mu.Lock()
	clean, age, version := k.saved == k.version, k.cfg.Now().Sub(k.savedAt), k.version
	k.mu.Unlock()
	if clean {
		return false
	}
	if age >= 0 && age < pause {
		return true
	}
	if err := k.save(version); err != nil {
		k.cfg.Log.Debug("the journal of found blocks cannot be written", "err", err)
		return true
	}
	return false
}
