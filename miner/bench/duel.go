package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
)

// Duel is one of our kernels and a foreign miner, in turns.
type Duel struct {
	Setup
	Kernel  string  `json:"kernel"`
	Command string  `json:"command"` // the foreign one, as it was given
	Rounds  []Round `json:"rounds"`
	// Medians over the rounds in MH/s; null before the first is over.
	Ours   hw.Reading[float64] `json:"oursMHs"`
	Theirs hw.Reading[float64] `json:"theirsMHs"`
	// Ratio is the median of the rounds' ratios, ours ÷ theirs: within a round both
	// ran shortly one after the other, which two medians did not.
	Ratio    hw.Reading[float64] `json:"ratio"`
	RatioMin hw.Reading[float64] `json:"ratioMin"`
	RatioMax hw.Reading[float64] `json:"ratioMax"`
}

// Round is one turn of each: means over the turn in MH/s.
type Round struct {
	Ours     float64 `json:"oursMHs"`
	Theirs   float64 `json:"theirsMHs"`
	Ratio    float64 `json:"ratio"`
	Readings int     `json:"readings"` // rates that theirs rests on
}

// Fight plays the rounds: theirs and ours hash for one turn each and return
// hashes per second, theirs with the number of readings behind it. Theirs begin,
// because more can go wrong with them. After every turn progress is told how many
// of how many are done. The rounds that were completed stay in d when it fails.
func (d *Duel) Fight(
	ctx context.Context, rounds int, ours func(context.Context) (float64, error), theirs func(context.Context) (float64, int, error), progress func(done, of int),
) error {
	d.Rounds = []Round{}
	defer d.sum()
	for i := range rounds {
		they, readings, err := theirs(ctx)
		if err != nil {
			return err
		}
		progress(2*i+1, 2*rounds)
		we, err := ours(ctx)
		if err != nil {
			return err
		}
		progress(2*i+2, 2*rounds)
		d.Rounds = append(d.Rounds, Round{round(we / 1e6), round(they / 1e6), round(we / they), readings})
	}
	d.Complete = true
	return nil
}

// sum fills in what is said of all rounds.
func (d *Duel) sum() {
	if len(d.Rounds) == 0 {
		return
	}
	column := func(of func(Round) float64) (rising []float64) {
		for _, r := range d.Rounds {
			rising = append(rising, of(r))
		}
		slices.Sort(rising)
		return rising
	}
	median := func(rising []float64) hw.Reading[float64] { return hw.Known(round(sha256d.Quantile(rising, .5))) }
	d.Ours = median(column(func(r Round) float64 { return r.Ours }))
	d.Theirs = median(column(func(r Round) float64 { return r.Theirs }))
	ratios := column(func(r Round) float64 { return r.Ratio })
	d.Ratio, d.RatioMin, d.RatioMax = median(ratios), hw.Known(ratios[0]), hw.Known(ratios[len(ratios)-1])
	var few []string
	for i, r := range d.Rounds {
		if r.Readings == 1 {
			few = append(few, fmt.Sprint(i+1))
		}
	}
	if len(few) > 0 {
		d.note("their rate rests on one reading, perhaps of their warm-up, in round %s: raise --seconds", strings.Join(few, ", "))
	}
}
