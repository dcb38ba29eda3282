package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/proof"
)

func newAuthority() *cobra.Command {
	c := &cobra.Command{
		Use:   "authority",
		Short: "Change the validators: propose, sign, submit",
		Long: `Put another set of validator keys in the place of the one in force: add, remove or
replace a key, or hand authority over. A majority of the validators signs. One
officer proposes and sends the file to the others; each inspects and signs a
copy; anybody combines the copies and submits them. docs/authority.md has the
steps.`,
	}
	c.AddCommand(newAuthorityShow(), newAuthorityPropose(), newAuthorityInspect(), newAuthoritySign(), newAuthorityCombine(), newAuthoritySubmit())
	return c
}

// authorityConfigFlag is the configuration that most of these commands need.
func authorityConfigFlag(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "config", configs.FileName, "configuration file")
}

// loadAuthority reads a configuration, and its network.
func loadAuthority(file string) (configs.Config, *consensus.Network, error) {
	c, err := configs.Load(file)
	if err != nil {
		return c, nil, err
	}
	net, err := configs.LoadNetwork(c.NetworkName())
	return c, net, err
}

// askAuthority reads a configuration and asks its node.
func askAuthority(ctx context.Context, file string) (*consensus.Network, *nodeRPC, authorityView, error) {
	c, net, err := loadAuthority(file)
	if err != nil {
		return nil, nil, authorityView{}, err
	}
	rpc, err := newNodeRPC(&c)
	if err != nil {
		return nil, nil, authorityView{}, err
	}
	v, err := viewAuthority(ctx, rpc, net)
	return net, rpc, v, err
}

func newAuthorityShow() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:     "show",
		Short:   "Show the validators, what a change takes, and a change under way",
		Example: "  qcity authority show --config qcity.toml\n  qcity authority show --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			net, _, v, err := askAuthority(cmd.Context(), file)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]any{
					"network": net.ID, "networkName": net.Name, "height": v.Height, "certified": v.Certified, "final": v.Final,
					"current": v.show(&v.Set), "next": v.showNext(),
				})
			}
			return v.print(cmd.OutOrStdout(), net)
		},
	}
	authorityConfigFlag(c, &file)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// edits are the changes to a set that flags ask for.
type edits struct {
	set                          string
	add, remove, replace, proofs []string
}

