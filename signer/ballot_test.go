package signer

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/interchange"
)

// electorate is who votes, and the validator of the set in force that signed
// every block they vote on.
type electorate struct {
	network *consensus.Network
	sets    []consensus.ValidatorSet
	signer  softKey
	index   uint8
}

func (e *electorate) voters() *consensus.Electorate {
	var next *consensus.ValidatorSet
	if len(e.sets) > 1 {
		next = &e.sets[1]
	}
	return consensus.NewElectorate(e.sets[0], next, nil)
}

// at returns the signed block of salt at height, as links name it.
func (e *electorate) at(height uint32, salt byte) consensus.Checkpoint {
	if height == 0 {
		return consensus.Checkpoint{ID: e.network.ID}
	}
	h := slotHeader(height, salt)
	return consensus.Checkpoint{Height: height, ID: h.ID()}
}

func slotHeader(height uint32, salt byte) types.Header {
	return types.Header{Version: 1, MerkleRoot: types.Hash{salt, byte(height), byte(height >> 8)}, Time: parentTime}
}

// ballot returns a valid ballot of voter index for the block of salt at height.
func (e *electorate) ballot(source consensus.Checkpoint, height uint32, index uint8, salt byte) *consensus.Ballot {
	l := consensus.Link{Set: e.voters().ID(), Source: source, Target: e.at(height, salt)}
	sig := types.BlockSig{Index: e.index, Signature: e.signer.sign(consensus.SlotDigest(e.network.ID, e.sets[0].ID(), height, l.Target.ID))}
	return &consensus.Ballot{
		Link: l, Sets: e.sets, Index: index,
		Block: types.SignedHeader{Header: slotHeader(height, salt), VchBlockSig: sig.Bytes()},
	}
}

func (e *electorate) checkVote(tb testing.TB, b *consensus.Ballot, r Response) {
	tb.Helper()
	a, err := r.Attestation(b.Link)
	if err == nil {
		err = a.Verify(e.network, e.voters())
	}
	if err != nil || a.Index != b.Index {
		tb.Fatalf("vote of %d by %d: %v", b.Index, a.Index, err)
	}
}

// voting returns the electorate of the network's first set.
func (b *bench) voting() *electorate {
	return &electorate{network: b.network, sets: []consensus.ValidatorSet{firstSet(b.network)}, signer: b.keys[0]}
}

func (b *bench) attest(v *consensus.Ballot) (Response, error) {
	return b.service.Attest(context.Background(), NewVoteRequest(v))
}

