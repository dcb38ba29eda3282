package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"qcitycoin.org/qcity/stratum/load"
)

// statusLine is one line on a terminal that is written over and over.
type statusLine struct {
	w     io.Writer // nil: silent
	shown int
}

func newStatusLine(f *os.File, off bool) *statusLine {
	if off || !term.IsTerminal(int(f.Fd())) {
		return &statusLine{}
	}
	return &statusLine{w: f}
}

func (s *statusLine) show(text string) {
	if s.w == nil {
		return
	}
	fmt.Fprintf(s.w, "\r%-*s", s.shown, text)
	s.shown = len(text)
}

func (s *statusLine) clear() {
	if s.w != nil && s.shown > 0 {
		fmt.Fprintf(s.w, "\r%*s\r", s.shown, "")
	}
}

func progressText(g load.Progress) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %.1f of %.0f s: %d of %d hold a job", g.Phase, g.Elapsed.Seconds(), g.Of.Seconds(), g.Holding, g.Connections)
	for _, f := range []struct {
		n    int
		what string
	}{{g.Failed, "failed"}, {g.Lost, "lost"}, {g.Broadcasts, "broadcasts"}, {int(g.Answers), "answers"}} {
		if f.n > 0 {
			fmt.Fprintf(&s, ", %d %s", f.n, f.what)
		}
	}
	return s.String()
}

// print writes a result in the form that was asked for.
func (p *poolLoad) print(w io.Writer, result any, text string) error {
	if p.json {
		return writeJSON(w, result)
	}
	_, err := io.WriteString(w, text)
	return err
}

// comparisonText is a comparison for people: its runs, then what it is about.
func comparisonText(c *load.Comparison, stalled float64) string {
	var s strings.Builder
	for i, r := range c.Without {
		fmt.Fprintf(&s, "run %d, nobody stalls: %s\n", 2*i+1, loadText(r))
		if i < len(c.With) {
			fmt.Fprintf(&s, "run %d, %g %% stall: %s\n", 2*i+2, 100*stalled, loadText(c.With[i]))
		}
	}
	if !c.Complete {
		s.WriteString("interrupted: this is what was measured until then\n")
	}
	fmt.Fprintf(&s, "p99 of a broadcast to those who read, median: %.2f ms without, %.2f ms with %g %% stalled: ratio %.3f", c.P99Without, c.P99With, 100*stalled, c.Ratio)
	if len(c.Rounds) > 1 {
		s.WriteString(" (rounds")
		for _, r := range c.Rounds {
			fmt.Fprintf(&s, " %.3f", r)
		}
		s.WriteByte(')')
	}
	s.WriteByte('\n')
	return s.String()
}

// loadText is a result for people.
func loadText(r *load.Result) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s, %d connections, %s\n", r.Target, r.Setup.Connections, r.Began.Format(time.RFC3339))
	if !r.Complete {
		s.WriteString("interrupted: this is what was measured until then\n")
	}
	t := tabwriter.NewWriter(&s, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "milliseconds\tp50\tp90\tp99\tmax\t\n")
	row := func(name string, p load.Percentiles) {
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t\n", name, p.P50, p.P90, p.P99, p.Max)
	}
	row("connect to first job", r.Storm.PerMiner)
	if r.Broadcasts.Count > 0 {
		if r.Broadcasts.TipToFirst != nil {
			row("tip to first notify", *r.Broadcasts.TipToFirst)
		}
		row("first to each notify", r.Broadcasts.FanOut)
	}
	if r.Shares != nil && r.Shares.Answered > 0 {
		row("submit to answer", r.Shares.Latency)
	}
	if r.Stalled != nil && r.Stalled.Closed > 0 {
		row("stalled until closed", r.Stalled.ClosedAfter)
	}
	if r.Tool.Lag != nil {
		row("read by this tool after", *r.Tool.Lag)
	}
	_ = t.Flush()
	s.WriteByte('\n')
	fmt.Fprintf(&s, "storm       %d hold a job after %.0f ms, %d failed\n", r.Storm.Holding, r.Storm.AllMs, r.Storm.Failed)
	reasons(&s, r.Storm.Reasons)
	if b := r.Broadcasts; r.Setup.Seconds > 0 {
		fmt.Fprintf(&s, "broadcasts  %d, %d jobs missing", b.Count, b.Missing)
		if b.Count > 0 {
			fmt.Fprintf(&s, "; p99 of each: %.2f to %.2f ms, median %.2f", b.P99.Min, b.P99.Max, b.P99.Median)
		}
		s.WriteByte('\n')
	}
	if st := r.Stalled; st != nil {
		fmt.Fprintf(&s, "stalled     %d stopped reading, %d of them were closed\n", st.Connections, st.Closed)
		reasons(&s, st.Reasons)
		if q := st.Queued; q != nil {
			fmt.Fprintf(&s, "            %.0f KB wait for one in the pool's socket (median of %d; %.0f KB at most)\n", kb(q.Median), q.Sockets, kb(q.Max))
		}
	}
	if sh := r.Shares; sh != nil {
		fmt.Fprintf(&s, "shares      %d answered in %.1f s: %.0f a second", sh.Answered, sh.Seconds, sh.PerSecond)
		if sh.PerCPUSecond != nil {
			fmt.Fprintf(&s, ", %.0f for each CPU second of the pool", *sh.PerCPUSecond)
		}
		fmt.Fprintf(&s, "; %d accepted\n", sh.Accepted)
		for _, x := range sh.Rejected {
			fmt.Fprintf(&s, "            %d rejected: %d %s\n", x.Count, x.Code, x.Text)
		}
	}
	if len(r.Lost) > 0 {
		s.WriteString("lost        connections that had a job\n")
		reasons(&s, r.Lost)
	}
	if r.Junk+r.Stray+r.Reconnects > 0 {
		fmt.Fprintf(&s, "odd         %d lines that are no Stratum, %d answers to nothing, %d requests to reconnect\n", r.Junk, r.Stray, r.Reconnects)
	}
	if u := r.Pool; u != nil {
		fmt.Fprintf(&s, "memory      %.1f MB before, %.1f MB after the storm, %.1f MB at the end: %.1f KB for each connection\n",
			mb(u.RSSBefore), mb(u.RSSAfter), mb(u.RSSEnd), u.BytesPerConnection/1024)
		fmt.Fprintf(&s, "CPU         pool %.0f ms in the storm, then %.2f cores", u.StormCPUMs, u.HoldCores)
		if u.JobCPUMicros > 0 {
			fmt.Fprintf(&s, ": %.1f µs for each job on a new tip", u.JobCPUMicros)
		}
		s.WriteByte('\n')
	}
	fmt.Fprintf(&s, "this tool   %.0f ms in the storm, then %.2f cores; %s, %s's clock\n", r.Tool.StormCPUMs, r.Tool.HoldCores, r.Setup.Engine, r.Setup.Clock)
	for _, n := range r.Notes {
		fmt.Fprintf(&s, "note: %s\n", n)
	}
	return s.String()
}

func kb(bytes int64) float64 { return float64(bytes) / (1 << 10) }
func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// reasons lists counted reasons, the most frequent first.
func reasons(s *strings.Builder, m map[string]int) {
	for _, why := range slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(a, b)
	}) {
		fmt.Fprintf(s, "            %d %s\n", m[why], why)
	}
}
