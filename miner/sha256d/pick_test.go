package sha256d

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/hw"
)

// broken wraps a correct engine and spoils its answers in one way.
type broken struct {
	Engine
	spoil func(e Engine, first uint32, n int, hits []Hit) []Hit
}

func (b broken) Scan(first uint32, n int, hits []Hit) []Hit {
	return b.spoil(b.Engine, first, n, hits)
}

func brokenKernel(spoil func(e Engine, first uint32, n int, hits []Hit) []Hit) Kernel {
	return Kernel{Name: "broken", Lanes: 1, New: func() Engine { return broken{new(generic), spoil} }}
}

func TestSelfTestCatches(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(e Engine, first uint32, n int, hits []Hit) []Hit
	}{
		{"finds nothing", func(_ Engine, _ uint32, _ int, hits []Hit) []Hit { return hits }},
		{"skips the last nonce", func(e Engine, first uint32, n int, hits []Hit) []Hit {
			if n == 1 {
				return hits
			}
			return e.Scan(first, n-1, hits)
		}},
		{"skips the very last nonce of all", func(e Engine, first uint32, n int, hits []Hit) []Hit {
			if n > 1 && uint64(first)+uint64(n) == NonceSpace {
				n--
			}
			return e.Scan(first, n, hits)
		}},
		{"skips the first nonce", func(e Engine, first uint32, n int, hits []Hit) []Hit {
			if n == 1 {
				return hits
			}
			return e.Scan(first+1, n-1, hits)
		}},
		{"scans past the end, around to zero", func(e Engine, first uint32, n int, hits []Hit) []Hit {
			return e.Scan(first, n+1, hits)
		}},
		{"reports a hit twice", func(e Engine, first uint32, n int, hits []Hit) []Hit {
			return e.Scan(first, n, e.Scan(first, n, hits))
		}},
		{"forgets what others put into hits", func(e Engine, first uint32, n int, hits []Hit) []Hit {
			return e.Scan(first, n, hits)[:0]
		}},
		{"panics", func(Engine, uint32, int, []Hit) []Hit { panic("illegal instruction") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := SelfTest(brokenKernel(c.spoil))
			if err == nil || !strings.Contains(err.Error(), "kernel broken failed its self test") {
				t.Fatalf("error %v", err)
			}
		})
	}
}

func TestSelfTestCatchesVersions(t *testing.T) {
	one := Kernel{Name: "one lane only", Lanes: 1, New: func() Engine { return &firstLane{} }}
	if err := SelfTest(one); err == nil {
		t.Fatal("a kernel that ignores all but the first version passed")
	}
}

type firstLane struct{ generic }

func (e *firstLane) Prepare(w *Work) {
	first := *w
	first.Versions = w.Versions[:1]
	e.generic.Prepare(&first)
}

// TestFalseCandidatesAreFiltered: an engine may answer with a whole batch.
func TestFalseCandidatesAreFiltered(t *testing.T) {
	sloppy := brokenKernel(func(_ Engine, first uint32, n int, hits []Hit) []Hit {
		for i := range uint32(n) {
			hits = append(hits, Hit{1, first + i})
		}
		return hits
	})
	s := NewScanner(sloppy)
	w := genesisCases(1)[0].work
	if err := s.Prepare(&w); err != nil {
		t.Fatal(err)
	}
	if _, hits := s.Scan(genesisNonce-50, 100, nil); len(hits) != 1 || hits[0].Nonce != genesisNonce {
		t.Fatalf("hits %v", hits)
	}
}

func TestPick(t *testing.T) {
	bad := brokenKernel(func(_ Engine, _ uint32, _ int, hits []Hit) []Hit { return hits })
	foreign := Kernel{Name: "foreign", Lanes: 1, Needs: []hw.Feature{"unobtainium"}, New: func() Engine {
		panic("code for another CPU was run")
	}}
	good := Kernels()[0]
	wide := Kernel{Name: "wide", Lanes: 5, New: good.New}
	for _, c := range []struct {
		name     string
		kernels  []Kernel
		want     string // name asked for
		versions int
		picked   string
		err      string
	}{
		{"auto skips what cannot run", []Kernel{foreign, bad, good}, Auto, 16, "generic", ""},
		{"auto skips what wants more versions", []Kernel{wide, good}, Auto, 4, "generic", ""},
		{"auto takes what wants just as many", []Kernel{wide}, Auto, 5, "wide", ""},
		{"by name", Kernels(), "stdlib", 16, "stdlib", ""},
		{"by name, wants more versions", []Kernel{wide, good}, "wide", 1, "wide", ""},
		{"unknown name", Kernels(), "quantum", 16, "", `no kernel named "quantum": use auto or one of ` + Names(Kernels())},
		{"forced, feature missing", []Kernel{foreign, good}, "foreign", 16, "", "needs unobtainium, which this CPU does not offer"},
		{"forced, self test fails", []Kernel{bad, good}, "broken", 16, "", "kernel broken failed its self test"},
		{"nothing left", []Kernel{foreign, bad}, Auto, 16, "", "no hashing kernel works on this machine"},
		{"nothing with so few versions", []Kernel{wide}, Auto, 4, "", "kernel wide wants 5 header versions, but only 4 may be rolled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, trials, err := Pick(t.Context(), Contest{
				Kernels: c.kernels, Name: c.want, Features: hw.Features(), Versions: c.versions, PerKernel: time.Nanosecond,
			})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || k.Name != c.picked {
				t.Fatalf("picked %q, error %v", k.Name, err)
			}
			if c.want == Auto {
				checkTrials(t, c.kernels, trials)
			}
		})
	}
}

