package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/hw"
)

func newHW() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "hw",
		Short: "Show the CPU, its features and topology",
		Long: `Show the CPU, the features that decide which hashing code may run, and which
CPUs this process may use.

The environment variable ` + hw.FeatureEnv + ` changes the features, for this and
every other command: -avx512f,-sha_ni takes two away, +avx512f claims one that the
CPU does not report, and none alone takes all away. Hashing code that uses an
instruction the CPU does not know fails its self test, whatever was claimed.`,
		Example: "  qcity hw\n  qcity hw --json\n  " + hw.FeatureEnv + "=-avx512f qcity hw",
		Args:    cobra.NoArgs,
		PreRunE: checkFeatures,
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
