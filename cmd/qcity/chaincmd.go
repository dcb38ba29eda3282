package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/types"
)

func newChain() *cobra.Command {
	c := &cobra.Command{Use: "chain", Short: "Check or export a chain on disk"}
	c.AddCommand(newChainVerify(), newChainExport())
	return c
}

// openChain opens the chain of a data directory for reading: the folder of a
// qcity.toml, or a node's own folder together with --network.
func openChain(dir, network string) (*consensus.Network, *store.Store, error) {
	nodeData := dir
	config := filepath.Join(dir, configs.FileName)
	if _, err := os.Stat(config); err == nil {
		c, err := configs.Load(config)
		if err != nil {
			return nil, nil, err
		}
		nodeData = c.Path(c.Data)
		if network == "" {
			network = c.NetworkName()
		}
	} else if network == "" {
		return nil, nil, fmt.Errorf("%s holds no %s: name a data directory with one, or give --network as well", dir, configs.FileName)
	}
	net, err := configs.LoadNetwork(network)
	if err != nil {
		return nil, nil, err
	}
	s, err := store.Open(nodeData, net, store.Options{ReadOnly: true})
	return net, s, err
}

func newChainVerify() *cobra.Command {
	var dir, network string
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check a data directory from genesis with the rules of consensus",
		Long: `Check every block of the best chain from genesis on, signatures and all, and
compare the unspent outputs that result with those in the database. The slots that
are named certified and final are those that the certificates in the blocks
prove; the node may know more. Nothing is changed. The node must not be running.`,
		Example: "  qcity chain verify --data ./devnet\n  qcity chain verify --data ./devnet --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			net, s, err := openChain(dir, network)
			if err != nil {
				return err
			}
			defer s.Close()
			progress, done := newProgress("verifying")
			report, err := chain.Verify(cmd.Context(), net, s, progress)
			done()
			if err != nil {
				return err
			}
			proven := report.Tip.Proven()
			certified, final := proven.Certified(), proven.Final
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]any{
					"network": net.ID, "height": report.Tip.Height, "tip": report.Tip.ID, "signedSlots": report.Tip.SignedSlots,
					"certified": slotJSON{certified.Height, certified.ID}, "final": slotJSON{final.Height, final.ID},
					"blocks": report.Blocks, "sideBlocks": report.SideBlocks, "coins": report.Coins, "supply": report.Supply,
				})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %d blocks up to %s obey the rules, %d slots signed, certified up to %d and final up to %d by the votes in the blocks; %d unspent outputs hold %s coins, as the database says\n",
				report.Blocks, report.Tip.ID, report.Tip.SignedSlots, certified.Height, final.Height, report.Coins, types.FormatAmount(report.Supply))
			return err
		},
	}
	c.Flags().StringVar(&dir, "data", "", "data directory")
	c.Flags().StringVar(&network, "network", "", "network name or file, when the directory holds no configuration")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	must(c.MarkFlagRequired("data"))
	return c
}