func (b *bench) mustAttest(tb testing.TB, v *consensus.Ballot) Response {
	tb.Helper()
	r, err := b.attest(v)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestAttest(t *testing.T) {
	b := newBench(t)
	e := b.voting()
	for _, slots := range [][2]uint32{{0, testSlot}, {testSlot, 3 * testSlot}} {
		for i := range b.keys {
			v := e.ballot(e.at(slots[0], 1), slots[1], uint8(i), 1)
			first := b.mustAttest(t, v)
			e.checkVote(t, v, first)
			second := b.mustAttest(t, v)
			if first.Repeated || !second.Repeated || !bytes.Equal(first.Signature, second.Signature) {
				t.Fatalf("first %+v, second %+v", first, second)
			}
		}
	}
	// Blocks and votes do not bound each other.
	b.mustSign(t, b.proposal(2*testSlot, 1, 1))
	st := b.service.Status(context.Background())
	if b.token.signed != 11 || st.Signed != 11 || st.Journal.LastSigned != 2*testSlot {
		t.Fatalf("%d signatures, status %+v", b.token.signed, st)
	}
	for i, k := range st.Keys {
		if want := uint32(i % 2 * 2 * testSlot); k.LastVote != 3*testSlot || i < 2 && k.LastSigned != want {
			t.Fatalf("key %d: %+v", i, k)
		}
	}
}

// makeVote makes a request for a vote.
type makeVote = func(*testing.T, *bench) VoteRequest

// votePolicyCase is policyCase for a vote.
type votePolicyCase struct {
	name  string
	rule  Rule
	bad   makeVote
	good  makeVote // nil: a valid one
	reset func(*testing.T, *bench)
}

// voteBetween asks for a vote of validator 0 from one slot to another.
func voteBetween(source uint32, sourceSalt byte, target uint32, targetSalt byte) makeVote {
	return func(_ *testing.T, b *bench) VoteRequest {
		e := b.voting()
		return NewVoteRequest(e.ballot(e.at(source*testSlot, sourceSalt), target*testSlot, 0, targetSalt))
	}
}

// votePolicyCases has a case for every rule about votes.
func votePolicyCases() []votePolicyCase {
	type make = makeVote
	between := voteBetween
	valid := between(0, 0, 1, 1)
	raw := func(f func(*bench, *VoteRequest)) make {
		return func(t *testing.T, b *bench) VoteRequest {
			r := valid(t, b)
			f(b, &r)
			return r
		}
	}
	// after asks for bad when the votes before it are made.
	after := func(bad make, votes ...make) make {
		return func(t *testing.T, b *bench) VoteRequest {
			for _, v := range votes {
				if _, err := b.service.Attest(context.Background(), v(t, b)); err != nil {
					t.Fatal(err)
				}
			}
			return bad(t, b)
		}
	}
	floor := func(bad make) make {
		return func(t *testing.T, b *bench) VoteRequest {
			if err := b.journal.RaiseFloor(b.keys[0].public, testSlot); err != nil {
				t.Fatal(err)
			}
			return bad(t, b)
		}
	}
	spoil := func(f func(*bench, *electorate, *consensus.Ballot)) make {
		return func(_ *testing.T, b *bench) VoteRequest {
			e := b.voting()
			v := e.ballot(e.at(0, 0), testSlot, 0, 1)
			f(b, e, v)
			return NewVoteRequest(v)
		}
	}
	signed := func(e *electorate, index uint8, set types.Hash, height uint32, id types.Hash) []byte {
		return types.BlockSig{Index: index, Signature: e.signer.sign(consensus.SlotDigest(e.network.ID, set, height, id))}.Bytes()
	}
	return []votePolicyCase{
		{name: "header too short", rule: RuleFormat, bad: raw(func(_ *bench, r *VoteRequest) { r.Block = r.Block[:79] })},
		{name: "header too long", rule: RuleFormat, bad: raw(func(_ *bench, r *VoteRequest) { r.Block = append(r.Block, 0) })},

		{name: "no set", rule: Rule(consensus.RuleAttestSet), bad: raw(func(_ *bench, r *VoteRequest) { r.Sets = nil })},
		{name: "three sets", rule: Rule(consensus.RuleAttestSet), bad: raw(func(_ *bench, r *VoteRequest) { r.Sets = append(r.Sets, r.Sets[0], r.Sets[0]) })},
		{name: "link of another set", rule: Rule(consensus.RuleAttestSet), bad: raw(func(_ *bench, r *VoteRequest) { r.Set[0] ^= 1 })},
		{name: "set of an even number of keys", rule: Rule(consensus.RuleSetKeys), bad: func(_ *testing.T, b *bench) VoteRequest {
			e := &electorate{b.network, []consensus.ValidatorSet{{Number: 1, Keys: publics(b.keys[:2])}}, b.keys[0], 0}
			return NewVoteRequest(e.ballot(e.at(0, 0), testSlot, 0, 1))
		}},
		{name: "target's height is no slot", rule: Rule(consensus.RuleAttestTarget), bad: func(_ *testing.T, b *bench) VoteRequest {
			e := b.voting()
			return NewVoteRequest(e.ballot(e.at(0, 0), testSlot+1, 0, 1))
		}},
		{name: "header of another block", rule: Rule(consensus.RuleAttestTarget), bad: spoil(func(_ *bench, _ *electorate, v *consensus.Ballot) { v.Block.Header = slotHeader(testSlot, 2) })},
		{name: "source's height is no slot", rule: Rule(consensus.RuleAttestSource), bad: raw(func(_ *bench, r *VoteRequest) { r.Source.Height = testSlot - 1 })},
		{name: "source is as high as the target", rule: Rule(consensus.RuleAttestSource), bad: between(1, 2, 1, 1)},
		{name: "source is another genesis", rule: Rule(consensus.RuleAttestGenesis), bad: raw(func(_ *bench, r *VoteRequest) { r.Source.ID[0] ^= 1 })},
		{name: "index is outside the electorate", rule: Rule(consensus.RuleAttestIndex), bad: raw(func(_ *bench, r *VoteRequest) { r.Index = 5 })},
		{name: "target is a fallback block", rule: Rule(consensus.RuleSigFormat), bad: raw(func(_ *bench, r *VoteRequest) { r.BlockSig = nil })},
		{name: "target's validator is outside the set", rule: Rule(consensus.RuleValidator), bad: raw(func(_ *bench, r *VoteRequest) { r.BlockSig[0] = 5 })},
		{name: "target's signature is spoilt", rule: Rule(consensus.RuleBlockSig), bad: raw(func(_ *bench, r *VoteRequest) { r.BlockSig[20] ^= 1 })},
		{name: "target is signed by another validator", rule: Rule(consensus.RuleBlockSig), bad: raw(func(_ *bench, r *VoteRequest) { r.BlockSig[0] = 1 })},
		{name: "target is signed for another height", rule: Rule(consensus.RuleBlockSig), bad: spoil(func(_ *bench, e *electorate, v *consensus.Ballot) {
			v.Block.VchBlockSig = signed(e, 0, e.sets[0].ID(), 2*testSlot, v.Target.ID)
		})},
		{name: "target is signed under another set", rule: Rule(consensus.RuleBlockSig), bad: spoil(func(b *bench, e *electorate, v *consensus.Ballot) {
			v.Block.VchBlockSig = signed(e, 0, consensus.ValidatorSet{Number: 1, Keys: publics(b.keys)}.ID(), testSlot, v.Target.ID)
		})},

		{
			name: "voter's key is not ours", rule: RuleKeyNotHeld,
			bad: func(t *testing.T, b *bench) VoteRequest {
				b.open(t, publics(b.keys[1:]))
				return valid(t, b)
			},
			reset: func(t *testing.T, b *bench) { b.open(t, publics(b.keys)) },
		},
		{
			name: "target is ahead of the clock", rule: RuleFuture,
			bad: func(t *testing.T, b *bench) VoteRequest {
				b.now = time.Unix(parentTime-testAhead-1, 0)
				return valid(t, b)
			},
			reset: func(_ *testing.T, b *bench) { b.now = b.now.Add(time.Second) },
		},
		{
			name: "too many signatures", rule: RuleRate,
			bad: func(t *testing.T, b *bench) VoteRequest {
				b.limit = RateLimit{PerSecond: 1, Burst: 1}
				b.open(t, publics(b.keys))
				return after(between(1, 1, 2, 1), valid)(t, b)
			},
			good:  between(1, 1, 2, 1),
			reset: func(_ *testing.T, b *bench) { b.now = b.now.Add(time.Second) },
		},
		{name: "another block at a height voted for", rule: Rule(consensus.RuleVoteTarget), bad: after(between(0, 0, 1, 2), valid)},
		{
			name: "another block at a height claimed", rule: Rule(consensus.RuleVoteTarget),
			bad: func(t *testing.T, b *bench) VoteRequest {
				voteOnly(t, b, valid(t, b))
				return between(0, 0, 1, 2)(t, b)
			},
		},
		{name: "same block from another source", rule: Rule(consensus.RuleVoteTarget), bad: after(between(1, 1, 2, 1), between(0, 0, 2, 1)), good: between(0, 0, 2, 1)},
		{
			name: "same link under another electorate", rule: Rule(consensus.RuleVoteTarget),
			bad: after(func(_ *testing.T, b *bench) VoteRequest {
				e := b.voting()
				e.sets = append(e.sets, consensus.ValidatorSet{Number: 1, Keys: publics(b.keys[:3])})
				return NewVoteRequest(e.ballot(e.at(0, 0), testSlot, 0, 1))
			}, valid),
		},
		{name: "target below the last", rule: Rule(consensus.RuleVoteTarget), bad: after(valid, between(0, 0, 2, 1)), good: between(0, 0, 3, 1)},
		{name: "source below the last", rule: Rule(consensus.RuleVoteSource), bad: after(between(1, 1, 4, 1), between(2, 1, 3, 1)), good: between(2, 1, 4, 1)},
		{name: "source beside the last", rule: Rule(consensus.RuleVoteSource), bad: after(between(2, 2, 4, 1), between(2, 1, 3, 1)), good: between(3, 2, 4, 1)},
		{name: "target at the floor", rule: RuleFloor, bad: floor(valid), good: between(1, 1, 2, 1)},
		{name: "source below the floor", rule: RuleFloor, bad: floor(between(0, 0, 2, 1)), good: between(1, 1, 2, 1)},
		{
			name: "target is above any chain", rule: RuleAhead,
			bad: func(_ *testing.T, b *bench) VoteRequest {
				e := b.voting()
				return NewVoteRequest(e.ballot(e.at(0, 0), b.highestSlot()+testSlot, 0, 1))
			},
			good: func(_ *testing.T, b *bench) VoteRequest {
				e := b.voting()
				return NewVoteRequest(e.ballot(e.at(0, 0), b.highestSlot(), 0, 1))
			},
		},
		{
			name: "signing is halted", rule: RuleHalted,
			bad: func(t *testing.T, b *bench) VoteRequest {
				if err := b.service.Halt(t.Context(), "kim", "inspection"); err != nil {
					t.Fatal(err)
				}
				return valid(t, b)
			},
			reset: func(t *testing.T, b *bench) { b.resume(t) },
		},
		{
			name: "another signer cast this vote", rule: RuleElsewhere,
			bad: func(t *testing.T, b *bench) VoteRequest {
				r := valid(t, b)
				b.imports(t, interchange.Key{PublicKey: b.keys[0].public, Votes: []interchange.Vote{{Source: r.Source.Height, Target: r.Target.Height, Link: &consensus.Link{Set: r.Set, Source: consensus.Checkpoint(r.Source), Target: consensus.Checkpoint(r.Target)}}}})
				return r
			},
			good: between(1, 1, 2, 1),
		},
	}
}

// highestSlot is the highest that a chain may have reached by now.
func (b *bench) highestSlot() uint32 {
	top := uint32(b.network.HighestHeight(b.now.Unix()))
	return top - top%testSlot
}

// TestVotePolicy: each case is refused by its rule, which no other one would do.
func TestVotePolicy(t *testing.T) {
	for _, c := range votePolicyCases() {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			req := c.bad(t, b)
			b.wantRefused(t, c.rule, func() (Response, error) { return b.service.Attest(context.Background(), req) })
			if c.reset != nil {
				c.reset(t, b)
			}
			if c.good == nil {
				c.good = voteBetween(0, 0, 1, 1)
			}
			if _, err := b.service.Attest(context.Background(), c.good(t, b)); err != nil {
				t.Fatalf("put right, and still: %v", err)
			}
		})
	}
}

