package simulate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// model is an attack with the usual surroundings: n = 10, no slot missed, one
// block mined before.
func model(rules Rules, q float64) Model { return Model{Rules: rules, Q: q, N: 10, Premined: 1} }

func exact(t testing.TB, m Model, z int) float64 {
	t.Helper()
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	p, err := m.Exact(z)
	if err != nil {
		t.Fatalf("%+v, z %d: %v", m, z, err)
	}
	return p
}

// row is one line of a published table, in percent.
type row struct {
	q    float64
	want []float64
}

// checkRows holds a table to Exact, to half of its last digit or as stated.
func checkRows(t *testing.T, confirmations []int, tolerance float64, rows []row, with func(q float64) Model) {
	t.Helper()
	for _, r := range rows {
		if len(r.want) != len(confirmations) {
			t.Fatalf("q %v: %d values for %d columns", r.q, len(r.want), len(confirmations))
		}
		for i, z := range confirmations {
			if got := 100 * exact(t, with(r.q), z); math.Abs(got-r.want[i]) > tolerance {
				t.Errorf("q %v, z %d: %.6f %%, the table has %.3f %%", r.q, z, got, r.want[i])
			}
		}
	}
}

func to(last int) (all []int) {
	for z := 1; z <= last; z++ {
		all = append(all, z)
	}
	return all
}

const thousandths = 0.0005 + 1e-9 // half of the third decimal

// TestPoWTable: Rosenfeld's r, computed by others in rational numbers.
func TestPoWTable(t *testing.T) {
	checkRows(t, to(10), thousandths, []row{
		{.02, []float64{4.000, 0.237, 0.016, 0.001, 0, 0, 0, 0, 0, 0}},
		{.06, []float64{12.000, 2.074, 0.394, 0.078, 0.016, 0.003, 0.001, 0, 0, 0}},
		{.10, []float64{20.000, 5.600, 1.712, 0.546, 0.178, 0.059, 0.020, 0.007, 0.002, 0.001}},
		{.14, []float64{28.000, 10.662, 4.400, 1.887, 0.828, 0.369, 0.166, 0.075, 0.034, 0.016}},
		{.20, []float64{40.000, 20.800, 11.584, 6.669, 3.916, 2.331, 1.401, 0.848, 0.516, 0.316}},
		{.24, []float64{48.000, 29.030, 18.650, 12.339, 8.310, 5.664, 3.895, 2.696, 1.876, 1.311}},
		{.30, []float64{60.000, 43.200, 32.616, 25.207, 19.762, 15.645, 12.475, 10.003, 8.055, 6.511}},
		{.34, []float64{68.000, 53.638, 43.970, 36.738, 31.058, 26.470, 22.695, 19.548, 16.900, 14.655}},
		{.40, []float64{80.000, 70.400, 63.488, 57.958, 53.314, 49.300, 45.769, 42.621, 39.787, 37.218}},
		{.44, []float64{88.000, 82.086, 77.715, 74.125, 71.028, 68.282, 65.801, 63.530, 61.431, 59.478}},
		{.48, []float64{96.000, 94.003, 92.508, 91.264, 90.177, 89.201, 88.307, 87.478, 86.703, 85.972}},
		{.50, []float64{100, 100, 100, 100, 100, 100, 100, 100, 100, 100}},
	}, func(q float64) Model { return model(PoW, q) })
}

// TestPoWWait: confirmations for a risk below 0.1 %, from the same source.
func TestPoWWait(t *testing.T) {
	for q, want := range map[float64]int{.10: 6, .15: 9, .20: 13, .25: 20, .30: 32, .35: 58, .40: 133, .45: 539} {
		if z, ok, err := model(PoW, q).Wait(t.Context(), 0.001); z != want || !ok || err != nil {
			t.Errorf("q %v: %d confirmations, %v, %v; want %d", q, z, ok, err, want)
		}
	}
}

// TestPoWTwoFormulas: the sum and the incomplete beta function are independent.
func TestPoWTwoFormulas(t *testing.T) {
	for _, q := range []float64{1e-6, .01, .1, .25, .4, .49, .4999, .5, .7} {
		for _, z := range []int{1, 2, 6, 30, 700, MaxConfirmations} {
			a, b := Rosenfeld(q, z, 1), GrunspanPerezMarco(q, z)
			if math.Abs(a-b) > 1e-9*a {
				t.Errorf("q %v, z %d: %g and %g", q, z, a, b)
			}
		}
	}
}

