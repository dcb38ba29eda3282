package miner

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/work"
)

// Rates are hashes per second over the last 5 seconds, minute and 15 minutes,
// or since the start where that is less. Waiting counts as time.
type Rates struct {
	Seconds5  float64 `json:"5s"`
	Minute1   float64 `json:"1m"`
	Minutes15 float64 `json:"15m"`
}

// Tally is what one worker, or all of them together, has done.
type Tally struct {
	Hashes uint64 `json:"hashes"` // headers hashed, exactly
	Rates  Rates  `json:"rates"`
}

// WorkerStats is one worker's account.
type WorkerStats struct {
	Tally
	CPU    hw.Reading[int] `json:"cpu"`    // that it is pinned to; unknown: none of its own
	Kernel string          `json:"kernel"` // "" until its first job
	// Duty is the part of the time that it may hash, 0 … 1; ActiveSeconds the
	// time that it did.
	Duty          float64 `json:"duty"`
	ActiveSeconds float64 `json:"activeSeconds"`
}

// BlockStats counts solutions handed in and what became of them. Found is the
// sum of the others and of those still under way.
type BlockStats struct {
	Found    uint64 `json:"found"`
	Accepted uint64 `json:"accepted"`
	Held     uint64 `json:"held"`
	Stale    uint64 `json:"stale"`
	Rejected uint64 `json:"rejected"`
}

// Stats is a snapshot of a Miner.
type Stats struct {
	Kernel   string           `json:"kernel"`   // "" until one is chosen
	Disabled []DisabledKernel `json:"disabled"` // kernels that failed here
	Duty     DutyStats        `json:"duty"`
	Active   int              `json:"active"` // workers hashing now; the others wait for a job
	Total    Tally            `json:"total"`
	Workers  []WorkerStats    `json:"workers"`
	Blocks   BlockStats       `json:"blocks"`
}

// Stats returns a snapshot. It may be called at any time, from any goroutine.
func (m *Miner) Stats() Stats {
	s := Stats{
		Disabled: m.chooser.snapshot(), Duty: m.governor.snapshot(),
		Workers: make([]WorkerStats, len(m.workers)), Blocks: m.blocks.snapshot(),
	}
	if c := m.chooser.current.Load(); c != nil {
		s.Kernel = c.kernel.Name
	}
	for i, w := range m.workers {
		if w.active.Load() {
			s.Active++
		}
		s.Workers[i] = w.stats(s.Duty.Now)
	}
	// The clock first: hashes after it would make rates look too high, and
	// hashing in between is nothing against the shortest window.
	now, counts := time.Now(), m.counts()
	rates := m.history.rates(now, counts)
	for i, n := range counts {
		s.Workers[i].Tally = Tally{n, rates[i]}
		s.Total.Hashes += n
		s.Total.Rates.Seconds5 += rates[i].Seconds5
		s.Total.Rates.Minute1 += rates[i].Minute1
		s.Total.Rates.Minutes15 += rates[i].Minutes15
	}
	return s
}

// stats returns all but the worker's tally.
func (w *worker) stats(duty float64) WorkerStats {
	s := WorkerStats{Duty: duty, ActiveSeconds: time.Duration(w.busy.Load()).Seconds()}
	if cpu := w.cpu.Load(); cpu >= 0 {
		s.CPU = hw.Known(int(cpu))
	}
	if name := w.kernel.Load(); name != nil {
		s.Kernel = *name
	}
	return s
}

// counts returns every worker's hashes so far.
func (m *Miner) counts() []uint64 {
	counts := make([]uint64, len(m.workers))
	for i, w := range m.workers {
		counts[i] = w.hashes.Load()
	}
	return counts
}

const longestWindow = 15 * time.Minute

// sampleRates notes the counters every second.
func (m *Miner) sampleRates(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			m.history.add(now, m.counts())
		}
	}
}

// history remembers the counters over the longest window, oldest first.
type history struct {
	mu      sync.Mutex
	samples []sample
}

type sample struct {
	at     time.Time
	counts []uint64
}

func (h *history) add(at time.Time, counts []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stale := 0
	for stale < len(h.samples) && at.Sub(h.samples[stale].at) > longestWindow {
		stale++
	}
	h.samples = append(slices.Delete(h.samples, 0, stale), sample{at, counts})
}

// rates compares counts, taken now, with the samples.
func (h *history) rates(now time.Time, counts []uint64) []Rates {
	h.mu.Lock()
	defer h.mu.Unlock()
	rates := make([]Rates, len(counts))
	h.over(5*time.Second, now, counts, func(i int, rate float64) { rates[i].Seconds5 = rate })
	h.over(time.Minute, now, counts, func(i int, rate float64) { rates[i].Minute1 = rate })
	h.over(longestWindow, now, counts, func(i int, rate float64) { rates[i].Minutes15 = rate })
	return rates
}

// over gives set every worker's rate since the first sample inside a window.
func (h *history) over(window time.Duration, now time.Time, counts []uint64, set func(int, float64)) {
	from := slices.IndexFunc(h.samples, func(s sample) bool { return now.Sub(s.at) <= window })
	if from < 0 {
		return
	}
	elapsed := now.Sub(h.samples[from].at).Seconds()
	if elapsed <= 0 {
		return
	}
	for i, n := range counts {
		set(i, float64(n-h.samples[from].counts[i])/elapsed)
	}
}

// blockCounters is BlockStats under concurrent update.
type blockCounters struct{ found, accepted, held, stale, rejected atomic.Uint64 }

func (b *blockCounters) count(outcome work.Outcome) {
	switch outcome {
	case work.Accepted:
		b.accepted.Add(1)
	case work.Held:
		b.held.Add(1)
	case work.Stale:
		b.stale.Add(1)
	case work.Rejected:
		b.rejected.Add(1)
	}
}

func (b *blockCounters) snapshot() BlockStats {
	// Found last: it must not be less than the sum of the others.
	s := BlockStats{
		Accepted: b.accepted.Load(), Held: b.held.Load(), Stale: b.stale.Load(), Rejected: b.rejected.Load(),
	}
	s.Found = b.found.Load()
	return s
}
