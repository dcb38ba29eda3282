package embedtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/cluster/clustertest"
)

// lose runs the cluster on, and puts it back to where it was before.
func lose(e *etcd, how string, bump uint64, further func()) {
	old := filepath.Join(e.t.TempDir(), "old")
	if how == "snapshot" {
		e.snapshot(old)
		further()
		e.stop()
		e.restore(old, bump)
	} else {
		e.stop()
		e.copyData(old)
		e.start()
		further()
		e.stop()
		e.putBack(old)
	}
	e.start()
}

// TestRollBack: etcd forgets claims, and then takes some from a box that never
// saw them, so that its revision falls short of what was seen, or passes it. The box
// that made the lost claims is refused each time, running or started anew.
func TestRollBack(t *testing.T) {
	type scenario struct {
		how                  string
		members, lost, grown int
	}
	var all []scenario
	for _, how := range []string{"snapshot", "copy"} {
		for _, n := range [][3]int{{1, 1, 0}, {1, 1, 1}, {1, 1, 2}, {1, 3, 0}, {1, 2, 4}, {3, 1, 0}, {3, 1, 1}} {
			all = append(all, scenario{how, n[0], n[1], n[2]})
		}
	}
	for _, s := range all {
		t.Run(fmt.Sprintf("%s of %d: %d lost, %d grown", s.how, s.members, s.lost, s.grown), func(t *testing.T) {
			t.Parallel()
			e, k := startEtcd(t, s.members), clustertest.NewKey()
			mine, stale := e.box(k, "mine"), e.box(k, "stale")
			join(t, mine, 0)
			join(t, stale, 0)
			running := open(t, mine)
			claim(t, running, k.Block(100, 0))
			lose(e, s.how, 0, func() {
				for n := range s.lost {
					claim(t, running, k.Block(uint32(110+10*n), 0))
				}
			})
			if s.grown > 0 {
				other := open(t, stale)
				for n := range s.grown {
					claim(t, other, k.Block(uint32(110+10*n), 1))
				}
			}
			_, err := running.Claim(t.Context(), k.Block(300, 0))
			if !errors.Is(err, cluster.ErrRolledBack) || !cluster.IsTerminal(err) {
				t.Fatalf("the running box: %v", err)
			}
			if _, again := running.Claim(t.Context(), k.Block(100, 0)); !errors.Is(again, err) {
				t.Fatalf("the running box went on: %v", again)
			}
			shut(t, running)
			if _, err := cluster.Open(t.Context(), mine); !errors.Is(err, cluster.ErrRolledBack) {
				t.Fatalf("the box started anew: %v", err)
			}
		})
	}
}

// TestRollBackIsSeenIdle: a stand-by that only waits for its turn notices.
func TestRollBackIsSeenIdle(t *testing.T) {
	t.Parallel()
	e, k := startEtcd(t, 1), clustertest.NewKey()
	boxes := e.boxes(k, 2)
	ended := make(chan error, 1)
	go func() { ended <- boxes[1].Campaign(t.Context()) }()
	lose(e, "copy", 0, func() {
		for h := uint32(10); h < 100; h += 10 {
			claim(t, boxes[0], k.Block(h, 0))
		}
		for pinned(t, e, "box1") < pinned(t, e, "box0") {
			boxes[1].Await(t.Context(), time.Second/4)
		}
	})
	if err := <-ended; !errors.Is(err, cluster.ErrRolledBack) {
		t.Fatal(err)
	}
}

// TestRestore is the way docs/cluster.md shows: a bumped revision and a new token.
// Every box is refused until it has joined anew; what was lost is below the floor.
func TestRestore(t *testing.T) {
	t.Parallel()
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			e, k := startEtcd(t, members), clustertest.NewKey()
			a, b := e.box(k, "a"), e.box(k, "b")
			join(t, a, 0)
			join(t, b, 0)
			box := open(t, a)
			claim(t, box, k.Block(90, 0))
			sealed := seal(t, box, k, k.Block(90, 0))
			claim(t, box, k.Block(100, 0))
			claim(t, box, k.Vote(10, 20, 0))
			e.token = "second"
			lose(e, "snapshot", 1_000_000, func() {
				seal(t, box, k, k.Block(100, 0))
				claim(t, box, k.Block(110, 0))
				claim(t, box, k.Vote(20, 30, 0))
			})
			if _, err := box.Claim(t.Context(), k.Block(120, 0)); !errors.Is(err, cluster.ErrMisconfigured) {
				t.Fatalf("the running box: %v", err)
			}
			shut(t, box)
			for _, c := range []cluster.Config{a, b} {
				if _, err := cluster.Open(t.Context(), c); !errors.Is(err, cluster.ErrMisconfigured) {
					t.Fatalf("%s was not refused: %v", c.Name, err)
				}
			}
			join(t, a, 0) // its old pin knows what was lost
			join(t, b, 0)
			other := open(t, b)
			for _, lost := range []cluster.Claim{k.Block(110, 1), k.Vote(20, 30, 1), k.Vote(20, 40, 0)} {
				if _, err := other.Claim(t.Context(), lost); !errors.Is(err, cluster.ErrConflict) {
					t.Errorf("a lost %s was claimed again: %v", lost.Kind, err)
				}
			}
			// Its claim is there and its seal was lost: another signature must not be made.
			if _, err := other.Claim(t.Context(), k.Block(100, 0)); !errors.Is(err, cluster.ErrConflict) {
				t.Errorf("a claim whose seal was lost is open again: %v", err)
			}
			if again := claim(t, other, k.Block(90, 0)); again == nil || *again != sealed {
				t.Errorf("what was sealed before the snapshot: %x, want %x", again, sealed)
			}
			claim(t, other, k.Block(120, 0))
			claim(t, other, k.Vote(30, 40, 0))
		})
	}
}

// TestBumpedWithOldToken: the bump alone hides the fall of the revision, but not
// from a box whose claim is gone.
func TestBumpedWithOldToken(t *testing.T) {
	t.Parallel()
	e, k := startEtcd(t, 1), clustertest.NewKey()
	box := e.box(k, "box")
	join(t, box, 0)
	running := open(t, box)
	claim(t, running, k.Block(100, 0))
	lose(e, "snapshot", 1_000_000, func() { claim(t, running, k.Block(110, 0)) })
	if _, err := running.Claim(t.Context(), k.Block(120, 0)); !errors.Is(err, cluster.ErrRolledBack) {
		t.Error(err)
	}
	shut(t, running)
	if _, err := cluster.Open(t.Context(), box); !errors.Is(err, cluster.ErrRolledBack) {
		t.Error(err)
	}
}

// pinned reads the revision in the file of a box's pin.
func pinned(t testing.TB, e *etcd, box string) int64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(e.dir, box+".pin"))
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ Revision int64 }
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s.Revision
}