// TestLiteralTable: the published values are simulated themselves, 200,000 trials
// each, so they carry an error of their own.
func TestLiteralTable(t *testing.T) {
	z := []int{1, 2, 4, 6, 8, 10, 20}
	for _, r := range []row{
		{.1, []float64{20.2, 5.6, 0.55, 0.06, 0.01, 0, 0}},
		{.2, []float64{40.2, 20.8, 6.7, 2.2, 0.7, 0.2, 0}},
		{.3, []float64{59.7, 42.6, 24.6, 14.6, 8.5, 4.6, 0.4}},
		{.4, []float64{78.8, 68.4, 54.8, 44.8, 36.4, 28.9, 12.6}},
		{.55, []float64{100, 100, 100, 100, 100, 100, 100}},
		{.7, []float64{100, 100, 100, 100, 100, 100, 100}},
	} {
		for i := range z {
			p := exact(t, model(Literal, r.q), z[i])
			// Four standard errors of the source, and its rounding.
			tolerance := 400*math.Sqrt(p*(1-p)/200_000) + 0.051
			if got := 100 * p; math.Abs(got-r.want[i]) > tolerance {
				t.Errorf("q %v, z %d: %.4f %%, the table has %v %% ± %.2f", r.q, z[i], got, r.want[i], tolerance)
			}
		}
	}
}

// TestPoOFTable: computed by others with a dynamic programme of their own.
func TestPoOFTable(t *testing.T) {
	checkRows(t, to(12), thousandths, []row{
		{.1, []float64{20.000, 5.600, 1.712, 0.545, 0.178, 0.059, 0.019, 0.006, 0, 0, 0, 0}},
		{.3, []float64{59.567, 42.516, 31.712, 24.082, 18.396, 13.998, 10.464, 7.435, 0, 0, 0, 0}},
		{.5, []float64{90.181, 84.944, 80.714, 76.869, 73.131, 69.286, 65.056, 59.819, 0, 0, 0, 0}},
		{.6, []float64{97.179, 95.598, 94.250, 92.950, 91.600, 90.100, 88.292, 85.773, 0, 0, 0, 0}},
		{.9, []float64{100.000, 100.000, 100.000, 100.000, 100.000, 100.000, 100.000, 99.999, 0, 0, 0, 0}},
	}, func(q float64) Model { return model(PoOF, q) })
}

// TestPoOFNoGate: what a forged slot block in the last second would do.
func TestPoOFNoGate(t *testing.T) {
	checkRows(t, []int{9, 10}, thousandths, []row{
		{.1, []float64{.001, 0}},
		{.3, []float64{4.028, 0}},
		{.5, []float64{50, 0}},
		{.6, []float64{80.106, 0}},
		{.9, []float64{99.999, 0}},
	}, func(q float64) Model {
		m := model(PoOF, q)
		m.NoGate = true
		return m
	})
}

// TestPoOFUniformFork: the attack begins anywhere in the interval.
func TestPoOFUniformFork(t *testing.T) {
	for z, want := range []float64{1: 88.750, 77.725, 66.648, 55.549, 44.442, 33.333, 22.222, 11.111, 0} {
		if z == 0 {
			continue
		}
		sum := 0.0
		for fork := range 9 {
			m := model(PoOF, .9)
			m.Fork = fork
			sum += exact(t, m, z) / 9
		}
		if math.Abs(100*sum-want) > thousandths {
			t.Errorf("z %d: %.4f %%, published is %.3f %%", z, 100*sum, want)
		}
	}
}

func TestPoOFOtherIntervals(t *testing.T) {
	for _, c := range []struct {
		n, z int
		want float64 // percent; at 0 exactly 0
	}{{2, 1, 0}, {5, 1, 57.262}, {5, 3, 25.569}, {5, 4, 0}, {20, 18, 0.928}, {20, 19, 0}} {
		m := model(PoOF, .3)
		m.N = c.n
		if got := 100 * exact(t, m, c.z); math.Abs(got-c.want) > thousandths || (got == 0) != (c.want == 0) {
			t.Errorf("n %d, z %d: %.5f %%, want %v", c.n, c.z, got, c.want)
		}
	}
}

