package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/authority"
)

// madeSigner is a signer behind a real socket, with a made-up state.
type madeSigner struct {
	status signer.Status
	err    error // of signatures
	asked  int
	told   int
	name   byte // first byte of its signatures
}

func (s *madeSigner) answer(index uint8) (signer.Response, error) {
	s.asked++
	sig := make([]byte, 64)
	sig[0] = s.name
	return signer.Response{Index: index, Signature: sig}, s.err
}

func (s *madeSigner) SignSlot(_ context.Context, r signer.Request) (signer.Response, error) {
	return s.answer(r.Index)
}

func (s *madeSigner) Attest(_ context.Context, r signer.VoteRequest) (signer.Response, error) {
	return s.answer(r.Index)
}

func (s *madeSigner) SignSetChange(context.Context, authority.SetChangeRequest) (signer.Response, error) {
	return signer.Response{}, errors.New("not asked for here")
}

func (s *madeSigner) Seen(context.Context, signer.SeenRequest) error { s.told++; return nil }

func (s *madeSigner) Halt(context.Context, string, string) error { return nil }

func (s *madeSigner) Resume(context.Context, string) (bool, error) { return false, nil }

func (s *madeSigner) SlotRecord(context.Context, uint32) (signer.SlotRecord, bool, error) {
	return signer.SlotRecord{}, false, nil
}

func (s *madeSigner) Status(context.Context) signer.Status { return s.status }

// group returns the group of these signers, all of which listen but those that
// are nil.
func group(t *testing.T, net *consensus.Network, members ...*madeSigner) *signerGroup {
	t.Helper()
	g := &signerGroup{network: net, late: make(map[int]bool)}
	for _, m := range members {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(dir, "s")
		if m != nil {
			s := signer.NewServer(signer.ServerConfig{Socket: socket, Network: net.ID, Backend: m, Log: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			t.Cleanup(func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		}
		c := signer.NewClient(socket, net.ID)
		t.Cleanup(func() { c.Close() })
		if m != nil {
			if _, err := c.Status(t.Context()); err != nil { // once it listens
				t.Fatal(err)
			}
		}
		g.members = append(g.members, slotSigner{c})
	}
	return g
}

// TestSignerGroup: what a key is to sign goes to a signer that has it, the leading
// one first, and to its stand-by when that fails; signers that are away or halted
// count as having none.
func TestSignerGroup(t *testing.T) {
	o := newOffice(t)
	keys := o.net.Validators
	state := func(role string, keys ...types.PublicKey) signer.Status {
		st := signer.Status{DaemonStatus: signer.DaemonStatus{Role: role}}
		for _, k := range keys {
			st.Keys = append(st.Keys, signer.KeyStatus{PublicKey: k, Ready: true})
		}
		return st
	}
	standBy := &madeSigner{name: 1, status: state(signer.RoleStandBy, keys[0])}
	leading := &madeSigner{name: 2, status: state(signer.RoleLeading, keys[0])}
	other := &madeSigner{name: 3, status: state(signer.RoleOnly, keys[1], keys[2])}
	other.status.Keys[1].Ready = false
	halted := &madeSigner{name: 4, status: state(signer.RoleOnly, keys[3])}
	halted.status.Halt = &signer.Halt{By: "kim"}
	g := group(t, o.net, standBy, leading, nil, other, halted)

	got, err := g.Keys(t.Context())
	if err != nil || len(got) != 2 || !slices.Contains(got, keys[0]) || !slices.Contains(got, keys[1]) {
		t.Fatalf("%v, %v", got, err)
	}
	ask := func(index uint8) (byte, error) {
		p := &consensus.Proposal{Index: index, CoinOnline: &types.Transaction{Inputs: []types.TxIn{{}}, Outputs: []types.TxOut{{}}}}
		sig, err := g.SignSlot(t.Context(), p)
		return sig[0], err
	}
	if by, err := ask(0); err != nil || by != 2 || standBy.asked != 0 {
		t.Fatalf("signed by %d, %v", by, err)
	}
	if by, err := ask(1); err != nil || by != 3 {
		t.Fatalf("signed by %d, %v", by, err)
	}
	if _, err := ask(2); err == nil || errors.Is(err, node.ErrRefused) {
		t.Fatalf("a key that is not ready: %v", err)
	}
	leading.err = &signer.Error{Kind: signer.ErrUnavailable, Detail: "token is away"}
	if by, err := ask(0); err != nil || by != 1 {
		t.Fatalf("signed by %d, %v", by, err)
	}
	standBy.err = &signer.Refusal{Rule: signer.RuleCluster, Detail: "the other one claimed it"}
	if _, err := ask(0); err == nil || errors.Is(err, node.ErrRefused) {
		t.Fatalf("the leading one's word counts: %v", err)
	}
	standBy.err = &signer.Refusal{Rule: signer.RuleUnseen}
	if _, err := ask(0); !errors.Is(err, node.ErrUntold) {
		t.Fatalf("one of them has to be told: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), statesTimeout)
	defer cancel()
	if err := g.Tell(ctx, 5, []node.Shown{{Key: keys[0]}}); err != nil || leading.told != 1 || standBy.told != 1 || other.told != 1 {
		t.Fatalf("told %d, %d, %d: %v", leading.told, standBy.told, other.told, err)
	}
	if _, err := group(t, o.net, nil).Keys(t.Context()); err == nil {
		t.Fatal("keys of nobody")
	}
}
