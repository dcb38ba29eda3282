package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/miner/bench"
)

func newBenchCompare() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "compare A.json B.json",
		Short: "Compare two results of qcity bench --json",
		Long: `Compare two results of qcity bench --json. For each kernel it says how many times
as fast B is, and whether the ranges from p10 to p90 overlap: then the difference
may be chance. What else differs, such as the CPU, is pointed out.`,
		Example: "  qcity bench compare before.json after.json\n  qcity bench compare before.json after.json --json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := readReport(args[0])
			if err != nil {
				return err
			}
			b, err := readReport(args[1])
			if err != nil {
				return err
			}
			c := comparison{benchSide{args[0], a.Setup}, benchSide{args[1], b.Setup}, bench.Compare(&a, &b)}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), c)
			}
			return c.writeText(cmd.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// comparison says which files were compared, and how they compare.
type comparison struct {
	A benchSide `json:"a"`
	B benchSide `json:"b"`
	bench.Comparison
}

type benchSide struct {
	File string `json:"file"`
	bench.Setup
}

func readReport(file string) (bench.Report, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return bench.Report{}, fmt.Errorf("read result: %w", err)
	}
	r, err := bench.Read(data)
	if err != nil {
		return bench.Report{}, fmt.Errorf("%s is not a result of qcity bench: %w", file, err)
	}
	return r, nil
}

func (c *comparison) writeText(w io.Writer) error {
	var s strings.Builder
	t := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	for _, side := range []struct {
		name string
		benchSide
	}{{"A", c.A}, {"B", c.B}} {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\tversion %s\n", side.name, side.File, orDash(side.Date), whatHashed(&side.Setup), orDash(side.Version))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, d := range c.Differences {
		fmt.Fprintf(&s, "differs: %s\n", d)
	}
	s.WriteByte('\n')
	fmt.Fprint(t, "kernel\tA MH/s (p10–p90)\tB MH/s (p10–p90)\tB ÷ A\t\n")
	for _, k := range c.Kernels {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.Name, spread(k.A), spread(k.B), decimals(k.Ratio, 3), verdict(&k))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, s.String())
	return err
}

func spread(m *bench.Measurement) string {
	if m == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", m.MHs, m.P10, m.P90)
}

func verdict(p *bench.Pair) string {
	same, known := p.SameWithinSpread.Get()
	switch {
	case known && same:
		return "same within spread"
	case known && p.Ratio.Or(0) > 1:
		return "B is faster"
	case known:
		return "B is slower"
	case p.A != nil:
		return "measured in A only"
	case p.B != nil:
		return "measured in B only"
	}
	return "not measured"
}
