package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// voteRig is a voter among fakes, in the bubble of a synctest. It is the voter's
// chain and its signer.
type voteRig struct {
	t   *testing.T
	g   *chaingen.Generator
	log warnings

	mu      sync.Mutex
	ballot  *chain.Vote // nil: there is none to cast
	changed chan struct{}
	err     error // of the next look at the chain
	addErr  error // of the next vote counted
	counted map[consensus.Attestation]int
	sent    []consensus.Attestation // to peers

	keys    []types.PublicKey
	keysErr error
	asked   []ask
	reply   map[types.PublicKey]error
	last    map[types.PublicKey]consensus.VoteRecord // what each key voted for
	stop    func()
}

// ask is a request for a vote.
type ask struct {
	key    types.PublicKey
	target consensus.Checkpoint
}

// newVoteRig has slots s10 and s20 and two twins of it, twin and third, and asks
// for a vote on s10 by a box with all five keys.
func newVoteRig(t *testing.T) *voteRig {
	t.Helper()
	g := chaingen.New(t, chaingen.Params())
	g.Fill("a", 9)
	g.Next("s10")
	g.Fill("b", 9)
	for _, name := range []string{"s20", "twin"} {
		g.SetTip("b9")
		g.Next(name)
	}
	r := &voteRig{
		t: t, g: g, changed: make(chan struct{}), counted: make(map[consensus.Attestation]int), keys: g.Network().Validators,
		reply: make(map[types.PublicKey]error), last: make(map[types.PublicKey]consensus.VoteRecord),
	}
	r.ask("genesis", "s10")
	return r
}

// ask makes the link between two named blocks the one to vote for.
func (r *voteRig) ask(source, target string) {
	n := r.g.Node(target)
	r.set(func() {
		r.ballot = &chain.Vote{Link: r.g.Link(source, target), Parent: n.Parent.State, Header: n.Block.SignedHeader}
	})
}

// set changes something, which rings.
func (r *voteRig) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	close(r.changed)
	r.changed = make(chan struct{})
}

// Anchor is not asked for by a voter.
func (*voteRig) Tell(context.Context, uint32, []Shown) error { return nil }

func (r *voteRig) Anchor(context.Context, types.PublicKey) (*consensus.AuditAnchor, error) {
	return nil, nil
}

func (r *voteRig) launch() {
	v := &voter{chain: r, signer: r, log: slog.New(&r.log), publish: func(a consensus.Attestation) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sent = append(r.sent, a)
	}}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- v.run(ctx) }()
	r.stop = func() {
		r.t.Helper()
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("run returned %v", err)
		}
	}
	synctest.Wait()
}

func (r *voteRig) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// want checks how often each voter of a target was asked, and that the votes
// that were counted are those that were published, once each.
func (r *voteRig) want(target string, asked int, counted ...uint8) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, a := range r.asked {
		if a.target == r.g.Node(target).State.Checkpoint() {
			n++
		}
	}
	if n != asked {
		r.t.Errorf("votes for %s were asked for %d times, want %d", target, n, asked)
	}
	var got, sent []uint8
	for a := range r.counted {
		if a.Target.ID == r.g.Node(target).State.ID {
			got = append(got, a.Index)
		}
	}
	for _, a := range r.sent {
		if a.Target.ID == r.g.Node(target).State.ID {
			sent = append(sent, a.Index)
		}
	}
	slices.Sort(got)
	slices.Sort(sent)
	if !slices.Equal(got, counted) || !slices.Equal(sent, counted) {
		r.t.Errorf("for %s voters %v were counted and %v published, want %v", target, got, sent, counted)
	}
}

// Vote, Changed and AddAttestation make the rig the voter's chain.
func (r *voteRig) Vote() (chain.Vote, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.err; err != nil {
		r.err = nil
		return chain.Vote{}, false, err
	}
	if r.ballot == nil {
		return chain.Vote{}, false, nil
	}
	return *r.ballot, true, nil
}

func (r *voteRig) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *voteRig) AddAttestation(a consensus.Attestation) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := a.Verify(r.g.Network(), r.ballot.Parent.Voters()); err != nil {
		r.t.Errorf("a vote that nobody counts: %v", err)
	}
	if err := r.addErr; err != nil {
		r.addErr = nil
		return false, err
	}
	r.counted[a]++
	return r.counted[a] == 1, nil
}

// Keys, SignSlot and Attest make it the signer, which keeps S1 and S2.
func (r *voteRig) Keys(context.Context) ([]types.PublicKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys), r.keysErr
}

func (r *voteRig) SignSlot(context.Context, *consensus.Proposal) ([64]byte, error) {
	r.t.Error("the voter asked for a block's signature")
	return [64]byte{}, ErrRefused
}

func (r *voteRig) Attest(_ context.Context, b *consensus.Ballot) (sig [64]byte, err error) {
	key, err := r.g.Network().ValidateBallot(b)
	if err != nil {
		r.t.Errorf("the voter asked with an invalid ballot: %v", err)
		return sig, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, ask{key, b.Target})
	if err := r.reply[key]; err != nil {
		return sig, err
	}
	if old := r.last[key]; old.Target != b.Target || old.Source != b.Source {
		if err := old.Allows(b.Link); err != nil {
			return sig, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		r.last[key] = old.Next(b.Link)
	}
	return r.g.Secret(key).Sign(b.Link.Digest(r.g.Network().ID)), nil
}
