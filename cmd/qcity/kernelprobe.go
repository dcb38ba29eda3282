package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/probe"
	"qcitycoin.org/qcity/miner/sha256d"
)

// selfTestCommand runs the self tests of kernels for another process of this
// program: see package probe.
const selfTestCommand = "kernel-selftest"

func newKernelSelfTest() *cobra.Command {
	return &cobra.Command{
		Use:    selfTestCommand + " KERNEL…",
		Short:  "Test hashing kernels for another process of this program",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			// Code that never returns listens to nobody.
			context.AfterFunc(untilOrphaned(cmd.Context()), func() { os.Exit(exitError) })
			return probe.Serve(cmd.OutOrStdout(), sha256d.Kernels(), names)
		},
	}
}

// probeKernels returns what tests kernels in processes of this program.
func probeKernels(log *slog.Logger) sha256d.Prober {
	c := probe.Children{Log: log, Command: func(names []string) (*exec.Cmd, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		cmd := exec.Command(self, append([]string{selfTestCommand}, names...)...)
		detach(cmd)
		return cmd, nil
	}}
	return c.Probe
}

// checkFeatures is a command's PreRunE: what it does depends on the CPU's features.
func checkFeatures(*cobra.Command, []string) error { return hw.CheckFeatureOverride() }
