package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

var (
	errAway = errors.New("no such socket")
	errLost = errors.New("token is busy")
)

// TestSlotTurns: who signs, and after how long, from keys that come and go.
func TestSlotTurns(t *testing.T) {
	const second = time.Second
	refuse := fmt.Errorf("%w: policy", ErrRefused)
	for _, c := range []struct {
		name  string
		setup func(r *rig)
		rank  uint32
		at    time.Duration
	}{
		{"all keys", func(*rig) {}, 0, 0},
		{"only rank 1", func(r *rig) { r.signer.keys = []uint8{r.index(1)} }, 1, 20 * second},
		{"only rank 2", func(r *rig) { r.signer.keys = []uint8{r.index(2)} }, 2, 40 * second},
		{"only rank 3", func(r *rig) { r.signer.keys = []uint8{r.index(3)} }, 3, 60 * second},
		{"only rank 4", func(r *rig) { r.signer.keys = []uint8{r.index(4)} }, 4, 80 * second},
		{"lowest rank of two, listed last", func(r *rig) { r.signer.keys = []uint8{r.index(4), r.index(2)} }, 2, 40 * second},
		{"a key that no validator has is passed over", func(r *rig) { r.signer.keys = []uint8{200, r.index(1)} }, 1, 20 * second},
		{"in turn fails", func(r *rig) { r.signer.reply[r.index(0)] = always(errLost) }, 1, 20 * second},
		{"in turn refuses", func(r *rig) { r.signer.reply[r.index(0)] = always(refuse) }, 1, 20 * second},
		{"first two fail", func(r *rig) {
			r.signer.reply[r.index(0)], r.signer.reply[r.index(1)] = always(errLost), always(refuse)
		}, 2, 40 * second},
		{"parent 30 s ahead of the clock", func(r *rig) { r.skew = -30 * second }, 0, 0},
		{"parent 60 s ahead of the clock: a second until the block may be seen", func(r *rig) { r.skew = -60 * second }, 0, second},
		{"rank 1 by a clock that is behind", func(r *rig) {
			r.skew = -10500 * time.Millisecond
			r.signer.keys = []uint8{r.index(1)}
		}, 1, 30500 * time.Millisecond},
		{"late start: whoever is due, lowest rank first", func(r *rig) { r.skew = 90 * second }, 0, 0},
		{"last second of the slot", func(r *rig) { r.skew = 600 * second }, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				c.setup(r)
				r.launch()
				r.pass(200 * second)
				r.wantSigned(c.rank, c.at)
				r.stop()
			})
		})
	}
}

func TestSlotRefusedKeyIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.signer.reply[r.index(0)] = always(fmt.Errorf("%w: policy", ErrRefused))
		r.launch()
		r.pass(30 * time.Second)
		r.stop()
		r.wantSigned(1, 20*time.Second)
		if n := r.signer.callsOf(r.index(0)); n != 1 {
			t.Errorf("a refusal was followed by %d more requests", n-1)
		}
	})
}

// TestSlotKeyReturns: the key in turn comes back while the driver waits for
// the turn of another.
func TestSlotKeyReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.signer.keys = []uint8{r.index(4)}
		r.launch()
		r.pass(5500 * time.Millisecond)
		r.none()
		r.signer.set(func() { r.signer.keys = []uint8{r.index(4), r.index(0)} })
		r.pass(keyCheck)
		r.stop()
		r.wantSigned(0, 6*time.Second)
	})
}

// TestSlotSignerReturns: the whole signer is away and comes back.
func TestSlotSignerReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.signer.keysErr = errAway
		r.launch()
		r.pass(30*time.Second + time.Millisecond)
		r.none()
		r.signer.set(func() { r.signer.keysErr = nil })
		r.pass(retryDelay)
		r.stop()
		r.wantSigned(0, 30*time.Second+retryDelay)
		if n := r.log.with(errAway.Error()); n != 1 {
			t.Errorf("the same error was a warning %d times", n)
		}
	})
}

