package node

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
)

// standingFake is a chain of which only its standing is known.
type standingFake struct {
	mu       sync.Mutex
	standing consensus.Standing
	changed  chan struct{}
}

func (f *standingFake) Standing() consensus.Standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.standing
}

func (f *standingFake) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// set makes the chain one of this height and rings. Slots passed without being
// signed were mined.
func (f *standingFake) set(height, signed, certified, final uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	tip := &f.standing.Tip
	a := consensus.Authority{Signers: tip.Validators(), Slots: tip.Proven().Slots}
	for h := tip.Height - tip.Height%10 + 10; h <= signed; h += 10 {
		a.Slots = append(a.Slots, consensus.Slot{Checkpoint: consensus.Checkpoint{Height: h}})
	}
	var err error
	if tip.Authority, err = consensus.DecodeAuthority(a.Bytes()); err != nil {
		panic(err)
	}
	f.standing.Tip.Height, f.standing.Tip.LastSigned = height, signed
	f.standing.Certified.Height, f.standing.Final.Height = certified, final
	close(f.changed)
	f.changed = make(chan struct{})
}

// TestWatchStanding: what the validators begin to owe is a warning, once; so is
// that all is well again, which is none.
func TestWatchStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := chaingen.New(t, chaingen.Params()).Network()
		f := &standingFake{standing: consensus.Standing{Tip: net.GenesisState()}, changed: make(chan struct{})}
		var log logLines
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- watchStanding(ctx, f, slog.New(&log)) }()
		const (
			unsigned    = "WARN degraded: no validator has signed a slot since 30: blocks are secured by work alone"
			uncertified = "WARN degraded: no slot was certified since 50: too few validators vote"
			unfinal     = "WARN degraded: no slot became final since 50: not enough validators vote"
			well        = "INFO validators sign, certify and finalise again"
		)
		for i, step := range []struct {
			height, signed, certified, final uint32
			log                              string // what is new; "": nothing
		}{
			{9, 0, 0, 0, ""},
			{20, 20, 10, 0, ""},
			{29, 20, 20, 10, ""},
			{30, 20, 20, 10, unsigned}, // a fallback block
			{31, 20, 20, 10, ""},
			{40, 20, 20, 10, ""}, // and another
			{50, 50, 20, 10, well},
			{60, 60, 20, 10, uncertified},
			{61, 60, 20, 10, ""},
			{70, 70, 60, 20, unfinal},
			{80, 80, 80, 50, ""}, // still late, though it moves
			{81, 80, 80, 70, well},
			{90, 90, 80, 70, ""},
			{100, 90, 80, 70, "WARN degraded: no validator has signed a slot since 100: blocks are secured by work alone"},
		} {
			before := len(log.lines)
			f.set(step.height, step.signed, step.certified, step.final)
			synctest.Wait()
			var want []string
			if step.log != "" {
				want = []string{step.log}
			}
			if got := log.lines[before:]; !slices.Equal(got, want) {
				t.Errorf("step %d, height %d: logged %q, want %q", i, step.height, got, want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestWatchStandingAtStart: a node that starts degraded says so.
func TestWatchStandingAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := chaingen.New(t, chaingen.Params()).Network()
		f := &standingFake{standing: consensus.Standing{Tip: net.GenesisState()}, changed: make(chan struct{})}
		f.set(25, 10, 10, 0)
		var log logLines
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := watchStanding(ctx, f, slog.New(&log)); err != nil || len(log.lines) != 1 {
			t.Errorf("ended with %v, logged %q", err, log.lines)
		}
	})
}
