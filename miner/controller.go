package miner

import "time"

// gains shape a controller. How far a reading is from its limit is counted in
// spans: 1 is one span above it, −1 one below.
type gains struct {
	span       func(limit float64) float64 // one span, in the reading's unit
	hysteresis float64                     // spans below the limit in which the slow part rests
	smoothing  time.Duration               // time constant of the reading's low-pass filter
	prompt     float64                     // duty for a span, at once
	down, up   float64                     // duty for a span and second, above and below the band
}

// The gains were chosen on simulated machines, see TestThermalTarget and
// TestPowerTarget: die and heat sink with time constants from 20 ms to ten
// minutes, 15 to 75 °C between idle and full duty, sensors of whole degrees.
var (
	// A die follows its load within milliseconds, a heat sink within minutes. The
	// prompt part holds the first at once and damps the second, which the slow
	// part alone would make swing.
	thermalGains = gains{
		span:       func(float64) float64 { return 10 }, // °C
		hysteresis: 0.2, smoothing: 200 * time.Millisecond, prompt: 0.5, down: 0.1, up: 0.02,
	}
	// Power follows the duty without delay.
	powerGains = gains{
		span:       func(limit float64) float64 { return limit },
		hysteresis: 0.04, smoothing: 200 * time.Millisecond, prompt: 0.3, down: 2, up: 0.3,
	}
)

// controller turns readings of one sensor into a duty, the fraction of the time
// that workers hash, so that the reading stays just under a limit. It is
// integral control that rests within a band of hysteresis below the limit, damped
// by a proportional part. It has no clock and does no I/O.
type controller struct {
	gains
	limit   float64
	ceiling float64 // highest duty

	started  bool
	smooth   float64 // the reading, filtered
	integral float64 // the duty that the slow part has found, 0 … ceiling
}

func newController(g gains, limit, ceiling float64) *controller {
	return &controller{gains: g, limit: limit, ceiling: ceiling, integral: ceiling}
}

// step takes a reading that was taken dt after the last one and returns the
// duty from now on, 0 … ceiling.
func (c *controller) step(reading float64, dt time.Duration) float64 {
	if !c.started {
		c.started, c.smooth = true, reading
	}
	c.smooth += (reading - c.smooth) * min(1, dt.Seconds()/c.smoothing.Seconds())
	off := (c.smooth-c.limit)/c.span(c.limit) + c.hysteresis/2 // 0: the middle of the band
	// Within the band the integral rests, so that a sensor that counts whole
	// degrees does not keep the duty moving. It is clamped, so that an hour in the
	// cold does not have to be paid back once it gets hot.
	switch {
	case off > c.hysteresis/2:
		c.integral = clamp(c.integral-c.down*off*dt.Seconds(), c.ceiling)
	case off < -c.hysteresis/2:
		c.integral = clamp(c.integral-c.up*off*dt.Seconds(), c.ceiling)
	}
	return clamp(c.integral-c.prompt*max(off, -c.hysteresis/2), c.ceiling)
}

func clamp(duty, ceiling float64) float64 { return max(0, min(duty, ceiling)) }
