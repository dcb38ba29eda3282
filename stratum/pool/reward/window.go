package reward

import "github.com/holiman/uint256"

// The window is kept in buckets, so that its size depends on the accounts and
// not on the number of shares.
const (
	bucketsPerSpan = 50  // a bucket is full at this part of the span
	maxBuckets     = 200 // then neighbours are joined
)

// window holds the last work done, newest last. It keeps twice the span, so
// that the span may grow as the network does.
type window struct {
	span    uint256.Int // hashes that count; zero: not known yet, everything counts
	total   uint256.Int // of all buckets
	buckets []bucket    // never empty; the last one is being filled
}

type bucket struct {
	total   uint256.Int
	weights map[*account]uint256.Int
}

func newBucket() bucket { return bucket{weights: map[*account]uint256.Int{}} }

func (b *bucket) add(a *account, w *uint256.Int) {
	sum := b.weights[a]
	sum.Add(&sum, w)
	b.weights[a] = sum
	b.total.Add(&b.total, w)
}

func (w *window) add(a *account, weight uint64) {
	n := uint256.Int{weight}
	open := &w.buckets[len(w.buckets)-1]
	open.add(a, &n)
	w.total.Add(&w.total, &n)
	var full uint256.Int
	full.Div(&w.span, uint256.NewInt(bucketsPerSpan))
	if w.span.IsZero() || open.total.Lt(&full) {
		return
	}
	w.buckets = append(w.buckets, newBucket())
	w.trim()
}

// trim drops buckets that are beyond twice the span, and joins neighbours when
// there are too many for what is left.
func (w *window) trim() {
	var keep, rest uint256.Int
	keep.Lsh(&w.span, 1)
	drop := 0
	for ; drop < len(w.buckets)-1; drop++ {
		rest.Sub(&w.total, &w.buckets[drop].total)
		if rest.Lt(&keep) {
			break
		}
		w.total = rest
	}
	w.buckets = append([]bucket(nil), w.buckets[drop:]...)
	if len(w.buckets) <= maxBuckets {
		return
	}
	joined := w.buckets[:0]
	last := w.buckets[len(w.buckets)-1]
	closed := w.buckets[:len(w.buckets)-1]
	for i := 0; i < len(closed); i += 2 {
		b := closed[i]
		if i+1 < len(closed) {
			for a, weight := range closed[i+1].weights {
				b.add(a, &weight)
			}
		}
		joined = append(joined, b)
	}
	w.buckets = append(joined, last)
}

// weights returns what each account did within the span. The bucket in which
// it begins counts in proportion, each weight rounded down.
func (w *window) weights() map[*account]uint256.Int {
	sums := map[*account]uint256.Int{}
	var counted, rest uint256.Int
	for i := len(w.buckets) - 1; i >= 0; i-- {
		b := &w.buckets[i]
		rest.Sub(&w.span, &counted)
		part := !w.span.IsZero() && rest.Lt(&b.total)
		for a, weight := range b.weights {
			if part {
				weight.MulDivOverflow(&weight, &rest, &b.total)
			}
			if weight.IsZero() {
				continue
			}
			sum := sums[a]
			sum.Add(&sum, &weight)
			sums[a] = sum
		}
		counted.Add(&counted, &b.total)
		if part {
			break
		}
	}
	return sums
}
