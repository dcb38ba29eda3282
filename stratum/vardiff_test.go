package stratum

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
	"qcitycoin.org/qcity/miner/work"
)

var t0 = time.Unix(1_800_000_000, 0)

// simulation is a miner of constant hash rate whose shares are a Poisson process.
type simulation struct {
	v       Vardiff
	rng     *rand.Rand
	rate    float64 // hashes per second
	now     time.Time
	changes int
	shares  int
}

func newSimulation(seed uint64, rate float64, cfg VardiffConfig) *simulation {
	return &simulation{v: NewVardiff(cfg.WithDefaults(), t0), rng: rand.New(rand.NewPCG(seed, 1)), rate: rate, now: t0}
}

func (s *simulation) run(d time.Duration) {
	end := s.now.Add(d)
	tick := s.now.Add(time.Second)
	for s.now.Before(end) {
		mean := s.v.Difficulty() * work.HashesPerDifficulty / s.rate
		next := s.now.Add(time.Duration(min(s.rng.ExpFloat64()*mean, 1e6) * 1e9))
		changed := false
		if next.Before(tick) { // a Poisson process has no memory, so cutting at ticks is exact
			s.now = next
			s.shares++
			changed = s.v.Share(next, s.v.Difficulty())
		} else {
			s.now, tick = tick, tick.Add(time.Second)
			changed = s.v.Tick(s.now)
		}
		if changed {
			s.changes++
		}
	}
}

func (s *simulation) ideal() float64 { return s.rate * 5 / work.HashesPerDifficulty }

func TestVardiffFindsEveryHashRate(t *testing.T) {
	for name, tc := range map[string]struct {
		rate  float64
		start float64
	}{
		"NerdMiner 80 kH/s":             {80e3, 0},
		"CPU 5 MH/s":                    {5e6, 0},
		"Bitaxe 1 TH/s":                 {1e12, 0},
		"S21 200 TH/s":                  {200e12, 0},
		"S21 from a million times easy": {200e12, 0.2},
		"CPU from a million times hard": {5e6, 1 << 13},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSimulation(7, tc.rate, VardiffConfig{Start: tc.start})
			s.run(7 * time.Minute) // a start far too hard falls by 16 a minute
			if off := math.Abs(math.Log2(s.v.Difficulty() / s.ideal())); off > 1.5 {
				t.Errorf("difficulty %v, ideal %v", s.v.Difficulty(), s.ideal())
			}
			if s.shares > 2000 {
				t.Errorf("%d shares in seven minutes: the guard did not act", s.shares)
			}
		})
	}
}

func TestVardiffIsCalm(t *testing.T) {
	changes, hours := 0, 0
	for seed := range uint64(20) {
		for _, rate := range []float64{4.3e6, 5e6, 6e6, 7e6, 8e6} { // from the middle of a step to between two
			s := newSimulation(seed, rate, VardiffConfig{})
			s.run(10 * time.Minute)
			s.changes = 0
			s.run(2 * time.Hour)
			changes, hours = changes+s.changes, hours+2
		}
	}
	if perTenMinutes := float64(changes) / float64(hours) / 6; perTenMinutes > 0.3 {
		t.Errorf("%.2f changes in ten minutes of steady mining", perTenMinutes)
	}
}

func TestVardiffFloodIsStoppedWithinASecond(t *testing.T) {
	s := newSimulation(3, 28e12, VardiffConfig{Start: 0.00002})
	s.run(2 * time.Second)
	if perSecond := s.rate / (s.v.Difficulty() * work.HashesPerDifficulty); perSecond > 20 {
		t.Errorf("still %.0f shares a second after two seconds", perSecond)
	}
	if s.shares > 500 {
		t.Errorf("%d shares got through", s.shares)
	}
}

func TestVardiffPinned(t *testing.T) {
	for name, tc := range map[string]struct {
		speed float64 // of the miner, in multiples of what the pinned difficulty asks for
		moves bool
	}{
		"right":          {1, false},
		"ten times fast": {10, false},
		"a flood":        {10_000, true},
		"half as fast":   {0.5, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSimulation(5, tc.speed*1024*work.HashesPerDifficulty/5, VardiffConfig{})
			s.v.Pin(t0, 1024)
			s.run(10 * time.Minute)
			if moved := s.v.Difficulty() != 1024; moved != tc.moves {
				t.Errorf("difficulty %v", s.v.Difficulty())
			}
			if s.shares > 2400 {
				t.Errorf("%d shares", s.shares)
			}
		})
	}
}

