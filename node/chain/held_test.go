package chain_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// heldTest runs a manager inside a bubble whose clock stands at the time of
// the tip, the block before a slot.
func heldTest(t *testing.T, test func(t *testing.T, n *node, tip consensus.State, log *lockedBuffer)) {
	synctest.Test(t, func(t *testing.T) {
		start := uint32(time.Now().Unix())
		net := testNetwork(t, func(p *consensus.Params) {
			p.GenesisTime = start - (testN-1)*testInterval
			p.CoinbaseMaturity = 2
		})
		s := chaintest.NewStore()
		log := new(lockedBuffer)
		m, err := chain.New(net, s, time.Now, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		n := &node{tb: t, net: net, store: s, m: m, at: net.ID, followed: consensus.Coins{}}
		blocks, tip := branch(net.GenesisState(), testN-1, 0)
		n.add(chain.Connected, blocks...)
		n.run()
		defer func() { n.stop() }() // or a failure would let the bubble's clock run for ever
		test(t, n, tip, log)
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestHeld: a fallback block found early becomes the tip when the slot has been
// open for as long as its parent is known here (L1), though the future limit lets
// it in before.
func TestHeld(t *testing.T) {
	heldTest(t, func(t *testing.T, n *node, tip consensus.State, _ *lockedBuffer) {
		early, state := recipe{}.make(tip) // header time is testOpen+1 ahead
		n.add(chain.Held, early, early)
		n.tip(tip)
		child, _ := recipe{}.make(state)
		n.refused(child, chain.ErrUnknownParent)
		changed := n.m.Changed()
		sent := time.Now()
		<-changed
		if waited := time.Since(sent); waited != testOpen*time.Second {
			t.Errorf("released after %v", waited)
		}
		n.tip(state)
		n.check()
		n.add(chain.Known, early)
	})
}

func TestHeldOrder(t *testing.T) {
	heldTest(t, func(t *testing.T, n *node, tip consensus.State, _ *lockedBuffer) {
		late, _ := recipe{delay: 300, tag: 1}.make(tip)
		early, state := recipe{delay: 200, tag: 2}.make(tip)
		n.add(chain.Held, late, early)
		<-n.m.Changed()
		n.tip(state) // the one that is due first was seen first, or has the lower id
	})
}

// TestNotHeld: what is wrong, or further ahead than a slot is open, is refused.
func TestNotHeld(t *testing.T) {
	heldTest(t, func(t *testing.T, n *node, tip consensus.State, _ *lockedBuffer) {
		far, _ := recipe{delay: testClose + testFuture + 1}.make(tip)
		n.refused(far, consensus.RuleTimeFuture)
		near, _ := recipe{delay: testClose + testFuture}.make(tip)
		n.add(chain.Held, near)
		weak, _ := recipe{tag: 1}.make(tip)
		target := tip.NextTarget()
		for types.HashMeets(weak.Header.ID(), &target) {
			weak.Nonce++
		}
		n.refused(weak, consensus.RuleWork)
		other, _ := recipe{tag: 2}.make(tip)
		other.Transactions[0].LockTime++
		n.refused(other, consensus.RuleMerkleRoot)
	})
}

// TestHeldBound: when too many wait, those that are due first are kept.
func TestHeldBound(t *testing.T) {
	heldTest(t, func(t *testing.T, n *node, tip consensus.State, _ *lockedBuffer) {
		for i := range uint32(chain.MaxHeld) {
			b, _ := recipe{tag: i, delay: 300}.make(tip)
			n.add(chain.Held, b)
		}
		later, _ := recipe{tag: 98, delay: 300}.make(tip)
		n.refused(later, consensus.RuleTimeFuture)
		sooner, state := recipe{tag: 99, delay: 299}.make(tip)
		n.add(chain.Held, sooner)
		<-n.m.Changed()
		n.tip(state)
		// The others follow a second later, less the one that had to go.
		time.Sleep(2 * time.Second)
		synctest.Wait()
		tips, err := n.m.Tips()
		if err != nil || len(tips) != chain.MaxHeld {
			t.Errorf("%d branches, %v", len(tips), err)
		}
		n.check()
	})
}

// TestHeldInvalid: a held block that proves invalid when due is logged with its
// rule and gone; one that cannot be stored is kept until it can.
func TestHeldInvalid(t *testing.T) {
	heldTest(t, func(t *testing.T, n *node, tip consensus.State, log *lockedBuffer) {
		bad, _ := recipe{over: 1}.make(tip)
		n.add(chain.Held, bad)
		s := n.store.(*chaintest.Store)
		time.Sleep(testOpen * time.Second)
		synctest.Wait()
		n.tip(tip)
		if !strings.Contains(log.String(), "rule=coinbase-value") || !strings.Contains(log.String(), "result=parked") {
			t.Errorf("log:\n%s", log)
		}
		if e, ok, _ := s.Entry(bad.Header.ID()); !ok || e.Invalid != consensus.RuleCoinbaseValue {
			t.Errorf("entry: %v, %+v", ok, e)
		}
		// The node's clock runs again from here.
		failing, top := recipe{delay: testOpen + 200}.make(tip)
		n.add(chain.Held, failing)
		s.SetFail(func(call string) (bool, bool) { return call == "Commit", false })
		time.Sleep(210 * time.Second)
		synctest.Wait()
		if n := strings.Count(log.String(), "held block could not be stored"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log)
		}
		n.tip(tip)
		s.SetFail(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		n.tip(top)
	})
}
