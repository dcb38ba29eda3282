package main

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/worker"
)

func newSigner() *cobra.Command {
	c := &cobra.Command{Use: "signer", Short: "Hold validator keys in an HSM and sign their slots"}
	c.AddCommand(newSignerRun(), newSignerHalt(), newSignerResume(), newSignerRetryPIN(), newSignerStatus(), newSignerCluster(), newIdentity("signer", "signer.pins of the node"))
	return c
}

func newSignerRun() *cobra.Command {
	var file string
	var endWithParent bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the signer daemon",
		Long: `Run the signer daemon: it checks every block it is shown against the rules,
writes its journal, and only then asks the HSM. It answers the node on a Unix
socket, or on connections over TLS that it makes itself (signer.nodes), and then
needs no listening port. Exit code 78 means that a person is needed, for example because a PIN
was refused; do not restart it by itself then.`,
		Example: "  qcity signer run --config ./devnet/qcity.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if endWithParent {
				ctx = untilOrphaned(ctx)
			}
			net, cfg, err := signerConfig(file)
			if err != nil {
				return needsPerson{err}
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", "signer")
			signer.ForbidDumps(log)
			d, err := signer.Open(ctx, cfg, net, log)
			if err != nil {
				if ctx.Err() != nil {
					return nil // ended while it was starting
				}
				if signer.IsTerminal(err) {
					return needsPerson{err}
				}
				return err
			}
			return d.Run(ctx)
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file")
	c.Flags().BoolVar(&endWithParent, "end-with-parent", false, "end when standard input is closed")
	return c
}

// signerConfig turns the signer's part of a configuration file into the
// daemon's own terms.
func signerConfig(file string) (*consensus.Network, signer.Config, error) {
	c, err := configs.Load(file)
	if err != nil {
		return nil, signer.Config{}, err
	}
	net, err := configs.LoadNetwork(c.NetworkName())
	if err != nil {
		return nil, signer.Config{}, err
	}
	binary, err := workerBinary(c.Path(c.Signer.Worker))
	if err != nil {
		return nil, signer.Config{}, err
	}
	out := signer.Config{
		Journal: c.Path(c.Signer.Journal), Audit: c.AuditLog(), Cluster: clusterOf(&c), Socket: c.Path(c.Signer.Socket), Worker: binary,
		Module: c.Path(c.Signer.Module), ModuleArgs: c.Signer.ModuleArgs, SoftHSMCopy: c.Path(c.Signer.PristineTokens),
		ModuleEnv: c.Signer.ModuleEnv, ModuleNetwork: c.Signer.ModuleNetwork, Sessions: c.Signer.Sessions,
		SignaturesPerSecond: c.Signer.SignaturesPerSecond, SignatureBurst: c.Signer.SignatureBurst,
	}
	for _, path := range c.Signer.ModuleWrites {
		out.ModuleWrites = append(out.ModuleWrites, c.Path(path))
	}
	if out.VendorCodes, err = worker.ParseVendorCodes(c.Signer.VendorCodes); err != nil {
		return nil, out, fmt.Errorf("%s: signer.vendor_codes: %w", file, err)
	}
	out.NodeUIDs, out.Identity = c.Signer.NodeUIDs, c.Path(c.Signer.Identity)
	for i, n := range c.Signer.Nodes {
		node := signer.NodeConfig{Address: n.Dial}
		if err := node.Pin.UnmarshalText([]byte(n.Pin)); err != nil {
			return nil, out, fmt.Errorf("%s: signer.nodes[%d]: %w", file, i, err)
		}
		out.Nodes = append(out.Nodes, node)
	}
	for i, k := range c.Signer.Keys {
		key := signer.KeyConfig{
			TokenLabel: k.Token, TokenSerial: k.Serial, KeyLabel: k.Label, AllowExtractable: k.AllowExtractable,
		}
		pin, err := signer.ParsePINSource(k.PIN)
		if err != nil {
			return nil, out, fmt.Errorf("%s: signer.keys[%d]: pin: %w", file, i, err)
		}
		key.PIN = pin.Resolve(c.Path)
		if key.KeyID, err = hex.DecodeString(k.ID); err != nil {
			return nil, out, fmt.Errorf("%s: signer.keys[%d]: id: want hex digits: %w", file, i, err)
		}
		if err := key.PublicKey.UnmarshalText([]byte(k.PublicKey)); err != nil {
			return nil, out, fmt.Errorf("%s: signer.keys[%d]: %w", file, i, err)
		}
		out.Keys = append(out.Keys, key)
	}
	return net, out, nil
}

// clusterOf returns the cluster of a configuration, nil if it has none.
func clusterOf(c *configs.Config) *cluster.Config {
	k := &c.Signer.Cluster
	if len(k.Etcd) == 0 {
		return nil
	}
	return &cluster.Config{
		Endpoints: k.Etcd, CA: c.Path(k.CA), Cert: c.Path(k.Cert), Key: c.Path(k.Key),
		Username: k.Username, PasswordFile: c.Path(k.PasswordFile), Prefix: k.Prefix,
		StatePath: c.Path(k.State), AllowSingleMember: k.AllowSingleMember, AllowOldVersion: k.AllowOldVersion,
	}
}
