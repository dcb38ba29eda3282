package chain

import (
	"context"
	"errors"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// maxHeld bounds the blocks that wait for their time. Each has cost its maker
// full proof of work, or is a validator's.
const maxHeld = 32

// clockCheck is how often the wall clock is read while blocks wait: timers do
// not follow when it is set.
const clockCheck = time.Second

// hold keeps a block whose time is ahead of the clock, a fallback block found
// early above all. refused is what CheckFuture says of it; that is returned
// where holding makes no sense: no honest block is further ahead than a slot
// is open, and when there are too many the earliest are kept.
func (m *Manager) hold(id types.Hash, b *types.Block, refused error) (Result, error) {
	if _, ok := m.held[id]; ok {
		return Held, nil
	}
	if time.Duration(m.net.SlotCloseSeconds)*time.Second < m.due(b).Sub(m.now()) {
		return 0, refused
	}
	if len(m.held) >= maxHeld {
		latest, last := m.latestHeld()
		if last.Time <= b.Time {
			return 0, refused
		}
		delete(m.held, latest)
	}
	m.held[id] = b
	m.wakeRun()
	return Held, nil
}

func (m *Manager) wakeRun() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Manager) latestHeld() (id types.Hash, b *types.Block) {
	for i, h := range m.held {
		if b == nil || h.Time > b.Time || (h.Time == b.Time && i.Compare(id) > 0) {
			id, b = i, h
		}
	}
	return id, b
}

// due returns when the future limit lets a block in.
func (m *Manager) due(b *types.Block) time.Time {
	return time.Unix(int64(b.Time)-int64(m.net.FutureLimitSeconds), 0)
}

// Run releases held and parked blocks when they are due. It returns nil when ctx
// ends.
func (m *Manager) Run(ctx context.Context) error {
	for {
		var timer <-chan time.Time
		if wait, waiting := m.release(); waiting {
			timer = time.After(min(wait, clockCheck))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer:
		case <-m.wake:
		}
	}
}

// release adds the held blocks that are due, oldest first, follows what was
// parked or could not be followed, and returns how long the next one has to wait.
func (m *Manager) release() (wait time.Duration, waiting bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	// What rings while this runs is in the answer; rung by failures it would
	// keep Run from waiting.
	defer func() {
		select {
		case <-m.wake:
		default:
		}
	}()
	if !m.now().Before(m.parkedUntil) {
		m.unsettled = true
	}
	if m.refresh() != nil {
		return clockCheck, true
	}
	wait, waiting = m.releaseHeld()
	if m.parkedUntil == noTime {
		return wait, waiting
	}
	parked := m.parkedUntil.Sub(m.now())
	if !waiting || parked < wait {
		wait = parked
	}
	return wait, true
}

func (m *Manager) releaseHeld() (wait time.Duration, waiting bool) {
	for {
		id, b := m.earliestHeld()
		if b == nil {
			return 0, false
		}
		if wait := m.due(b).Sub(m.now()); wait > 0 {
			return wait, true
		}
		if !m.releaseOne(id, b) {
			return clockCheck, true
		}
	}
}

func (m *Manager) earliestHeld() (id types.Hash, b *types.Block) {
	for i, h := range m.held {
		if b == nil || h.Time < b.Time || (h.Time == b.Time && i.Compare(id) < 0) {
			id, b = i, h
		}
	}
	return id, b
}

// releaseOne adds a block that is due. It reports false when that failed for
// reasons that are not the block's, such as a full disk: then it stays, and is
// tried again.
func (m *Manager) releaseOne(id types.Hash, b *types.Block) bool {
	delete(m.held, id)
	result, err := m.add(b)
	if err == nil {
		m.log.Info("held block was due", "id", id, "time", b.Time, "result", result)
		m.stuck = false
		return true
	}
	if rule, ok := consensus.RuleOf(err); ok || errors.Is(err, ErrUnknownParent) {
		m.log.Warn("held block was refused", "id", id, "rule", rule, "error", err)
		return true
	}
	m.held[id] = b
	if !m.stuck {
		m.log.Error("held block could not be stored, trying again", "id", id, "error", err)
	}
	m.stuck = true
	return false
}
