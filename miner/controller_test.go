package miner

import (
	"math"
	"testing"
	"time"
)

// plant is a CPU whose temperature follows the duty: a die on a heat sink, each
// with a time constant, and a sensor that rounds.
type plant struct {
	die, sink           time.Duration // time constants
	dieRise, sinkRise   float64       // °C from idle to full duty, of each
	idle                float64       // °C
	grain               float64       // of the sensor, °C
	dieAbove, sinkAbove float64       // state, °C
}

func (p *plant) temperature() float64 { return p.idle + p.dieAbove + p.sinkAbove }

// run lets dt pass at a duty and returns what the sensor shows.
func (p *plant) run(duty float64, dt time.Duration) float64 {
	p.dieAbove += (p.dieRise*duty - p.dieAbove) * -math.Expm1(-dt.Seconds()/p.die.Seconds())
	p.sinkAbove += (p.sinkRise*duty - p.sinkAbove) * -math.Expm1(-dt.Seconds()/p.sink.Seconds())
	return math.Floor(p.temperature()/p.grain) * p.grain
}

// TestThermalTarget: on machines of all kinds the temperature settles at the
// limit, with a duty that stays calm, is never above it for long, and as much is
// hashed as the limit allows.
func TestThermalTarget(t *testing.T) {
	const limit, fits = 70.0, 0.6 // the duty that just keeps the limit
	for _, c := range []struct {
		name string
		plant
		tooHot time.Duration // longest time more than 1 °C above the limit, in all
	}{
		{"bare die", plant{die: 50 * time.Millisecond, sink: time.Second, dieRise: 50, grain: 1}, 15 * time.Second},
		{"ordinary desktop", plant{die: 500 * time.Millisecond, sink: time.Minute, dieRise: 20, sinkRise: 40, grain: 1}, 5 * time.Second},
		{"large heat sink", plant{die: time.Second, sink: 10 * time.Minute, dieRise: 5, sinkRise: 70, grain: 1}, time.Second},
		{"small board", plant{die: 50 * time.Millisecond, sink: 10 * time.Second, dieRise: 10, sinkRise: 20, grain: 1}, 20 * time.Second},
		{"fine sensor", plant{die: 300 * time.Millisecond, sink: 2 * time.Minute, dieRise: 30, sinkRise: 60, grain: 0.125}, 5 * time.Second},
		{"sluggish sensor", plant{die: 5 * time.Second, sink: time.Minute, dieRise: 20, sinkRise: 40, grain: 1}, 10 * time.Second},
		{"hardly any die", plant{die: 500 * time.Millisecond, sink: 3 * time.Minute, dieRise: 2, sinkRise: 20, grain: 1}, 5 * time.Second},
		{"one slow mass", plant{die: 10 * time.Second, sink: 10 * time.Second, dieRise: 40, grain: 1}, 20 * time.Second},
		{"die follows at once", plant{die: 20 * time.Millisecond, sink: 5 * time.Second, dieRise: 60, sinkRise: 10, grain: 1}, 15 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.plant
			p.idle = limit - fits*(p.dieRise+p.sinkRise)
			ctl := newController(thermalGains, limit, 1)
			duty, hot := 1.0, time.Duration(0)
			low, high, sum, n := 1.0, 0.0, 0.0, 0
			for at := time.Duration(0); at < 20*time.Minute; at += dutyPeriod {
				duty = ctl.step(p.run(duty, dutyPeriod), dutyPeriod)
				if p.temperature() > limit+1 {
					hot += dutyPeriod
				}
				if at > 15*time.Minute {
					low, high, sum, n = min(low, duty), max(high, duty), sum+duty, n+1
					if p.temperature() > limit+1 || p.temperature() < limit-3 {
						t.Fatalf("%.1f °C after %v", p.temperature(), at)
					}
				}
			}
			if hot > c.tooHot {
				t.Errorf("more than 1 °C too hot for %v, want %v at most", hot, c.tooHot)
			}
			if mean := sum / float64(n); mean < fits-0.04 || mean > fits+0.04 {
				t.Errorf("settles at a duty of %.3f, want %.3f", mean, fits)
			}
			if high-low > 0.03 {
				t.Errorf("the duty swings between %.3f and %.3f", low, high)
			}
		})
	}
}

