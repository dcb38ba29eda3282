package bench

import (
	"fmt"
	"slices"
	"strings"

	"qcitycoin.org/qcity/hw"
)

// Comparison is two reports side by side, A the first.
type Comparison struct {
	Kernels []Pair `json:"kernels"`
	// Differences are those between the setups, for people: with one of them a
	// ratio says something else than which code is faster.
	Differences []string `json:"differences"`
}

// Pair is one kernel in both reports.
type Pair struct {
	Name string       `json:"name"`
	A    *Measurement `json:"a"` // null: not measured
	B    *Measurement `json:"b"`
	// Ratio is B's median ÷ A's; null when there are not two.
	Ratio hw.Reading[float64] `json:"ratio"`
	// SameWithinSpread: the ranges from p10 to p90 overlap, so that the
	// difference may be chance.
	SameWithinSpread hw.Reading[bool] `json:"sameWithinSpread"`
}

// Measurement is a median with its spread in MH/s.
type Measurement struct {
	MHs float64 `json:"mhs"`
	P10 float64 `json:"p10"`
	P90 float64 `json:"p90"`
}

// Compare puts two reports side by side: A's kernels, then those only B has.
func Compare(a, b *Report) Comparison {
	c := Comparison{Kernels: []Pair{}, Differences: []string{}}
	for _, k := range slices.Concat(a.Kernels, b.Kernels) {
		if slices.ContainsFunc(c.Kernels, func(p Pair) bool { return p.Name == k.Name }) {
			continue
		}
		p := Pair{Name: k.Name, A: measurement(a.Kernel(k.Name)), B: measurement(b.Kernel(k.Name))}
		if p.A != nil && p.B != nil {
			p.Ratio = hw.Known(round(p.B.MHs / p.A.MHs))
			p.SameWithinSpread = hw.Known(p.A.P10 <= p.B.P90 && p.B.P10 <= p.A.P90)
		}
		c.Kernels = append(c.Kernels, p)
	}
	differ := func(what, of, and string) {
		if of != and {
			c.Differences = append(c.Differences, fmt.Sprintf("%s: %s in A, %s in B", what, of, and))
		}
	}
	differ("CPU", orUnknown(a.CPU), orUnknown(b.CPU))
	differ("features", orUnknown(names(a.Features)), orUnknown(names(b.Features)))
	differ("threads", fmt.Sprint(a.Threads), fmt.Sprint(b.Threads))
	differ("pinned", yesNo(a.Pinned != nil), yesNo(b.Pinned != nil))
	differ("version", orUnknown(a.Version), orUnknown(b.Version))
	if !a.Complete {
		c.Differences = append(c.Differences, "A was interrupted")
	}
	if !b.Complete {
		c.Differences = append(c.Differences, "B was interrupted")
	}
	return c
}

func measurement(k *KernelResult) *Measurement {
	if k == nil {
		return nil
	}
	median, ok := k.MHs.Get()
	if !ok {
		return nil
	}
	return &Measurement{median, k.P10.Or(0), k.P90.Or(0)}
}

func names(features []hw.Feature) string {
	all := make([]string, len(features))
	for i, f := range features {
		all[i] = string(f)
	}
	return strings.Join(all, ", ")
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
