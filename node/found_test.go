package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus/chaingen"
)

// fate is a way a found block can go.
type fate struct {
	name   string
	height int // of the chain it is found on
	first  work.Outcome
	// signed is when a validator signs the slot, counted from the block's finding;
	// 0: none does.
	signed time.Duration
	onBest bool // in the end
}

// fates: the clock starts at the parent's time; the fallback block may be stored
// after 61 s, and followed 120 s after the parent was first seen.
var fates = []fate{
	{"mined", 7, work.Accepted, 0, true},
	{"fallback", 9, work.Held, 0, true},
	{"fallback, beaten while it is held", 9, work.Held, 30 * time.Second, false},
	{"fallback, beaten while it is parked", 9, work.Held, 90 * time.Second, false},
}

// TestFoundBlockSurvives kills the process, or cuts its power, at every step from
// the moment a solution arrives to the moment its record is closed. Once the
// record is written (for a kill), or durable (for a power cut), the block is on
// the chain after the next start, at the place it would have had.
func TestFoundBlockSurvives(t *testing.T) {
	for _, f := range fates {
		for power := range powers(0) {
			t.Run(f.name+", "+power, func(t *testing.T) {
				crashes, saved := 0, 0
				for at := 1; ; at++ {
					var crashed, must bool
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, f.height)
						crashed, must = w.crash(f, power == "killed", at, powers(uint64(at))[power])
					})
					if t.Failed() {
						t.Fatalf("crash at step %d", at)
					}
					if !crashed {
						break
					}
					crashes++
					if must {
						saved++
					}
				}
				// The journal takes six steps to write, and is written for the closed record,
				// too; the chain takes at least one, the books one.
				if crashes < 14 || saved < 7 {
					t.Errorf("%d crashes, %d of them with the block at stake", crashes, saved)
				}
			})
		}
	}
}

// crash lets a block go its way, through a crash at a step and a new start. must is
// whether the block had to be saved.
func (w *world) crash(f fate, kill bool, at int, cut func(*durabletest.FS) *durabletest.FS) (crashed, must bool) {
	t := w.t
	r := w.mined("found")
	id := r.Block.Header.ID()
	var signed *chaingen.Node
	if f.signed > 0 {
		signed = w.g.Next("signed")
	}
	start := time.Now()
	p := w.begin(at, cut)
	p.arm()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		outcome, err := p.keeper.Submit(r)
		if outcome != f.first || err != nil {
			t.Errorf("submitted: %v, %v", outcome, err)
		}
	}()
	<-finished
	w.live(p, start, signed, f)
	if crashed = p.end(); crashed {
		// A power cut leaves what was synced, a kill whatever was written.
		must = w.heard[id] > 0 || kill && w.written
		p = w.begin(0, nil)
		w.live(p, start, signed, f)
		p.end()
	} else {
		must = true
	}
	place, _, err := foundChain{p.chain}.Place(id, r.Height)
	if err != nil {
		t.Fatal(err)
	}
	want := map[bool]string{true: "the best chain", false: "a side chain"}
	if stored := place.Stored(); must && !stored {
		t.Error("the block is lost")
	} else if best, _, _ := p.chain.BestID(r.Height); stored && (best == id) != f.onBest {
		t.Errorf("the block is not on %s", want[f.onBest])
	} else if stored && w.heard[id] == 0 {
		t.Error("the chain has a block that the books never heard of")
	}
	if n := w.open(); n != 0 {
		t.Errorf("%d records are still open", n)
	}
	return crashed, must
}

// live lets a process run until a block's fate is decided, or the process has
// crashed.
func (w *world) live(p *process, start time.Time, signed *chaingen.Node, f fate) {
	until := func(d time.Duration) bool {
		select {
		case <-p.crashed:
			return false
		case <-time.After(time.Until(start.Add(d))):
			synctest.Wait()
			return true
		}
	}
	synctest.Wait()
	if signed != nil && until(f.signed) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := p.chain.AddBlock(signed.Block); err != nil {
				w.t.Error(err)
			}
		}()
		<-done
	}
	until(10 * time.Minute)
}

// TestFoundBlockIsToldFirst: the books hear of a block once it is durable and
// before the chain has it; a second submission is no second block.
func TestFoundBlockIsToldFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 7)
		r := w.mined("found")
		p := w.begin(0, nil)
		var order []string
		w.disk.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
			w.mu.Lock()
			defer w.mu.Unlock()
			order = append(order, fmt.Sprint(op, w.heard[r.Block.Header.ID()]))
			return nil
		}
		w.store.SetFail(func(call string) (bool, bool) {
			if call == "Commit" {
				w.mu.Lock()
				defer w.mu.Unlock()
				order = append(order, fmt.Sprint("commit", w.heard[r.Block.Header.ID()]))
			}
			return false, false
		})
		for range 3 {
			if outcome, err := p.keeper.Submit(r); outcome != work.Accepted || err != nil {
				t.Errorf("%v, %v", outcome, err)
			}
		}
		want := []string{"remove0", "create0", "write0", "sync0", "rename0", "syncdir0", "commit1"}
		w.mu.Lock()
		if fmt.Sprint(order) != fmt.Sprint(want) {
			t.Errorf("order %v, want %v", order, want)
		}
		w.mu.Unlock()
		pass(2 * time.Second)
		p.end()
		if w.heard[r.Block.Header.ID()] != 1 || w.open() != 0 {
			t.Errorf("heard %d times, %d records open", w.heard[r.Block.Header.ID()], w.open())
		}
	})
}
