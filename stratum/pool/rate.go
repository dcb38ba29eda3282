package pool

import (
	"math"
	"time"

	"qcitycoin.org/qcity/miner/work"
)

// rateWindows are the time constants of the hash-rate estimates.
var rateWindows = [3]time.Duration{time.Minute, 10 * time.Minute, time.Hour}

// HashRate is an estimate in hashes per second, from accepted difficulty,
// over exponentially fading windows. From a start it is right from the first
// minute on, because it divides by the time that really passed.
type HashRate struct {
	Minute, TenMinutes, Hour float64
}

// rate accumulates difficulty with exponential fading.
type rate struct {
	start, last time.Time
	sums        [len(rateWindows)]float64
}

func (r *rate) fade(now time.Time) {
	if r.start.IsZero() {
		r.start, r.last = now, now
	}
	if dt := now.Sub(r.last); dt > 0 {
		for i, w := range rateWindows {
			r.sums[i] *= math.Exp(-dt.Seconds() / w.Seconds())
		}
		r.last = now
	}
}

func (r *rate) add(now time.Time, difficulty float64) {
	r.fade(now)
	for i := range r.sums {
		r.sums[i] += difficulty
	}
}

// estimate returns hashes per second; less than 10 s of history counts as 10 s.
// It changes nothing: what is asked must not show in what a restart finds.
func (r rate) estimate(now time.Time) HashRate {
	r.fade(now)
	age := max(now.Sub(r.start), 10*time.Second).Seconds()
	var out [len(rateWindows)]float64
	for i, w := range rateWindows {
		tau := w.Seconds()
		out[i] = r.sums[i] * work.HashesPerDifficulty / (tau * (1 - math.Exp(-age/tau)))
	}
	return HashRate{Minute: out[0], TenMinutes: out[1], Hour: out[2]}
}
