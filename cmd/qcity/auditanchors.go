package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
)

func newAuditAnchors() *cobra.Command {
	var config, key string
	var asJSON bool
	c := &cobra.Command{
		Use:   "anchors",
		Short: "List the heads of audit logs that the chain carries",
		Long: `List for each signed block of the best chain its height, the key that signed it and
the head of that signer's audit log that it carries, SEQ:HASH, as "qcity audit
verify --anchor" takes it. The chain is that of the configuration's data folder,
whose node must not be running. Each signature is verified; qcity chain verify
checks everything else.

A log that holds all anchors of its key was not rewritten up to the last of them. Of
boxes with the same key each has a log of its own, and a block carries the head of
one of them.`,
		Example: `  qcity audit anchors --config node/qcity.toml
  qcity audit anchors --config node/qcity.toml --key secp256k1:02… --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var only types.PublicKey
			if key != "" {
				if err := only.UnmarshalText([]byte(key)); err != nil {
					return fmt.Errorf("--key: %w", err)
				}
			}
			blocks, err := readSigned(cmd.Context(), config)
			if err != nil {
				return err
			}
			list := anchorsOf(blocks, only)
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), list)
			}
			return printAnchors(cmd.OutOrStdout(), list)
		},
	}
	c.Flags().StringVar(&config, "config", configs.FileName, "configuration file of the node")
	c.Flags().StringVar(&key, "key", "", "only blocks that this key signed")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// anchorJSON is an entry of `qcity audit anchors --json`.
type anchorJSON struct {
	Height uint32          `json:"height"`
	Block  types.Hash      `json:"block"`
	Key    types.PublicKey `json:"key"`
	Anchor string          `json:"anchor"` // SEQ:HASH; empty: the block carries none
}

// anchorsOf lists the blocks of one key, or of all if it is none.
func anchorsOf(blocks []signedBlock, only types.PublicKey) []anchorJSON {
	list := []anchorJSON{}
	for _, b := range blocks {
		if only != (types.PublicKey{}) && b.key != only {
			continue
		}
		a := anchorJSON{Height: b.height, Block: b.id, Key: b.key}
		if b.anchor != nil {
			a.Anchor = audit.Head{Seq: b.anchor.Seq, Hash: b.anchor.Head}.String()
		}
		list = append(list, a)
	}
	return list
}

func printAnchors(w io.Writer, list []anchorJSON) error {
	for _, a := range list {
		if a.Anchor == "" {
			a.Anchor = "carries none"
		}
		if _, err := fmt.Fprintf(w, "%d  %s  %s\n", a.Height, a.Key, a.Anchor); err != nil {
			return err
		}
	}
	return nil
}

// signedBlock is what a signed block of the best chain says of its signer.
type signedBlock struct {
	height    uint32
	id        types.Hash
	key       types.PublicKey
	digest    types.Hash // what was signed
	signature [64]byte
	anchor    *consensus.AuditAnchor // nil: none
}

// readSigned opens the chain of a node's configuration, and reads its signed blocks.
func readSigned(ctx context.Context, config string) ([]signedBlock, error) {
	c, err := configs.Load(config)
	if err != nil {
		return nil, err
	}
	net, err := configs.LoadNetwork(c.NetworkName())
	if err != nil {
		return nil, err
	}
	s, err := store.Open(c.Path(c.Data), net, store.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return signedBlocks(ctx, net, func(height uint32) (*types.Block, bool, error) { return blockAtHeight(s, height) })
}

// signedBlocks follows the sets of validators from genesis on, as an index in a
// block means a key of the set in force there.
func signedBlocks(ctx context.Context, net *consensus.Network, blockAt func(height uint32) (*types.Block, bool, error)) (list []signedBlock, err error) {
	state := net.GenesisState()
	for height := state.ChildHeight(); ; height = state.ChildHeight() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, ok, err := blockAt(height)
		if err != nil {
			return nil, fmt.Errorf("read block %d: %w", height, err)
		}
		if !ok {
			return list, nil
		}
		if b.IsSigned() {
			signed, err := signerOf(&state, b)
			if err != nil {
				return nil, fmt.Errorf("block %d: %w: check the chain with `qcity chain verify`", height, err)
			}
			list = append(list, signed)
		}
		state = state.Child(&b.SignedHeader, b.Transactions[0])
	}
}

func signerOf(parent *consensus.State, b *types.Block) (signedBlock, error) {
	s := signedBlock{height: parent.ChildHeight(), id: b.Header.ID(), anchor: consensus.AnchorOf(b.Transactions[0])}
	sig, err := types.ParseBlockSig(b.VchBlockSig)
	if err != nil {
		return s, err
	}
	set := parent.Validators()
	if int(sig.Index) >= len(set.Keys) {
		return s, fmt.Errorf("it is signed by validator %d, which set %d does not have", sig.Index, set.Number)
	}
	s.key, s.signature = set.Keys[sig.Index], sig.Signature
	s.digest = consensus.SlotDigest(parent.Network.ID, parent.ValidatorSetID(), s.height, s.id)
	return s, s.key.Verify(s.digest, s.signature)
}
