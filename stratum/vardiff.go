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

// The controller's constants. Times are in intervals between shares: of
// VardiffConfig.Interval once settled, of a tenth of it while seeking.
const (
	seekFaster = 8    // while seeking, shares are wanted this many times as often
	fewShares  = 8    // the least evidence for a jump up
	burst      = 0.25 // the least number of intervals evidence is spread over: shares that
	// a stalled network delivers at once are no proof of an endlessly fast miner
	muchTooFast = 4 // a settled miner that is this many times too fast is sought again
	// Intervals (settled ones) without any share that end in a step down. A miner
	// that has shown no share yet may be starting up, which takes seconds, and a
	// minute for a device with boards; one that has shown some is more likely to
	// pause than to have lost most of its hash rate, and a difficulty near nothing
	// would have it flood this server when it goes on.
	firstSilence  = 2       // before any share, for the first step
	classSilence  = 12      // the same for a device of a known kind
	nextSilence   = 1. / 5  // of the first one, for each further step
	silentStep    = 1. / 64 // before any share
	sawSilence    = 12      // after shares; doubles with each step
	soughtSilence = 3       // after shares, while seeking; doubles, too
	pausedStep    = 1. / 4
	seekShares    = 40   // the evidence on which a difficulty is settled (error 1/√40 = 16 %)
	band          = 0.25 // error, in natural log units, that is left alone in steady state,
	sigmas        = 2.5  // besides so many standard deviations of counting noise
	steadyShares  = 20   // the least evidence for a correction in steady state
	forgetAt      = 240  // shares and intervals: evidence is halved here, to follow the miner

	guardShares = 64 // a pinned difficulty is left alone until this many shares
	guardFactor = 20 // came this many times too fast
)

// Vardiff steers one session's difficulty towards one share per interval. It is
// a pure state machine: time comes in as an argument.
//
// A session whose hash rate is unknown is sought first: shares are wanted ten
// times as often, jumps need few of them, and silence divides by 64 until the
// first ones come; 40 shares tell the rate within 16 %. Then the difficulty is settled, and only
// moves when the evidence speaks against it: few, large steps, because firmware
// counts shares that cross a change as its own rejects.
//
// The estimate is the accepted difficulty per second. It does not matter to it
// at which difficulty a share was found, so shares that were under way when the
// difficulty changed, however late the device applies it, do no harm.
type Vardiff struct {
	cfg     VardiffConfig
	current float64
	floor   float64 // what the miner asked for as a minimum, 0 if nothing
	pinned  bool    // a difficulty in the password turns steering off
	seeking bool
	shares  int  // heard, up to fewShares: then the miner is known to hash
	class   bool // the kind of the device is known
	quiet   int  // steps down by silence since the last share

	since time.Time // start of the evidence
	heard time.Time // of its last share, or its start
	sum   float64   // shares since then, counted in shares of the current difficulty
}

// NewVardiff starts at cfg.Start; cfg must have passed Check.
func NewVardiff(cfg VardiffConfig, now time.Time) Vardiff {
	return Vardiff{cfg: cfg, current: cfg.Start, seeking: true, since: now, heard: now}
}

// VardiffState is a controller on its way to another process.
type VardiffState struct {
	Current, Floor, Least float64 // Least: the device's own minimum, see Device
	Pinned, Settled       bool
	Class                 bool
	Shares, Quiet         int
	Since, Heard          time.Time
	Sum                   float64
}

// State returns what ResumeVardiff goes on with.
func (v *Vardiff) State() VardiffState {
	return VardiffState{v.current, v.floor, v.cfg.Min, v.pinned, !v.seeking, v.class, v.shares, v.quiet, v.since, v.heard, v.sum}
}

// ResumeVardiff goes on where another controller stopped; cfg must have passed Check.
func ResumeVardiff(cfg VardiffConfig, s VardiffState) Vardiff {
	cfg.Min = min(max(cfg.Min, s.Least), cfg.Max)
	return Vardiff{
		cfg: cfg, current: s.Current, floor: s.Floor, pinned: s.Pinned, seeking: !s.Settled,
		shares: s.Shares, class: s.Class, quiet: s.Quiet, since: s.Since, heard: s.Heard, sum: s.Sum,
	}
}

