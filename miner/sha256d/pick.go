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
	// Broken says that Err is a failed self test: the code or the CPU is at
	// fault, while other kernels that are not used merely do not suit.
	Broken bool
}

// CheckName returns the error that Pick would return for a name that no kernel
// has, nil for Auto.
func CheckName(kernels []Kernel, name string) error {
	if name == Auto {
		return nil
	}
	_, err := find(kernels, name)
	return err
}

// Pick returns the kernel to mine with. With name Auto it is the fastest of
// those that the CPU's features allow, that want no more header versions than
// may be rolled (versions, 1 or more) and that pass their self test, each
// measured on the calling thread for perKernel. With any other name it is that
// kernel, self-tested but not measured, or an error; versions do not count
// then, as every kernel takes any number. The trials tell what became of every
// kernel looked at.
func Pick(ctx context.Context, kernels []Kernel, name string, features []hw.Feature, versions int, perKernel time.Duration) (Kernel, []Trial, error) {
	if name != Auto {
		k, err := find(kernels, name)
		if err != nil {
			return Kernel{}, nil, err
		}
		t := try(k, features, MaxVersions)
		if t.Err != nil {
			return Kernel{}, []Trial{t}, fmt.Errorf("%w: choose another kernel or %s", t.Err, Auto)
		}
		return k, []Trial{t}, nil
	}
	trials := make([]Trial, len(kernels))
	var good []Kernel
	var where []int // of good in trials
	var errs []error
	for i, k := range kernels {
		if trials[i] = try(k, features, versions); trials[i].Err != nil {
			errs = append(errs, trials[i].Err)
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

// try finds out whether a kernel may run here; it does not measure.
func try(k Kernel, features []hw.Feature, versions int) Trial {
	t := Trial{Name: k.Name}
	switch missing := k.Missing(features); {
	case len(missing) > 0:
		names := make([]string, len(missing))
		for i, f := range missing {
			names[i] = string(f)
		}
		t.Err = fmt.Errorf("kernel %s needs %s, which this CPU does not offer", k.Name, strings.Join(names, ", "))
	case k.Lanes > versions:
		t.Err = fmt.Errorf("kernel %s wants %d header versions, but only %d may be rolled", k.Name, k.Lanes, versions)
	default:
		t.Err = SelfTest(k)
		t.Broken = t.Err != nil
	}
	return t
}
