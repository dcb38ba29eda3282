package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/bench"
	"qcitycoin.org/qcity/miner/sha256d"
)

// runBench runs the command in this process.
func runBench(ctx context.Context, args ...string) (string, error) {
	var out strings.Builder
	root := newRoot()
	root.SetArgs(append([]string{"bench"}, args...))
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(ctx)
	return out.String(), err
}

func benched(t *testing.T, args ...string) string {
	t.Helper()
	out, err := runBench(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// hasty makes a benchmark that measures nothing well.
func hasty(more ...string) []string {
	return append([]string{"--seconds", "0.02", "--warmup", "0"}, more...)
}

func fields(t *testing.T, object any) []string {
	t.Helper()
	m, ok := object.(map[string]any)
	if !ok {
		t.Fatalf("%v is not an object", object)
	}
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestBenchJSON: the promised fields, and values that belong together.
func TestBenchJSON(t *testing.T) {
	out := benched(t, hasty("--kernel", "stdlib,generic,stdlib", "--threads", "1", "--json")...)
	var object map[string]any
	if err := json.Unmarshal([]byte(out), &object); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"best", "complete", "counter", "cpu", "date", "features", "kernels", "notes", "pinned", "seconds", "threads", "usableCPUs", "version", "warmup",
	}, fields(t, object)); diff != "" {
		t.Error(diff)
	}
	list, ok := object["kernels"].([]any)
	if !ok || len(list) != 2 {
		t.Fatalf("kernels %v", object["kernels"])
	}
	if diff := cmp.Diff([]string{"cyclesPerHash", "joulesPerGH", "lanes", "mhs", "name", "p10", "p90", "samples", "verified"}, fields(t, list[0])); diff != "" {
		t.Error(diff)
	}
	r, err := bench.Read([]byte(out)) // checks p10, mhs and p90
	if err != nil {
		t.Fatal(err)
	}
	if r.Kernels[0].Name != "stdlib" || r.Kernels[1].Name != "generic" || !r.Complete || r.Threads != 1 || r.Seconds != .02 {
		t.Errorf("%+v", r)
	}
	best := r.Kernel(r.Best)
	for _, k := range r.Kernels {
		if !k.Verified || k.Reason != "" || k.Samples != 2 || k.MHs.Or(0) <= 0 || best == nil || best.MHs.Or(0) < k.MHs.Or(0) {
			t.Errorf("best %s, %+v", r.Best, k)
		}
		if _, ok := k.CyclesPerHash.Get(); ok != (r.Counter != hw.CyclesUnknown) {
			t.Errorf("counter %q, %s cycles per hash", r.Counter, k.CyclesPerHash)
		}
	}
}

// TestBenchAll: without names every kernel has its row, measured or with a reason.
func TestBenchAll(t *testing.T) {
	r, err := bench.Read([]byte(benched(t, hasty("--json")...)))
	if err != nil {
		t.Fatal(err)
	}
	all := sha256d.Kernels()
	if len(r.Kernels) != len(all) {
		t.Fatalf("%d of %d kernels", len(r.Kernels), len(all))
	}
	for i, k := range r.Kernels {
		_, measured := k.MHs.Get()
		if missing := all[i].Missing(hw.Features()); k.Name != all[i].Name || k.Lanes != all[i].Lanes || k.Verified != (len(missing) == 0) || measured != k.Verified || k.Verified != (k.Reason == "") {
			t.Errorf("missing %v: %+v", missing, k)
		}
	}
}

// TestBenchThreads: two threads without pinning, and one on a CPU of its own.
func TestBenchThreads(t *testing.T) {
	out := benched(t, hasty("--kernel", "generic", "--threads", "2", "--pin=false")...)
	if !strings.Contains(out, "2 threads, not pinned") {
		t.Errorf("got\n%s", out)
	}
	machine := hw.Detect(os.DirFS("/"))
	cpus, ok := machine.Usable.CPUs.Get()
	if !ok || !hw.CanPin {
		t.Skip("no affinity here")
	}
	last := decimals(hw.Known(float64(cpus[len(cpus)-1])), 0)
	if out := benched(t, hasty("--kernel", "generic", "--cpus", last)...); !strings.Contains(out, "1 thread on CPU "+last+"\n") {
		t.Errorf("got\n%s", out)
	}
}

func report1() bench.Report {
	known := hw.Known[float64]
	return bench.Report{
		Setup: bench.Setup{
			Date: "2026-11-28T03:05:06Z", Version: "v1.2", CPU: "Some CPU", Threads: 2, Pinned: []int{0, 3}, Seconds: 3, Complete: true, Notes: []string{"energy: none"},
		},
		Counter: hw.CyclesCalibrated, Best: "wide",
		Kernels: []bench.KernelResult{
			{Name: "stdlib", Lanes: 1, Verified: true, Samples: 9, MHs: known(4), P10: known(3.5), P90: known(4.25), CyclesPerHash: known(800)},
			{Name: "wide", Lanes: 16, Verified: true, Samples: 9, MHs: known(50), P10: known(40.126), P90: known(51), CyclesPerHash: known(66.66), JoulesPerGH: known(120.5)},
			{Name: "wider-than-all", Lanes: 64, Reason: "kernel wider-than-all failed its self test: genesis header"},
		},
	}
}

// TestBenchText: the table for people, to the letter.
func TestBenchText(t *testing.T) {
	var out strings.Builder
	r := report1()
	if err := (&benchmark{}).print(&out, &r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`Some CPU, 2 threads on CPUs 0, 3
3 s for each kernel, version v1.2

  kernel          lanes   MH/s    p10    p90  × stdlib  cycles/hash   J/GH
  stdlib              1   4.00   3.50   4.25      1.00        800.0      -
  wide               16  50.00  40.13  51.00     12.50         66.7  120.5
  wider-than-all     64      -      -      -         -            -      -

not measured: wider-than-all failed its self test: genesis header
best: wide
cycles: calibrated, no hardware counter here; a few percent off while the clock changes
note: energy: none
`, out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestBenchChart: a bar to each median, a whisker from p10 to p90, the fastest
// first, in proportion; and the same in pixels.
func TestBenchChart(t *testing.T) {
	r := report1()
	file := filepath.Join(t.TempDir(), "k.svg")
	if err := writeBenchChart(file, &r); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	svg := string(data)
	for _, want := range []string{">wide</text>", ">stdlib</text>", ">50.00, 12.5 × stdlib</text>", ">4.00</text>", "Some CPU, 2 threads on CPUs 0, 3; version v1.2"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in\n%s", want, svg)
		}
	}
	if strings.Contains(svg, "wider-than-all") {
		t.Error("a kernel that was not measured is drawn")
	}
	if strings.Index(svg, ">wide<") > strings.Index(svg, ">stdlib<") {
		t.Error("the fastest is not the first")
	}
	// p90 of the fastest ends at the right edge; 50 of 51 and 4 of 51 before it.
	for _, want := range []string{
		`stroke="#3669aa" stroke-width="18" points="170.0,95.0 728.8,95.0 "`,
		`stroke="#82aad2" stroke-width="18" points="170.0,129.0 214.7,129.0 "`,
		`stroke-width="1.5" points="618.5,95.0 740.0,95.0 "`,
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in\n%s", want, svg)
		}
	}
	pixels := filepath.Join(t.TempDir(), "k.PNG")
	benched(t, hasty("--kernel", "generic", "--chart", pixels)...)
	if data, err = os.ReadFile(pixels); err != nil {
		t.Fatal(err)
	}
	if img, err := png.Decode(bytes.NewReader(data)); err != nil || img.Bounds().Dx() != 2*benchWidth {
		t.Errorf("%v", err)
	}
}

func TestTickStep(t *testing.T) {
	for most, want := range map[float64]float64{.004: .0005, 1: .1, 4.6: .5, 10: 1, 10.1: 2, 51: 10, 99: 10, 101: 20, 12_345: 2000} {
		if got := tickStep(most); math.Abs(got/want-1) > 1e-9 {
			t.Errorf("up to %v: %v, want %v", most, got, want)
		}
	}
}

func TestBenchBadFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--kernel quantum", `no kernel is called "quantum": there are generic, stdlib`},
		{"--seconds 0", "--seconds is 0: give"},
		{"--seconds NaN", "--seconds is NaN"},
		{"--warmup -1", "--warmup is -1"},
		{"--threads 0", "--threads is 0"},
		{"--threads 1000", "usable CPUs to pin them to: use fewer, or add --pin=false"},
		{"--cpus 0 --threads 2", "--cpus lists 1 CPUs for 2 threads"},
		{"--cpus 0,0", "--cpus lists CPU 0 twice"},
		{"--cpus 99999", "--cpus lists CPU 99999, but"},
		{"--cpus 0 --pin=false", "leave out --pin=false"},
		{"--cpus a", `invalid argument "a" for "--cpus"`},
		{"--chart k.pdf", "--chart k.pdf: give a name that ends in .svg or .png"},
		{"--chart no/such/folder/k.svg", "write --chart"},
		{"--chart k.svg --against x", "none of the others can be"},
		{"--rounds 3", "name it with --against"},
		{"--against-pattern x", "name it with --against"},
		{"--against x --rounds 0", "--rounds is 0"},
		{"--against minerd-of-nobody", "--against: there is no program minerd-of-nobody: install it"},
		{"--against-pattern ( --against true", "--against-pattern: error parsing regexp"},
		{"compare a.json", "accepts 2 arg(s), received 1"},
		{"extra", `unknown command "extra"`},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := strings.Fields(c.args)
			if args[0] != "compare" && args[0] != "extra" {
				args = append(args, "--kernel", "generic")
			}
			out, err := runBench(t.Context(), args...)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, c.want)
			}
			if out != "" {
				t.Errorf("printed %q besides the error", out)
			}
		})
	}
}

