package hw

import "time"

// The ways to count core cycles.
const (
	CyclesPerf       = "perf"       // the hardware's counter, through perf_event_open(2)
	CyclesCalibrated = "calibrated" // time × the clock rate measured just before and after
	CyclesUnknown    = ""
)

// Cycles counts core cycles of one thread. The goroutine that opens and uses it
// must be locked to its thread, and better be pinned to a CPU first.
type Cycles struct {
	perf *perfCounter // nil: not offered here
}

// OpenCycles chooses the best way that works here: many virtual machines have no
// hardware counter, and an architecture without the loop of addChain cannot
// calibrate.
func OpenCycles() *Cycles {
	p, err := openPerf()
	if err != nil {
		return &Cycles{}
	}
	// Some hypervisors offer a counter that stands still, and on a CPU with two
	// kinds of cores it may count on the other kind only.
	before, err1 := p.read()
	addChain(calibrationRounds)
	after, err2 := p.read()
	if n, ok := after.since(before).Get(); err1 != nil || err2 != nil || !ok || n < calibrationRounds*addsPerRound/2 {
		p.close()
		return &Cycles{}
	}
	return &Cycles{p}
}

// Method returns how cycles are counted: one of the constants above.
func (c *Cycles) Method() string {
	switch {
	case c.perf != nil:
		return CyclesPerf
	case canChain:
		return CyclesCalibrated
	}
	return CyclesUnknown
}

// Close gives the counter back.
func (c *Cycles) Close() {
	if c.perf != nil {
		c.perf.close()
		c.perf = nil
	}
}

// Measure runs work and returns how long it took and how many core cycles.
//
// The hardware counts cycles in user mode only. Calibrated, time in which the
// thread did not run counts as well, and a clock rate that changes between the
// calibrations and work goes into the result: with boost that is a few percent.
// Both make single results wrong, medians of many much less.
func (c *Cycles) Measure(work func()) (time.Duration, Reading[float64]) {
	if c.perf != nil {
		before, err1 := c.perf.read()
		start := time.Now()
		work()
		elapsed := time.Since(start)
		after, err2 := c.perf.read()
		if err1 != nil || err2 != nil {
			return elapsed, Reading[float64]{}
		}
		return elapsed, after.since(before)
	}
	before := clockRate()
	start := time.Now()
	work()
	elapsed := time.Since(start)
	// Whatever comes between makes a calibration slower, never faster.
	if rate := max(before, clockRate()); rate > 0 {
		return elapsed, Known(rate * elapsed.Seconds())
	}
	return elapsed, Reading[float64]{}
}

// A calibration is the fastest of a few runs of the chain, about 0.15 ms at 3.5
// GHz in all: shorter than most interrupts are apart, long against the clock's
// grain.
const (
	addsPerRound      = 64
	calibrationRounds = 1024
	calibrationRuns   = 8
)

// clockRate returns the core's clock rate in hertz, 0 where it is unknown.
func clockRate() float64 {
	if !canChain {
		return 0
	}
	fastest := time.Duration(0)
	for range calibrationRuns {
		start := time.Now()
		addChain(calibrationRounds)
		if took := time.Since(start); fastest == 0 || took < fastest {
			fastest = took
		}
	}
	if fastest <= 0 {
		return 0
	}
	return calibrationRounds * addsPerRound / fastest.Seconds()
}

// perfReading is a counter with the times (ns) it was wanted and was counting:
// when more counters are in use than the hardware has, they take turns.
type perfReading struct{ count, enabled, running uint64 }

// since returns the events between two readings, scaled up for the time in which
// others had the hardware. It is unknown when nothing was counted.
func (r perfReading) since(before perfReading) Reading[float64] {
	count, enabled, running := r.count-before.count, r.enabled-before.enabled, r.running-before.running
	if count == 0 || running == 0 {
		return Reading[float64]{}
	}
	return Known(float64(count) * float64(enabled) / float64(running))
}
