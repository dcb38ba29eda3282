package hw

import (
	"runtime"
	"testing"
)

// TestAddChain: the loop does as many additions as the calibration believes.
func TestAddChain(t *testing.T) {
	if !canChain {
		t.Skip("no chain for this architecture")
	}
	for _, rounds := range []uintptr{0, 1, 2, calibrationRounds} {
		if got, want := addChain(rounds), rounds*addsPerRound; got != want {
			t.Errorf("%d rounds: %d additions, want %d", rounds, got, want)
		}
	}
}

// TestCycles: whatever way this machine offers, it says which and uses it.
func TestCycles(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := OpenCycles()
	t.Logf("method %q", c.Method())
	ran := false
	elapsed, cycles := c.Measure(func() { ran = true; addChain(calibrationRounds) })
	n, known := cycles.Get()
	if !ran || elapsed <= 0 || known != (c.Method() != CyclesUnknown) || known && n <= 0 {
		t.Errorf("method %q: ran %v, %v, %s cycles", c.Method(), ran, elapsed, cycles)
	}
	c.Close()
	c.Close() // once more does no harm
	if c.Method() == CyclesPerf {
		t.Error("a closed counter is still in use")
	}
}

func TestPerfSince(t *testing.T) {
	before := perfReading{1000, 50, 50}
	for _, c := range []struct {
		name string
		now  perfReading
		want Reading[float64]
	}{
		{"all the time", perfReading{3000, 150, 150}, Known(2000.)},
		{"half the time", perfReading{3000, 150, 100}, Known(4000.)},
		{"never", perfReading{1000, 150, 50}, Reading[float64]{}},
		{"stands still", perfReading{1000, 150, 150}, Reading[float64]{}},
	} {
		if got := c.now.since(before); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		tree   string
		usable []int
		want   []int
	}{
		{"two-sockets-smt.txtar", []int{0, 1, 3, 4, 5}, []int{0, 1, 3, 4, 5}},
		{"two-sockets-smt.txtar", []int{0, 4, 5}, []int{0, 5, 4}},
		{"arm-big-little.txtar", []int{0, 1, 4, 5}, []int{4, 5, 0, 1}},
		{"xeon-guest.txtar", nil, []int{}},
	} {
		inv := detect(tree(t, c.tree), CPU{}, Reading[[]int]{}, 1)
		if c.usable != nil {
			inv.Usable.CPUs = Known(c.usable)
		}
		got := inv.Spread()
		if len(got) != len(c.want) {
			t.Fatalf("%s with %v: %v, want %v", c.tree, c.usable, got, c.want)
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s with %v: %v, want %v", c.tree, c.usable, got, c.want)
				break
			}
		}
	}
}

// TestPinThread pins a thread that ends with its goroutine.
func TestPinThread(t *testing.T) {
	cpus, ok := affinity().Get()
	if !ok || !CanPin {
		t.Skip("no affinity here")
	}
	last := cpus[len(cpus)-1]
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := PinThread(last); err != nil {
			t.Error(err)
		}
		if got := affinity().Or(nil); len(got) != 1 || got[0] != last {
			t.Errorf("on CPUs %v, want %d alone", got, last)
		}
		if err := PinThread(1020); err == nil && last < 1020 {
			t.Error("pinned to a CPU that does not exist")
		}
	}()
	<-done
}
