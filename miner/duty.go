package miner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"qcitycoin.org/qcity/hw"
)

const (
	// dutyPeriod is one cycle of work and rest, and how often the duty is set
	// anew: long against a call into a kernel, short against anything that warms up.
	dutyPeriod = 50 * time.Millisecond
	// blindDuty is the highest duty while a target's sensor cannot be read: some
	// hashing, but nothing that a machine built for its load could not cool.
	blindDuty = 0.5
	// sensorPatience is how long the last reading stands in for missing ones.
	sensorPatience = 2 * time.Second
	// throttleLogPause keeps a machine at the edge from filling its log.
	throttleLogPause = time.Minute
)

// rest returns how long a worker is to sleep now, elapsed after the start: it
// hashes in the first part of each dutyPeriod, as large a part as duty says.
// The workers' periods are shifted against each other, so that the machine's
// load stays even.
func rest(elapsed time.Duration, worker, workers int, duty float64) time.Duration {
	if duty >= 1 {
		return 0
	}
	shift := dutyPeriod * time.Duration(worker) / time.Duration(workers)
	at := (elapsed + shift) % dutyPeriod
	if at < time.Duration(duty*float64(dutyPeriod)) {
		return 0
	}
	return dutyPeriod - at
}

// DutyStats says how much of the time the workers may hash, and why.
type DutyStats struct {
	Now         float64             `json:"now"`         // fraction of the time, 0 … 1
	Temperature hw.Reading[float64] `json:"temperature"` // °C, smoothed; null: no such target, or not readable
	Power       hw.Reading[float64] `json:"power"`       // watts, smoothed; null as above
	// Problem says which target cannot be watched and what to do; "" when all
	// is well. Since is when it began.
	Problem string    `json:"problem"`
	Since   time.Time `json:"since"`
}

// governor sets the duty.
type governor struct {
	ceiling float64
	targets []*target
	log     *slog.Logger
	duty    atomic.Uint64 // math.Float64bits

	mu        sync.Mutex
	stats     DutyStats
	throttled bool
	told      time.Time // when the log was last told about throttling
}

// target is one limit and the sensor that it is about.
type target struct {
	name   string
	unit   string
	sensor func(dt time.Duration) (float64, error) // dt: since the last call
	shown  func(*DutyStats) *hw.Reading[float64]   // where the reading goes
	*controller
	duty    float64
	good    time.Time // of the last reading; zero: none yet
	problem string    // why there are none; "" when there are
}

func newGovernor(cfg *Config, log *slog.Logger) *governor {
	g := &governor{ceiling: 1, log: log}
	if cfg.Duty > 0 {
		g.ceiling = float64(cfg.Duty) / 100
	}
	add := func(limit float64, gains gains, t target) {
		if limit > 0 {
			t.controller, t.duty = newController(gains, limit, g.ceiling), g.ceiling
			g.targets = append(g.targets, &t)
		}
	}
	add(cfg.MaxTemperature, thermalGains, target{
		name: "temperature", unit: "°C", sensor: thermometer(cfg.Temperature),
		shown: func(s *DutyStats) *hw.Reading[float64] { return &s.Temperature },
	})
	add(cfg.MaxPower, powerGains, target{
		name: "power", unit: "W", sensor: wattmeter(cfg.Energy),
		shown: func(s *DutyStats) *hw.Reading[float64] { return &s.Power },
	})
	g.set(g.ceiling)
	return g
}

func (g *governor) set(duty float64) { g.duty.Store(math.Float64bits(duty)) }

// now returns the duty, 0 … 1.
func (g *governor) now() float64 { return math.Float64frombits(g.duty.Load()) }

