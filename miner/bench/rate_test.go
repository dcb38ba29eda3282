package bench

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRead: lines as miners wrote them.
func TestRead(t *testing.T) {
	for _, c := range []struct {
		line string
		want reading // zero: none
	}{
		// cpuminer-opt 26.1
		{"[2026-11-28 03:59:55] Total: 28.82 MH/s, Temp: 0C, Freq: 0.000/0.000 GHz", reading{28.82e6, true, ""}},
		{"[2026-11-28 04:00:02] Benchmark: 26.08 MH/s", reading{26.08e6, true, ""}},
		{"[2026-11-28 03:59:55] Total: 512.00 H/s, Temp: 51C, Freq: 3.600/3.700 GHz", reading{512, true, ""}},
		{"[2026-11-28 03:59:55] Thread 1, CPU 3: 25.60 Mh/s", reading{25.6e6, false, "1"}},
		{"[2026-11-28 03:59:50] 1 of 2 miner threads started using 'sha256d' algorithm", reading{}},
		{"CPU features:  AVX512 VAES SHA256", reading{}},
		{"     A CPU miner with multi algo support and optimized for CPUs", reading{}},
		// pooler's cpuminer 2.5.1
		{"[2026-11-28 03:59:41] thread 0: 75050536 hashes, 14741 khash/s", reading{14_741e3, false, "0"}},
		{"[2026-11-28 03:59:41] Total: 14741 khash/s", reading{14_741e3, true, ""}},
		{"[2026-11-28 03:59:41] thread 12: 2097152 hashes, 998.21 khash/s", reading{998_210, false, "12"}},
		{"[2026-11-28 03:59:36] 1 miner threads started, using 'sha256d' algorithm.", reading{}},
		{"[2026-11-28 04:01:00] accepted: 3/3 (100.00%), 14741 khash/s (yay!!!)", reading{14_741e3, false, ""}},
		// cpuminer-multi 1.3.7
		{"[2026-11-28 04:02:10] CPU #0: 14200.00 kH/s", reading{14_200e3, false, "0"}},
		{"[2026-11-28 04:02:10] Total: 28400.12 kH/s", reading{28_400_120, true, ""}},
		// others
		{"speed 1,234,567.5 kH/s now", reading{1_234_567_500, false, ""}},
		{"1.42e7H/s", reading{1.42e7, false, ""}},
		{"rate=3.5 Ghash/s", reading{3.5e9, false, ""}},
		{"2 Thash/s and 3 MH/s", reading{2e12, false, ""}},
		{"12 Mhashes/s", reading{12e6, false, ""}},
		{"7 MH/sec", reading{7e6, false, ""}},
		{"0.00 kH/s", reading{}},
		{"sha256 H/s", reading{}}, // not a number by itself
		{"12 MB/s", reading{}},
		{"5 MH/share", reading{}},
		{"H/s", reading{}},
		{"", reading{}},
	} {
		got, ok := read(c.line, nil)
		if ok != (c.want != reading{}) || ok && (math.Abs(got.rate/c.want.rate-1) > 1e-9 || got.total != c.want.total || got.thread != c.want.thread) {
			t.Errorf("%q: %+v, %v; want %+v", c.line, got, ok, c.want)
		}
	}
}

func TestReadPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, line string
		want          float64 // 0: none
	}{
		{`average (\S+)`, "average 1250000", 1_250_000},
		{`average (\S+)`, "average 1,250,000.5", 1_250_000.5},
		{`average (\S+ \S+)`, "now 1 H/s, average 12.5 MH/s", 12.5e6},
		{`average (\d+)`, "average 14200 kH/s", 14_200e3}, // the unit counts though the group leaves it out
		{`speed: [\d.]+ kH/s`, "speed: 3.5 kH/s", 3500},
		{`average (\S+)`, "average unknown", 0},
		{`average (\S+)`, "3 MH/s", 0},
		{`a(b)?`, "a 3 MH/s", 0},
		{`average (\S+)`, "average 0", 0},
	} {
		got, ok := read(c.line, regexp.MustCompile(c.pattern))
		if ok != (c.want != 0) || ok && (got != reading{c.want, true, ""}) {
			t.Errorf("%s in %q: %+v, %v; want %v", c.pattern, c.line, got, ok, c.want)
		}
	}
}