func newAuthorityPropose() *cobra.Command {
	var file, reason, out string
	var e edits
	var asJSON bool
	c := &cobra.Command{
		Use:   "propose",
		Short: "Write a proposal for another set of validators",
		Long: `Write a proposal, which holds the set in force as the node has it, the new set, a
proof of possession of each new key, and no signature yet. Nothing is sent
anywhere. Each new key's holder makes its proof with ` + "`qcity key prove`" + `.

Give the differences, or with --set the whole new set as a file with a key on each
line, in order, and with --proof the proofs of its new keys. A set has an odd
number of keys.`,
		Example: `  qcity authority propose --replace 3=new.proof --reason "token of 3 lost" --out change.json
  qcity authority propose --add six.proof --add seven.proof --reason "two more" --out change.json
  qcity authority propose --remove 3 --remove 4 --reason "two retire" --out change.json
  qcity authority propose --set keys.txt --proof six.proof --reason "new order" --out change.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			net, _, v, err := askAuthority(cmd.Context(), file)
			if err != nil {
				return err
			}
			if v.Next != nil {
				return fmt.Errorf("set %d follows set %d already: wait until it is in force, `qcity authority show` says how far it is", v.Next.Number, v.Set.Number)
			}
			keys, proofs, err := e.apply(&v.Set)
			if err != nil {
				return err
			}
			p, err := authority.Propose(net, authority.Chain{Current: v.Set, Disabled: v.Disabled, Tip: v.Height}, keys, proofs, reason, time.Now())
			if err != nil {
				return forPerson(err)
			}
			if err := createProposal(out, p); err != nil {
				return err
			}
			return printProposal(cmd.OutOrStdout(), net, p, asJSON, fmt.Sprintf("Wrote %s. Send it to the other validators' officers; tell them the fingerprint by another way.", out))
		},
	}
	authorityConfigFlag(c, &file)
	f := c.Flags()
	f.StringArrayVar(&e.add, "add", nil, "proof of a key to add at the end (repeatable)")
	f.StringArrayVar(&e.remove, "remove", nil, "number or key of a validator to remove (repeatable)")
	f.StringArrayVar(&e.replace, "replace", nil, "NUMBER=PROOF: hand a validator over to another key (repeatable)")
	f.StringVar(&e.set, "set", "", "file with the keys of the new set")
	f.StringArrayVar(&e.proofs, "proof", nil, "proof of a new key of --set (repeatable)")
	f.StringVar(&reason, "reason", "", "why, in one line, for those who sign")
	f.StringVar(&out, "out", "", "file to write; it must not exist")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	must(c.MarkFlagRequired("reason"))
	must(c.MarkFlagRequired("out"))
	return c
}

// apply returns the new set and the proofs it needs.
func (e *edits) apply(set *consensus.ValidatorSet) (keys []types.PublicKey, proofs []proof.Proof, err error) {
	if e.set != "" {
		if len(e.add)+len(e.remove)+len(e.replace) > 0 {
			return nil, nil, errors.New("--set is the whole new set: leave out --add, --remove and --replace")
		}
		if keys, err = readSetKeys(e.set); err != nil {
			return nil, nil, err
		}
		for _, path := range e.proofs {
			p, err := readPossession(path)
			if err != nil {
				return nil, nil, err
			}
			proofs = append(proofs, p)
		}
		return keys, proofs, nil
	}
	if len(e.proofs) > 0 {
		return nil, nil, errors.New("--proof goes with --set: --add and --replace name proofs themselves")
	}
	keys = slices.Clone(set.Keys)
	for _, text := range e.replace {
		who, path, ok := strings.Cut(text, "=")
		i, err := validatorIndex(set, who)
		if err != nil || !ok {
			return nil, nil, errors.Join(fmt.Errorf("--replace %s: want NUMBER=PROOF, for example 3=new.proof", text), err)
		}
		p, err := readPossession(path)
		if err != nil {
			return nil, nil, err
		}
		keys[i], proofs = p.Key, append(proofs, p)
	}
	for _, text := range e.remove {
		i, err := validatorIndex(set, text)
		if err != nil {
			return nil, nil, fmt.Errorf("--remove %s: %w", text, err)
		}
		if keys[i] != set.Keys[i] {
			return nil, nil, fmt.Errorf("--remove %s: --replace hands that validator over", text)
		}
		keys[i] = types.PublicKey{} // numbers are those of the set in force, until all are gone
	}
	keys = slices.DeleteFunc(keys, func(k types.PublicKey) bool { return k == types.PublicKey{} })
	for _, path := range e.add {
		p, err := readPossession(path)
		if err != nil {
			return nil, nil, err
		}
		keys, proofs = append(keys, p.Key), append(proofs, p)
	}
	return keys, proofs, nil
}

// validatorIndex finds a validator by number or key.
func validatorIndex(set *consensus.ValidatorSet, text string) (int, error) {
	i, err := strconv.Atoi(text)
	if err != nil {
		i = slices.IndexFunc(set.Keys, func(k types.PublicKey) bool { return k.String() == text })
	}
	if i < 0 || i >= len(set.Keys) {
		return 0, fmt.Errorf("set %d has no such validator: give a number from 0 to %d, or its key", set.Number, len(set.Keys)-1)
	}
	return i, nil
}

func readSetKeys(path string) (keys []types.PublicKey, err error) {
	text, err := readSmallFile(path, authority.MaxSize)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		var k types.PublicKey
		if err := k.UnmarshalText([]byte(line)); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		keys = append(keys, k)
	}
	return keys, lines.Err()
}

func readPossession(path string) (proof.Proof, error) {
	text, err := readSmallFile(path, proof.MaxSize)
	if err != nil {
		return proof.Proof{}, err
	}
	p, err := proof.Parse(text)
	if err != nil {
		return proof.Proof{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// readSmallFile reads at most limit bytes and one.
func readSmallFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// readProposal reads a proposal for this network and checks all of it.
func readProposal(path string, net *consensus.Network) (*authority.Proposal, error) {
	text, err := readSmallFile(path, authority.MaxSize)
	if err != nil {
		return nil, err
	}
	p, err := authority.Parse(text)
	if err == nil {
		err = p.Check(net)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, forPerson(err))
	}
	return p, nil
}

// createProposal writes a new file.
func createProposal(path string, p *authority.Proposal) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists: choose another name for --out", path)
	}
	return durable.WriteFile(path, p.Encode(), 0o644)
}

// printProposal says what a proposal is, or its inspection as JSON.
func printProposal(w io.Writer, net *consensus.Network, p *authority.Proposal, asJSON bool, last string) error {
	in := authority.Inspect(net, p)
	if asJSON {
		return writeJSON(w, in)
	}
	text := in.String()
	if last != "" {
		text += "\n" + last + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// forPerson marks what trying again cannot mend.
func forPerson(err error) error {
	var refusal *authority.Refusal
	if errors.As(err, &refusal) || errors.Is(err, authority.ErrIncomplete) || errors.Is(err, authority.ErrDifferent) {
		return needsPerson{err}
	}
	return err
}

func newAuthorityInspect() *cobra.Command {
	var file, network string
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Say in plain words what a proposal does and who has signed",
		Long: `Say in plain words what a proposal does, what the chain makes of it and when, who
has signed and who is missing. All of the file is checked: keys, proofs, signatures
and heights. No node is needed: what is in force now, ` + "`qcity authority show`" + ` says.`,
		Example: "  qcity authority inspect change.json\n  qcity authority inspect change.json --network mainnet.toml --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			net, err := authorityNetwork(file, network)
			if err != nil {
				return err
			}
			p, err := readProposal(args[0], net)
			if err != nil {
				return err
			}
			return printProposal(cmd.OutOrStdout(), net, p, asJSON, "")
		},
	}
	authorityConfigFlag(c, &file)
	c.Flags().StringVar(&network, "network", "", "network name or file, in place of a configuration")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// authorityNetwork returns the network named, or that of a configuration.
func authorityNetwork(file, network string) (*consensus.Network, error) {
	if network != "" {
		return configs.LoadNetwork(network)
	}
	_, net, err := loadAuthority(file)
	return net, err
}

func newAuthorityCombine() *cobra.Command {
	var file, network, out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "combine FILE…",
		Short: "Put the signatures of several copies of a proposal into one",
		Long: `Put the signatures of several copies of one proposal into one file. The order does
not matter. Copies of different proposals and signatures that do not verify are
refused.`,
		Example: "  qcity authority combine from-0.json from-2.json from-4.json --out complete.json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			net, err := authorityNetwork(file, network)
			if err != nil {
				return err
			}
			var copies []*authority.Proposal
			for _, path := range args {
				p, err := readProposal(path, net)
				if err != nil {
					return err
				}
				copies = append(copies, p)
			}
			all, err := authority.Combine(copies[0], copies[1:]...)
			if err != nil {
				return forPerson(err)
			}
			if err := createProposal(out, all); err != nil {
				return err
			}
			in := authority.Inspect(net, all)
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), in)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Wrote %s from %d copies. %s\n", out, len(args), in.Progress())
			return err
		},
	}
	authorityConfigFlag(c, &file)
	c.Flags().StringVar(&network, "network", "", "network name or file, in place of a configuration")
	c.Flags().StringVar(&out, "out", "", "file to write; it must not exist")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	must(c.MarkFlagRequired("out"))
	return c
}
