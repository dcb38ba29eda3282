package bench

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
)

// portable are the kernels that run everywhere.
func portable() []sha256d.Kernel { return sha256d.Kernels()[:2] }

// TestMeasure: every slice of every kernel becomes a sample, on any threads, and
// the warm-up none.
func TestMeasure(t *testing.T) {
	for _, c := range []struct {
		name string
		cpus func(*testing.T) []int
		n    int
	}{
		{"any CPU", func(*testing.T) []int { return nil }, 1},
		{"pinned", func(t *testing.T) []int { return usableCPUs(t)[:1] }, 1},
		{"more threads than CPUs", func(*testing.T) []int { return nil }, runtime.NumCPU() + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var steps []int
			p := Plan{Kernels: portable(), Threads: c.n, CPUs: c.cpus(t), Time: 3 * sliceTime, Warmup: 3 * sliceTime, Progress: func(done, of int) {
				if of != 10 {
					t.Errorf("%d slices", of)
				}
				steps = append(steps, done)
			}}
			o, err := Measure(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, steps); diff != "" {
				t.Error(diff)
			}
			for i, m := range o.Kernels {
				if m.Kernel.Name != p.Kernels[i].Name || len(m.Rates) != 3 || !slices.IsSorted(m.Rates) || m.Rates[0] <= 0 {
					t.Errorf("%s: rates %v", m.Kernel.Name, m.Rates)
				}
				if m.Mean < m.Rates[0]*.999 || m.Mean > m.Rates[2]*1.001 {
					t.Errorf("%s: mean %v of rates %v", m.Kernel.Name, m.Mean, m.Rates)
				}
				if want := map[bool]int{true: 3}[o.Counter != hw.CyclesUnknown]; len(m.Cycles) != want {
					t.Errorf("%s: %d slices with cycles by %q", m.Kernel.Name, len(m.Cycles), o.Counter)
				}
				if m.JoulesPerHash != (hw.Reading[float64]{}) {
					t.Errorf("%s: %v J for a hash without a counter", m.Kernel.Name, m.JoulesPerHash)
				}
			}
		})
	}
}

// TestMeasureInterrupted: what was measured by then is there.
func TestMeasureInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := Plan{Kernels: portable(), Threads: 1, Time: time.Hour, Progress: func(done, _ int) {
		if done == 3 {
			cancel()
		}
	}}
	o, err := Measure(ctx, p)
	if !errors.Is(err, context.Canceled) || len(o.Kernels) != 2 || len(o.Kernels[0].Rates) != 2 || len(o.Kernels[1].Rates) != 1 {
		t.Fatalf("%v, %+v", err, o.Kernels)
	}
}

func TestMeasurePinError(t *testing.T) {
	usableCPUs(t)
	_, err := Measure(t.Context(), Plan{Kernels: portable(), Threads: 2, CPUs: []int{0, 1 << 20}, Time: sliceTime})
	if err == nil || !strings.Contains(err.Error(), "pin thread") {
		t.Fatal(err)
	}
}

const counter = "sys/class/powercap/intel-rapl:0/"

func meterTree() fstest.MapFS {
	return fstest.MapFS{
		counter + "name":                {Data: []byte("package-0\n")},
		counter + "max_energy_range_uj": {Data: []byte("1000000000\n")},
		counter + "energy_uj":           {Data: []byte("5\n")},
	}
}

// TestMeasureEnergy: a counter that fails on the way makes the energy unknown, and
// the rest goes on.
func TestMeasureEnergy(t *testing.T) {
	for _, fails := range []bool{false, true} {
		fsys := meterTree()
		energy, err := hw.OpenEnergy(fsys)
		if err != nil {
			t.Fatal(err)
		}
		p := Plan{Kernels: portable(), Threads: 1, Time: 2 * sliceTime, Energy: energy, Progress: func(done, _ int) {
			if fails && done == 2 {
				delete(fsys, counter+"energy_uj")
			}
		}}
		o, err := Measure(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range o.Kernels {
			if _, known := m.JoulesPerHash.Get(); known == fails || len(m.Rates) != 2 {
				t.Errorf("fails %v: %v J for a hash, %d samples", fails, m.JoulesPerHash, len(m.Rates))
			}
		}
		if fails != (o.EnergyErr != nil) {
			t.Errorf("fails %v: %v", fails, o.EnergyErr)
		}
	}
}

// TestSum: rates are added up over the threads, cycles are shared out over all
// hashes, and of the energy counts what fell into the time of hashing.
func TestSum(t *testing.T) {
	var s sum
	s.add([]part{
		{1000, time.Millisecond, hw.Known(200_000.)},
		{4000, 2 * time.Millisecond, hw.Known(100_000.)},
	}, 8, 3*time.Millisecond)
	s.add([]part{
		{1000, time.Millisecond, hw.Known(200_000.)},
		{1000, time.Millisecond, hw.Reading[float64]{}},
	}, 1, time.Millisecond)
	want := sum{rates: []float64{3e6, 2e6}, cycles: []float64{60}, hashes: 7000, elapsed: 5 * time.Millisecond, weighted: 13_000, joules: 5}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(sum{}), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Error(diff)
	}
}

