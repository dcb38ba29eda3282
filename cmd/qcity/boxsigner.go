package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qcitycoin.org/qcity/internal/seat"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/link"
)

// hasSigner: the node has a signer behind its port or behind a socket.
func (b *box) hasSigner() bool { return b.cfg.Signer.Listen != "" || b.cfg.Signer.Socket != "" }

// openLink prepares the port that signers dial, if there is one.
func (b *box) openLink(file string) error {
	if b.signerListener == nil {
		return nil
	}
	id, err := link.LoadIdentity(b.cfg.Path(b.cfg.Signer.Identity))
	if err != nil {
		return fmt.Errorf("signer.identity in %s: %w (`qcity node identity` makes one)", file, err)
	}
	pins, err := parsePins(b.cfg.Signer.Pins)
	if err != nil {
		return fmt.Errorf("signer.pins in %s: %w", file, err)
	}
	b.link = link.NewListener(b.signerListener, link.ListenerConfig{Identity: id, Pins: pins, Log: b.log.With("component", "signer-link")})
	return nil
}

func parsePins(texts []string) ([]link.Pin, error) {
	pins := make([]link.Pin, len(texts))
	for i, text := range texts {
		if err := pins[i].UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
	}
	return pins, nil
}

// newSigners returns clients of their own to all signers: calls on one client wait
// for each other.
func (b *box) newSigners() []*signer.Client {
	var list []*signer.Client
	if b.link != nil {
		where := "the port " + b.link.Addr().String() + " that it should dial"
		for _, dial := range b.link.Dials() {
			list = append(list, signer.NewDialClient(where, dial, b.net.ID))
		}
	} else {
		for _, socket := range append([]string{b.cfg.Signer.Socket}, b.cfg.Signer.Sockets...) {
			list = append(list, signer.NewClient(b.cfg.Path(socket), b.net.ID))
		}
	}
	b.signers = append(b.signers, list...)
	return list
}

func (b *box) newSigner() *signerGroup {
	g := &signerGroup{network: b.net, late: make(map[int]bool)}
	for _, c := range b.newSigners() {
		g.members = append(g.members, slotSigner{c})
	}
	return g
}

// slotSigner lets the node ask the signer daemon.
type slotSigner struct{ client *signer.Client }

// signTimeout bounds one attempt: a hung HSM is cut off by the daemon long before.
const signTimeout = 10 * time.Second

func (s slotSigner) Keys(ctx context.Context) ([]types.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	st, err := s.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	return readyKeys(&st), nil
}

func readyKeys(st *signer.Status) []types.PublicKey {
	var ready []types.PublicKey
	for _, k := range st.Keys {
		if k.Ready {
			ready = append(ready, k.PublicKey)
		}
	}
	return ready
}

func (s slotSigner) Tell(ctx context.Context, tip uint32, shown []node.Shown) error {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	return s.client.Seen(ctx, seat.Seen(tip, shown))
}

func (s slotSigner) Anchor(ctx context.Context, _ types.PublicKey) (*consensus.AuditAnchor, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	st, err := s.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	return st.Audit, nil
}

func (s slotSigner) SignSlot(ctx context.Context, p *consensus.Proposal) ([64]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	return seat.Signature(s.client.SignSlot(ctx, signer.NewRequest(p)))
}

func (s slotSigner) Attest(ctx context.Context, b *consensus.Ballot) ([64]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	return seat.Signature(s.client.Attest(ctx, signer.NewVoteRequest(b)))
}

// signerStatus returns the monitor's view of the signers. A key counts once,
// however many of them have it.
func signerStatus(clients []*signer.Client) func(context.Context) (signerState, error) {
	return func(ctx context.Context) (signerState, error) {
		state := signerState{}
		keys := make(map[types.PublicKey]bool) // whether it is ready
		var errs []error
		for _, c := range clients {
			st, err := c.Status(ctx)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			state.connected = true
			for _, k := range st.Keys {
				keys[k.PublicKey] = keys[k.PublicKey] || k.Ready && st.Halt == nil
				if !k.Ready && state.err == "" {
					state.err = fmt.Sprintf("validator %d: %s", k.Index, k.Error)
				}
			}
			if st.Halt != nil && state.err == "" {
				state.err = "signing is halted: " + st.Halt.Reason
			}
		}
		if !state.connected {
			return state, errors.Join(errs...)
		}
		if len(errs) > 0 && state.err == "" {
			state.err = errors.Join(errs...).Error()
		}
		for k, ready := range keys {
			if ready {
				state.ready = append(state.ready, k)
			}
		}
		state.total = len(keys)
		return state, nil
	}
}