// TestPoOFMissedSlots: simulated by others with 20,000 trials, without the gate
// and with 2 s for a signature.
func TestPoOFMissedSlots(t *testing.T) {
	for _, c := range []struct {
		missed float64
		z      int
		want   float64 // percent
	}{
		{.01, 10, 0.9},
		{.05, 10, 4.9},
		{.2, 10, 19.8},
		{1, 10, 100},
		{.01, 20, .01},
		{.05, 20, .2},
		{.2, 20, 4.0},
		{1, 20, 100},
	} {
		m := model(PoOF, .6)
		m.Missed, m.NoGate = c.missed, true
		p := exact(t, m, c.z)
		if tolerance := 400*math.Sqrt(p*(1-p)/20_000) + .051; math.Abs(100*p-c.want) > tolerance {
			t.Errorf("missed %v, z %d: %.3f %%, published is %v %% ± %.2f", c.missed, c.z, 100*p, c.want, tolerance)
		}
	}
}

// TestBreakEven: below n/(2n-1) the literal rules slow an attacker, from there on
// they do not.
func TestBreakEven(t *testing.T) {
	for n, want := range map[int]float64{5: .5556, 10: .5263, 20: .5128} {
		q := BreakEven(n)
		if math.Abs(q-want) > .00005 {
			t.Errorf("n %d: break-even %v, published is %v", n, q, want)
		}
		at, below := model(Literal, q), model(Literal, q-.01)
		at.N, below.N = n, n
		if !at.Certain() || below.Certain() {
			t.Errorf("n %d: certain at break-even %v, below %v", n, at.Certain(), below.Certain())
		}
		if p := exact(t, below, 100); !(p > 0 && p < .999) {
			t.Errorf("n %d: below break-even 100 confirmations are undone with %v", n, p)
		}
	}
}

// TestNoExactNearBalance: Exact says so instead of running for ever.
func TestNoExactNearBalance(t *testing.T) {
	if p, err := model(Literal, BreakEven(10)-1e-6).Exact(6); !errors.Is(err, ErrNoExact) {
		t.Errorf("got %v, %v", p, err)
	}
	if _, _, err := model(Literal, BreakEven(10)-1e-6).Wait(t.Context(), .001); !errors.Is(err, ErrNoExact) {
		t.Errorf("wait: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := model(Literal, .3).Wait(ctx, .001); !errors.Is(err, context.Canceled) {
		t.Errorf("wait after the end: %v", err)
	}
}

// TestWait: a wait keeps its promise and one confirmation less does not.
func TestWait(t *testing.T) {
	for _, m := range []Model{model(Literal, .3), model(PoOF, .45), {Rules: PoOF, Q: .8, N: 10, Missed: .1, Premined: 1}} {
		z, ok, err := m.Wait(t.Context(), .001)
		if err != nil || !ok {
			t.Fatalf("%+v: %v, %v", m, ok, err)
		}
		if exact(t, m, z) >= .001 || exact(t, m, z-1) < .001 {
			t.Errorf("%+v: %d confirmations leave %v, one less %v", m, z, exact(t, m, z), exact(t, m, z-1))
		}
	}
	for _, m := range []Model{model(PoW, .5), model(PoW, .499), model(Literal, .6), {Rules: PoOF, Q: .9, N: 10, Missed: 1}} {
		if z, ok, err := m.Wait(t.Context(), .001); ok || err != nil {
			t.Errorf("%+v: %d, %v", m, z, err)
		}
	}
}

// models draws attacks that Exact answers quickly.
func models(t *rapid.T) Model {
	m := Model{
		Rules:    rapid.SampledFrom(All()).Draw(t, "rules"),
		Q:        rapid.Float64Range(.01, .45).Draw(t, "q"),
		N:        rapid.IntRange(2, 14).Draw(t, "n"),
		Premined: rapid.IntRange(0, 4).Draw(t, "premined"),
		Missed:   rapid.SampledFrom([]float64{0, .001, .1, .5}).Draw(t, "missed"),
	}
	m.Fork = rapid.IntRange(0, m.N-2).Draw(t, "fork")
	m.NoGate = m.Rules == PoOF && rapid.Bool().Draw(t, "no gate")
	return m
}

// TestMonotone: more hash power, more blocks mined before and more missed slots
// help the attacker, confirmations and the arrival gate hinder him.
func TestMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, z := models(t), rapid.IntRange(1, 24).Draw(t, "z")
		value := func(m Model, z int) float64 {
			p, err := m.Exact(z)
			if err != nil {
				t.Fatal(err)
			}
			if !(p >= 0 && p <= 1) {
				t.Fatalf("%+v, z %d: %v is no probability", m, z, p)
			}
			return p
		}
		base := value(m, z)
		atLeast := func(what string, p float64) {
			if p < base*(1-1e-9)-1e-14 {
				t.Fatalf("%s: %g, and %g without", what, p, base)
			}
		}
		stronger := m
		stronger.Q = min(.99, m.Q+rapid.Float64Range(0, .2).Draw(t, "more"))
		if stronger.Rules == PoOF || stronger.Certain() || stronger.Q < .49 {
			atLeast("more hash power", value(stronger, z))
		}
		earlier := m
		earlier.Premined++
		atLeast("one more block before", value(earlier, z))
		if z > 1 {
			atLeast("one confirmation less", value(m, z-1))
		}
		if m.Rules == PoOF {
			open, missing := m, m
			open.NoGate = true
			atLeast("no gate", value(open, z))
			missing.Missed = min(1, m.Missed+.1)
			atLeast("missed slots", value(missing, z))
		}
	})
}

