package simulate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const trials = 200_000

func sample(t testing.TB, m Model, depth int, trials int64, seed uint64) *Sample {
	t.Helper()
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := Run(t.Context(), m, depth, trials, seed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEstimates: the simulation walks from block to block and shares nothing with
// the calculation but the model; they agree within four standard errors.
func TestEstimates(t *testing.T) {
	var all []Model
	for _, q := range []float64{.02, .1, .3, .4, .6, .9} {
		all = append(all,
			Model{Rules: PoW, Q: q, N: 10, Premined: 1},
			Model{Rules: PoW, Q: q, N: 10},
			Model{Rules: Literal, Q: q, N: 10, Premined: 1},
			Model{Rules: Literal, Q: q, N: 2, Premined: 2},
			Model{Rules: Literal, Q: q, N: 10, Premined: 1, Missed: .2, Fork: 4},
			Model{Rules: PoOF, Q: q, N: 10, Premined: 1},
			Model{Rules: PoOF, Q: q, N: 10, Premined: 1, NoGate: true},
			Model{Rules: PoOF, Q: q, N: 5, Premined: 3, Fork: 2, Missed: .5},
			Model{Rules: PoOF, Q: q, N: 10, Premined: 1, Missed: .3, NoGate: true},
			Model{Rules: PoOF, Q: q, N: 10, Premined: 1, Missed: 1},
		)
	}
	for _, m := range all {
		t.Run(fmt.Sprintf("%+v", m), func(t *testing.T) {
			s := sample(t, m, 24, trials, 1)
			for _, z := range []int{1, 2, 6, 8, 9, 10, 11, 20, 24} {
				p := exact(t, m, z)
				// The floor is for the rare: one hit where a thousandth of one was expected.
				sigma := max(math.Sqrt(p*(1-p)/trials), .3/trials)
				if got := s.Estimate(z); math.Abs(got-p) > 4*sigma+s.Bias() {
					t.Errorf("z %d: simulated %v, exact %v, %.1f standard errors", z, got, p, (got-p)/sigma)
				}
			}
			if s.Bias() > 1e-7 {
				t.Errorf("bias %v", s.Bias())
			}
		})
	}
}

// TestTables simulates the published tables with the number of trials that is the
// command's default. Whole rows come from one run each.
func TestTables(t *testing.T) {
	type row struct {
		Model
		depth int
	}
	var rows []row
	for _, rules := range All() {
		for _, q := range Shares(rules) {
			rows = append(rows, row{model(rules, q), slices.Max(Confirmations(rules))})
		}
	}
	with := func(m Model, depth int, change func(*Model)) {
		change(&m)
		rows = append(rows, row{m, depth})
	}
	for _, q := range []float64{.1, .3, .5, .6, .9} {
		with(model(PoOF, q), 10, func(m *Model) { m.NoGate = true })
	}
	for _, missed := range []float64{.01, .05, .2, .5, 1} {
		with(model(PoOF, .6), 60, func(m *Model) { m.Missed = missed })
		with(model(PoOF, .6), 20, func(m *Model) { m.Missed, m.NoGate = missed, true })
	}
	for _, n := range []int{5, 20} {
		with(model(PoOF, .3), n, func(m *Model) { m.N = n })
	}
	for fork := range 9 {
		with(model(PoOF, .9), 9, func(m *Model) { m.Fork = fork })
	}
	const trials = 1_000_000
	for _, r := range rows {
		s := sample(t, r.Model, r.depth, trials, 1)
		for z := 1; z <= r.depth; z++ {
			p := exact(t, r.Model, z)
			if got := s.Estimate(z); math.Abs(got-p) > 4*math.Sqrt(p*(1-p)/trials)+s.Bias() {
				t.Errorf("%+v, z %d: simulated %v, exact %v", r.Model, z, got, p)
			}
		}
	}
}

// TestJumps: drawing many blocks at once far from the boundary changes nothing.
// The deep payment lets the attacker get far ahead as well.
func TestJumps(t *testing.T) {
	for _, m := range []Model{model(PoW, .48), model(PoW, .52), model(Literal, .5), model(Literal, .6)} {
		s := sample(t, m, 700, 20_000, 3)
		for _, z := range []int{1, 100, 400, 700} {
			p := exact(t, m, z)
			if got := s.Estimate(z); math.Abs(got-p) > 4*math.Sqrt(p*(1-p)/20_000)+s.Bias() {
				t.Errorf("%+v, z %d: simulated %v, exact %v", m, z, got, p)
			}
		}
	}
}

// TestBalance: where the shares are balanced an attacker catches up for certain
// but not soon; the estimate owns up to what giving up costs.
func TestBalance(t *testing.T) {
	s := sample(t, model(PoW, .5), 6, 50_000, 1)
	if s.Bias() <= 0 || s.Bias() > .01 || s.Estimate(6)+s.Bias() < 1-1e-12 {
		t.Errorf("estimate %v, bias %v", s.Estimate(6), s.Bias())
	}
}

// TestDeterminism: processors do not matter, the seed does.
func TestDeterminism(t *testing.T) {
	for _, rules := range All() {
		before := runtime.GOMAXPROCS(1)
		one := sample(t, model(rules, .3), 12, 5*chunk+7, 42)
		runtime.GOMAXPROCS(5)
		five := sample(t, model(rules, .3), 12, 5*chunk+7, 42)
		runtime.GOMAXPROCS(before)
		if diff := cmp.Diff(one, five, cmp.AllowUnexported(Sample{})); diff != "" {
			t.Errorf("%s on one processor and on five:\n%s", rules, diff)
		}
		if other := sample(t, model(rules, .3), 12, 5*chunk+7, 43); cmp.Equal(one, other, cmp.AllowUnexported(Sample{})) {
			t.Errorf("%s: another seed gives the same", rules)
		}
	}
}

// TestStable pins the numbers of a seed: published figures can be made again.
func TestStable(t *testing.T) {
	got := map[Rules]float64{}
	for _, rules := range All() {
		got[rules] = sample(t, model(rules, .3), 6, 100_000, 1).Estimate(6)
	}
	want := map[Rules]float64{PoW: .15472, Literal: .14492, PoOF: .13903}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCancel: the end of the context ends a run in the middle.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	s, err := Run(ctx, model(PoW, .3), 6, MaxTrials, 1, func(done, of uint32) {
		if calls++; calls == 3 {
			cancel()
		}
		if done == 0 || done > of {
			t.Errorf("progress %d of %d", done, of)
		}
	})
	if s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestProgressEnds(t *testing.T) {
	var last, most uint32
	if _, err := Run(t.Context(), model(PoOF, .3), 6, 3*chunk+1, 1, func(done, of uint32) { last, most = done, of }); err != nil {
		t.Fatal(err)
	}
	if last != 4 || most != 4 {
		t.Errorf("progress ended with %d of %d", last, most)
	}
}

func TestTrials(t *testing.T) {
	for _, n := range []int64{0, -1, MaxTrials + 1} {
		if _, err := Run(t.Context(), model(PoW, .3), 6, n, 1, nil); err == nil {
			t.Errorf("%d trials were accepted", n)
		}
	}
}

func TestStandardError(t *testing.T) {
	s := Sample{trials: 1000, undone: []int64{600, 300, 100}}
	for z, want := range map[int]float64{1: .4, 2: .1} {
		if got := s.Estimate(z); got != want {
			t.Errorf("z %d: %v, want %v", z, got, want)
		}
	}
	if got, want := s.StandardError(2), math.Sqrt(.1*.9/1000); math.Abs(got-want) > .02*want {
		t.Errorf("standard error %v, want about %v", got, want)
	}
	if never := (&Sample{trials: 1000, undone: []int64{1000, 0}}); !(never.StandardError(1) > .001) {
		t.Errorf("no success in 1000 trials is no certainty: %v", never.StandardError(1))
	}
}

// TestPicker: the alias method draws what it was given.
func TestPicker(t *testing.T) {
	for _, chances := range [][]float64{binomial(8, .3), binomial(64, .48), poisson(2 * .9), {1}, {.25, .75}} {
		p, r := newPicker(chances), stream(model(PoW, .3), 7, 0)
		seen := make([]float64, 128)
		for range trials {
			seen[p.draw(r)]++
		}
		for i, n := range seen {
			want := 0.0
			if i < len(chances) {
				want = chances[i]
			}
			if sigma := max(math.Sqrt(want*(1-want)*trials), .7); math.Abs(n-want*trials) > 5*sigma {
				t.Errorf("%d of %d: drawn %v times, want %v", i, len(chances), n, want*trials)
			}
		}
	}
}

// BenchmarkSimulateZ6 makes the z = 6 table: every share of every rule set, 10^6
// trials each. The aim is 10 s on two cores.
func BenchmarkSimulateZ6(b *testing.B) {
	for b.Loop() {
		for _, rules := range All() {
			for _, q := range Shares(rules) {
				sample(b, model(rules, q), 6, 1_000_000, 1)
			}
		}
	}
}
