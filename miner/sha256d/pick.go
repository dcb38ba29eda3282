package sha256d

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"qcitycoin.org/qcity/hw"
)

// Auto, as a kernel name, means the fastest one.
const Auto = "auto"

// Trial is what Pick found out about one kernel.
type Trial struct {
	Name string
	Rate float64 // median hashes per second; 0 when not measured
	Err  error   // why the kernel is not used; nil when it may be
}

// Pick returns the kernel to mine with. With name Auto it is the fastest of
// those that the CPU's features allow and that pass their self test, each
// measured on the calling thread for perKernel. With any other name it is that
// kernel, self-tested but not measured, or an error. The trials tell what
// became of every kernel looked at.
func Pick(ctx context.Context, kernels []Kernel, name string, features []hw.Feature, perKernel time.Duration) (Kernel, []Trial, error) {
	if name != Auto {
		k, err := find(kernels, name)
		if err != nil {
			return Kernel{}, nil, err
		}
		if err := usable(k, features); err != nil {
			return Kernel{}, []Trial{{Name: name, Err: err}}, fmt.Errorf("%w: choose another kernel or %s", err, Auto)
		}
		return k, []Trial{{Name: name}}, nil
	}
	trials := make([]Trial, len(kernels))
	var good []Kernel
	var where []int // of good in trials
	var errs []error
	for i, k := range kernels {
		trials[i] = Trial{Name: k.Name, Err: usable(k, features)}
		if err := trials[i].Err; err != nil {
			errs = append(errs, err)
			continue
		}
		good = append(good, k)
		where = append(where, i)
	}
	if len(good) == 0 {
		return Kernel{}, trials, fmt.Errorf("no hashing kernel works on this machine; do not mine on it: %w", errors.Join(errs...))
	}
	results, err := Bench(ctx, perKernel, good...)
	if err != nil {
		return Kernel{}, trials, err
	}
	for i := range results {
		trials[where[i]].Rate = results[i].Median()
	}
	return good[fastest(results)], trials, nil
}

// fastest returns the index of the best median, of the first when equal.
func fastest(results []Result) int {
	best := 0
	for i := range results {
		if results[i].Median() > results[best].Median() {
			best = i
		}
	}
	return best
}

// usable says why a kernel must not run here, or nil.
func usable(k Kernel, features []hw.Feature) error {
	if missing := k.Missing(features); len(missing) > 0 {
		names := make([]string, len(missing))
		for i, f := range missing {
			names[i] = string(f)
		}
		return fmt.Errorf("kernel %s needs %s, which this CPU does not offer", k.Name, strings.Join(names, ", "))
	}
	return SelfTest(k)
}