func TestRateOf(t *testing.T) {
	total := func(rates ...float64) (all []reading) {
		for _, r := range rates {
			all = append(all, reading{r, true, ""})
		}
		return all
	}
	for _, c := range []struct {
		name     string
		readings []reading
		rate     float64
		n        int
	}{
		{"none", nil, 0, 0},
		{"one", total(5), 5, 1},
		{"the first is warm-up", total(100, 5), 5, 1},
		{"median", total(100, 7, 5, 6), 6, 3},
		{"totals beat all", append([]reading{{1, false, ""}, {2, false, "0"}}, total(9, 8)...), 8, 1},
		{"plain ones beat threads", []reading{{2, false, "0"}, {9, false, ""}, {7, false, ""}}, 7, 1},
		{"threads are added up", []reading{{50, false, "0"}, {60, false, "1"}, {5, false, "0"}, {7, false, "0"}, {4, false, "1"}}, 10, 3},
	} {
		if rate, n := rateOf(c.readings); rate != c.rate || n != c.n {
			t.Errorf("%s: %v from %d, want %v from %d", c.name, rate, n, c.rate, c.n)
		}
	}
}

// TestOutput: colours, lines that are written over, and pieces of any size.
func TestOutput(t *testing.T) {
	text := "\x1b[01;37m Total: 28.82 MH/s\x1b[0m\r\n\x1b[2Kspeed 1 MH/s\rTotal: 27 MH/s\n\n  \nprogress\x07\x00\tbar\nlast Total: 26 MH/s"
	want := []string{"speed 1 MH/s", "Total: 27 MH/s", "progress bar", "last Total: 26 MH/s"}
	for size := 1; size < len(text); size += 7 {
		var o output
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := o.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		o.end()
		if diff := cmp.Diff(want, o.last); diff != "" {
			t.Fatal(diff)
		}
		if rate, n := rateOf(o.readings); rate != 26.5e6 || n != 2 {
			t.Fatalf("%v from %d", rate, n)
		}
	}
}

// TestOutputBounded: a program that writes without end is not kept.
func TestOutputBounded(t *testing.T) {
	var o output
	for range 100 {
		fmt.Fprint(&o, strings.Repeat("ä", 10_000))
	}
	for i := range 100 {
		fmt.Fprintf(&o, "\n%d %s", i, strings.Repeat("é", 1000))
	}
	o.end()
	if len(o.last) != keptLines || cap(o.line) > 2*lineLimit {
		t.Errorf("%d lines, %d bytes of a line kept", len(o.last), cap(o.line))
	}
	for _, line := range o.last {
		if len(line) > keptLength+len("…") || strings.ContainsRune(line, '�') {
			t.Errorf("kept %q", line)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
	}{
		{"minerd --benchmark -a sha256d -t 1", []string{"minerd", "--benchmark", "-a", "sha256d", "-t", "1"}},
		{"  a \t b\nc ", []string{"a", "b", "c"}},
		{`"/opt/my miner/run" 'a "b"' c\ d`, []string{"/opt/my miner/run", `a "b"`, "c d"}},
		{`a"b c"'d e'f`, []string{"ab cd ef"}},
		{`a "" ''`, []string{"a", "", ""}},
		{`"a\"b\\c\$d\e"`, []string{`a"b\c$d\e`}},
		{`'a\b'`, []string{`a\b`}},
		{`$HOME/*.sh`, []string{"$HOME/*.sh"}},
		{`sh -c 'echo "5 MH/s"; exit 0'`, []string{"sh", "-c", `echo "5 MH/s"; exit 0`}},
	} {
		got, err := Split(c.line)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.line, diff)
		}
	}
	for _, c := range []struct{ line, want string }{
		{"", "names no program"},
		{"  ", "names no program"},
		{`"" --benchmark`, "names no program"},
		{`a "b`, `no partner: add "`},
		{"a 'b", "no partner: add '"},
		{`a b\`, "backslash"},
	} {
		if got, err := Split(c.line); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %q, %v; want %q", c.line, got, err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("Total: 28.82 MH/s")
	f.Add("thread 0: 1 hashes, 1e999 khash/s")
	f.Add("1e308 TH/s")
	f.Fuzz(func(t *testing.T, line string) {
		if r, ok := read(line, nil); ok && !(r.rate > 0 && r.rate <= math.MaxFloat64) {
			t.Errorf("%q: %+v", line, r)
		}
	})
}