// voteOnly leaves a claimed vote without a seal, as a token that fails does.
func voteOnly(t *testing.T, b *bench, r VoteRequest) {
	t.Helper()
	gone := errors.New("token is gone")
	b.token.before = func() error { return gone }
	if _, err := b.service.Attest(context.Background(), r); !errors.Is(err, ErrUnavailable) || !errors.Is(err, gone) {
		t.Fatalf("got %v, want unavailable", err)
	}
	b.token.before = nil
}

// TestOpenVoteMayBeAskedAgain: a vote that the token failed to sign stands, and
// is signed when it is asked for again, even after later ones.
func TestOpenVoteMayBeAskedAgain(t *testing.T) {
	b := newBench(t)
	e := b.voting()
	open := e.ballot(e.at(0, 0), testSlot, 0, 1)
	voteOnly(t, b, NewVoteRequest(open))
	b.mustAttest(t, e.ballot(e.at(testSlot, 1), 2*testSlot, 0, 1))
	e.checkVote(t, open, b.mustAttest(t, open))
}

// TestVoteForOldBlock: a vote never expires, and a repeat asks no clock at all.
func TestVoteForOldBlock(t *testing.T) {
	b := newBench(t)
	e := b.voting()
	v := e.ballot(e.at(0, 0), testSlot, 0, 1)
	b.now = b.now.Add(1000 * time.Hour)
	first := b.mustAttest(t, v)
	b.limit = RateLimit{}
	b.open(t, publics(b.keys))
	b.now = time.Unix(0, 0)
	if second := b.mustAttest(t, v); !bytes.Equal(first.Signature, second.Signature) {
		t.Fatal("a repeat returned another signature")
	}
}