// TestBenchInterrupted: it says that it is not complete, in JSON and in text, draws
// nothing, and ends as the shell expects.
func TestBenchInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "k.svg")
	out, err := runBench(ctx, "--json", "--chart", file)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r := bench.Report{}
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Complete || len(r.Kernels) == 0 || r.Kernels[0].Verified || r.Kernels[0].Samples != 0 {
		t.Errorf("%v in %s", err, out)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a chart was written: %v", err)
	}
	if out, err = runBench(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(out, "interrupted: ") {
		t.Errorf("%v, printed\n%s", err, out)
	}
	if out, err = runBench(ctx, "--against", "true", "--json"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, printed\n%s", err, out)
	}
	if code := run(ctx, []string{"bench"}); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
}

// TestBenchQuiet: no terminal, no progress.
func TestBenchQuiet(t *testing.T) {
	stdout, stderr, code := qcity(t, append([]string{"bench"}, hasty("--kernel", "generic")...)...)
	if must0(t, stdout, stderr, code); stderr != "" || !strings.Contains(stdout, "generic") {
		t.Errorf("stderr %q, stdout\n%s", stderr, stdout)
	}
}

// foreignMiner returns the command line of one made of shell, which needs quotes.
func foreignMiner(t *testing.T, script string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a miner")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return "'" + file + "' --benchmark"
}