// TestSlotNoBusyLoop: nothing works for a whole slot. The calls are few, the
// warnings fewer, and at the end of the slot it is over.
func TestSlotNoBusyLoop(t *testing.T) {
	for _, c := range []struct {
		name                  string
		setup                 func(r *rig)
		maxAsked, maxSigns    int
		maxWarnings, minSigns int
	}{
		{"signer away", func(r *rig) { r.signer.keysErr = errAway }, 1203, 0, 2, 0},
		{"no key ready", func(r *rig) { r.signer.keys = nil }, 1203, 0, 2, 0},
		{"every key refuses", func(r *rig) {
			for i := range uint8(5) {
				r.signer.reply[i] = always(fmt.Errorf("%w: policy", ErrRefused))
			}
		}, 1290, 5, 8, 5},
		{"every key fails, each with another text", func(r *rig) {
			for i := range uint8(5) {
				n := 0
				r.signer.reply[i] = func(context.Context) error { n++; return fmt.Errorf("failure %d", n) }
			}
		}, 12050, 6015, maxWarnings + 1, 5000},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				c.setup(r)
				r.launch()
				r.pass(602 * time.Second)
				r.none()
				asked, calls := r.signer.seen()
				signs := len(calls)
				if asked > c.maxAsked || signs > c.maxSigns || signs < c.minSigns {
					t.Errorf("keys were asked for %d times (at most %d), signatures %d times (%d to %d)", asked, c.maxAsked, signs, c.minSigns, c.maxSigns)
				}
				if n := r.log.with(""); n > c.maxWarnings || n == 0 {
					t.Errorf("%d warnings, want 1 to %d", n, c.maxWarnings)
				}
				if n := r.log.with("slot closed"); n != 1 {
					t.Errorf("%d warnings that the slot closed, want 1", n)
				}
				r.pass(time.Hour)
				if again, calls := r.signer.seen(); again != asked || len(calls) != signs {
					t.Error("the signer was asked after the slot closed")
				}
				r.stop()
			})
		})
	}
}

func TestSlotClosedAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.skew = 601 * time.Second
		r.launch()
		r.pass(time.Hour)
		r.stop()
		r.none()
		if r.signer.asked != 0 || r.log.with("") != 0 {
			t.Errorf("signer was asked %d times and %d warnings were logged about an old slot", r.signer.asked, r.log.with(""))
		}
	})
}

// TestSlotOrder: the proposal is kept before the signer hears of it.
func TestSlotOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.launch()
		r.pass(0)
		r.stop()
		r.one()
		if want := []string{"save", "sign", "add"}; !slices.Equal(r.events, want) {
			t.Errorf("order %v, want %v", r.events, want)
		}
	})
}

// TestSlotSaveFails: without a kept proposal nobody is asked to sign, and a
// proposal kept in spite of an error is the one that gets signed.
func TestSlotSaveFails(t *testing.T) {
	full := errors.New("no space left on device")
	for _, c := range []struct {
		name   string
		fail   func(m *memoryProposals)
		builds int
	}{
		{"before keeping", func(m *memoryProposals) { m.failBefore = full }, 2},
		{"after keeping", func(m *memoryProposals) { m.failAfter = full }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.signer.keys = []uint8{r.index(0)}
				c.fail(&r.store)
				r.launch()
				r.pass(0)
				if _, calls := r.signer.seen(); len(calls) != 0 {
					t.Error("the signer was asked for a block that is not known to be kept")
				}
				r.pass(retryDelay)
				r.stop()
				r.wantSigned(0, retryDelay)
				if r.build.count != c.builds {
					t.Errorf("%d proposals were built, want %d", r.build.count, c.builds)
				}
			})
		})
	}
}

