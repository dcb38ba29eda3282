package load

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestCut(t *testing.T) {
	for line, want := range map[string]message{
		`{"id":7,"result":true,"error":null}`: {id: []byte("7"), result: []byte("true"), err: []byte("null")},
		` { "params" : ["a\"]}", {"x":[1,2]} ] , "ttl":1.5e3,"method":"m\\" , "id" : null } `: {
			id: []byte("null"), method: []byte(`"m\\"`), params: []byte(`["a\"]}", {"x":[1,2]} ]`),
		},
		`{}`: {},
	} {
		var m message
		if !m.cut([]byte(line)) || !cmp.Equal(m, want, cmp.AllowUnexported(message{})) {
			t.Errorf("%s: %s", line, m)
		}
	}
	for _, line := range []string{"", "[1]", "true", `{"id"`, `{"id":`, `{"id":"x`, `{"id":[1,"]"`, `{x:1}`, `{"id":,}`, `{"a" 1}`} {
		var m message
		if m.cut([]byte(line)) {
			t.Errorf("%q was taken: %+v", line, m)
		}
	}
}

// FuzzCut: what encoding/json takes for an object is cut into the same values;
// anything else may be taken or not, but never breaks the tool.
func FuzzCut(f *testing.F) {
	f.Add([]byte(`{"id":1,"result":[[["mining.notify","x"]],"0a",8],"error":null}`))
	f.Add([]byte(`{"id":null,"method":"mining.notify","params":["j","00","\"","\\",["11","22"],"2","1d","5",true]}`))
	f.Add([]byte(`{"error":[21,"stale \\\" {",null],"id":"\\"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var m message
		ok := m.cut(line)
		_, _ = refusal(m.err)
		w := elements(m.params)
		for range 20 {
			if _, more := w.next(); !more {
				break
			}
		}
		_ = clean(m.params)
		mi := newMining("w")
		mi.subscribed(m.result)
		mi.setDifficulty(m.params)
		mi.notified(m.params)
		_ = mi.find(1)
		var want map[string]json.RawMessage
		if json.Unmarshal(line, &want) != nil || want == nil {
			return
		}
		for name, got := range map[string][]byte{"id": m.id, "method": m.method, "params": m.params, "result": m.result, "error": m.err} {
			if value, is := want[name]; is && onlyOnce(line, name) && string(value) != string(got) {
				t.Errorf("%s of %q: %q, want %q", name, line, got, value)
			}
		}
		if !ok {
			t.Errorf("%q was not taken", line)
		}
	})
}

// onlyOnce says that a name occurs once and is not spelt with escapes, where
// the two readers may differ.
func onlyOnce(line []byte, name string) bool {
	return strings.Count(strings.ToLower(string(line)), `"`+name+`"`) == 1 && !strings.Contains(string(line), `\u`)
}

func TestCutDoesNotAllocate(t *testing.T) {
	line := []byte(`{"id":null,"method":"mining.notify","params":["j","00","aa","bb",["11","22"],"2","1d","5",true]}`)
	var m message
	if n := testing.AllocsPerRun(100, func() {
		m.cut(line)
		w := elements(m.params)
		for {
			if _, ok := w.next(); !ok {
				break
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations a line", n)
	}
}

// TestHistogram: quantiles differ from the exact ones by less than a bucket.
func TestHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 500).Draw(t, "n")
		seed := rapid.Uint64().Draw(t, "seed")
		r := rand.New(rand.NewPCG(seed, 1))
		var h, a, b histogram
		var all []int64
		for i := range n {
			v := r.Int64() >> r.IntN(63)
			all = append(all, v)
			h.add(v)
			[]*histogram{&a, &b}[i%2].add(v)
		}
		a.merge(&b)
		slices.Sort(all)
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 1} {
			exact := all[max(int(float64(n)*q+0.999999)-1, 0)]
			got := h.quantile(q)
			if diff := got - exact; diff > exact/subBuckets+1 || -diff > exact/subBuckets+1 {
				t.Fatalf("q %v of %d: %d, exactly %d", q, n, got, exact)
			}
			if a.quantile(q) != got {
				t.Fatalf("merged: %d, want %d", a.quantile(q), got)
			}
		}
	})
	var none histogram
	if none.percentiles() != (Percentiles{}) || percentilesOf(nil) != (Percentiles{}) {
		t.Error("no values have percentiles")
	}
}

// TestBoard: what counts as a broadcast, for how long, and which change of the
// tip it belongs to.
func TestBoard(t *testing.T) {
	const s = int64(time.Second)
	var listening atomic.Int64
	listening.Store(3)
	b := newBoard(&listening)
	at := func(prev string, now int64) { b.arrived(b.key([]byte(prev)), []byte(prev), now) }
	at("storm", 1*s) // before it counts
	b.begun(b.key([]byte("first job")))
	b.start()
	at("storm", 1*s+1) // the rest of it
	at("first job", 1*s+2)
	b.tip(Tip{Prev: "B", Nano: 10*s - 5e6})
	at("A", 5*s)
	at("A", 5*s+2e6)
	at("A", 5*s-1e6) // another thread's, stamped earlier
	at("B", 10*s)
	at("A", 10*s+1e6) // a fourth for A: somebody came in between
	if !b.settle(10*s+1e8, false) || b.number() != 1 {
		t.Fatalf("%d counted: B is not complete", b.number())
	}
	at("B", 10*s+3e6)
	b.tip(Tip{Nano: 19 * s})
	b.tip(Tip{Nano: 20 * s})
	b.tip(Tip{Nano: 21 * s})
	at("C", 20*s+7e6)
	if b.settle(20*s+8e6, false); b.number() != 2 {
		t.Fatalf("%d counted: B had 10 s", b.number())
	}
	at("B", 20*s+9e6) // too late
	b.stop()
	at("C", 20*s+9e6)
	at("D", 20*s+9e6) // began after the end
	if open := b.settle(20*s+1e8, true); open {
		t.Error("something is open after the end")
	}
	b2 := newBoard(&listening)
	b2.start()
	b2.arrived(1, []byte("E"), 30*s)
	b2.settle(33*s, true)

	var got, second Broadcasts
	b.fill(&got)
	b2.fill(&second)
	if second.Count != 1 || second.Missing != 2 {
		t.Errorf("a broadcast that had its time and ended incomplete: %+v", second)
	}
	five := 5.0
	want := []Broadcast{
		{At: time.Unix(4, 999e6).UTC(), Prev: "A", Expected: 3, Reached: 4, FanOut: Percentiles{P50: 1, P90: 5002, P99: 5002, Max: 5002}},
		{At: time.Unix(10, 0).UTC(), Prev: "B", Expected: 3, Reached: 2, FanOut: Percentiles{P50: 0, P90: 3, P99: 3, Max: 3}, TipToFirst: &five},
	}
	if diff := cmp.Diff(want, got.List); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Count != 2 || got.Missing != 1 || got.TipToFirst.Max != 5 || got.P99 != (Spread{3, 5002, 5002}) {
		t.Errorf("%+v", got)
	}
}

// TestTipWithoutName belongs to the first broadcast that follows it.
func TestTipWithoutName(t *testing.T) {
	const s = int64(time.Second)
	var listening atomic.Int64
	listening.Store(1)
	b := newBoard(&listening)
	b.start()
	for _, n := range []int64{1, 2, 4} {
		b.tip(Tip{Nano: n * s})
	}
	b.arrived(3, []byte("A"), 2*s+1e6)
	b.arrived(5, []byte("B"), 3*s)
	b.arrived(7, []byte("C"), 4*s+2e6)
	b.settle(9*s, false)
	var got []float64
	for _, c := range b.done {
		if c.TipToFirst == nil {
			got = append(got, -1)
		} else {
			got = append(got, *c.TipToFirst)
		}
	}
	if !cmp.Equal(got, []float64{1, -1, 2}) {
		t.Errorf("from tip to first: %v", got)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"HOST:PORT":          func(c *Config) { c.Address = "" },
		"0 connections":      func(c *Config) { c.Connections = -1 },
		"1 to 50000":         func(c *Config) { c.Connections = MaxConnections + 1 },
		"at a time":          func(c *Config) { c.InFlight = -1 },
		"a timeout of":       func(c *Config) { c.Timeout = -1 },
		"stalled fraction":   func(c *Config) { c.Stalled = 1 },
		"unanswered shares":  func(c *Config) { c.Window = 65 },
		"in one write":       func(c *Config) { c.Batch = 33 },
		"reading delay":      func(c *Config) { c.ReadDelay = time.Second },
		"threads":            func(c *Config) { c.Threads = 1000 },
		"must not hold":      func(c *Config) { c.Worker = `a"b` },
		"the pool's address": func(c *Config) { c.Address = "127.0.0.1" },
	} {
		c := Config{Address: "127.0.0.1:1"}
		change(&c)
		if want == "0 connections" {
			want = "-1 connections"
		}
		if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for s, want := range map[string]float64{"1%": .01, "0.5": .5, "0": 0, " 12.5 %": .125} {
		if f, err := ParseFraction(strings.TrimSpace(s)); err != nil || f != want {
			t.Errorf("%q: %v, %v", s, f, err)
		}
	}
	for _, s := range []string{"", "x", "100%", "1", "-1%", "NaN"} {
		if f, err := ParseFraction(s); err == nil {
			t.Errorf("%q: %v", s, f)
		}
	}
	for s, want := range map[string]Rate{"max": {Max: true}, "0": {}, "2.5": {Rate: 2.5}} {
		if r, err := ParseRate(s); err != nil || r != want || r.String() != s {
			t.Errorf("%q: %v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "-1", "many", "Inf", "NaN"} {
		if r, err := ParseRate(s); err == nil {
			t.Errorf("%q: %v", s, r)
		}
	}
}

func TestSchemes(t *testing.T) {
	for address, tls := range map[string]bool{
		"h:1": false, "stratum+tcp://h:1": false, "stratum+tcp://h:1/": false, "tcp://h:1": false,
		"stratum+ssl://h:1": true, "stratum+tls://h:1": true, "ssl://h:1": true, "tls://h:1": true,
	} {
		if c := (Config{Address: address}).withDefaults(); c.Address != "h:1" || c.TLS != tls {
			t.Errorf("%s: %q, TLS %t", address, c.Address, c.TLS)
		}
	}
}

func TestExcerpt(t *testing.T) {
	for in, want := range map[string]string{
		"stale: block 840001 came": "stale: block # came",
		"a\x1b[31m\xff0b":          "a?[#m?#b",
		strings.Repeat("y", 500):   strings.Repeat("y", 120),
	} {
		if got := excerpt([]byte(in)); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	m := map[string]int{}
	for i := range 1000 {
		count(m, strings.Repeat("z", i))
	}
	if len(m) > maxReasons+1 || m["other"] != 1000-maxReasons {
		t.Errorf("%d reasons, %d others", len(m), m["other"])
	}
}

func TestCompare(t *testing.T) {
	run := func(complete bool, p99 ...float64) *Result {
		r := &Result{Complete: complete}
		for _, x := range p99 {
			r.Broadcasts.List = append(r.Broadcasts.List, Broadcast{FanOut: Percentiles{P99: x}})
		}
		return r
	}
	c := Compare([]*Result{run(true, 10, 11, 50), run(true, 12, 11, 10), run(true, 20, 20, 20), run(true, 22, 22, 99), run(false)})
	if c.Complete || c.P99Without != 20 || c.P99With != 22 || c.Ratio != 1.1 || !cmp.Equal(c.Rounds, []float64{1, 1.1}) || len(c.Without) != 3 {
		t.Errorf("%+v", c)
	}
	if c := Compare([]*Result{run(true), run(true)}); c.Ratio != 0 || !c.Complete {
		t.Errorf("%+v", c)
	}
}

// TestResultJSON: the shape that docs/load.md describes, every field filled.
func TestResultJSON(t *testing.T) {
	at := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	p := Percentiles{1, 2, 3, 4}
	tip, perCPU := 0.5, 61000.5
	r := Result{
		Target: "127.0.0.1:3333", Began: at, Complete: true,
		Setup:      Setup{Connections: 1000, Stalled: 0.01, Seconds: 20, Shares: "max", Engine: "epoll", Clock: "kernel", ReadDelayMs: 200, CPUs: 2},
		Storm:      Storm{Holding: 999, Failed: 1, Reasons: map[string]int{"no job within 1m0s": 1}, AllMs: 5, PerMiner: p},
		Broadcasts: Broadcasts{Count: 1, Missing: 1, FanOut: p, P99: Spread{3, 3, 3}, TipToFirst: &p, List: []Broadcast{{At: at, Prev: "00ff", Expected: 989, Reached: 988, FanOut: p, TipToFirst: &tip}}},
		Stalled:    &Stalled{Connections: 10, Closed: 2, ClosedAfter: p, Reasons: map[string]int{"reset by the pool": 2}, Queued: &Queued{8, 1000, 2000}},
		Shares:     &Shares{Seconds: 20, Sent: 12, Answered: 11, Accepted: 10, Rejected: []Rejected{{21, "stale", 1}}, PerSecond: 0.6, PerCPUSecond: &perCPU, Latency: p},
		Lost:       map[string]int{"closed by the pool": 1}, Junk: 1, Stray: 2, Reconnects: 3,
		Pool:  &PoolUsage{PIDs: []int{42}, RSSBefore: 1, RSSAfter: 2, RSSEnd: 3, BytesPerConnection: 4, StormCPUMs: 5, HoldCPUMs: 6, HoldCores: 0.5, JobCPUMicros: 12.5},
		Tool:  ToolUsage{StormCPUMs: 1, HoldCPUMs: 2, HoldCores: 0.1, Lag: &p, Blurred: 1},
		Notes: []string{"a note"},
	}
	got, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("testdata", "result.json")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(name, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
