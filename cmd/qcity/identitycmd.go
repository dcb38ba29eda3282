package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/signer/link"
)

func newNode() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "What only concerns the node of a box"}
	c.AddCommand(newIdentity("node", "signer.nodes of the signer"))
	return c
}

// identityReport is what the identity commands print as JSON.
type identityReport struct {
	File string   `json:"file"`
	Pin  link.Pin `json:"pin"`
	Made bool     `json:"made"`
}

// newIdentity makes the identity command of one side; the pin goes to the other.
func newIdentity(side, goes string) *cobra.Command {
	var file, config string
	var asJSON bool
	c := &cobra.Command{
		Use:   "identity",
		Short: "Make this side's key for the TLS link between node and signer, and print its pin",
		Long: fmt.Sprintf(`Make the Ed25519 key that this side of the link between node and signer proves
itself with, unless it is there, and print its pin, which is the public key. It
goes into %s. The key signs TLS handshakes
only and is no validator key; its file has mode 0600 and stays where it is.`, goes),
		Example: fmt.Sprintf("  qcity %[1]s identity --config qcity.toml\n  qcity %[1]s identity --file /etc/qcity/%[1]s.identity", side),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := identityFile(file, config)
			if err != nil {
				return err
			}
			id, err := link.LoadIdentity(path)
			made := errors.Is(err, fs.ErrNotExist)
			if made {
				id, err = link.CreateIdentity(path)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), identityReport{path, id.Pin(), made})
			}
			if made {
				fmt.Fprintf(cmd.ErrOrStderr(), "made %s; put this pin into %s:\n", path, goes)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), id.Pin())
			return err
		},
	}
	c.Flags().StringVar(&config, "config", configs.FileName, "configuration file that names the identity in signer.identity")
	c.Flags().StringVar(&file, "file", "", "identity file, instead of the one in the configuration")
	c.Flags().BoolVar(&asJSON, "json", false, "print file and pin as JSON")
	return c
}

// identityFile needs only the path: a configuration that lacks the other side's
// pin cannot be complete before this command has run on both sides.
func identityFile(file, config string) (string, error) {
	if file != "" {
		return file, nil
	}
	c, err := configs.LoadIncomplete(config)
	if err != nil {
		return "", err
	}
	if c.Signer.Identity == "" {
		return "", fmt.Errorf("%s names no signer.identity: add one, or name a file with --file", config)
	}
	return c.Path(c.Signer.Identity), nil
}