// TestSlotKilledAfterSigning: the answer is lost, the node killed. The next
// one asks with the very same block, and the signer repeats itself.
func TestSlotKilledAfterSigning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.signer.lose = 1
		r.launch()
		r.pass(0)
		r.stop()
		r.none()
		kept := r.store.kept[10]
		r.skew += 7 * time.Second // a block built now would have another time
		r.launch()
		r.pass(0)
		r.stop()
		r.wantSigned(0, 0)
		if r.build.count != 1 || len(r.signer.calls) != 2 || r.signer.calls[0].block != r.signer.calls[1].block {
			t.Errorf("%d proposals built, signer asked for %v", r.build.count, r.signer.calls)
		}
		signed := r.one().block
		signed.VchBlockSig = placeholder(r.index(0))
		if again, err := loadKept(&r.store, 10); err != nil || string(again[0].Bytes()) != string(signed.Bytes()) || string(kept) != string(r.store.kept[10]) {
			t.Errorf("the signed block is not the kept one byte for byte (err %v)", err)
		}
	})
}

// TestSlotAnswerLostThenOtherKey: the key in turn signed but its answer was
// lost; later ranks, asked meanwhile, are refused. Its block must still be there.
func TestSlotAnswerLostThenOtherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.signer.keys = []uint8{r.index(0), r.index(1)}
		r.signer.hung = true
		r.signer.reply[r.index(0)] = func(context.Context) error {
			if r.signer.isHung() {
				return errLost
			}
			return nil
		}
		r.signer.reply[r.index(1)] = always(fmt.Errorf("%w: one signature per slot", ErrRefused))
		r.launch()
		r.pass(25 * time.Second)
		r.none()
		r.signer.set(func() { r.signer.hung = false })
		r.pass(retryDelay)
		r.stop()
		if a := r.one(); a.block.Header.ID() != r.signer.calls[0].block {
			t.Error("the key in turn was asked for another block after the next key had been asked")
		}
		if r.build.count != 2 {
			t.Errorf("%d proposals were built for two keys", r.build.count)
		}
	})
}

// TestSlotAddFails: the chain cannot store the block. It is the same block, with
// the same signature, that is tried until it can.
func TestSlotAddFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.signer.keys = []uint8{r.index(0)}
		full := errors.New("no space left on device")
		r.addErrs = []error{full, full}
		r.launch()
		r.pass(5 * time.Second)
		r.stop()
		r.wantSigned(0, 2*retryDelay)
		if r.build.count != 1 {
			t.Errorf("%d proposals were built, want 1", r.build.count)
		}
	})
}

func TestSlotParentChanges(t *testing.T) {
	// The siblings of the tip: another parent of slot 10.
	sibling := func(r *rig) *chaingen.Node {
		r.g.SetTip("a8")
		return r.g.Next("b9")
	}
	t.Run("while waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.signer.keys = []uint8{r.index(2)}
			r.launch()
			r.pass(10 * time.Second)
			other := sibling(r)
			r.setTip(other)
			r.pass(60 * time.Second)
			r.stop()
			if a := r.one(); a.block.PrevBlock != other.State.ID || len(r.signer.calls) != 1 {
				t.Errorf("signed on %s, want %s; %d requests", a.block.PrevBlock, other.State.ID, len(r.signer.calls))
			}
		})
	})
	t.Run("while the signer hangs, and back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			first := r.tip
			r.signer.keys = []uint8{r.index(0)}
			var ended []error
			r.signer.reply[r.index(0)] = func(ctx context.Context) error {
				<-ctx.Done()
				ended = append(ended, ctx.Err())
				return ctx.Err()
			}
			r.launch()
			r.pass(3 * time.Second)
			r.setTip(sibling(r))
			r.pass(3 * time.Second)
			r.none()
			r.signer.set(func() { r.signer.reply[r.index(0)] = nil })
			r.setTip(first)
			r.pass(0)
			r.stop()
			if len(ended) != 2 {
				t.Errorf("%d hanging requests ended, want both", len(ended))
			}
			if a := r.one(); a.block.Header.ID() != r.signer.calls[0].block || r.build.count != 2 {
				t.Errorf("back on the first parent another block was signed; %d proposals built for two parents", r.build.count)
			}
			if n := r.log.with("not signed yet"); n != 0 {
				t.Errorf("a change of tip was a warning: %q", r.log.lines)
			}
		})
	})
	t.Run("to a block that is no slot's parent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.signer.keys = []uint8{r.index(1)}
			r.launch()
			r.pass(time.Second)
			r.setTip(r.g.NextFallback("fallback"))
			asked, _ := r.signer.seen()
			r.pass(time.Hour)
			r.none()
			if again, _ := r.signer.seen(); again != asked {
				t.Error("the signer was asked when there was no slot")
			}
			r.stop()
		})
	})
}