func TestVardiffRequests(t *testing.T) {
	cfg := VardiffConfig{Start: 8, Min: 1, Max: 1024}.WithDefaults()
	quiet := func(v *Vardiff, d time.Duration) {
		for s := time.Second; s <= d; s += time.Second {
			v.Tick(t0.Add(s))
		}
	}
	for name, tc := range map[string]struct {
		do   func(*Vardiff)
		want float64
	}{
		"suggestion is taken":             {func(v *Vardiff) { v.Suggest(t0, 100) }, 100},
		"suggestion below the minimum":    {func(v *Vardiff) { v.Suggest(t0, 0.001) }, 1},
		"suggestion above the maximum":    {func(v *Vardiff) { v.Suggest(t0, 1e9) }, 1024},
		"suggestion is a floor":           {func(v *Vardiff) { v.Suggest(t0, 4); quiet(v, 10*time.Minute) }, 4},
		"minimum does not lower":          {func(v *Vardiff) { v.Floor(t0, 2) }, 8},
		"minimum raises":                  {func(v *Vardiff) { v.Floor(t0, 64) }, 64},
		"minimum is a floor":              {func(v *Vardiff) { v.Floor(t0, 2); quiet(v, 10*time.Minute) }, 2},
		"silence without a floor":         {func(v *Vardiff) { quiet(v, 10*time.Minute) }, 1},
		"pin holds through silence":       {func(v *Vardiff) { v.Pin(t0, 512); quiet(v, 10*time.Minute) }, 512},
		"pin outranks a suggestion":       {func(v *Vardiff) { v.Pin(t0, 512); v.Suggest(t0, 2) }, 512},
		"resume continues":                {func(v *Vardiff) { v.Resume(t0, 256) }, 256},
		"resume yields to the new wishes": {func(v *Vardiff) { v.Suggest(t0, 4); v.Resume(t0, 256) }, 4},
	} {
		t.Run(name, func(t *testing.T) {
			v := NewVardiff(cfg, t0)
			tc.do(&v)
			if v.Difficulty() != tc.want {
				t.Errorf("difficulty %v, want %v", v.Difficulty(), tc.want)
			}
		})
	}
}

func TestVardiffRepeatedSuggestionChangesNothing(t *testing.T) {
	v := NewVardiff(VardiffConfig{}.WithDefaults(), t0)
	if !v.Suggest(t0, 0.00015) {
		t.Error("the first suggestion did not change the difficulty")
	}
	for range guardShares {
		v.Share(t0.Add(time.Second), v.Difficulty())
	}
	raised := v.Difficulty()
	if raised <= 0.00015 {
		t.Fatalf("the guard left %v", raised)
	}
	if v.Suggest(t0.Add(30*time.Second), 0.00015) || v.Difficulty() != raised {
		t.Errorf("the keep-alive suggestion moved the difficulty to %v", v.Difficulty())
	}
}

func TestVardiffStaysInItsLimits(t *testing.T) {
	cfg := VardiffConfig{Start: 4, Min: 0.5, Max: 4096}.WithDefaults()
	rapid.Check(t, func(t *rapid.T) {
		v := NewVardiff(cfg, t0)
		now := t0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*time.Minute)).Draw(t, "wait")))
			d := math.Exp2(rapid.Float64Range(-40, 40).Draw(t, "d"))
			before := v.Difficulty()
			var changed bool
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0:
				changed = v.Share(now, v.Difficulty())
			case 1:
				changed = v.Tick(now)
			case 2:
				changed = v.Suggest(now, d)
			case 3:
				changed = v.Floor(now, d)
			case 4:
				changed = v.Pin(now, d)
			}
			if got := v.Difficulty(); !(got >= cfg.Min && got <= cfg.Max) || changed != (got != before) {
				t.Fatalf("difficulty went from %v to %v, changed=%v", before, got, changed)
			}
		}
	})
}

func TestVardiffConfigCheck(t *testing.T) {
	if err := (VardiffConfig{}).WithDefaults().Check(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]VardiffConfig{
		"min over max":   {Min: 8, Max: 4},
		"start too low":  {Start: 1, Min: 2},
		"not a number":   {Min: math.NaN()},
		"negative":       {Min: -1},
		"endless":        {Max: math.Inf(1)},
		"no interval":    {Interval: -time.Second},
		"start too high": {Start: 1 << 40},
	} {
		if err := c.WithDefaults().Check(); err == nil {
			t.Errorf("%s: accepted %+v", name, c)
		}
	}
}
