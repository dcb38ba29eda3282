package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/bench"
)

// print writes a report in the form that was asked for.
func (b *benchmark) print(w io.Writer, r *bench.Report) error {
	if b.json {
		return writeJSON(w, r)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%s\n%g s for each kernel, version %s\n", whatHashed(&r.Setup), r.Seconds, r.Version)
	if !r.Complete {
		s.WriteString("interrupted: this is what was measured until then\n")
	}
	s.WriteByte('\n')
	stdlib := hw.Reading[float64]{}
	if k := r.Kernel("stdlib"); k != nil {
		stdlib = k.MHs
	}
	widest := len("kernel")
	for _, k := range r.Kernels {
		widest = max(widest, len(k.Name))
	}
	t := tabwriter.NewWriter(&s, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%-*s\tlanes\tMH/s\tp10\tp90\t× stdlib\tcycles/hash\tJ/GH\t\n", widest, "kernel")
	for _, k := range r.Kernels {
		fmt.Fprintf(t, "%-*s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", widest, k.Name, k.Lanes,
			decimals(k.MHs, 2), decimals(k.P10, 2), decimals(k.P90, 2), decimals(over(k.MHs, stdlib), 2), decimals(k.CyclesPerHash, 1), decimals(k.JoulesPerGH, 1))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	s.WriteByte('\n')
	for _, k := range r.Kernels {
		if k.Reason != "" {
			fmt.Fprintf(&s, "not measured: %s %s\n", k.Name, strings.TrimPrefix(k.Reason, "kernel "+k.Name+" "))
		}
	}
	if r.Best != "" {
		fmt.Fprintf(&s, "best: %s\n", r.Best)
	}
	if r.Counter == hw.CyclesCalibrated {
		s.WriteString("cycles: calibrated, no hardware counter here; a few percent off while the clock changes\n")
	}
	writeNotes(&s, r.Notes)
	_, err := io.WriteString(w, s.String())
	return err
}

func writeNotes(s *strings.Builder, notes []string) {
	for _, n := range notes {
		fmt.Fprintf(s, "note: %s\n", n)
	}
}

// whatHashed says in a line what hashed.
func whatHashed(s *bench.Setup) string {
	cpu := cmp.Or(s.CPU, "unknown CPU")
	threads := "1 thread"
	if s.Threads > 1 {
		threads = fmt.Sprintf("%d threads", s.Threads)
	}
	switch len(s.Pinned) {
	case 0:
		return cpu + ", " + threads + ", not pinned"
	case 1:
		return fmt.Sprintf("%s, %s on CPU %d", cpu, threads, s.Pinned[0])
	}
	list := make([]string, len(s.Pinned))
	for i, cpu := range s.Pinned {
		list[i] = strconv.Itoa(cpu)
	}
	return cpu + ", " + threads + " on CPUs " + strings.Join(list, ", ")
}

// decimals writes a reading with that many decimals, or a dash.
func decimals(r hw.Reading[float64], n int) string {
	x, ok := r.Get()
	if !ok {
		return "-"
	}
	return strconv.FormatFloat(x, 'f', n, 64)
}

// over divides two readings.
func over(a, b hw.Reading[float64]) hw.Reading[float64] {
	x, ok := a.Get()
	if y, also := b.Get(); ok && also && y != 0 {
		return hw.Known(x / y)
	}
	return hw.Reading[float64]{}
}

func orDash(s string) string { return cmp.Or(s, "-") }
