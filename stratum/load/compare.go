package load

import (
	"math"
	"slices"
)

// Comparison is what stalled connections do to the others: runs without and
// with them in turns, so that what else the machine does meets both.
type Comparison struct {
	Complete bool      `json:"complete"`
	Without  []*Result `json:"without"`
	With     []*Result `json:"with"`
	// The median of the single broadcasts' p99, over all runs of a kind, in
	// milliseconds: one broadcast that something else on the machine held up
	// does not decide it.
	P99Without float64 `json:"p99Without"`
	P99With    float64 `json:"p99With"`
	// Ratio is P99With / P99Without; Rounds holds it for each pair of runs.
	// 0 if there is nothing to divide.
	Ratio  float64   `json:"ratio"`
	Rounds []float64 `json:"rounds"`
}

// Compare calculates the ratios from runs that alternated, the first without
// stalled connections.
func Compare(runs []*Result) Comparison {
	c := Comparison{Complete: true, Without: []*Result{}, With: []*Result{}, Rounds: []float64{}}
	for i, r := range runs {
		c.Complete = c.Complete && r.Complete
		if i%2 == 0 {
			c.Without = append(c.Without, r)
			continue
		}
		c.With = append(c.With, r)
		c.Rounds = append(c.Rounds, ratio(medianP99(c.With[i/2:]), medianP99(c.Without[i/2:])))
	}
	c.P99Without, c.P99With = medianP99(c.Without), medianP99(c.With)
	c.Ratio = ratio(c.P99With, c.P99Without)
	return c
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return math.Round(a/b*1000) / 1000
}

func medianP99(runs []*Result) float64 {
	var all []float64
	for _, r := range runs {
		for _, b := range r.Broadcasts.List {
			all = append(all, b.FanOut.P99)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}
