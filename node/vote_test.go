package node

import (
	"context"
	"errors"
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

// TestVoterVotesOnce: each key of the box votes, once, however often the chain
// rings; and again for the next slot.
func TestVoterVotesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.launch()
		for range 3 {
			r.set(func() {})
			r.pass(time.Minute)
		}
		r.want("s10", 5, 0, 1, 2, 3, 4)
		r.ask("s10", "s20")
		r.pass(time.Hour)
		r.stop()
		r.want("s10", 5, 0, 1, 2, 3, 4)
		r.want("s20", 5, 0, 1, 2, 3, 4)
		if n := r.log.with(""); n != 0 {
			t.Errorf("warnings: %q", r.log.lines)
		}
	})
}

// TestVoterNothingToVoteFor: the signer is left alone.
func TestVoterNothingToVoteFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.ballot, r.keysErr = nil, errAway
		r.launch()
		r.set(func() {})
		r.pass(time.Hour)
		r.stop()
		if n := r.log.with(""); n != 0 || len(r.asked) != 0 {
			t.Errorf("%d requests, warnings: %q", len(r.asked), r.log.lines)
		}
	})
}

// TestVoterRetries: whatever cannot be done now is done when it can be, for the
// keys that still have to vote, and is one warning.
func TestVoterRetries(t *testing.T) {
	for _, c := range []struct {
		name    string
		fail    func(r *voteRig)
		heal    func(r *voteRig)
		asked   int // in all, after 10 s and then the repair
		warning string
	}{
		{
			"signer away", func(r *voteRig) { r.keysErr = errAway }, func(r *voteRig) { r.keysErr = nil },
			5, errAway.Error(),
		},
		{
			"token of one key busy",
			func(r *voteRig) { r.reply[r.g.Network().Validators[2]] = errLost },
			func(r *voteRig) { clear(r.reply) },
			4 + 20 + 1 + 1, errLost.Error(), // at 0, every half second up to 10 s, and the last
		},
		{"chain cannot be read", func(r *voteRig) { r.err = errAway }, func(*voteRig) {}, 5, "tell what to vote for"},
		{"vote cannot be stored", func(r *voteRig) { r.addErr = errAway }, func(*voteRig) {}, 6, "count vote of voter 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newVoteRig(t)
				c.fail(r)
				r.launch()
				r.pass(10 * time.Second)
				r.mu.Lock()
				c.heal(r) // which does not ring
				r.mu.Unlock()
				r.pass(time.Minute)
				r.stop()
				r.want("s10", c.asked, 0, 1, 2, 3, 4)
				if all, n := r.log.with(""), r.log.with(c.warning); all != 1 || n != 1 {
					t.Errorf("warnings %q, want one with %q", r.log.lines, c.warning)
				}
			})
		})
	}
}

// TestVoterKeyReturns: a key that was not ready votes at the next change.
func TestVoterKeyReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		all := r.keys
		r.keys = all[:3]
		r.launch()
		r.want("s10", 3, 0, 1, 2)
		r.set(func() { r.keys = all })
		r.pass(0)
		r.stop()
		r.want("s10", 5, 0, 1, 2, 3, 4)
	})
}

// TestVoterRefusalIsFinal: a key that the signer refuses is not asked again for
// this slot, but for the next one.
func TestVoterRefusalIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.reply[r.keys[1]] = fmt.Errorf("%w: vote-source", ErrRefused)
		r.launch()
		r.set(func() {})
		r.pass(time.Hour)
		r.want("s10", 5, 0, 2, 3, 4)
		if n := r.log.with("vote-source"); n != 1 {
			t.Errorf("%d warnings, want 1", n)
		}
		r.set(func() { clear(r.reply) })
		r.ask("s10", "s20")
		r.pass(0)
		r.stop()
		r.want("s20", 5, 0, 1, 2, 3, 4)
	})
}

// TestVoterFollowsReorganisation: the slot is replaced by its twin. The signer is
// asked, and is the one to say no; back on the first it repeats itself.
func TestVoterFollowsReorganisation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.reply[r.keys[4]] = errLost
		r.ask("s10", "s20")
		r.launch()
		r.set(func() { clear(r.reply) })
		r.ask("s10", "twin")
		r.pass(0)
		r.want("s20", 5, 0, 1, 2, 3)
		r.want("twin", 5, 4) // who had no vote yet is free
		r.ask("s10", "s20")
		r.pass(time.Hour)
		r.stop()
		n := 0
		for a, times := range r.counted {
			if a.Target == r.g.Node("s20").State.Checkpoint() {
				n += times
			}
		}
		if n != 8 {
			t.Errorf("four voters of the first block were counted %d times, want each twice, the same both times", n)
		}
	})
}

// TestVoterOtherKeys: keys that have no vote, or none any more, are passed over.
func TestVoterOtherKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.keys = append(chaingen.PublicKeys(types.Secp256k1, 9), r.keys[3], r.keys[0])
		r.launch()
		r.stop()
		r.want("s10", 2, 0, 3)
	})
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.g.SetTip("s20")
		r.g.Fill("c", 9)
		r.g.Next("s30", chaingen.Records(r.g.SlotEvidence("s20", "twin")))
		r.g.Fill("d", 9)
		r.g.Next("s40")
		r.ask("genesis", "s40")
		r.launch()
		r.stop()
		r.want("s40", 4, 0, 1, 3, 4) // validator 2 signed both
	})
}

// TestVoterStops: at once, whatever it waits for.
func TestVoterStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVoteRig(t)
		r.keysErr = errors.New("away for good")
		r.launch()
		start := time.Now()
		r.stop()
		if time.Since(start) != 0 {
			t.Errorf("it took %v to stop", time.Since(start))
		}
	})
}
