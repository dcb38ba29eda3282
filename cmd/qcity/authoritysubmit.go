package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
)

// pollEvery is how often --wait asks the node.
const pollEvery = 2 * time.Second

// submission is a complete proposal on its way to a node.
type submission struct {
	p    *authority.Proposal
	hex  string
	ask  func(ctx context.Context) (authorityView, error)
	send func(ctx context.Context, hex string) error
	tick <-chan time.Time
	says io.Writer
}

// The stages of a change, as --json names them.
const (
	stageSubmitted = "submitted" // the node has it
	stageCarried   = "carried"   // a block has it, both sets vote
	stageActive    = "active"    // the new set is in force
)

// progress is where a change stands.
type progress struct {
	Stage   string     `json:"stage"`
	Height  uint32     `json:"height"`
	Carrier uint32     `json:"carrier,omitempty"`
	Number  uint32     `json:"number"` // of the new set
	ID      types.Hash `json:"id"`     // of the new set
}

func newAuthoritySubmit() *cobra.Command {
	var file string
	var wait, asJSON bool
	c := &cobra.Command{
		Use:   "submit FILE",
		Short: "Hand a complete proposal to the node, and follow it until it is in force",
		Long: `Hand a proposal with enough signatures to the box's node, which checks it and has
the next slot that its own validator signs carry it. Submit it on several boxes
to have it carried sooner: whichever signs first does, and the rest is no harm.

With --wait it says what happens until the new set is in force, and hands the
change in again should the node be restarted meanwhile. Ctrl-C ends the waiting
only.`,
		Example: "  qcity authority submit complete.json\n  qcity authority submit complete.json --wait",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			net, rpc, _, err := askAuthority(cmd.Context(), file)
			if err != nil {
				return err
			}
			p, err := readProposal(args[0], net)
			if err != nil {
				return err
			}
			ticker := time.NewTicker(pollEvery)
			defer ticker.Stop()
			s := submission{
				p: p, tick: ticker.C, says: cmd.ErrOrStderr(),
				ask:  func(ctx context.Context) (authorityView, error) { return viewAuthority(ctx, rpc, net) },
				send: func(ctx context.Context, hex string) error { return rpc.call(ctx, nil, "submitsetchange", hex) },
			}
			at, err := s.run(cmd.Context(), wait)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), at)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), at.String())
			return err
		},
	}
	authorityConfigFlag(c, &file)
	c.Flags().BoolVar(&wait, "wait", false, "wait until the new set is in force")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p *progress) String() string {
	switch p.Stage {
	case stageActive:
		return fmt.Sprintf("Set %d, %s, is in force at height %d.", p.Number, p.ID, p.Height)
	case stageCarried:
		return fmt.Sprintf("Carried by slot %d: both sets vote. Set %d takes over as `qcity authority show` says.", p.Carrier, p.Number)
	}
	return fmt.Sprintf("The node has the change to set %d. It is carried by the next slot that this box's validator signs; submit it on other boxes as well, or follow it with --wait.", p.Number)
}

// run submits, and with wait follows until the end.
func (s *submission) run(ctx context.Context, wait bool) (progress, error) {
	c, err := s.p.Change()
	if err != nil {
		return progress{}, forPerson(err)
	}
	s.hex = hex.EncodeToString(c.AppendTo(nil))
	at, err := s.step(ctx)
	for last := ""; err == nil && wait && at.Stage != stageActive; at, err = s.next(ctx, at) {
		if text := s.line(ctx, &at); text != last {
			fmt.Fprintf(s.says, "height %d: %s\n", at.Height, text)
			last = text
		}
	}
	return at, err
}

// next waits and looks again. A node that is away for a while comes back.
func (s *submission) next(ctx context.Context, at progress) (progress, error) {
	select {
	case <-ctx.Done():
		return at, ctx.Err()
	case <-s.tick:
	}
	now, err := s.step(ctx)
	if errors.Is(err, errNoNode) {
		return at, nil
	}
	return now, err
}

// step looks where the change stands, and hands it in while it is not carried:
// a node forgets it when it is restarted.
func (s *submission) step(ctx context.Context) (progress, error) {
	next := s.p.Next()
	v, err := s.ask(ctx)
	at := progress{Stage: stageSubmitted, Height: v.Height, Number: next.Number, ID: next.ID()}
	if err != nil {
		return at, err
	}
	if v.Set.ID() == next.ID() {
		at.Stage = stageActive
		return at, nil
	}
	if err := stillCurrent(&v, s.p); err != nil {
		return at, err
	}
	if v.Next != nil {
		at.Stage, at.Carrier = stageCarried, v.Pending.Carrier.Height
		return at, nil
	}
	if err := s.send(ctx, s.hex); err != nil {
		var refused *rpcError
		if errors.As(err, &refused) {
			return at, needsPerson{fmt.Errorf("the node refuses the change: %w", err)}
		}
		return at, err
	}
	return at, nil
}

// line says what is waited for.
func (s *submission) line(ctx context.Context, at *progress) string {
	if at.Stage != stageCarried {
		return "submitted; waiting for a slot that carries it"
	}
	v, err := s.ask(ctx)
	if err != nil || v.Next == nil {
		return "carried"
	}
	return v.handover()
}
