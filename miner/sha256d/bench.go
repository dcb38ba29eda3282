package sha256d

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// sampleTime is what one measurement lasts: long against the clock's grain and
// a pre-emption, short against the seconds in which a neighbour on the same
// core comes and goes.
const sampleTime = 5 * time.Millisecond

// callHashes is the size of one Scan while measuring, as when mining.
const callHashes = 4096

// Result is one kernel's measured speed on the calling thread.
type Result struct {
	Name    string
	Lanes   int
	Hashes  uint64        // hashed in all samples
	Elapsed time.Duration // sum of all samples
	Samples []float64     // hashes per second, rising
}

// Quantile returns the speed in hashes per second below which the fraction q
// (0 … 1) of the samples lies: 0.5 is the median. It is 0 without samples.
func (r *Result) Quantile(q float64) float64 { return Quantile(r.Samples, q) }

// Quantile returns the value below which the fraction q (0 … 1) of values lies,
// which must be rising. It is 0 without values.
func Quantile(rising []float64, q float64) float64 {
	if len(rising) == 0 {
		return 0
	}
	pos := q * float64(len(rising)-1)
	i := min(int(pos), len(rising)-1)
	j := min(i+1, len(rising)-1)
	return rising[i] + (pos-float64(i))*(rising[j]-rising[i])
}

// Median returns the middle sample in hashes per second.
func (r *Result) Median() float64 { return r.Quantile(0.5) }

// P10 returns the speed that nine samples in ten reach, in hashes per second.
func (r *Result) P10() float64 { return r.Quantile(0.1) }

// P90 returns the speed that one sample in ten reaches, in hashes per second.
func (r *Result) P90() float64 { return r.Quantile(0.9) }

// Sampler hashes for the sake of measuring: as the miner does, but with a target
// that no hash meets, so that nothing else takes time. It serves one goroutine.
type Sampler struct {
	scanner *Scanner
	next    uint32
}

// NewSampler returns a Sampler on an engine of k's own, with as many header
// versions as k likes.
func NewSampler(k Kernel) (*Sampler, error) {
	s := Sampler{scanner: NewScanner(k)}
	w := Work{Header: genesis, Versions: versionsFrom(1, k.Lanes)}
	if err := s.scanner.Prepare(&w); err != nil {
		return nil, fmt.Errorf("benchmark of kernel %s: %w", k.Name, err)
	}
	return &s, nil
}

// Until hashes until end has passed, callHashes at least, and returns the number
// of hashes. Measure the time around it: the last call ends after end.
func (s *Sampler) Until(end time.Time) (hashes uint64) {
	nonces := callHashes / s.scanner.versions
	for {
		n, _ := s.scanner.Scan(s.next, nonces, nil)
		hashes += n
		// Stay clear of the end of the nonce space.
		s.next = (s.next + uint32(nonces)) % (NonceSpace - callHashes)
		if !time.Now().Before(end) {
			return hashes
		}
	}
}

// Bench measures kernels on the calling goroutine for at least perKernel each,
// in turn (a sample of the first, of the second, …), because a machine's speed
// drifts more within seconds than kernels differ. The first round warms up and
// is not counted. It ends early, with what it has and the context's error, when
// ctx does. Kernels are not tested: see SelfTest.
func Bench(ctx context.Context, perKernel time.Duration, kernels ...Kernel) ([]Result, error) {
	results := make([]Result, len(kernels))
	samplers := make([]*Sampler, len(kernels))
	for i, k := range kernels {
		results[i] = Result{Name: k.Name, Lanes: k.Lanes}
		var err error
		if samplers[i], err = NewSampler(k); err != nil {
			return nil, err
		}
	}
	for round := 0; !allMeasured(results, perKernel); round++ {
		for i := range results {
			if err := ctx.Err(); err != nil {
				return sorted(results), fmt.Errorf("benchmark ended early: %w", err)
			}
			start := time.Now()
			hashes := samplers[i].Until(start.Add(sampleTime))
			if elapsed := time.Since(start); round > 0 {
				results[i].add(hashes, elapsed)
			}
		}
	}
	return sorted(results), nil
}

func (r *Result) add(hashes uint64, elapsed time.Duration) {
	r.Hashes += hashes
	r.Elapsed += elapsed
	r.Samples = append(r.Samples, float64(hashes)/elapsed.Seconds())
}

func allMeasured(results []Result, d time.Duration) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return len(r.Samples) == 0 || r.Elapsed < d })
}

func sorted(results []Result) []Result {
	for i := range results {
		slices.Sort(results[i].Samples)
	}
	return results
}