// blind is a kernel that never finds anything.
type blind struct{}

func (blind) Prepare(*sha256d.Work) {}

func (blind) Scan(_ uint32, _ int, hits []sha256d.Hit) []sha256d.Hit { return hits }

func TestCheck(t *testing.T) {
	broken := sha256d.Kernel{Name: "broken", Lanes: 1, New: func() sha256d.Engine { return blind{} }}
	foreign := sha256d.Kernel{Name: "foreign", Lanes: 1, Needs: []hw.Feature{hw.AVX2, hw.SHANI}, New: func() sha256d.Engine { panic("must not run") }}
	kernels := []sha256d.Kernel{foreign, broken, portable()[0]}
	good, reasons := Check(t.Context(), kernels, []hw.Feature{hw.AVX2}, sha256d.InProcess)
	if len(good) != 1 || good[0].Name != portable()[0].Name || len(reasons) != 2 {
		t.Errorf("good: %s, reasons %v", sha256d.Names(good), reasons)
	}
	for name, want := range map[string]string{
		"broken":  "kernel broken failed its self test",
		"foreign": "needs sha_ni, which this CPU does not offer",
	} {
		if !strings.Contains(reasons[name], want) {
			t.Errorf("%s: %q, want %q", name, reasons[name], want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if good, reasons := Check(ctx, kernels[1:], nil, sha256d.InProcess); len(good) > 0 || reasons["broken"] != "was not tested before the interruption" || len(reasons) != 2 {
		t.Errorf("interrupted: good %s, reasons %v", sha256d.Names(good), reasons)
	}
	if good, reasons := Check(ctx, kernels[:1], nil, nil); len(good) > 0 || len(reasons) != 1 {
		t.Errorf("nothing to test: good %s, reasons %v", sha256d.Names(good), reasons)
	}
}

func outcome1() (kernels []sha256d.Kernel, reasons map[string]string, o Outcome) {
	kernels = []sha256d.Kernel{{Name: "slow", Lanes: 1}, {Name: "wide", Lanes: 16}, {Name: "fast", Lanes: 8}}
	o = Outcome{Counter: hw.CyclesPerf, EnergyErr: errors.New("cable cut"), Kernels: []Measured{
		{Kernel: kernels[0], Rates: []float64{1e6, 2e6, 3e6}},
		{Kernel: kernels[2], Rates: []float64{10e6, 20e6, 30e6}, Cycles: []float64{100, 110, 180}, JoulesPerHash: hw.Known(2e-9)},
	}}
	return kernels, map[string]string{"wide": "needs avx512f, which this CPU does not offer"}, o
}

func setup1() Setup {
	machine := hw.Inventory{
		CPU:    hw.CPU{Model: hw.Known("Some CPU"), Features: []hw.Feature{hw.AVX2}},
		Usable: hw.Usable{CPUs: hw.Known([]int{0, 1, 3}), Quota: hw.Known(1.5), Threads: 2},
	}
	p := Plan{Threads: 2, CPUs: []int{0, 3}, Time: 3 * time.Second, Warmup: time.Second / 2}
	return NewSetup(&machine, &p, "v1.2", time.Date(2026, 11, 28, 4, 5, 6, 7, time.FixedZone("", 3600)))
}

// TestReport: the JSON that others read, field by field.
func TestReport(t *testing.T) {
	kernels, reasons, o := outcome1()
	golden(t, "report.json", NewReport(setup1(), kernels, reasons, o, true))
	unpinned := setup1()
	unpinned.Pinned = nil
	golden(t, "interrupted.json", NewReport(unpinned, kernels[:1], nil, Outcome{Kernels: []Measured{{Kernel: kernels[0]}}}, false))
}

// TestReportRoundTrip: what is written is read as what it was.
func TestReportRoundTrip(t *testing.T) {
	kernels, reasons, o := outcome1()
	want := NewReport(setup1(), kernels, reasons, o, true)
	data, err := os.ReadFile("testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b hw.Reading[float64]) bool { return a == b }), cmp.Comparer(func(a, b hw.Reading[[]int]) bool { return slices.Equal(a.Or(nil), b.Or(nil)) })); diff != "" {
		t.Error(diff)
	}
}