// TestThermalReaction: a few steps after it got hot the duty is down, and it
// comes back once that is over.
func TestThermalReaction(t *testing.T) {
	for _, c := range []struct {
		reading float64
		steps   int
		most    float64 // duty after these steps
	}{
		{71, 20, 0.97},
		{75, 4, 0.95},
		{80, 4, 0.8},
		{95, 4, 0.3},
		{95, 10, 0},
	} {
		ctl := newController(thermalGains, 70, 1)
		for range 100 {
			if duty := ctl.step(60, dutyPeriod); duty != 1 {
				t.Fatalf("duty %v in the cold", duty)
			}
		}
		duty := 1.0
		for range c.steps {
			duty = ctl.step(c.reading, dutyPeriod)
		}
		if duty > c.most {
			t.Errorf("%v °C for %d steps: duty %.3f, want %.3f at most", c.reading, c.steps, duty, c.most)
		}
		for range 3 * time.Minute / dutyPeriod {
			duty = ctl.step(60, dutyPeriod)
		}
		if duty != 1 {
			t.Errorf("after three cool minutes the duty is %.3f", duty)
		}
	}
}

// TestNoWindUp: an hour in the cold, or in the heat, is not paid back.
func TestNoWindUp(t *testing.T) {
	ctl := newController(thermalGains, 70, 0.8)
	for range time.Hour / dutyPeriod {
		if duty := ctl.step(30, dutyPeriod); duty != 0.8 {
			t.Fatalf("duty %v, want the ceiling", duty)
		}
	}
	duty := 0.0
	for range 10 * time.Second / dutyPeriod {
		duty = ctl.step(80, dutyPeriod)
	}
	if duty > 0 {
		t.Errorf("duty %.3f after ten seconds at 10 °C too much", duty)
	}
	for range time.Hour / dutyPeriod {
		duty = ctl.step(100, dutyPeriod)
	}
	for range time.Minute / dutyPeriod {
		duty = ctl.step(60, dutyPeriod)
	}
	if duty < 0.7 {
		t.Errorf("duty %.3f a minute after the heat", duty)
	}
}

// TestBandOfRest: just under the limit the duty does not move.
func TestBandOfRest(t *testing.T) {
	ctl := newController(thermalGains, 70, 1)
	ctl.integral = 0.5
	first := ctl.step(69, dutyPeriod)
	for i := range 1000 {
		reading := 68.5 + float64(i%2) // flickers
		if duty := ctl.step(reading, dutyPeriod); math.Abs(duty-first) > 0.01 {
			t.Fatalf("duty went from %.3f to %.3f", first, duty)
		}
	}
}

// TestPowerTarget: power, which follows the duty at once, settles at the limit
// within seconds.
func TestPowerTarget(t *testing.T) {
	const limit, idle = 65.0, 15.0
	for _, full := range []float64{60, 66, 100, 300} {
		ctl := newController(powerGains, limit, 1)
		duty, over := 1.0, time.Duration(0)
		low, high := 1.0, 0.0
		for at := time.Duration(0); at < time.Minute; at += dutyPeriod {
			watts := idle + (full-idle)*duty
			duty = ctl.step(watts, dutyPeriod)
			if watts > limit*1.02 {
				over += dutyPeriod
			}
			if at > 30*time.Second {
				low, high = min(low, duty), max(high, duty)
			}
		}
		fits := min(1, (limit-idle)/(full-idle))
		if low < fits*0.95 || high > fits*1.02 || high-low > 0.01 {
			t.Errorf("%v W: duty between %.3f and %.3f, want %.3f", full, low, high, fits)
		}
		if over > 3*time.Second {
			t.Errorf("%v W: too much for %v", full, over)
		}
	}
}
