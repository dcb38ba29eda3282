package main

import "github.com/spf13/cobra"

func newPoolCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "pool",
		Short: "The Stratum port and those who mine at it",
	}
	c.AddCommand(newPoolSessions(), newPoolMessage(), newPoolReconnect(), newPoolLoad())
	return c
}