// TestSlotClockSetBack: a turn is by the clock, not by how long one has waited.
func TestSlotClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.signer.keys = []uint8{r.index(1)}
		r.launch()
		r.pass(15 * time.Second)
		r.mu.Lock()
		r.skew = -10 * time.Second
		r.mu.Unlock()
		r.pass(60 * time.Second)
		r.stop()
		r.wantSigned(1, 30*time.Second)
	})
}

// TestSlotStopsWhileWaiting: the driver ends at once whatever it waits for.
func TestSlotStopsWhileWaiting(t *testing.T) {
	for name, setup := range map[string]func(r *rig){
		"for a turn":  func(r *rig) { r.signer.keys = []uint8{r.index(4)} },
		"for a retry": func(r *rig) { r.signer.keysErr = errAway },
		"for a signer": func(r *rig) {
			r.signer.reply[r.index(0)] = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				setup(r)
				r.launch()
				r.pass(time.Millisecond)
				at := r.elapsed()
				r.stop()
				if r.elapsed() != at {
					t.Errorf("it took %v to stop", r.elapsed()-at)
				}
				r.none()
			})
		})
	}
}

// TestSlotKeptUnreadable: what cannot be read cannot be asked for again, and
// the signer's own journal keeps a new block from being a second one.
func TestSlotKeptUnreadable(t *testing.T) {
	for name, kept := range map[string][]byte{
		"cut off":           types.AppendVarBytes(nil, make([]byte, 200))[:100],
		"not blocks":        types.AppendVarBytes(nil, []byte("block")),
		"a block unwrapped": chaingen.New(t, chaingen.Params()).Next("a1").Block.Bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.store.kept[10] = kept
				r.launch()
				r.pass(0)
				r.stop()
				r.wantSigned(0, 0)
				if n := r.log.with("kept proposals cannot be read"); n != 1 {
					t.Errorf("%d warnings, want 1", n)
				}
			})
		})
	}
}

// TestKeptIsBounded: the newest stay.
func TestKeptIsBounded(t *testing.T) {
	g := chaingen.New(t, chaingen.Params())
	var k keptBlocks
	var all []*types.Block
	for i := range 2*maxKept + 3 {
		g.SetTip("genesis")
		b := chaingen.Clone(g.Next(fmt.Sprint(i)).Block)
		b.VchBlockSig = placeholder(uint8(i))
		all = append(all, b)
		k = k.add(b)
		if k.find(b.PrevBlock, uint8(i)) != b {
			t.Fatalf("block %d is not found after it was added", i)
		}
	}
	store := &memoryProposals{rig: &rig{}, kept: make(map[uint32][]byte)}
	if err := k.save(store, 10); err != nil {
		t.Fatal(err)
	}
	again, err := loadKept(store, 10)
	if err != nil || len(again) != maxKept {
		t.Fatalf("%d blocks, err %v, want %d", len(again), err, maxKept)
	}
	for i, b := range again {
		if want := all[len(all)-maxKept+i]; string(b.Bytes()) != string(want.Bytes()) {
			t.Errorf("block %d differs", i)
		}
	}
	if k.find(all[0].PrevBlock, 0) != nil {
		t.Error("the oldest block is still there")
	}
}

// TestSlotCarriesAnchor: a block carries the end of the signer's audit log, and
// no slot is proposed while the signer does not say what that is.
func TestSlotCarriesAnchor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		want := consensus.AuditAnchor{Seq: 77, Head: types.Hash{7}}
		r.signer.anchor = &want
		r.launch()
		r.pass(time.Second)
		r.stop()
		if got := consensus.AnchorOf(r.one().block.Transactions[0]); got == nil || *got != want {
			t.Fatalf("carries %+v", got)
		}
	})
}
