package miner

import (
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/work"
)

// TestRest: over one period a worker works for the duty's part of it, in one go,
// and workers take turns.
func TestRest(t *testing.T) {
	const grain = 100 * time.Microsecond
	for _, duty := range []float64{0, 0.01, 0.5, 0.9, 1} {
		for _, workers := range []int{1, 3, 64} {
			begins := map[time.Duration]bool{}
			for worker := range workers {
				worked, switches, before := time.Duration(0), 0, rest(0, worker, workers, duty) == 0
				for at := grain; at <= dutyPeriod; at += grain {
					d := rest(time.Hour+at, worker, workers, duty)
					if d < 0 || d > dutyPeriod {
						t.Fatalf("rest of %v", d)
					}
					// After the rest it is time to work, unless it never is.
					if d > 0 && duty > 0 && rest(time.Hour+at+d, worker, workers, duty) != 0 {
						t.Fatalf("worker %d rests again after its rest", worker)
					}
					now := d == 0
					if now {
						worked += grain
					}
					if now && !before {
						begins[at] = true
					}
					if now != before {
						switches++
					}
					before = now
				}
				want := time.Duration(duty * float64(dutyPeriod))
				if worked < want-grain || worked > want+grain || switches > 2 {
					t.Errorf("duty %v, worker %d of %d: works %v of %v in %d parts", duty, worker, workers, worked, dutyPeriod, switches)
				}
			}
			if duty > 0 && duty < 1 && len(begins) != workers {
				t.Errorf("duty %v: %d workers begin at %d different times", duty, workers, len(begins))
			}
		}
	}
}

// TestWorkersKeepTheDuty, all of them, to the hash.
func TestWorkersKeepTheDuty(t *testing.T) {
	for _, duty := range []int{1, 25, 80} {
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{forget: true}
			m := startWith(t, Config{Workers: 3, Kernel: "k", Duty: duty}, noSolutions(t), r.faked("k", 1, &fake{rate: 5e6}))
			m.feed.Publish(newJob(1, 'P', work.Target{}))
			const took = 4 * time.Second
			time.Sleep(took)
			s := m.Stats()
			for i, w := range s.Workers {
				want := 5e6 * took.Seconds() * float64(duty) / 100
				// A call that has begun is finished: a fifth of a millisecond in fifty.
				if got := float64(w.Hashes); got < want*0.99 || got > want+5e6*took.Seconds()*0.005 {
					t.Errorf("duty %d %%: worker %d made %v hashes, want %v", duty, i, got, want)
				}
				if w.Duty != float64(duty)/100 || math.Abs(w.ActiveSeconds-float64(w.Hashes)/5e6) > 0.01 {
					t.Errorf("duty %d %%: worker %d says %+v", duty, i, w)
				}
			}
			if s.Duty.Now != float64(duty)/100 || s.Active != 3 {
				t.Errorf("stats %+v", s)
			}
			m.end(t)
		})
	}
}

// TestJobSwitchWhileResting: a rest does not lead back to the old job.
func TestJobSwitchWhileResting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		m := startWith(t, Config{Workers: 2, Kernel: "k", Duty: 5}, noSolutions(t), r.faked("k", 1, &fake{rate: 5e6}))
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		time.Sleep(10*dutyPeriod + dutyPeriod/5) // worker 0 rests
		second := newJob(2, 'Q', work.Target{})
		second.Bits = 0x1d00ffff
		m.feed.Publish(second)
		published := time.Now()
		time.Sleep(5 * dutyPeriod)
		m.end(t)
		checkSwitch(t, r.scans, second.Bits, published)
	})
}

// gauge is a sensor that a test sets.
type gauge struct {
	value atomic.Uint64
	fails atomic.Bool
}

func (g *gauge) set(v float64) { g.value.Store(math.Float64bits(v)) }

func (g *gauge) read() (float64, error) {
	if g.fails.Load() {
		return 0, errors.New("permission denied")
	}
	return math.Float64frombits(g.value.Load()), nil
}

// TestTemperatureLimit: a miner that gets too hot hashes less, and says so.
func TestTemperatureLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g := &recorder{forget: true}, new(gauge)
		g.set(50)
		m := startWith(t, Config{Workers: 2, Kernel: "k", MaxTemperature: 70, Temperature: g.read}, noSolutions(t), r.faked("k", 1, &fake{rate: 5000}))
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		time.Sleep(10 * time.Second)
		if d := m.Stats().Duty; d.Now != 1 || d.Temperature != hw.Known(50.0) || d.Power != (hw.Reading[float64]{}) || d.Problem != "" {
			t.Errorf("cool: %+v", d)
		}
		// Two minutes, as the log is told of throttling once a minute.
		g.set(90)
		time.Sleep(2 * time.Minute)
		s := m.Stats()
		if s.Duty.Now != 0 || s.Workers[0].Duty != 0 {
			t.Errorf("hot: %+v", s.Duty)
		}
		before := s.Total.Hashes
		time.Sleep(time.Second)
		if got := m.Stats().Total.Hashes; got != before {
			t.Errorf("%d hashes in the heat", got-before)
		}
		g.set(50)
		time.Sleep(10 * time.Minute)
		if d := m.Stats().Duty; d.Now != 1 {
			t.Errorf("cool again: %+v", d)
		}
		m.end(t)
		m.logs.wantOneLine(t, "mining is throttled")
		m.logs.wantOneLine(t, "full duty again")
	})
}

