// Package bench measures hashing kernels, compares what was measured, and lets
// them compete with other people's miners.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
)

const (
	// sliceTime is what one sample lasts: long against the grain of clocks and
	// energy counters, short against the seconds in which a neighbour on the
	// same core comes and goes.
	sliceTime = 10 * time.Millisecond
	// lead is what threads have to wake up and to calibrate.
	lead = 500 * time.Microsecond
)

// Plan says what to measure, where and for how long.
type Plan struct {
	Kernels []sha256d.Kernel // that Check calls good
	Threads int              // 1 or more
	CPUs    []int            // one for each thread; empty: any
	Time    time.Duration    // hashed with each kernel
	Warmup  time.Duration    // hashed before in all, not counted
	Energy  *hw.Energy       // nil: unknown
	// Progress, if not nil, is told after every slice how many are done.
	Progress func(done, of int)
}

// Outcome is what Measure found, in the order of the plan's kernels.
type Outcome struct {
	Kernels []Measured
	Counter string // how cycles were counted, as hw.Cycles.Method says
	// EnergyErr says why the energy became unknown on the way.
	EnergyErr error
}

// Measured is what one kernel did: a value for each slice, rising.
type Measured struct {
	Kernel sha256d.Kernel
	Rates  []float64 // hashes per second, of all threads together
	Cycles []float64 // core cycles per hash; may be fewer, or none
	// Mean is the mean over the time, in hashes per second. What the median leaves
	// out, such as time that went to other programs, is in it.
	Mean float64
	// JoulesPerHash is for the whole time.
	JoulesPerHash hw.Reading[float64]
}

// Rate returns the median in hashes per second, 0 when nothing was measured.
func (m *Measured) Rate() float64 { return sha256d.Quantile(m.Rates, .5) }

// Best returns the kernel with the highest median.
func (o *Outcome) Best() *Measured {
	var best Measured
	for _, m := range o.Kernels {
		if m.Rate() > best.Rate() {
			best = m
		}
	}
	return &best
}

// Check sorts out the kernels that may run on this machine. The reasons say, by
// name, why the others must not.
func Check(ctx context.Context, kernels []sha256d.Kernel, features []hw.Feature, probe sha256d.Prober) (good []sha256d.Kernel, reasons map[string]string) {
	reasons = map[string]string{}
	var suited []sha256d.Kernel
	for _, k := range kernels {
		if missing := k.Missing(features); len(missing) > 0 {
			reasons[k.Name] = fmt.Sprintf("needs %s, which this CPU does not offer", names(missing))
			continue
		}
		suited = append(suited, k)
	}
	if len(suited) == 0 {
		return nil, reasons
	}
	for i, err := range probe(ctx, suited) {
		switch {
		case err == nil:
			good = append(good, suited[i])
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			reasons[suited[i].Name] = "was not tested before the interruption"
		default:
			reasons[suited[i].Name] = err.Error()
		}
	}
	return good, reasons
}

// Measure lets the kernels take turns: a slice of the first on all threads, then
// one of the second, and again from the first. A machine's speed drifts more
// within seconds than kernels differ, and this way it drifts for all of them.
//
// When ctx ends it stops within a slice and returns what there is and the
// context's error. Any other error says why nothing could be measured.
func Measure(ctx context.Context, p Plan) (Outcome, error) {
	// A quota may have left Go fewer threads than are to hash at once.
	if before := runtime.GOMAXPROCS(0); before < p.Threads {
		runtime.GOMAXPROCS(p.Threads)
		defer runtime.GOMAXPROCS(before)
	}
	team, err := p.start()
	if err != nil {
		return Outcome{}, err
	}
	defer team.end()
	sums := make([]sum, len(p.Kernels))
	warmup := rounds(p.Warmup, sliceTime*time.Duration(max(len(p.Kernels), 1)))
	all := warmup + max(rounds(p.Time, sliceTime), 1)
	energy := meter{counter: p.Energy}
	for round := range all {
		for k := range p.Kernels {
			if err := ctx.Err(); err != nil {
				return outcome(&p, sums, team, &energy), fmt.Errorf("benchmark ended early: %w", err)
			}
			begin, before := time.Now(), energy.read()
			parts := team.slice(k, begin.Add(lead+sliceTime))
			after, wall := energy.read(), time.Since(begin)
			if round >= warmup {
				sums[k].add(parts, after-before, wall)
			}
			if p.Progress != nil {
				p.Progress(round*len(p.Kernels)+k+1, all*len(p.Kernels))
			}
		}
	}
	return outcome(&p, sums, team, &energy), nil
}

// rounds is how many slices it takes to fill d.
func rounds(d, slice time.Duration) int { return int(math.Ceil(float64(d) / float64(slice))) }

func outcome(p *Plan, sums []sum, team *team, energy *meter) Outcome {
	o := Outcome{Counter: team.counter, EnergyErr: energy.err}
	for i, k := range p.Kernels {
		m := Measured{Kernel: k, Rates: sums[i].rates, Cycles: sums[i].cycles}
		slices.Sort(m.Rates)
		slices.Sort(m.Cycles)
		if hashes := float64(sums[i].hashes); hashes > 0 {
			m.Mean = sums[i].weighted / sums[i].elapsed.Seconds()
			if energy.known() {
				m.JoulesPerHash = hw.Known(sums[i].joules / hashes)
			}
		}
		o.Kernels = append(o.Kernels, m)
	}
	return o
}

// meter reads the energy until that fails once.
type meter struct {
	counter *hw.Energy
	err     error
}

func (m *meter) known() bool { return m.counter != nil && m.err == nil }

func (m *meter) read() (joules float64) {
	if m.known() {
		joules, m.err = m.counter.Joules()
	}
	return joules
}

// part is what one thread did in a slice.
type part struct {
	hashes  uint64
	elapsed time.Duration
	cycles  hw.Reading[float64]
}

// sum gathers the slices of one kernel.
type sum struct {
	rates, cycles []float64
	hashes        uint64
	elapsed       time.Duration // of all threads
	weighted      float64       // rates × elapsed (s)
	joules        float64
}

// add takes a slice: the threads' parts, and the energy and time from before the
// first began until the last was done.
func (s *sum) add(parts []part, joules float64, wall time.Duration) {
	var rate, cycles float64
	var hashes uint64
	var elapsed time.Duration
	known := true
	for _, p := range parts {
		rate += float64(p.hashes) / p.elapsed.Seconds()
		hashes += p.hashes
		elapsed += p.elapsed
		c, ok := p.cycles.Get()
		cycles, known = cycles+c, known && ok
	}
	s.rates = append(s.rates, rate)
	if known {
		s.cycles = append(s.cycles, cycles/float64(hashes))
	}
	s.hashes += hashes
	s.elapsed += elapsed
	s.weighted += rate * elapsed.Seconds()
	// Waking up and calibrating took energy as well, in proportion to time.
	s.joules += joules * elapsed.Seconds() / float64(len(parts)) / wall.Seconds()
}
