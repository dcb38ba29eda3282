package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
)

func newRun() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run a box from its configuration: node, CPU miner, Stratum port, API",
		Long: `Run everything the configuration enables but the signer, which is a process of
its own ("qcity signer run"). Ctrl-C ends it cleanly.`,
		Example: "  qcity run --config ./devnet/qcity.toml",
		Args:    cobra.NoArgs,
		PreRunE: checkFeatures,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := configs.Load(file)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			b, err := openBox(cmd.Context(), cfg, file, log)
			if err != nil {
				return err
			}
			defer b.close()
			log.Info("running", "network", b.net.Name, "id", b.net.ID, "height", b.node.Chain.Tip().Height)
			return b.run(cmd.Context())
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file")
	return c
}
