package load

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// subBuckets is how finely a histogram divides each doubling: values are right
// within 0.8 %.
const subBuckets = 128

// histogram counts durations in nanoseconds. The zero value is ready.
type histogram struct {
	counts []uint32
	n      uint64
	most   int64
}

func bucket(v int64) int {
	if v < subBuckets {
		return int(max(v, 0))
	}
	shift := bits.Len64(uint64(v)) - 8 // v>>shift is 128 … 255
	return shift*subBuckets + int(v>>shift)
}

// middle is the value a bucket stands for.
func middle(b int) int64 {
	if b < 2*subBuckets {
		return int64(b)
	}
	shift := b/subBuckets - 1
	return int64(b-shift*subBuckets)<<shift + 1<<shift/2
}

func (h *histogram) add(v int64) {
	b := bucket(v)
	if b >= len(h.counts) {
		h.counts = append(h.counts, make([]uint32, b+1-len(h.counts))...)
	}
	h.counts[b]++
	h.n++
	h.most = max(h.most, v)
}

func (h *histogram) merge(o *histogram) {
	if len(o.counts) > len(h.counts) {
		h.counts = append(h.counts, make([]uint32, len(o.counts)-len(h.counts))...)
	}
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.most = max(h.most, o.most)
}

// quantile is the smallest value that at least q of all values do not exceed.
func (h *histogram) quantile(q float64) int64 {
	rank, sum := uint64(math.Ceil(q*float64(h.n))), uint64(0)
	for b, c := range h.counts {
		if sum += uint64(c); sum >= max(rank, 1) {
			return min(middle(b), h.most)
		}
	}
	return h.most
}

func (h *histogram) percentiles() Percentiles {
	return Percentiles{
		P50: ms(h.quantile(0.5)), P90: ms(h.quantile(0.9)), P99: ms(h.quantile(0.99)), Max: ms(h.most),
	}
}

// percentilesOf sorts values (nanoseconds) and picks from them; all are 0 if
// there are no values.
func percentilesOf(values []int64) Percentiles {
	if len(values) == 0 {
		return Percentiles{}
	}
	slices.Sort(values)
	at := func(q float64) float64 { return ms(values[max(int(math.Ceil(q*float64(len(values))))-1, 0)]) }
	return Percentiles{P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: ms(values[len(values)-1])}
}

// ms turns nanoseconds into milliseconds with microsecond precision.
func ms(ns int64) float64 {
	return math.Round(float64(ns)/float64(time.Microsecond)) / 1000
}
