package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
)

func newRun() *cobra.Command {
	var file string
	var check bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Run a box from its configuration: node, CPU miner, Stratum port, API",
		Long: `Run everything the configuration enables but the signer, which is a process of
its own ("qcity signer run"). Ctrl-C ends it cleanly.

SIGUSR2 replaces the program without losing a miner: install the new qcity in
the old one's place, then send the signal. The new program is asked first
whether it can run with this configuration. It goes on in the same process with
the miners' connections, jobs and accounts; only those over TLS or WebSocket
come back by themselves. --check asks the same question and changes nothing.`,
		Example: `  qcity run --config ./devnet/qcity.toml
  qcity run --config ./devnet/qcity.toml --check
  kill -USR2 "$(pidof qcity)"`,
		Args:    cobra.NoArgs,
		PreRunE: checkFeatures,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := configs.Load(file)
			if err != nil {
				return err
			}
			if check {
				if _, err := configs.LoadNetwork(cfg.NetworkName()); err != nil {
					return err
				}
				if cfg.Stratum.Cert != "" {
					_, err = stratumCertificate(&cfg, nil)
				}
				return err
			}
			return runBox(cmd.Context(), cfg, file, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file")
	c.Flags().BoolVar(&check, "check", false, "check the configuration and end")
	return c
}

// runBox runs a box until ctx ends, or another program takes over.
func runBox(ctx context.Context, cfg configs.Config, file string, log *slog.Logger) error {
	path, err := program()
	if err != nil {
		return err
	}
	left, err := inheritance()
	if err != nil {
		return err
	}
	upgrade, stop := upgradeSignals()
	defer stop()
	for {
		b, err := openBox(ctx, cfg, file, left, log)
		if err != nil {
			return err
		}
		b.upgrade, b.successor = upgrade, func(ctx context.Context) error { return checkSuccessor(ctx, path, file) }
		running := log.With("network", b.net.Name, "id", b.net.ID, "height", b.node.Chain.Tip().Height, "version", version)
		for _, a := range b.addresses() {
			running = running.With(a[0], a[1])
		}
		running.Info("running")
		err = b.run(ctx)
		b.close()
		if !errors.Is(err, errUpgrade) {
			return err
		}
		left = b.left
		// Only a failure comes back from here: then this program goes on.
		log.Error("the upgrade failed", "err", succeed(path, left, log))
	}
}
