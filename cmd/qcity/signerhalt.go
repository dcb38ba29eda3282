package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/signer"
)

func newSignerHalt() *cobra.Command {
	var file, by, reason string
	c := &cobra.Command{
		Use:   "halt",
		Short: "Stop all signing at once",
		Long: `Stop all signing at once, also that of requests under way. The halt outlives a
restart of the daemon and ends when two people resume it. Names and reason go into
the audit log. The chain goes on without this signer: its slots fall to other
validators, or to miners.`,
		Example: "  qcity signer halt --by \"A. Kim\" --reason \"token opened for inspection\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := withSigner(cmd.Context(), file, func(ctx context.Context, c *signer.Client) error { return c.Halt(ctx, by, reason) })
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "signing is halted; two people resume it with `qcity signer resume`")
			}
			return err
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file of the signer")
	c.Flags().StringVar(&by, "by", "", "your name")
	c.Flags().StringVar(&reason, "reason", "", "why")
	must(c.MarkFlagRequired("by"))
	must(c.MarkFlagRequired("reason"))
	return c
}

func newSignerResume() *cobra.Command {
	var file, by string
	c := &cobra.Command{
		Use:   "resume",
		Short: "Go on signing after a halt; two people have to say so",
		Long: `Go on signing after a halt. The first person's word is kept for ten minutes; when
another one gives his, signing goes on. Look at the reason first: qcity signer
status shows it, and qcity audit tail what led to it.`,
		Example: "  qcity signer resume --by \"A. Kim\"\n  qcity signer resume --by \"B. Lee\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var done bool
			err := withSigner(cmd.Context(), file, func(ctx context.Context, c *signer.Client) (err error) {
				done, err = c.Resume(ctx, by)
				return err
			})
			if err != nil {
				return err
			}
			text := "noted; a second person has to resume within ten minutes"
			if done {
				text = "signing goes on"
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file of the signer")
	c.Flags().StringVar(&by, "by", "", "your name")
	must(c.MarkFlagRequired("by"))
	return c
}
