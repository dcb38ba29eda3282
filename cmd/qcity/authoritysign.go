package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/authority"
)

// setChangeSigner signs set changes, past a journal.
type setChangeSigner interface {
	SignSetChange(ctx context.Context, r authority.SetChangeRequest) (signer.Response, error)
}

// authoritySign is one run of the command.
type authoritySign struct {
	file, key, answers, out string
	direct, asJSON          bool

	in       io.Reader
	terminal bool // in is one
	talk     io.Writer
	// connect returns the signer, and what ends the connection.
	connect func(ctx context.Context) (setChangeSigner, func() error, error)
}

func newAuthoritySign() *cobra.Command {
	s := authoritySign{in: os.Stdin}
	c := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a proposal with a validator's key",
		Long: `Sign a proposal with the key of a validator that this box holds. It shows what the
proposal does and asks two people: both say their name, the first types the new
set's fingerprint as the proposer told it, the second confirms. If the box's own
key leaves the set, or authority is handed over, that is confirmed by itself.

The running signer signs; it asks the HSM only after its journal has noted that
this key signs this set, and no other, of this number. With --direct no daemon
runs: this command opens the journal and logs in to the HSM itself.

--answers FILE takes the answers from a JSON file; the signature is then marked
as scripted:
  {"people": ["Ada Adler", "Bob Berg"], "fingerprint": "aabf 5e4b …",
   "removeOwn": false, "handOver": false}`,
		Example: `  qcity authority sign change.json
  qcity authority sign change.json --key 3 --out signed-by-3.json
  qcity authority sign change.json --direct --answers answers.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, net, err := loadAuthority(s.file)
			if err != nil {
				return err
			}
			s.terminal, s.talk = term.IsTerminal(int(os.Stdin.Fd())), cmd.ErrOrStderr()
			s.connect = func(ctx context.Context) (setChangeSigner, func() error, error) {
				if s.direct {
					return openSigner(ctx, s.file)
				}
				return dialSigner(cfg.Path(cfg.Signer.Socket), net)
			}
			p, err := s.run(cmd.Context(), &cfg, net, args[0])
			if err != nil {
				return err
			}
			in := authority.Inspect(net, p)
			if s.asJSON {
				return writeJSON(cmd.OutOrStdout(), in)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Signed; wrote %s. %s\n", s.target(args[0]), in.Progress())
			return err
		},
	}
	authorityConfigFlag(c, &s.file)
	f := c.Flags()
	f.StringVar(&s.key, "key", "", "number or key of the validator, where the box holds several")
	f.StringVar(&s.answers, "answers", "", "file with the people's answers, in place of a terminal")
	f.StringVar(&s.out, "out", "", "file to write; by default the proposal itself")
	f.BoolVar(&s.direct, "direct", false, "open journal and HSM here; the signer must not be running")
	f.BoolVar(&s.asJSON, "json", false, "print JSON")
	return c
}

func (s *authoritySign) target(path string) string {
	if s.out != "" {
		return s.out
	}
	return path
}

// run signs the proposal at path and returns it with the signature.
func (s *authoritySign) run(ctx context.Context, cfg *configs.Config, net *consensus.Network, path string) (*authority.Proposal, error) {
	p, err := readProposal(path, net)
	if err != nil {
		return nil, err
	}
	index, err := s.choose(cfg, p)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(p.Signatures, func(have authority.Signature) bool { return have.Index == index }) {
		return nil, fmt.Errorf("validator %d has signed %s already", index, path)
	}
	if s.out != "" {
		if _, err := os.Lstat(s.out); err == nil {
			return nil, fmt.Errorf("%s exists: choose another name for --out", s.out)
		}
	}
	request := p.Request(index, authority.Authorisation{})
	if request.Disabled, err = s.compare(ctx, cfg, net, p); err != nil {
		return nil, err
	}
	fmt.Fprintf(s.talk, "%s\nThis signs as validator %d, key %s.\n", authority.Inspect(net, p), index, p.Current.Keys[index])
	if request.Authorisation, err = s.authorise(ctx, &request); err != nil {
		return nil, err
	}
	if _, _, err := request.Check(net); err != nil {
		return nil, forPerson(err)
	}
	sig, err := s.ask(ctx, request)
	if err != nil {
		return nil, err
	}
	a := request.Authorisation
	signed, err := p.With(authority.Signature{Index: index, Signature: sig, People: a.People, Scripted: a.Scripted})
	if err != nil {
		return nil, err
	}
	return signed, durable.WriteFile(s.target(path), signed.Encode(), 0o644)
}

// signerPatience is how long the signer has: it may be restarting, and its HSM
// may be slow.
const signerPatience = 30 * time.Second

func (s *authoritySign) ask(ctx context.Context, r authority.SetChangeRequest) (sig [64]byte, err error) {
	signs, end, err := s.connect(ctx)
	if err != nil {
		return sig, err
	}
	asking, cancel := context.WithTimeout(ctx, signerPatience)
	defer cancel()
	resp, err := signs.SignSetChange(asking, r)
	if asking.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w; start it, or use --direct. If it was asked, ask again for the same proposal", err)
	}
	err = errors.Join(err, end())
	var refusal *signer.Refusal
	if errors.As(err, &refusal) {
		return sig, needsPerson{err}
	}
	if err != nil {
		return sig, err
	}
	block, err := resp.BlockSig()
	return block.Signature, err
}

// choose finds the validator of the set in force whose key this box holds.
func (s *authoritySign) choose(cfg *configs.Config, p *authority.Proposal) (uint8, error) {
	var mine []int
	for i, k := range cfg.Signer.Keys {
		var key types.PublicKey
		if err := key.UnmarshalText([]byte(k.PublicKey)); err != nil {
			return 0, fmt.Errorf("signer.keys[%d]: %w", i, err)
		}
		if at := slices.Index(p.Current.Keys, key); at >= 0 {
			mine = append(mine, at)
		}
	}
	slices.Sort(mine)
	if s.key != "" {
		set := consensus.ValidatorSet{Number: p.Current.Number, Keys: p.Current.Keys}
		i, err := validatorIndex(&set, s.key)
		if err != nil {
			return 0, fmt.Errorf("--key %s: %w", s.key, err)
		}
		if !slices.Contains(mine, i) {
			return 0, fmt.Errorf("--key %s: this box holds the keys of the validators %v", s.key, mine)
		}
		return uint8(i), nil
	}
	switch len(mine) {
	case 0:
		return 0, fmt.Errorf("this box holds the key of no validator of set %d: run this where one is, with --config", p.Current.Number)
	case 1:
		return uint8(mine[0]), nil
	}
	return 0, fmt.Errorf("this box holds the keys of the validators %v: say which signs, with --key", mine)
}

// compare holds the proposal to the chain, if the box's node runs. It returns the
// disabled keys, as the chain has them or else the proposal.
func (s *authoritySign) compare(ctx context.Context, cfg *configs.Config, net *consensus.Network, p *authority.Proposal) ([]types.PublicKey, error) {
	rpc, err := newNodeRPC(cfg)
	if err != nil {
		return nil, err
	}
	v, err := viewAuthority(ctx, rpc, net)
	if errors.Is(err, errNoNode) {
		fmt.Fprintf(s.talk, "NOT COMPARED with the chain, as this box's node does not answer: check with `qcity authority show` elsewhere that set %d, %s, is in force.\n\n", p.Current.Number, p.Current.ID)
		return p.Disabled, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]types.PublicKey{}, v.Disabled...), stillCurrent(&v, p)
}

// stillCurrent refuses a proposal that the chain would not carry now.
func stillCurrent(v *authorityView, p *authority.Proposal) error {
	switch {
	case v.Set.ID() != p.Current.ID:
		return needsPerson{fmt.Errorf("the proposal changes set %d, %s, but set %d, %s, is in force: make it anew", p.Current.Number, p.Current.ID, v.Set.Number, v.Set.ID())}
	case v.Next != nil && v.Next.ID() != p.Next().ID():
		return needsPerson{fmt.Errorf("another change is under way, to set %d, %s: this proposal came too late", v.Next.Number, v.Next.ID())}
	}
	for _, k := range v.Disabled {
		if slices.Contains(p.Keys, k) {
			return needsPerson{fmt.Errorf("key %s of the new set was disabled since: make the proposal anew", k)}
		}
	}
	return nil
}

// answerFile is what --answers names.
type answerFile struct {
	People      []string `json:"people"`
	Fingerprint string   `json:"fingerprint"`
	RemoveOwn   bool     `json:"removeOwn"`
	HandOver    bool     `json:"handOver"`
}

func (s *authoritySign) authorise(ctx context.Context, r *authority.SetChangeRequest) (authority.Authorisation, error) {
	if s.answers == "" {
		if !s.terminal {
			return authority.Authorisation{}, needsPerson{errors.New("two people must confirm this at a terminal: standard input is none (or give their answers with --answers)")}
		}
		return s.converse(ctx, r)
	}
	text, err := readSmallFile(s.answers, 16<<10)
	if err != nil {
		return authority.Authorisation{}, err
	}
	var a answerFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		return authority.Authorisation{}, fmt.Errorf("--answers %s: %w", s.answers, err)
	}
	return authority.Authorisation{People: a.People, Fingerprint: a.Fingerprint, RemoveOwn: a.RemoveOwn, HandOver: a.HandOver, Scripted: true}, nil
}

// The words that confirm what needs a confirmation of its own.
const (
	confirmSign      = "SIGN"
	confirmRemoveOwn = "REMOVE OWN KEY"
	confirmHandOver  = "HAND OVER"
)

// converse asks two people.
func (s *authoritySign) converse(ctx context.Context, r *authority.SetChangeRequest) (a authority.Authorisation, err error) {
	lines := bufio.NewReader(s.in)
	ask := func(format string, args ...any) (text string) {
		if err == nil {
			fmt.Fprintf(s.talk, format+" ", args...)
			text, err = readAnswer(ctx, lines)
		}
		return text
	}
	confirm := func(word, format string, args ...any) bool {
		if text := ask(format, args...); err == nil && text != word {
			err = needsPerson{fmt.Errorf("not signed: %q was to be typed", word)}
		}
		return err == nil
	}
	first := ask("\nFirst person, your name:")
	a.Fingerprint = ask("%s, type the new set's fingerprint as the proposer told it to you:", first)
	if r.RemovesOwn() {
		a.RemoveOwn = confirm(confirmRemoveOwn, "This key leaves the set and cannot sign any more then. Type %s:", confirmRemoveOwn)
	}
	if r.HandsOver() {
		a.HandOver = confirm(confirmHandOver, "The keys that stay are no majority of the new set. Type %s:", confirmHandOver)
	}
	second := ask("Second person, your name:")
	confirm(confirmSign, "%s, you have read what it does and compared the fingerprint. Type %s:", second, confirmSign)
	a.People = []string{first, second}
	return a, err
}

// readAnswer reads a line, or ends with ctx.
func readAnswer(ctx context.Context, lines *bufio.Reader) (string, error) {
	text, err := await(ctx, func() (string, error) { return lines.ReadString('\n') })
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("not signed, as no answer came: %w", err)
	}
	return strings.TrimSpace(text), err
}

// dialSigner returns the running daemon.
func dialSigner(socket string, net *consensus.Network) (setChangeSigner, func() error, error) {
	client := signer.NewClient(socket, net.ID)
	return client, client.Close, nil
}

// openSigner runs the daemon in this process, on a socket that nobody else
// knows: journal, PINs and HSM are then used exactly as they always are.
func openSigner(ctx context.Context, file string) (setChangeSigner, func() error, error) {
	net, cfg, err := signerConfig(file)
	if err != nil {
		return nil, nil, needsPerson{err}
	}
	dir, err := os.MkdirTemp("", "qcity-authority-") // mode 0700, as a socket's folder must be
	if err != nil {
		return nil, nil, err
	}
	cfg.Socket = filepath.Join(dir, "signer.sock")
	d, err := signer.Open(ctx, cfg, net, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		err = errors.Join(err, os.RemoveAll(dir))
		if signer.IsTerminal(err) {
			return nil, nil, needsPerson{err}
		}
		return nil, nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- d.Run(running) }()
	end := func() error {
		stop()
		return errors.Join(<-done, os.RemoveAll(dir))
	}
	signs, hangUp, err := dialSigner(cfg.Socket, net)
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return signs, func() error { return errors.Join(hangUp(), end()) }, nil
}
