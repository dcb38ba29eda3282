package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/interchange"
)

func newSignerCluster() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "Join the etcd cluster that machines with one key share, or show it"}
	c.AddCommand(newClusterJoin(), newClusterShow())
	return c
}

func newClusterJoin() *cobra.Command {
	var file string
	var floor uint32
	c := &cobra.Command{
		Use:   "join",
		Short: "Accept the cluster as it is now",
		Long: `Accept the etcd cluster of [signer.cluster] as it is now: at the first set-up, after
etcd was restored, and after its members changed. Stop every signer of the keys
first, on all machines, and start none before each machine has joined.

What this box's journal and its earlier view of the cluster hold is protected by
itself. --floor is for what they cannot know: the highest height that any of the
keys may have signed elsewhere, for example on a machine that is lost. Nothing at
or below it will be signed by any machine; votes go on once a slot at the floor or
above is certified.`,
		Example: "  qcity signer cluster join --config qcity.toml --floor 0\n  qcity signer cluster join --config qcity.toml --floor 183240",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			scfg, cfg, err := clusterConfig(file)
			if err != nil {
				return needsPerson{err}
			}
			// The journal is locked while a signer runs, which must not be.
			journal, err := signer.OpenJournal(scfg.Journal, cfg.Network, cfg.Keys)
			if err != nil {
				return needsPerson{err}
			}
			past, err := clusterPast(journal, floor)
			if err == nil {
				err = cluster.Join(cmd.Context(), cfg, past)
			}
			if err := errors.Join(err, journal.Close()); err != nil {
				return clusterError(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "joined; this box keeps what it sees of the cluster in %s\n", cfg.StatePath)
			return err
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file")
	c.Flags().Uint32Var(&floor, "floor", 0, "highest height that may have been signed unknown to this box and the cluster")
	must(c.MarkFlagRequired("floor"))
	return c
}

// clusterPast is what a box brings that joins: all its journal knows, and floor.
func clusterPast(j *signer.Journal, floor uint32) (cluster.Past, error) {
	p := cluster.Past{Floor: floor, Blocks: make(map[types.PublicKey]uint32), Votes: make(map[types.PublicKey]uint32), SetChanges: make(map[types.PublicKey]uint32)}
	for _, m := range j.Marks() {
		p.Blocks[m.Key], p.Votes[m.Key], p.SetChanges[m.Key] = max(m.Block, m.Floor), max(m.Vote, m.Floor), m.SetChange
	}
	all, err := j.Export(false)
	p.Seal = func(c cluster.Claim) *[64]byte { return sealOf(all, c) }
	return p, err
}

// sealOf returns the signature that a journal's history has of a claim, nil if none.
func sealOf(d *interchange.Document, c cluster.Claim) *[64]byte {
	k := d.Find(c.Key)
	if k == nil {
		return nil
	}
	is := func(kind cluster.Kind, height uint32, digest *types.Hash) bool {
		return c.Kind == kind && c.Height == height && digest != nil && c.Digest == *digest
	}
	for _, b := range k.Blocks {
		if is(cluster.Block, b.Height, b.Digest) {
			return b.Signature
		}
	}
	for _, v := range k.Votes {
		if v.Link != nil && c.Kind == cluster.Vote && c.Height == v.Target && c.Digest == v.Link.Digest(d.Network) {
			return v.Signature
		}
	}
	for _, s := range k.SetChanges {
		if is(cluster.SetChange, s.Number, s.Digest) {
			return s.Signature
		}
	}
	return nil
}

// markJSON is a line of `qcity signer cluster show --json`.
type markJSON struct {
	Key          types.PublicKey `json:"key"`
	Kind         cluster.Kind    `json:"kind"`
	Height       uint32          `json:"height"`       // 0: there is a floor only
	SourceHeight uint32          `json:"sourceHeight"` // of a vote
	SourceID     types.Hash      `json:"sourceID"`
	Digest       types.Hash      `json:"digest"`
	Floor        uint32          `json:"floor"`
}

func newClusterShow() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "show",
		Short: "Check the cluster, and list the highest claims in it",
		Long: `Check the etcd cluster of [signer.cluster] as the signer does when it starts, and list
the highest claim and the floor of each key. The signer of this box must be
stopped; with it running, ask another box.`,
		Example: "  qcity signer cluster show --config qcity.toml\n  qcity signer cluster show --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, cfg, err := clusterConfig(file)
			if err != nil {
				return needsPerson{err}
			}
			claims, err := cluster.Open(cmd.Context(), cfg)
			if err != nil {
				return clusterError(err)
			}
			known, err := claims.Known(cmd.Context())
			if err = errors.Join(err, claims.Close()); err != nil {
				return clusterError(err)
			}
			if asJSON {
				list := make([]markJSON, 0, len(known))
				for _, m := range known {
					list = append(list, markJSON{m.Key, m.Kind, m.Height, m.Source.Height, m.Source.ID, m.Digest, m.Floor})
				}
				return json.NewEncoder(cmd.OutOrStdout()).Encode(list)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "KEY\tKIND\tHIGHEST\tSOURCE\tFLOOR\tDIGEST")
			for _, m := range known {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\n", m.Key, m.Kind, m.Height, m.Source.Height, m.Floor, m.Digest)
			}
			return w.Flush()
		},
	}
	c.Flags().StringVar(&file, "config", configs.FileName, "configuration file")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// clusterConfig turns [signer.cluster] into package cluster's own terms.
func clusterConfig(file string) (signer.Config, cluster.Config, error) {
	network, scfg, err := signerConfig(file)
	if err != nil {
		return scfg, cluster.Config{}, err
	}
	if scfg.Cluster == nil {
		return scfg, cluster.Config{}, fmt.Errorf("%s has no signer.cluster.etcd: name the members of the cluster, or nothing is to be joined", file)
	}
	out := *scfg.Cluster
	out.Network, out.Log = network.ID, slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", "cluster")
	for _, k := range scfg.Keys {
		out.Keys = append(out.Keys, k.PublicKey)
	}
	return scfg, out, nil
}

func clusterError(err error) error {
	if cluster.IsTerminal(err) {
		return needsPerson{err}
	}
	return err
}
