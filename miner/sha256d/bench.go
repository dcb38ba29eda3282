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
func (r *Result) Quantile(q float64) float64 {
	if len(r.Samples) == 0 {
		return 0
	}
	pos := q * float64(len(r.Samples)-1)
	i := min(int(pos), len(r.Samples)-1)
	j := min(i+1, len(r.Samples)-1)
	return r.Samples[i] + (pos-float64(i))*(r.Samples[j]-r.Samples[i])
}

// Median returns the middle sample in hashes per second.
func (r *Result) Median() float64 { return r.Quantile(0.5) }

// P10 returns the speed that nine samples in ten reach, in hashes per second.
func (r *Result) P10() float64 { return r.Quantile(0.1) }

// P90 returns the speed that one sample in ten reaches, in hashes per second.
func (r *Result) P90() float64 { return r.Quantile(0.9) }

// Bench measures kernels on the calling goroutine for at least perKernel each,
// in turn (a sample of the first, of the second, …), because a machine's speed
// drifts more within seconds than kernels differ. The first round warms up and
// is not counted. It ends early, with what it has and the context's error, when
// ctx does. Kernels are not tested: see SelfTest.
func Bench(ctx context.Context, perKernel time.Duration, kernels ...Kernel) ([]Result, error) {
	results := make([]Result, len(kernels))
	scanners := make([]*Scanner, len(kernels))
	for i, k := range kernels {
		results[i] = Result{Name: k.Name, Lanes: k.Lanes}
		scanners[i] = NewScanner(k)
		// The zero target, which no hash meets, so that nothing but hashing is measured.
		w := Work{Header: genesis, Versions: versionsFrom(1, k.Lanes)}
		if err := scanners[i].Prepare(&w); err != nil {
			return nil, fmt.Errorf("benchmark of kernel %s: %w", k.Name, err)
		}
	}
	for round := 0; !allMeasured(results, perKernel); round++ {
		for i := range results {
			if err := ctx.Err(); err != nil {
				return sorted(results), fmt.Errorf("benchmark ended early: %w", err)
			}
			hashes, elapsed := sample(scanners[i], uint32(round))
			if round > 0 {
				results[i].add(hashes, elapsed)
			}
		}
	}
	return sorted(results), nil
}

// sample scans until sampleTime has passed.
func sample(s *Scanner, round uint32) (hashes uint64, elapsed time.Duration) {
	nonces := callHashes / s.versions
	next := round << 24 // any nonces will do; vary them all the same
	for start := time.Now(); elapsed < sampleTime; elapsed = time.Since(start) {
		n, _ := s.Scan(next, nonces, nil)
		hashes += n
		// Stay clear of the end of the nonce space.
		next = (next + uint32(nonces)) % (NonceSpace - callHashes)
	}
	return hashes, elapsed
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