// TestPoOFDepthBound is the promise of the rules: without keys nothing at or
// below a signed slot is undone, by whatever hash power.
func TestPoOFDepthBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Model{Rules: PoOF, Q: rapid.Float64Range(.001, .999).Draw(t, "q"), N: rapid.IntRange(2, 40).Draw(t, "n"), Premined: rapid.IntRange(0, 100).Draw(t, "premined")}
		m.Fork = rapid.IntRange(0, m.N-2).Draw(t, "fork")
		slot := m.N - m.Fork // the payment's confirmations when the slot is signed
		for z := slot - 1; z < slot+3; z++ {
			if z < 1 {
				continue
			}
			if p, err := m.Exact(z); p != 0 || err != nil {
				t.Fatalf("z %d: %v, %v", z, p, err)
			}
		}
		if slot > 2 {
			if p, err := m.Exact(slot - 2); !(p > 0) || err != nil {
				t.Fatalf("z %d, before the slot: %v, %v", slot-2, p, err)
			}
		}
	})
}

// TestSlotRulesBecomePoW: the programme for rules with slots agrees with the
// closed formula where the first slot is out of reach.
func TestSlotRulesBecomePoW(t *testing.T) {
	for _, rules := range []Rules{Literal, PoOF} {
		for _, premined := range []int{0, 1, 3} {
			for _, z := range []int{1, 2, 6, 20} {
				m := Model{Rules: rules, Q: .3, N: MaxN, Premined: premined}
				if got, want := exact(t, m, z), Rosenfeld(.3, z, premined); math.Abs(got-want) > 1e-8*want {
					t.Errorf("%s, %d blocks before, z %d: %g, plain proof of work %g", rules, premined, z, got, want)
				}
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Model)
		want   string
	}{
		{"no rules", func(m *Model) { m.Rules = "" }, `unknown rules "": choose pow, literal or poof`},
		{"q 0", func(m *Model) { m.Q = 0 }, "q is 0: the attacker's share of the hash power lies between 0 and 1, as 0.3 does"},
		{"q 1", func(m *Model) { m.Q = 1 }, "q is 1: the attacker's share of the hash power lies between 0 and 1, as 0.3 does"},
		{"q NaN", func(m *Model) { m.Q = math.NaN() }, "q is NaN: the attacker's share of the hash power lies between 0 and 1, as 0.3 does"},
		{"n 1", func(m *Model) { m.N = 1 }, "n is 1: a slot comes every 2 to 1000 blocks"},
		{"missed", func(m *Model) { m.Missed = 1.1 }, "missed is 1.1: a probability lies from 0 to 1"},
		{"missed NaN", func(m *Model) { m.Missed = math.NaN() }, "missed is NaN: a probability lies from 0 to 1"},
		{"premined", func(m *Model) { m.Premined = -1 }, "premined is -1: the attacker has 0 to 1000 blocks ahead"},
		{"fork", func(m *Model) { m.Fork = 9 }, "fork is 9: with a slot every 10 blocks a branch forks 0 to 8 blocks above a slot"},
		{"gate", func(m *Model) { m.Rules, m.NoGate = Literal, true }, "the arrival gate is a rule of poof: rules literal have none to take away"},
		{"sound", func(*Model) {}, "<nil>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := model(PoOF, .3)
			c.change(&m)
			if got := fmt.Sprint(m.Check()); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if CheckConfirmations(0) == nil || CheckConfirmations(MaxConfirmations+1) == nil || CheckConfirmations(1) != nil {
		t.Error("limits of confirmations")
	}
}
