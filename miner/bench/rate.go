package bench

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"qcitycoin.org/qcity/miner/sha256d"
)

// rateText is a number with a unit, as miners write rates: "25.60 MH/s", "15010
// khash/s".
var rateText = regexp.MustCompile(`(?i)(?:^|[^\w.,])((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?)\s*([kmgt]?)(?:h|hash|hashes)/s(?:ec)?\b`)

var (
	// numberText is a number without a unit.
	numberText = regexp.MustCompile(`(?i)(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?`)
	// totalText marks the sum over all threads: cpuminer-opt writes "Total: 27.10
	// MH/s, Temp: …" and "Benchmark: 26.08 MH/s", cpuminer "Total: 14741 khash/s",
	// cpuminer-multi "Total: 14200 kH/s".
	totalText = regexp.MustCompile(`(?i)\b(?:total|benchmark)\b`)
	// threadText marks one thread: "thread 0: 75050536 hashes, 14741 khash/s" and
	// "CPU #0: 14200.00 kH/s".
	threadText = regexp.MustCompile(`(?i)\b(?:thread|cpu)\s*#?(\d+)\b`)
	// colourText is what colours a terminal. Miners write it to files, too.
	colourText = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`)
)

// reading is a rate that a foreign miner wrote.
type reading struct {
	rate   float64 // hashes per second
	total  bool    // said to be of all threads
	thread string  // of one thread: which
}

// read looks for a rate in one line. pattern, if not nil, says where: in its
// first group, or in all it matches without one. A number without a unit there,
// and directly behind, is in hashes per second.
func read(line string, pattern *regexp.Regexp) (reading, bool) {
	if pattern != nil {
		rate, ok := readBy(pattern, line)
		return reading{rate: rate, total: true}, ok
	}
	m := rateText.FindStringSubmatchIndex(line)
	if m == nil {
		return reading{}, false
	}
	rate, ok := scale(line[m[2]:m[3]], line[m[4]:m[5]])
	r := reading{rate: rate, total: totalText.MatchString(line)}
	if t := threadText.FindStringSubmatch(line); t != nil && !r.total {
		r.thread = t[1]
	}
	return r, ok
}

func readBy(pattern *regexp.Regexp, line string) (float64, bool) {
	m := pattern.FindStringSubmatchIndex(line)
	if m == nil {
		return 0, false
	}
	from, to := m[0], m[1]
	if len(m) > 2 {
		from, to = m[2], m[3]
	}
	if from < 0 { // a group that took no part
		return 0, false
	}
	number := numberText.FindStringIndex(line[from:to])
	if number == nil {
		return 0, false
	}
	begin, end := from+number[0], from+number[1]
	if unit := rateText.FindStringSubmatchIndex(line[begin:]); unit != nil && unit[2] == 0 {
		return scale(line[begin:begin+unit[3]], line[begin+unit[4]:begin+unit[5]])
	}
	return scale(line[begin:end], "")
}

// scale turns a number and its prefix into hashes per second. No rate is zero: a
// miner that has not begun is not slow.
func scale(number, prefix string) (float64, bool) {
	x, err := strconv.ParseFloat(strings.ReplaceAll(number, ",", ""), 64)
	for unit := range strings.SplitSeq("kmgt", "") {
		if prefix == "" {
			break
		}
		x *= 1000
		if strings.EqualFold(unit, prefix) {
			break
		}
	}
	return x, err == nil && x > 0 && !math.IsInf(x, 0)
}

// rateOf makes one rate (hashes per second) of the readings of one run, and says
// how many it rests on; none: there was no rate. Totals are taken where there are
// any, else rates that are nobody's in particular, else the sum over the threads.
// The first of several counts as the miner's warm-up and is left out, and of the
// others the median is taken.
func rateOf(readings []reading) (rate float64, n int) {
	var totals, plain []float64
	threads := map[string][]float64{}
	for _, r := range readings {
		switch {
		case r.total:
			totals = append(totals, r.rate)
		case r.thread != "":
			threads[r.thread] = append(threads[r.thread], r.rate)
		default:
			plain = append(plain, r.rate)
		}
	}
	switch {
	case len(totals) > 0:
		return settled(totals)
	case len(plain) > 0:
		return settled(plain)
	}
	for _, rates := range threads {
		r, of := settled(rates)
		rate, n = rate+r, n+of
	}
	return rate, n
}

func settled(rates []float64) (median float64, n int) {
	if len(rates) > 1 {
		rates = rates[1:]
	}
	rising := slices.Sorted(slices.Values(rates))
	return sha256d.Quantile(rising, .5), len(rising)
}