// run keeps to the targets until ctx ends; it returns at once without any.
func (g *governor) run(ctx context.Context) {
	if len(g.targets) == 0 {
		return
	}
	ticker := time.NewTicker(dutyPeriod)
	defer ticker.Stop()
	last := time.Now()
	for {
		now := time.Now()
		g.step(now, now.Sub(last))
		last = now
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// step reads every sensor and sets the duty that the strictest target asks for.
func (g *governor) step(now time.Time, dt time.Duration) {
	duty := g.ceiling
	s := DutyStats{}
	for _, t := range g.targets {
		t.step(now, dt, g.log)
		s.Problem = cmp.Or(s.Problem, t.problem)
		duty = min(duty, t.duty)
		if t.problem == "" && t.started {
			*t.shown(&s) = hw.Known(t.smooth)
		}
	}
	g.set(duty)
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.Problem != "" {
		if s.Since = g.stats.Since; s.Since.IsZero() {
			s.Since = now
		}
	}
	g.stats = s
	g.tell(duty, now)
}

// tell logs when throttling begins and ends.
func (g *governor) tell(duty float64, now time.Time) {
	throttled := duty < g.ceiling && g.stats.Problem == "" // a problem has a line of its own
	if throttled == g.throttled || now.Sub(g.told) < throttleLogPause {
		return
	}
	g.throttled, g.told = throttled, now
	if !throttled {
		g.log.Info("mining at full duty again", "duty", percent(duty))
		return
	}
	g.log.Info("mining is throttled to keep to its targets", "duty", percent(duty), "temperature", g.stats.Temperature, "power", g.stats.Power)
}

func percent(duty float64) string { return fmt.Sprintf("%.0f%%", 100*duty) }

// step updates the target's duty.
func (t *target) step(now time.Time, dt time.Duration, log *slog.Logger) {
	value, err := t.sensor(dt)
	switch {
	case err == nil:
		if t.problem != "" {
			log.Info("the sensor of a mining target can be read again", "target", t.name)
		}
		t.good, t.problem = now, ""
		t.duty = t.controller.step(value, dt)
		return
	case errors.Is(err, errFirstReading), now.Sub(t.good) < sensorPatience, t.problem != "":
		return // as before
	}
	t.problem = fmt.Sprintf("the CPU's %s cannot be read (%v), so the miner hashes at most %s of the time: make it readable, or switch the limit of %g %s off",
		t.name, err, percent(blindDuty), t.limit, t.unit)
	log.Warn(t.problem)
	// The controller begins anew with the next reading.
	t.controller = newController(t.gains, t.limit, t.ceiling)
	t.duty = min(blindDuty, t.ceiling)
}

// snapshot returns the figures for people.
func (g *governor) snapshot() DutyStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Now = g.now()
	return s
}

var (
	errNoSensor     = errors.New("there is no sensor")
	errFirstReading = errors.New("an energy counter tells power from its second reading on")
	errNoNumber     = errors.New("the sensor shows no number")
	errStandsStill  = errors.New("the energy counter stands still")
)

func thermometer(read func() (float64, error)) func(time.Duration) (float64, error) {
	return func(time.Duration) (float64, error) {
		if read == nil {
			return 0, errNoSensor
		}
		celsius, err := read()
		if err == nil && math.IsNaN(celsius) {
			err = errNoNumber
		}
		return celsius, err
	}
}

// wattmeter makes watts of a counter of joules.
func wattmeter(read func() (float64, error)) func(time.Duration) (float64, error) {
	last := math.NaN() // not read yet
	return func(dt time.Duration) (float64, error) {
		if read == nil {
			return 0, errNoSensor
		}
		joules, err := read()
		if err != nil {
			last = math.NaN()
			return 0, err
		}
		used := joules - last
		last = joules
		switch {
		case math.IsNaN(joules):
			return 0, errNoNumber
		case used == 0 && dt > 0: // some virtual machines show a counter that never moves
			return 0, errStandsStill
		case !(used > 0) || dt <= 0: // the first reading, or the counter has begun anew
			return 0, errFirstReading
		}
		return used / dt.Seconds(), nil
	}
}
