package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
)

func newHW() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "hw",
		Short:   "Show the CPU, its features and topology",
		Example: "  qcity hw\n  qcity hw --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inventory := hw.Detect(os.DirFS("/"))
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), inventory)
			}
			return inventory.WriteText(cmd.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newBench() *cobra.Command {
	var asJSON bool
	var kernel string
	var duration time.Duration
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the SHA-256d kernels on one core",
		Long: `Measure the SHA-256d kernels on one core. The kernels take turns, a short sample
each, so that a machine whose speed drifts treats all alike; each is proved
against crypto/sha256 before it is measured.`,
		Example: "  qcity bench\n  qcity bench --kernel generic --duration 5s --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kernels, err := benchKernels(kernel)
			if err != nil {
				return err
			}
			results, err := sha256d.Bench(cmd.Context(), duration, kernels...)
			if err != nil {
				return fmt.Errorf("benchmark: %w", err)
			}
			rows := make([]benchRow, len(results))
			for i := range results {
				r := &results[i]
				rows[i] = benchRow{r.Name, r.Lanes, r.Hashes, len(r.Samples), r.Median(), r.P10(), r.P90()}
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"hashesPerSecond": rows})
			}
			return writeBench(cmd.OutOrStdout(), rows)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&kernel, "kernel", sha256d.Auto, "measure this kernel only")
	c.Flags().DurationVar(&duration, "duration", 2*time.Second, "time for each kernel")
	return c
}

// benchRow is one kernel's speed in hashes per second on one core.
type benchRow struct {
	Kernel  string  `json:"kernel"`
	Lanes   int     `json:"lanes"`
	Hashes  uint64  `json:"hashes"`
	Samples int     `json:"samples"`
	Median  float64 `json:"median"`
	P10     float64 `json:"p10"`
	P90     float64 `json:"p90"`
}

func benchKernels(name string) ([]sha256d.Kernel, error) {
	var out []sha256d.Kernel
	features := hw.Features()
	for _, k := range sha256d.Kernels() {
		if name != sha256d.Auto && name != k.Name {
			continue
		}
		if missing := k.Missing(features); len(missing) > 0 {
			if name == k.Name {
				return nil, fmt.Errorf("kernel %s needs %v, which this CPU lacks", k.Name, missing)
			}
			continue
		}
		if err := sha256d.SelfTest(k); err != nil {
			return nil, fmt.Errorf("kernel %s fails its self test and must not be used: %w", k.Name, err)
		}
		out = append(out, k)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no kernel is called %q: there are %s", name, sha256d.Names(sha256d.Kernels()))
	}
	return out, nil
}

func writeBench(w io.Writer, rows []benchRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "kernel\tmedian\tp10\tp90\tsamples\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t\n", r.Kernel, hashRate(r.Median), hashRate(r.P10), hashRate(r.P90), r.Samples)
	}
	return t.Flush()
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// hashRate writes hashes per second with a unit, three digits or more.
func hashRate(h float64) string {
	units := []string{"H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s"}
	i := 0
	for h >= 1000 && i < len(units)-1 {
		h, i = h/1000, i+1
	}
	return fmt.Sprintf("%.2f %s", h, units[i])
}
