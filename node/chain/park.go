package chain

import (
	"fmt"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Local policy (docs/protocol.md, "Local policy"): what may wait here though it is
// valid. It can keep a node from changing over to a chain for a while, never
// make it refuse one for good, and other nodes may decide otherwise.

// noTime is later than any time a block is parked until.
var noTime = time.Unix(1<<40, 0)

// maxArrivals bounds the memory of arrivals: each is a block that has cost full
// proof of work, and those of old slots no longer matter.
const maxArrivals = 4096

// arrived notes when the parent of a slot was first seen.
func (m *Manager) arrived(e *Entry) {
	if !e.State.ChildIsSlot() {
		return
	}
	if _, ok := m.arrivals[e.State.ID]; ok {
		return
	}
	if len(m.arrivals) >= maxArrivals {
		clear(m.arrivals)
	}
	m.arrivals[e.State.ID] = m.now()
}

// arrival returns when a block was first seen: at the start of this process if
// it was stored before that.
func (m *Manager) arrival(id types.Hash) time.Time {
	if t, ok := m.arrivals[id]; ok {
		return t
	}
	return m.started
}

// parkDepth is how many blocks of the best chain other votes than certificates
// can undo: two slots' worth.
func (m *Manager) parkDepth() uint32 { return 2*m.net.N - 1 }

// behind reports whether this node is catching up: its best chain is old, and
// its blocks came in much faster than they were made. Then when a block arrived says
// nothing about when that was. Age alone would not do: a miner who finds most
// blocks can date them all back, and must not switch this policy off.
func (m *Manager) behind() bool {
	if m.now().Unix()-int64(m.tip.State.Time) <= 2*int64(m.net.SlotCloseSeconds) {
		return false
	}
	// The parent of a slot, whose arrival is known, a whole interval of slots ago.
	n := m.net.N
	back := max((m.tip.State.Height+1)/n*n, n+1) - n - 1
	id, ok, err := m.store.BestID(back)
	if err != nil || !ok {
		return true // what fails here fails everywhere
	}
	e, ok, err := m.store.Entry(id)
	if err != nil || !ok {
		return true
	}
	made := time.Duration(m.tip.State.Time-e.State.Time) * time.Second
	return catchUpSpeed*m.now().Sub(m.arrival(id)) < made
}

// catchUpSpeed is how many times faster than their times say blocks come in to a
// node that is catching up: more than chance ever makes of ten mined blocks.
const catchUpSpeed = 4

// park cuts a path down to what may become the best chain now (L1, L2). What is
// cut off by L1 is looked at again at m.parkedUntil.
func (m *Manager) park(p *path) error {
	if m.behind() {
		return nil
	}
	// Up to a certified slot a majority has seen the branch.
	certified, _, err := m.highest(p)
	if err != nil {
		return err
	}
	parent := &p.fork
	for i := range p.up {
		if due := m.gate(parent, &p.up[i]); p.up[i].State.Height > certified.Height && m.now().Before(due) {
			if due.Before(m.parkedUntil) {
				m.parkedUntil = due
			}
			p.up = p.up[:i]
			break
		}
		parent = &p.up[i]
	}
	if m.tip.State.Height-p.fork.State.Height <= m.parkDepth() {
		return nil
	}
	w, ok, err := m.weigh(p)
	if err != nil || !ok || w.Certified > m.weight.Certified || w.Compare(m.weight) < 0 {
		return err
	}
	// Where a majority is, it would certify meanwhile. Where none is, as after a
	// split in three, nobody may wait for ever.
	due := m.deepSince(p.up[0].State.ID).Add(2 * time.Duration(m.net.N) * time.Duration(m.net.IntervalSeconds) * time.Second)
	if !m.now().Before(due) {
		return nil
	}
	if due.Before(m.parkedUntil) {
		m.parkedUntil = due
	}
	p.up = nil
	return nil
}

// maxDeep bounds the deep branches that are waited for. Each is better than the
// best chain, so it has cost more work or holds more signatures.
const maxDeep = 64

// deepSince returns since when the deep branch that starts with this block has
// been better, while nothing new was certified on the best chain.
func (m *Manager) deepSince(first types.Hash) time.Time {
	if m.deepCertified != m.certified {
		m.deepCertified = m.certified
		clear(m.deep)
	}
	if _, ok := m.deep[first]; !ok {
		if len(m.deep) >= maxDeep {
			clear(m.deep)
		}
		m.deep[first] = m.now()
	}
	return m.deep[first]
}

// gate returns when the block e may at the earliest follow its parent on the
// best chain (L1): a fallback block once the slot was open to miners for as long
// as its parent is known here, a signed one after its rank's delay. However its
// maker set the times, a branch that was kept secret waits.
func (m *Manager) gate(parent, e *Entry) time.Time {
	if !m.net.IsSlot(e.State.Height) {
		return time.Time{}
	}
	delay := m.net.SlotOpenSeconds
	if sig, err := types.ParseBlockSig(e.Header.VchBlockSig); err == nil {
		delay = parent.State.Rank(sig.Index) * m.net.RankStepSeconds
	}
	return m.arrival(parent.State.ID).Add(time.Duration(delay) * time.Second)
}

// belowFinal refuses a block that cannot be on an allowed chain, as far as its
// height tells.
func (m *Manager) belowFinal(parent *Entry, id types.Hash) error {
	if r := m.net.Release; r != nil && parent.State.ChildHeight() == r.Height && id != r.Block {
		return &consensus.RuleError{Rule: consensus.RuleBelowFinal, Detail: fmt.Sprintf("this release knows block %s at height %d", r.Block, r.Height)}
	}
	if root := m.tally.Root(); parent.State.Height < root.Height {
		return &consensus.RuleError{Rule: consensus.RuleBelowFinal, Detail: fmt.Sprintf("slot %d, block %s, is final", root.Height, root.ID)}
	}
	return nil
}

// besideFinal refuses what builds on a path that is not allowed.
func (m *Manager) besideFinal(p *path) error {
	ok, err := m.allowed(p)
	if err != nil || ok {
		return err
	}
	return &consensus.RuleError{Rule: consensus.RuleBelowFinal, Detail: fmt.Sprintf("block %s is on another chain than the final slot", p.end().State.ID)}
}
