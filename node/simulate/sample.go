package simulate

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
)

// chunk is how many trials share a random stream. Chunks, not processors, decide
// which trial sees which random numbers.
const chunk = 1 << 14

// MaxTrials bounds the trials of one sample.
const MaxTrials = 1_000_000_000_000

// Sample is the outcome of many simulated attacks by one attacker. One attack
// answers for every number of confirmations up to the sample's depth.
type Sample struct {
	trials int64
	// undone[z] counts the attacks that undo a payment with z confirmations and
	// with no more.
	undone []int64
	bias   float64
}

// Run simulates attacks on payments of up to depth confirmations on all
// processors Go may use. The same model, depth, trials and seed give the same
// sample, whatever the number of processors. The model must pass Check. progress, if not nil, is
// called after every piece of work, by one goroutine at a time. When the context
// ends Run returns its error.
func Run(ctx context.Context, m Model, depth int, trials int64, seed uint64, progress func(done, of uint32)) (*Sample, error) {
	if trials < 1 || trials > MaxTrials {
		return nil, errors.New("the number of trials is out of range")
	}
	w := newWalker(m, depth)
	chunks := (trials + chunk - 1) / chunk
	total := Sample{trials: trials, undone: make([]int64, depth+1)}
	var (
		next  atomic.Int64
		done  uint32
		bound = m.tail()
		gave  int64 // attacks given up
		lack  = math.MaxInt
		mu    sync.Mutex
		wg    sync.WaitGroup
	)
	for range min(int64(runtime.GOMAXPROCS(0)), chunks) {
		wg.Go(func() {
			for ctx.Err() == nil {
				c := next.Add(1) - 1
				if c >= chunks {
					return
				}
				part := w.run(stream(m, seed, c), min(chunk, trials-c*chunk))
				mu.Lock()
				for z, count := range part.undone {
					total.undone[z] += count
				}
				gave += part.gave
				lack = min(lack, part.lack)
				if done++; progress != nil {
					progress(done, uint32(chunks))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if gave > 0 {
		total.bias = float64(gave) / float64(trials) * bound.at(lack)
	}
	return &total, nil
}

// counts is the outcome of one chunk.
type counts struct {
	undone []int64
	gave   int64
	lack   int // smallest distance at which an attacker gave up
}

func (w *walker) run(r *rand.PCG, trials int64) counts {
	c := counts{undone: make([]int64, w.depth+1), lack: math.MaxInt}
	for range trials {
		deepest, lack := w.attack(r)
		c.undone[deepest]++
		if lack > 0 {
			c.gave++
			c.lack = min(c.lack, lack)
		}
	}
	return c
}

// stream is the random stream of a chunk. Cells of a table with different shares
// get different ones, or one unlucky stream would tilt a whole table.
func stream(m Model, seed uint64, c int64) *rand.PCG {
	key := mix(mix(seed) ^ math.Float64bits(m.Q))
	return rand.NewPCG(mix(key+uint64(2*c)), mix(key+uint64(2*c+1)))
}

// mix is the finaliser of SplitMix64 (G. Steele, D. Lea, C. Flood, 2014): near
// inputs give unrelated outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Estimate is the share of attacks that undo a payment with z confirmations, 1 to
// the sample's depth.
func (s *Sample) Estimate(z int) float64 {
	return float64(s.hits(z)) / float64(s.trials)
}

func (s *Sample) hits(z int) (n int64) {
	for _, count := range s.undone[z:] {
		n += count
	}
	return n
}

// StandardError is the standard error of Estimate. Two successes and two failures
// are added (A. Agresti, B. Coull, 1998), so that it is not 0 where no attack, or
// every one, succeeded.
func (s *Sample) StandardError(z int) float64 {
	n := float64(s.trials)
	r := (float64(s.hits(z)) + 2) / (n + 4)
	return math.Sqrt(r * (1 - r) / n)
}

// Bias bounds how much too low the estimates are, in expectation, because
// attackers far behind give up.
func (s *Sample) Bias() float64 { return s.bias }
