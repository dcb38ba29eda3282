package signer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/cluster"
)

// fakeClaims is a cluster in memory, shared by the boxes that hold it.
type fakeClaims struct {
	claims  map[string]cluster.Claim
	seals   map[string][64]byte
	marks   []cluster.Mark
	leading bool
	fails   error // of the next calls
}

func newFakeClaims() *fakeClaims {
	return &fakeClaims{claims: make(map[string]cluster.Claim), seals: make(map[string][64]byte), leading: true}
}

func name(c cluster.Claim) string { return fmt.Sprintf("%s %s %d", c.Kind, c.Key, c.Height) }

func (f *fakeClaims) Await(ctx context.Context, _ time.Duration) bool { return ctx.Err() == nil }

func (f *fakeClaims) Leading() bool { return f.leading }

func (f *fakeClaims) Known(context.Context) ([]cluster.Mark, error) { return f.marks, f.fails }

func (f *fakeClaims) Claim(_ context.Context, c cluster.Claim) (*[64]byte, error) {
	if f.fails != nil {
		return nil, f.fails
	}
	old, ok := f.claims[name(c)]
	if !ok {
		f.claims[name(c)] = c
		return nil, nil
	}
	if old.Digest != c.Digest {
		return nil, &cluster.Conflict{Claim: c, Winner: old.Digest}
	}
	if seal, ok := f.seals[name(c)]; ok {
		return &seal, nil
	}
	return nil, nil
}

func (f *fakeClaims) Seal(_ context.Context, c cluster.Claim, sig [64]byte) ([64]byte, error) {
	if f.fails != nil {
		return sig, f.fails
	}
	if old, ok := f.seals[name(c)]; ok {
		return old, nil
	}
	f.seals[name(c)] = sig
	return sig, nil
}

// pair are two boxes with the same keys and one cluster.
func pair(t *testing.T) (a, b *bench, shared *fakeClaims) {
	t.Helper()
	shared = newFakeClaims()
	boxes := [2]*bench{newBench(t), newBench(t)}
	for _, box := range boxes {
		box.service.claims = shared
	}
	return boxes[0], boxes[1], shared
}

// TestClusterOneSignature: of two boxes the first one's bytes are what both
// release, and what the other asks for differently is refused.
func TestClusterOneSignature(t *testing.T) {
	one, two, shared := pair(t)
	p := one.proposal(testSlot, 0, 1)
	first := one.mustSign(t, p)
	second := two.mustSign(t, p)
	if !second.Repeated || string(first.Signature) != string(second.Signature) || two.token.signed != 0 {
		t.Fatalf("two boxes released %x and %x", first.Signature, second.Signature)
	}
	third := two.mustSign(t, p)
	if string(third.Signature) != string(first.Signature) {
		t.Fatal("its own journal has another one")
	}
	q := two.proposal(2*testSlot, 0, 1)
	one.mustSign(t, q)
	_, err := two.sign(two.proposal(2*testSlot, 0, 2))
	wantRule(t, err, RuleCluster)
	if two.token.signed != 0 {
		t.Fatal("the token was asked")
	}
	// Both asked their tokens before either had sealed: the first seal is the one.
	r := one.proposal(3*testSlot, 0, 1)
	var rival Response
	one.token.before = func() error {
		one.token.before = nil
		rival = two.mustSign(t, r)
		return nil
	}
	got := one.mustSign(t, r)
	if string(got.Signature) != string(rival.Signature) || one.token.signed != 3 || two.token.signed != 1 {
		t.Fatalf("released %x and %x", got.Signature, rival.Signature)
	}
	e := one.voting()
	vote := e.ballot(e.at(0, 0), testSlot, 1, 1)
	v1, v2 := one.mustAttest(t, vote), two.mustAttest(t, vote)
	if string(v1.Signature) != string(v2.Signature) {
		t.Fatal("two votes")
	}
	if len(shared.claims) != 4 {
		t.Fatalf("%d claims", len(shared.claims))
	}
}

// TestClusterFailures: without an answer nothing is signed and the same may be
// asked again; a cluster that fell back halts the signer.
func TestClusterFailures(t *testing.T) {
	one, _, shared := pair(t)
	p := one.proposal(testSlot, 0, 1)
	shared.fails = &cluster.Error{Kind: cluster.ErrUnavailable, Detail: "no answer"}
	if _, err := one.sign(p); !errors.Is(err, ErrUnavailable) || one.token.signed != 0 {
		t.Fatalf("got %v", err)
	}
	shared.fails = nil
	one.token.before = func() error {
		one.token.before = nil
		shared.fails = &cluster.Error{Kind: cluster.ErrUnavailable, Detail: "no answer to the seal"}
		return nil
	}
	if _, err := one.sign(p); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("released without the cluster's seal: %v", err)
	}
	shared.fails = nil
	one.mustSign(t, p)
	shared.fails = &cluster.Error{Kind: cluster.ErrRolledBack, Detail: "fell back"}
	if _, err := one.sign(one.proposal(2*testSlot, 0, 1)); !errors.Is(err, ErrInternal) {
		t.Fatalf("got %v", err)
	}
	if h := one.service.Status(t.Context()).Halt; h == nil || !strings.Contains(h.Reason, "fell back") {
		t.Fatalf("%+v", h)
	}
}

// TestClusterKnown: that the chain shows what other boxes of the cluster signed
// is no reason to halt; that it shows more is.
func TestClusterKnown(t *testing.T) {
	one, _, shared := pair(t)
	key := one.keys[0].public
	shared.marks = []cluster.Mark{{Kind: cluster.Block, Key: key, Height: 5 * testSlot}, {Kind: cluster.Vote, Key: key, Height: 4 * testSlot}, {Kind: cluster.SetChange, Key: key, Height: 300}}
	say := func(block, vote uint32) *Halt {
		t.Helper()
		if err := one.service.Seen(t.Context(), SeenRequest{Keys: []Seen{{key, block, vote}}}); err != nil {
			t.Fatal(err)
		}
		return one.service.Status(t.Context()).Halt
	}
	if h := say(5*testSlot, 4*testSlot); h != nil {
		t.Fatalf("%+v", h)
	}
	one.mustSign(t, one.proposal(6*testSlot, 0, 1))
	if h := say(6*testSlot, 5*testSlot); h == nil {
		t.Fatal("a vote of nobody's")
	}
	shared.fails = &cluster.Error{Kind: cluster.ErrUnavailable, Detail: "no answer"}
	if err := one.service.Seen(t.Context(), SeenRequest{}); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
}
