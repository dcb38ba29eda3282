package main

import "github.com/spf13/cobra"

func newPoolCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "pool",
		Short: "The Stratum port and those who mine at it",
		Long: `The Stratum port and those who mine at it. workers, shares, blocks and payouts read
the pool's books on disk, whether the box runs or not, and change nothing; what a
running box booked in the last quarter of a second is not on disk yet. docs/pool.md
says what is kept, and how rewards are divided.`,
	}
	c.AddCommand(newPoolWorkers(), newPoolShares(), newPoolBlocks(), newPoolPayouts(), newPoolSessions(), newPoolMessage(), newPoolReconnect(), newPoolLoad())
	return c
}