// slotJSON names a slot; genesis stands for none.
type slotJSON struct {
	Height uint32     `json:"height"`
	ID     types.Hash `json:"id"`
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// newProgress returns a progress function for long work: a bar on a terminal,
// nothing elsewhere.
func newProgress(what string) (update func(done, of uint32), end func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func(uint32, uint32) {}, func() {}
	}
	bar := progressbar.NewOptions64(0, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
	return func(done, of uint32) {
			bar.ChangeMax64(int64(of))
			_ = bar.Set64(int64(done))
		}, func() {
			_ = bar.Finish()
			_ = bar.Clear()
		}
}

func newChainExport() *cobra.Command {
	var dir, network, out string
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the best chain as JSON lines that another program can check",
		Long: `Write the network and the newest certificates on the first line and one block of
the best chain on each line that follows, from genesis on. docs/protocol.md says
how to check them. Blocks carry the certificates for the slots below them; those on
the first line also prove what no block carries yet. The node must not be running.`,
		Example: "  qcity chain export --data ./devnet > chain.jsonl\n  qcity chain export --data ./devnet --out chain.jsonl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			net, s, err := openChain(dir, network)
			if err != nil {
				return err
			}
			defer s.Close()
			certificates, err := s.Certificates()
			if err != nil {
				return fmt.Errorf("read certificates: %w", err)
			}
			blockAt := func(height uint32) (*types.Block, bool, error) { return blockAtHeight(s, height) }
			export := func(w io.Writer) error { return exportChain(cmd.Context(), w, net, certificates, blockAt) }
			if out != "" {
				return writeNewFile(out, 0o644, export)
			}
			return export(cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&dir, "data", "", "data directory")
	c.Flags().StringVar(&network, "network", "", "network name or file, when the directory holds no configuration")
	c.Flags().StringVar(&out, "out", "", "write to this new file instead of standard output")
	must(c.MarkFlagRequired("data"))
	return c
}

// exportNetwork is the network in an export.
type exportNetwork struct {
	ID               types.Hash        `json:"id"`
	Name             string            `json:"name"`
	N                uint32            `json:"n"`
	IntervalSeconds  uint32            `json:"intervalSeconds"`
	SlotOpenSeconds  uint32            `json:"slotOpenSeconds"`
	SlotCloseSeconds uint32            `json:"slotCloseSeconds"`
	RankStepSeconds  uint32            `json:"rankStepSeconds"`
	HalfLifeSeconds  uint32            `json:"halfLifeSeconds"`
	PowLimitBits     consensus.Bits    `json:"powLimitBits"`
	Subsidy          int64             `json:"subsidy"`
	HalvingInterval  uint32            `json:"halvingInterval"`
	CoinbaseMaturity uint32            `json:"coinbaseMaturity"`
	MaxBlockBytes    uint32            `json:"maxBlockBytes"`
	MaxSigOps        uint32            `json:"maxSigOps"`
	MaxDataBytes     uint32            `json:"maxDataBytes"`
	Parameters       string            `json:"parameters"` // canonical encoding, hex; the genesis coinbase commits to it
	Validators       []exportValidator `json:"validators"`
}

type exportValidator struct {
	Algorithm string `json:"algorithm"`
	PublicKey string `json:"publicKey"`
}

// exportBlock is every further line.
type exportBlock struct {
	block
	Header      string   `json:"header"`
	VchBlockSig string   `json:"vchBlockSig"`
	Tx          []string `json:"tx"`
}

// exportHead is the first line of an export.
type exportHead struct {
	Network      exportNetwork `json:"network"`
	Certificates []string      `json:"certificates"` // hex, by ascending target
}

// exportChain writes the blocks from genesis on, as far as there are any.
func exportChain(ctx context.Context, w io.Writer, net *consensus.Network, certificates []consensus.Certificate, blockAt func(height uint32) (*types.Block, bool, error)) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	e := json.NewEncoder(buffered)
	head := exportHead{Network: describeNetwork(net), Certificates: make([]string, len(certificates))}
	slices.SortFunc(certificates, func(a, b consensus.Certificate) int { return cmp.Compare(a.Target.Height, b.Target.Height) })
	for i := range certificates {
		head.Certificates[i] = hex.EncodeToString(certificates[i].AppendTo(nil))
	}
	if err := e.Encode(head); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	for height := uint32(0); ctx.Err() == nil; height++ {
		b, ok, err := blockAt(height)
		if err != nil {
			return fmt.Errorf("read block %d: %w", height, err)
		}
		if !ok {
			if err := buffered.Flush(); err != nil {
				return fmt.Errorf("write export: %w", err)
			}
			return nil
		}
		line := exportBlock{
			block:       describe(net, height, &b.SignedHeader),
			Header:      hex.EncodeToString(b.Header.Bytes()),
			VchBlockSig: hex.EncodeToString(b.VchBlockSig),
		}
		for _, tx := range b.Transactions {
			line.Tx = append(line.Tx, hex.EncodeToString(tx.Bytes()))
		}
		if err := e.Encode(line); err != nil {
			return fmt.Errorf("write export: %w", err)
		}
	}
	return ctx.Err()
}

func blockAtHeight(s *store.Store, height uint32) (*types.Block, bool, error) {
	id, ok, err := s.BestID(height)
	if err != nil || !ok {
		return nil, false, err
	}
	return s.Block(id)
}

func describeNetwork(net *consensus.Network) exportNetwork {
	e := exportNetwork{
		ID: net.ID, Name: net.Name, N: net.N, IntervalSeconds: net.IntervalSeconds,
		SlotOpenSeconds: net.SlotOpenSeconds, SlotCloseSeconds: net.SlotCloseSeconds,
		RankStepSeconds: net.RankStepSeconds, HalfLifeSeconds: net.HalfLifeSeconds,
		PowLimitBits: net.PowLimitBits, Subsidy: net.Subsidy, HalvingInterval: net.HalvingInterval,
		CoinbaseMaturity: net.CoinbaseMaturity, MaxBlockBytes: net.MaxBlockBytes,
		MaxSigOps: net.MaxSigOps, MaxDataBytes: net.MaxDataBytes, Parameters: hex.EncodeToString(net.Encode()),
	}
	for _, k := range net.Validators {
		e.Validators = append(e.Validators, exportValidator{k.Algorithm.String(), hex.EncodeToString(k.Point[:])})
	}
	return e
}