func TestUnreadyKeyVotesNothing(t *testing.T) {
	b := newBench(t)
	e := b.voting()
	b.token.ready = errors.New("token is absent")
	if _, err := b.attest(e.ballot(e.at(0, 0), testSlot, 0, 1)); !errors.Is(err, ErrUnavailable) || !errors.Is(err, b.token.ready) {
		t.Fatalf("got %v", err)
	}
	b.token.ready = nil
	b.mustAttest(t, e.ballot(e.at(0, 0), testSlot, 0, 2))
}

// TestSetChange: a key that is not in the first set votes during the handover
// and signs afterwards, and what a key voted binds it in every set.
func TestSetChange(t *testing.T) {
	b := newBench(t)
	joins := newSoftKey(types.P256, 50)
	all := append(slices.Clone(b.keys), joins)
	b.path, b.token = t.TempDir()+"/journal", newSoftToken(all...)
	if err := CreateJournal(b.path, b.network.ID, publics(all), 0); err != nil {
		t.Fatal(err)
	}
	b.open(t, publics(all))

	next := consensus.ValidatorSet{Number: 1, Keys: publics([]softKey{all[1], all[5], all[2]})}
	handover := &electorate{b.network, []consensus.ValidatorSet{firstSet(b.network), next}, all[0], 0}
	for _, i := range []uint8{1, 5} {
		v := handover.ballot(handover.at(0, 0), testSlot, i, 1)
		handover.checkVote(t, v, b.mustAttest(t, v))
	}
	alone := &electorate{b.network, []consensus.ValidatorSet{next}, all[1], 0}
	for _, i := range []uint8{0, 1} { // the same two keys
		_, err := b.attest(alone.ballot(alone.at(0, 0), testSlot, i, 1))
		wantRule(t, err, Rule(consensus.RuleVoteTarget))
		v := alone.ballot(alone.at(testSlot, 1), 2*testSlot, i, 1)
		alone.checkVote(t, v, b.mustAttest(t, v))
	}

	p := proposalUnder(b.network, next, 2*testSlot, 1, parentTime, 1)
	first := b.mustSign(t, p)
	if second := b.mustSign(t, p); !second.Repeated || !bytes.Equal(first.Signature, second.Signature) {
		t.Fatal("a repeat returned another signature")
	}
	// The same header under another set is another block to sign.
	other := *p
	other.Set.Number = 2
	_, err := b.sign(&other)
	wantRule(t, err, RuleDoubleSign)

	st := b.service.Status(context.Background())
	if k := st.Keys[5]; k.Index != -1 || k.PublicKey != joins.public || !k.Ready || k.LastSigned != 2*testSlot || k.LastVote != 2*testSlot {
		t.Fatalf("status %+v", k)
	}
}

// TestDefaultRateLimit: a signer with five keys votes with each and signs a block
// at a slot every half second, and catches up with twenty slots at once.
func TestDefaultRateLimit(t *testing.T) {
	b := newBench(t)
	b.limit = new(Config).limit()
	b.open(t, publics(b.keys))
	e := b.voting()
	b.now = time.Unix(parentTime, 0)
	for slot := uint32(1); slot <= 30; slot++ {
		if slot > 20 {
			b.now = b.now.Add(500 * time.Millisecond)
		}
		b.mustSign(t, b.proposal(slot*testSlot, uint8(slot%5), 1))
		for i := range b.keys {
			b.mustAttest(t, e.ballot(e.at((slot-1)*testSlot, 1), slot*testSlot, uint8(i), 1))
		}
	}
	_, err := b.sign(b.proposal(31*testSlot, 1, 1))
	wantRule(t, err, RuleRate)
}