// Suit fits the controller to a kind of device, before the miner gets its first
// job: no difficulty below floor, and start as the first one. What the miner
// asked for before stays, but not below floor. Zero values change nothing. It
// reports whether the difficulty changed.
func (v *Vardiff) Suit(now time.Time, start, floor float64) bool {
	v.cfg.Min = min(max(v.cfg.Min, floor), v.cfg.Max)
	v.class = v.class || start > 0
	d := v.current
	if v.floor == 0 && start > 0 {
		d = start
	}
	return v.set(now, d)
}

// Difficulty is the difficulty the session should work at now.
func (v *Vardiff) Difficulty() float64 { return v.current }

// Restart drops the evidence: call it when the miner gets its first job.
func (v *Vardiff) Restart(now time.Time) { v.since, v.heard, v.sum = now, now, 0 }

// Share counts an accepted share and reports whether the difficulty changed.
// A share of a harder difficulty, sent before the device knew the current one,
// counts as one of the current.
func (v *Vardiff) Share(now time.Time, difficulty float64) bool {
	v.sum += min(difficulty/v.current, 1)
	v.heard, v.shares, v.quiet = now, min(v.shares+1, fewShares), 0
	return v.judge(now)
}

// Alive says that the miner sent a share that was refused: it is not silent, and
// an easier difficulty would not help it.
func (v *Vardiff) Alive(now time.Time) { v.heard = now }

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
	interval := v.cfg.Interval.Seconds()
	if v.seeking && !v.pinned {
		interval /= seekFaster
	}
	elapsed := now.Sub(v.since)
	observed, expected := v.sum, elapsed.Seconds()/interval
	pace := observed / max(expected, burst) // times too fast
	switch {
	case v.pinned:
		if observed >= guardShares && pace > guardFactor {
			return v.set(now, PowerOfTwoBelow(v.current*pace))
		}
	case observed >= fewShares && pace > muchTooFast:
		if !v.seeking {
			pace /= seekFaster
		}
		v.seeking = true
		return v.set(now, niceDifficulty(v.current*pace))
	case now.Sub(v.heard) >= v.patience():
		step := pausedStep
		if v.shares < fewShares {
			step = silentStep
		}
		v.quiet++
		return v.set(now, niceDifficulty(v.current*step))
	case v.seeking:
		return v.seek(now, observed, expected)
	case max(observed, expected) >= steadyShares:
		off := math.Log(max(observed, burst) / max(expected, burst))
		if math.Abs(off) > band+sigmas/math.Sqrt(max(1, min(observed, expected))) {
			return v.set(now, niceDifficulty(v.current*math.Exp(off)))
		}
	}
	if observed+expected > forgetAt {
		v.since = v.since.Add(elapsed / 2)
		v.sum /= 2
	}
	return false
}

// patience is how long the miner may be silent before the next step down.
func (v *Vardiff) patience() time.Duration {
	intervals := float64(firstSilence)
	if v.class {
		intervals = classSilence
	}
	switch {
	case v.shares == fewShares && v.seeking:
		intervals = math.Ldexp(soughtSilence, v.quiet)
	case v.shares == fewShares:
		intervals = math.Ldexp(sawSilence, v.quiet)
	case v.shares > 0 || v.quiet > 0:
		intervals *= nextSilence
	}
	return time.Duration(min(intervals, 1e6) * float64(v.cfg.Interval))
}

// seek goes down to where shares come often enough to count them soon, and
// settles when enough of them came.
func (v *Vardiff) seek(now time.Time, observed, expected float64) bool {
	switch {
	case observed >= seekShares:
		v.seeking = false
		return v.set(now, niceDifficulty(v.current*observed/max(expected, burst)*seekFaster))
	case expected >= 12 && observed >= 1 && observed < expected/2 && v.current > max(v.cfg.Min, v.floor):
		return v.set(now, niceDifficulty(v.current*max(observed, burst)/expected))
	}
	return false
}

// Resume continues at the difficulty of an earlier session of the same miner.
func (v *Vardiff) Resume(now time.Time, d float64) {
	if v.floor == 0 { // a suggestion or password already sent on this connection wins
		v.set(now, d)
		v.seeking, v.shares = false, fewShares
	}
}
