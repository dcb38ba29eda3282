package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/signer"
)

func newSignerRetryPIN() *cobra.Command {
	var file, token string
	c := &cobra.Command{
		Use:   "retry-pin",
		Short: "Let a PIN be tried again after a login that was cut off",
		Long: `Let the PIN of a token be tried once more. The signer shows a PIN that the token
has not accepted yet once; when it is killed before it hears the outcome, it
does not try again by itself, because the token may have counted a wrong PIN.
Check the PIN first, and how many tries the token has left. A PIN that the token
has refused is not tried again in any case. The signer must not be running.`,
		Example: "  qcity signer retry-pin --config qcity.toml --token validator-0",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, cfg, err := signerConfig(file)
			if err != nil {
				return err
			}
			n, err := signer.AllowPINAgain(cfg.Journal, token)
			if err != nil {
				return err
			}
			if n == 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "no login to a token labelled %q was cut off: nothing to do\n", token)
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the PIN of token %q is tried once at the next start\n", token)
			return nil
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file")
	c.Flags().StringVar(&token, "token", "", "label of the token")
	_ = c.MarkFlagRequired("token") // the flag is defined above
	return c
}