// TestPowerLimit: watts come from a counter of joules.
func TestPowerLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{forget: true}
		began, joules := time.Now(), 0.0
		var m *running
		last := began
		energy := func() (float64, error) {
			now := time.Now()
			joules += now.Sub(last).Seconds() * (20 + 80*m.governor.now())
			last = now
			return joules, nil
		}
		ready := make(chan struct{})
		m = startWith(t, Config{Workers: 2, Kernel: "recorder", MaxPower: 60, Energy: func() (float64, error) {
			<-ready
			return energy()
		}}, noSolutions(t), r.kernel(1))
		close(ready)
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		time.Sleep(time.Minute)
		d := m.Stats().Duty
		if d.Now < 0.45 || d.Now > 0.505 {
			t.Errorf("duty %v, want just below 0.5", d.Now)
		}
		if watts, _ := d.Power.Get(); watts < 56 || watts > 60.5 {
			t.Errorf("%v W", d.Power)
		}
		m.end(t)
	})
}

// TestBlindMiner: without a reading for its target it hashes half of the time,
// says so in one line and in its figures, and goes on when the sensor is back.
func TestBlindMiner(t *testing.T) {
	broken := func() (float64, error) { return 0, errors.New("permission denied") }
	constant := func() (float64, error) { return 1234, nil }
	notANumber := func() (float64, error) { return math.NaN(), nil }
	for _, c := range []struct {
		name string
		cfg  Config
		duty float64
		want string
	}{
		{"no thermometer", Config{MaxTemperature: 70}, 0.5, "temperature cannot be read (there is no sensor), so the miner hashes at most 50% of the time: make it readable, or switch the limit of 70 °C off"},
		{"thermometer fails", Config{MaxTemperature: 70, Temperature: broken}, 0.5, "permission denied"},
		{"thermometer shows nonsense", Config{MaxTemperature: 70, Temperature: notANumber}, 0.5, "no number"},
		{"no energy counter", Config{MaxPower: 65}, 0.5, "power cannot be read"},
		{"energy counter fails", Config{MaxPower: 65, Energy: broken}, 0.5, "permission denied"},
		{"energy counter stands still", Config{MaxPower: 65, Energy: constant}, 0.5, "stands still"},
		{"duty is lower anyhow", Config{MaxTemperature: 70, Duty: 20}, 0.2, "temperature cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{forget: true}
				c.cfg.Workers, c.cfg.Kernel = 2, "k"
				m := startWith(t, c.cfg, noSolutions(t), r.faked("k", 1, &fake{rate: 5000}))
				m.feed.Publish(newJob(1, 'P', work.Target{}))
				time.Sleep(time.Minute)
				d := m.Stats().Duty
				if d.Now != c.duty || !strings.Contains(d.Problem, c.want) || d.Since.IsZero() || time.Since(d.Since) < 50*time.Second {
					t.Errorf("%+v", d)
				}
				if d.Temperature != (hw.Reading[float64]{}) || d.Power != (hw.Reading[float64]{}) {
					t.Errorf("shows %v and %v", d.Temperature, d.Power)
				}
				m.end(t)
				m.logs.wantOneLine(t, "level=WARN")
				m.logs.wantOneLine(t, c.want)
			})
		})
	}
}

// TestSensorComesAndGoes: a moment without readings changes nothing, a longer
// one makes the miner cautious until they are back.
func TestSensorComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g := &recorder{forget: true}, new(gauge)
		g.set(50)
		m := startWith(t, Config{Workers: 1, Kernel: "k", MaxTemperature: 70, Temperature: g.read}, noSolutions(t), r.faked("k", 1, &fake{rate: 5000}))
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		for _, step := range []struct {
			fails bool
			after time.Duration
			duty  float64
		}{
			{false, time.Second, 1},
			{true, sensorPatience - 2*dutyPeriod, 1},
			{true, 4 * dutyPeriod, blindDuty},
			{true, time.Minute, blindDuty},
			{false, 2 * dutyPeriod, 1},
		} {
			g.fails.Store(step.fails)
			time.Sleep(step.after)
			d := m.Stats().Duty
			if d.Now != step.duty || (d.Problem != "") != (step.duty < 1) {
				t.Fatalf("%+v: %+v", step, d)
			}
		}
		m.end(t)
		m.logs.wantOneLine(t, "permission denied")
		m.logs.wantOneLine(t, "can be read again")
	})
}

// TestStricterTargetWins, whichever it is.
func TestStricterTargetWins(t *testing.T) {
	heat := new(gauge)
	heat.set(50)
	joules := 0.0
	cfg := Config{MaxTemperature: 70, MaxPower: 50, Temperature: heat.read, Energy: func() (float64, error) {
		joules += 5 // 100 W
		return joules, nil
	}}
	g := newGovernor(&cfg, discard)
	now := time.Unix(1000, 0)
	for range 3 {
		now = now.Add(dutyPeriod)
		g.step(now, dutyPeriod)
	}
	byPower := g.now()
	if byPower >= 0.9 || g.snapshot().Power != hw.Known(100.0) {
		t.Fatalf("duty %v at twice the power: %+v", byPower, g.snapshot())
	}
	// The other way round: twice the power is no matter any more in such heat.
	heat.set(140)
	for range 4 {
		now = now.Add(dutyPeriod)
		g.step(now, dutyPeriod)
	}
	if power := g.targets[1].duty; g.now() != 0 || power == 0 {
		t.Fatalf("duty %v in the heat, %v by power alone", g.now(), power)
	}
}
