package stratum

import (
	"fmt"
	"math"
	"time"
)

// VardiffConfig sets the limits of variable difficulty. Zero fields mean the defaults.
type VardiffConfig struct {
	Start    float64       // first difficulty; default 2^-10 (a share per 4.2 million hashes)
	Min      float64       // default 2^-16 (a share per 65,536 hashes)
	Max      float64       // default 2^32: older firmware reads no more
	Interval time.Duration // aimed time between shares; default 5 s
}

// WithDefaults fills the zero fields.
func (c VardiffConfig) WithDefaults() VardiffConfig {
	if c.Min == 0 {
		c.Min = 1.0 / (1 << 16)
	}
	if c.Max == 0 {
		c.Max = 1 << 32
	}
	if c.Start == 0 {
		c.Start = min(max(1.0/(1<<10), c.Min), c.Max)
	}
	if c.Interval == 0 {
		c.Interval = 5 * time.Second
	}
	return c
}

// Check refuses limits that contradict each other.
func (c VardiffConfig) Check() error {
	switch {
	case !(c.Min > 0) || math.IsInf(c.Max, 0) || !(c.Min <= c.Start && c.Start <= c.Max):
		return fmt.Errorf("share difficulty must satisfy 0 < min ≤ start ≤ max, not min %v, start %v, max %v", c.Min, c.Start, c.Max)
	case c.Interval <= 0:
		return fmt.Errorf("share interval must be positive, not %v", c.Interval)
	}
	return nil
}

// The controller's constants. Its evidence is counted in shares of the current
// difficulty, so that late shares of an easier one weigh what they prove.
const (
	enoughShares = 12   // judge after this many shares, or after the time they should have taken
	guardShares  = 64   // a pinned difficulty is left alone until this many shares
	guardFactor  = 20   // came this many times too fast
	leastPeriods = 0.25 // the least number of intervals that evidence is spread over
	forgetAt     = 160  // evidence is halved here, so that the estimate follows the miner
	deadBand     = 0.6  // log2 of the error that powers of two cannot correct anyway
	noise        = 2.0  // standard deviations of counting noise that are tolerated, in log2 units
	maxDrop      = -4.0 // one step down from (nearly) no evidence divides by at most 16
)

// Vardiff steers one session's difficulty towards one share per interval, in
// powers of two: few, large steps, because firmware counts shares that cross a
// change as its own rejects. It is a pure state machine: time comes in as an argument.
type Vardiff struct {
	cfg     VardiffConfig
	current float64
	floor   float64 // what the miner asked for as a minimum, 0 if nothing
	pinned  bool    // a difficulty in the password turns steering off

	since time.Time // start of the evidence
	sum   float64   // accepted difficulty since then
}

// NewVardiff starts at cfg.Start; cfg must have passed Check.
func NewVardiff(cfg VardiffConfig, now time.Time) Vardiff {
	return Vardiff{cfg: cfg, current: cfg.Start, since: now}
}

// VardiffState is a controller on its way to another process.
type VardiffState struct {
	Current, Floor float64
	Pinned         bool
	Since          time.Time
	Sum            float64
}

// State returns what ResumeVardiff goes on with.
func (v *Vardiff) State() VardiffState {
	return VardiffState{v.current, v.floor, v.pinned, v.since, v.sum}
}

// ResumeVardiff goes on where another controller stopped; cfg must have passed Check.
func ResumeVardiff(cfg VardiffConfig, s VardiffState) Vardiff {
	return Vardiff{cfg: cfg, current: s.Current, floor: s.Floor, pinned: s.Pinned, since: s.Since, sum: s.Sum}
}

// Difficulty is the difficulty the session should work at now.
func (v *Vardiff) Difficulty() float64 { return v.current }

// Restart drops the evidence: call it when the miner gets its first job.
func (v *Vardiff) Restart(now time.Time) { v.since, v.sum = now, 0 }

// Share counts an accepted share and reports whether the difficulty changed.
func (v *Vardiff) Share(now time.Time, difficulty float64) bool {
	v.sum += difficulty
	return v.judge(now)
}

// Tick judges the time that went by without shares and reports whether the
// difficulty changed. Call it about once a second.
func (v *Vardiff) Tick(now time.Time) bool { return v.judge(now) }

// Suggest honours a difficulty the miner asked for: it becomes the current
// difficulty and the floor. A repeated suggestion (NerdMiner sends one every
// 30 s to stay alive) changes nothing.
func (v *Vardiff) Suggest(now time.Time, d float64) bool {
	d = min(max(d, v.cfg.Min), v.cfg.Max)
	if d == v.floor || v.pinned {
		return false
	}
	v.floor = d
	return v.set(now, d)
}

// Floor honours a minimum (BIP 310 minimum-difficulty) without lowering the
// current difficulty.
func (v *Vardiff) Floor(now time.Time, d float64) bool {
	v.floor = min(max(d, v.cfg.Min), v.cfg.Max)
	if v.pinned || v.current >= v.floor {
		return false
	}
	return v.set(now, v.floor)
}

// Pin fixes the difficulty at d, within the limits. Only a flood of shares (by
// default, more than four a second) still raises it.
func (v *Vardiff) Pin(now time.Time, d float64) bool {
	v.pinned = true
	v.floor = min(max(d, v.cfg.Min), v.cfg.Max)
	return v.set(now, v.floor)
}

func (v *Vardiff) set(now time.Time, d float64) bool {
	d = min(max(d, v.cfg.Min, v.floor), v.cfg.Max)
	v.Restart(now)
	changed := d != v.current
	v.current = d
	return changed
}

func (v *Vardiff) judge(now time.Time) bool {
	elapsed := now.Sub(v.since)
	// Shares that a stalled network delivers in one burst are no proof of an
	// endlessly fast miner, hence the lower bound. A miner that is a million
	// times too fast is still caught in four steps of a dozen shares each.
	expected := max(elapsed.Seconds()/v.cfg.Interval.Seconds(), leastPeriods)
	observed := v.sum / v.current
	if v.pinned {
		if observed >= guardShares && observed > guardFactor*expected {
			return v.set(now, PowerOfTwoBelow(v.current*observed/expected))
		}
	} else if max(observed, expected) >= enoughShares {
		off := math.Log2(max(observed, leastPeriods) / expected)
		if math.Abs(off) > deadBand+noise/math.Sqrt(max(1, min(observed, expected))) {
			ideal := math.Log2(v.current) + max(off, maxDrop)
			return v.set(now, math.Exp2(math.Round(ideal)))
		}
	}
	if observed+expected > forgetAt {
		v.since = v.since.Add(elapsed / 2)
		v.sum /= 2
	}
	return false
}

// Resume continues at the difficulty of an earlier session of the same miner.
func (v *Vardiff) Resume(now time.Time, d float64) {
	if v.floor == 0 { // a suggestion or password already sent on this connection wins
		v.set(now, d)
	}
}