func TestBenchAgainst(t *testing.T) {
	command := foreignMiner(t, `[ "$1" = --benchmark ] || exit 9
echo "thread 0: 1000 hashes, 500 khash/s"
echo "Total: 500 khash/s"
echo "Total: 0.001 khash/s"
echo "mean 0.25 H/s"`)
	args := hasty("--kernel", "generic", "--rounds", "2", "--against", command)
	var d bench.Duel
	if err := json.Unmarshal([]byte(benched(t, append(args, "--json")...)), &d); err != nil {
		t.Fatal(err)
	}
	if d.Kernel != "generic" || d.Command != command || !d.Complete || len(d.Rounds) != 2 || d.Theirs.Or(0) != 1e-6 || d.Seconds != .02 {
		t.Errorf("%+v", d)
	}
	for _, r := range d.Rounds {
		if r.Readings != 1 || math.Abs(r.Ratio*r.Theirs/r.Ours-1) > 1e-4 || r.Ratio < d.RatioMin.Or(0) || r.Ratio > d.RatioMax.Or(0) {
			t.Errorf("%+v in %+v", r, d)
		}
	}
	text := benched(t, append(args, "--against-pattern", `mean (\S+)`)...)
	for _, want := range []string{"generic against " + command, "ours ÷ theirs", "from ", "note: their rate rests on one reading", "0.02 s for each turn"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestBenchAgainstErrors(t *testing.T) {
	for _, c := range []struct{ name, command, want string }{
		{"exit code", foreignMiner(t, "echo unknown algorithm; exit 1"), "failed with exit status 1: run it by itself to see why; it printed last: unknown algorithm"},
		{"no rate", foreignMiner(t, "echo hello"), "no hash rate found in what a miner wrote"},
		{"quotes", `minerd "`, "--against: a quotation mark has no partner"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := runBench(t.Context(), hasty("--kernel", "generic", "--against", c.command)...)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || out != "" {
				t.Errorf("%v, printed %q; want %q", err, out, c.want)
			}
		})
	}
}

const benchData = "../../miner/bench/testdata/"

func TestBenchCompare(t *testing.T) {
	a, b := benchData+"before.json", benchData+"after.json"
	if diff := cmp.Diff(`A  `+a+`  2026-11-27T08:00:00Z  Some CPU, 1 thread on CPU 0         version v1.0
B  `+b+`   2026-11-28T08:00:00Z  Another CPU, 2 threads, not pinned  version v1.1
differs: CPU: Some CPU in A, Another CPU in B
differs: features: avx2 in A, avx2, avx512f in B
differs: threads: 1 in A, 2 in B
differs: pinned: yes in A, no in B
differs: version: v1.0 in A, v1.1 in B
differs: B was interrupted

kernel    A MH/s (p10–p90)     B MH/s (p10–p90)     B ÷ A  
stdlib    4.50 (4.40–4.60)     4.55 (4.45–4.65)     1.011  same within spread
avx2      16.00 (15.00–16.50)  20.00 (19.00–21.00)  1.250  B is faster
touching  10.00 (9.00–11.00)   12.00 (11.00–13.00)  1.200  same within spread
slower    10.00 (9.50–10.50)   8.00 (7.50–8.50)     0.800  B is slower
dropped   1.00 (1.00–1.00)     -                    -      measured in A only
avx512    -                    34.00 (33.00–35.00)  -      measured in B only
new       -                    50.00 (45.00–51.00)  -      measured in B only
`, benched(t, "compare", a, b)); diff != "" {
		t.Error(diff)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(benched(t, "compare", a, b, "--json")), &object); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "differences", "kernels"}, fields(t, object)); diff != "" {
		t.Error(diff)
	}
	if side, ok := object["b"].(map[string]any); !ok || side["file"] != b || side["cpu"] != "Another CPU" {
		t.Errorf("b is %v", object["b"])
	}
}

func TestBenchCompareErrors(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte(`{"threads": 1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, want string }{
		{bad, bad + ` is not a result of qcity bench: it has no "kernels"`},
		{filepath.Join(dir, "none.json"), "none.json: no such file"},
		{dir, "is a directory"},
	} {
		for _, args := range [][]string{{c.file, benchData + "after.json"}, {benchData + "after.json", c.file}} {
			out, err := runBench(t.Context(), append([]string{"compare"}, args...)...)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || out != "" {
				t.Errorf("%v: %v, printed %q; want %q", args, err, out, c.want)
			}
		}
	}
}