// TestPickProbes: only what suits is tested, all at once, and what the tests say
// counts.
func TestPickProbes(t *testing.T) {
	untouched := func(name string, lanes int, needs ...hw.Feature) Kernel {
		return Kernel{Name: name, Lanes: lanes, Needs: needs, New: func() Engine { panic("not tested, but run") }}
	}
	good := Kernels()[0]
	kernels := []Kernel{untouched("foreign", 1, "unobtainium"), untouched("deadly", 1), good, untouched("wide", 5)}
	for name, want := range map[string]string{Auto: "deadly, generic", "generic": "generic", "deadly": "deadly", "foreign": ""} {
		t.Run(name, func(t *testing.T) {
			probed := ""
			k, trials, err := Pick(t.Context(), Contest{
				Kernels: kernels, Name: name, Versions: 4, PerKernel: time.Nanosecond,
				Probe: func(_ context.Context, tested []Kernel) []error {
					probed += Names(tested)
					errs := make([]error, len(tested))
					for i, k := range tested {
						if k.Name == "deadly" {
							errs[i] = errors.New("kernel deadly killed its process")
						}
					}
					return errs
				},
			})
			if probed != want {
				t.Errorf("tested %q, want %q", probed, want)
			}
			if fails := name == "deadly" || name == "foreign"; fails != (err != nil) || !fails && k.Name != good.Name {
				t.Errorf("picked %q, error %v", k.Name, err)
			}
			for _, trial := range trials {
				if trial.Broken != (trial.Name == "deadly") {
					t.Errorf("%+v", trial)
				}
			}
		})
	}
}

// TestPickEndsWithItsContext: a kernel that there was no time for is not broken.
func TestPickEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{Auto, "generic"} {
		_, trials, err := Pick(ctx, Contest{Kernels: Kernels(), Name: name, Versions: 1})
		if !errors.Is(err, context.Canceled) || len(trials) > 0 {
			t.Errorf("%s: error %v, trials %+v", name, err, trials)
		}
	}
}

// checkTrials: one per kernel; exactly the usable ones are measured.
func checkTrials(t *testing.T, kernels []Kernel, trials []Trial) {
	t.Helper()
	if len(trials) != len(kernels) {
		t.Fatalf("%d trials for %d kernels", len(trials), len(kernels))
	}
	for i, trial := range trials {
		if trial.Name != kernels[i].Name || (trial.Err == nil) != (trial.Rate > 0) || trial.Broken != (trial.Name == "broken") {
			t.Errorf("trial %d: %+v", i, trial)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{Auto: true, "generic": true, "quantum": false, "": false} {
		if err := CheckName(Kernels(), name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestFastest(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples [][]float64
		want    int
	}{
		{"last", [][]float64{{1, 2, 3}, {2, 3, 4}}, 1},
		{"by median, not by peak", [][]float64{{1, 3, 3}, {1, 2, 99}}, 0},
		{"first of equals", [][]float64{{2}, {2}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var results []Result
			for _, s := range c.samples {
				results = append(results, Result{Samples: s})
			}
			if got := fastest(results); got != c.want {
				t.Fatalf("%d, want %d", got, c.want)
			}
		})
	}
}

func TestBench(t *testing.T) {
	results, err := Bench(t.Context(), time.Millisecond, Kernels()[:2]...)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Name != Kernels()[i].Name || r.Hashes == 0 || r.Elapsed < time.Millisecond || len(r.Samples) == 0 {
			t.Errorf("result %+v", r)
		}
		if !(0 < r.P10() && r.P10() <= r.Median() && r.Median() <= r.P90()) {
			t.Errorf("p10 %v, median %v, p90 %v", r.P10(), r.Median(), r.P90())
		}
	}
}

func TestBenchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Bench(ctx, time.Hour, Kernels()...); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
}

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples []float64
		q, want float64
	}{
		{"none", nil, 0.5, 0},
		{"one", []float64{3}, 0.9, 3},
		{"odd", []float64{1, 2, 9}, 0.5, 2},
		{"even", []float64{1, 2, 4, 9}, 0.5, 3},
		{"least", []float64{1, 2, 4}, 0, 1},
		{"most", []float64{1, 2, 4}, 1, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Result{Samples: c.samples}
			if got := r.Quantile(c.q); got != c.want {
				t.Fatalf("%v, want %v", got, c.want)
			}
		})
	}
}
