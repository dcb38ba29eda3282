package embedtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/cluster/clustertest"
)

// TestRivals: of eight boxes that want eight payloads at one height, one wins,
// and all learn which.
func TestRivals(t *testing.T) {
	t.Parallel()
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			k := clustertest.NewKey()
			boxes := startEtcd(t, members).boxes(k, 8)
			var won []cluster.Claim
			for h := uint32(1); h <= 200; h++ {
				won = append(won, contest(t, boxes, k, 10*h))
			}
			for i, c := range won {
				box, rival := boxes[i%len(boxes)], c
				rival.Digest[0]++
				claim(t, box, c)
				if _, err := box.Claim(t.Context(), rival); !errors.Is(err, cluster.ErrConflict) {
					t.Fatalf("height %d, another payload: %v", c.Height, err)
				}
			}
		})
	}
}

// TestLeaderStopped: what one member promised, the others keep.
func TestLeaderStopped(t *testing.T) {
	t.Parallel()
	e, k := startEtcd(t, 3), clustertest.NewKey()
	boxes := e.boxes(k, 3)
	for h := uint32(1); h <= 3; h++ {
		before := contest(t, boxes, k, 100*h)
		stopped := e.leader()
		e.stopOne(stopped)
		claim(t, boxes[0], before)
		after := contest(t, boxes, k, 100*h+10)
		e.start()
		claim(t, boxes[1], before)
		claim(t, boxes[2], after)
	}
}

// TestVotesOverMachines: four boxes vote for what they like, at once. Whatever
// they get, no two of its votes contradict each other.
func TestVotesOverMachines(t *testing.T) {
	t.Parallel()
	k := clustertest.NewKey()
	boxes := startEtcd(t, 1).boxes(k, 4)
	var mu sync.Mutex
	var cast []consensus.Link
	last := consensus.Link{Source: consensus.Checkpoint{Height: 100}, Target: consensus.Checkpoint{Height: 200}}
	var refused int
	var wg sync.WaitGroup
	for i, b := range boxes {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() {
			for range 40 {
				// Around what was voted last, on two branches: repetitions, double and
				// surrounding votes are among them.
				mu.Lock()
				source, target := last.Source.Height+10*rng.Uint32N(4)-10, last.Target.Height+10*rng.Uint32N(4)-10
				mu.Unlock()
				c := k.Vote(source, target, rng.IntN(2))
				_, err := b.Claim(t.Context(), c)
				mu.Lock()
				if err == nil {
					l := consensus.Link{Source: c.Source, Target: consensus.Checkpoint{Height: c.Height, ID: c.Digest}}
					cast = append(cast, l)
					if l.Target.Height > last.Target.Height {
						last = l
					}
				} else if errors.Is(err, cluster.ErrConflict) {
					refused++
				} else {
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i, a := range cast {
		for _, b := range cast[:i] {
			if err := consensus.Conflict(a, b); err != nil {
				t.Errorf("votes %v and %v: %v", a, b, err)
			}
		}
	}
	if len(cast) < 10 || refused < 10 {
		t.Errorf("%d cast and %d refused: this tests nothing", len(cast), refused)
	}
}

// TestSurround: each rule about votes holds when the votes come from two boxes.
func TestSurround(t *testing.T) {
	t.Parallel()
	k := clustertest.NewKey()
	boxes := startEtcd(t, 1).boxes(k, 2)
	a, b := boxes[0], boxes[1]
	claim(t, a, k.Vote(30, 40, 0))
	for name, c := range map[string]struct {
		vote cluster.Claim
		rule error
	}{
		"surrounds the last":        {k.Vote(20, 50, 0), consensus.RuleVoteSource},
		"source on another branch":  {k.Vote(30, 50, 1), consensus.RuleVoteSource},
		"target is lower":           {k.Vote(20, 35, 0), consensus.RuleVoteTarget},
		"source above its target":   {k.Vote(60, 50, 0), consensus.RuleAttestSource},
		"other vote at this target": {k.Vote(30, 40, 1), nil},
	} {
		_, err := b.Claim(t.Context(), c.vote)
		var conflict *cluster.Conflict
		if !errors.As(err, &conflict) || conflict.Last.Height != 40 {
			t.Errorf("%s: %v", name, err)
		} else if c.rule != nil && !errors.Is(err, c.rule) || c.rule == nil && conflict.Winner != k.Vote(30, 40, 0).Digest {
			t.Errorf("%s: %v", name, err)
		}
	}
	claim(t, b, k.Vote(30, 50, 0))
	claim(t, a, k.Vote(40, 60, 1))
	claim(t, b, k.Vote(30, 40, 0)) // a repetition, however old
}

// TestKindsAndKeysApart: blocks, votes and set changes of several keys do not
// disturb each other; the rules of blocks hold for set numbers.
func TestKindsAndKeysApart(t *testing.T) {
	t.Parallel()
	k, other := clustertest.NewKey(), clustertest.NewKey()
	e := startEtcd(t, 1)
	c := e.box(k, "box")
	c.Keys = append(c.Keys, other.PublicKey)
	join(t, c, 0)
	b := open(t, c)
	set := func(number uint32, payload int) cluster.Claim {
		c := k.Block(number, payload)
		c.Kind = cluster.SetChange
		return c
	}
	claim(t, b, k.Block(100, 0))
	claim(t, b, k.Vote(10, 20, 0))
	claim(t, b, set(2, 0))
	claim(t, b, other.Block(50, 0))
	for _, refused := range []cluster.Claim{k.Block(90, 0), k.Block(100, 1), set(2, 1), set(1, 0), other.Block(50, 1)} {
		if _, err := b.Claim(t.Context(), refused); !errors.Is(err, cluster.ErrConflict) {
			t.Errorf("%v: %v", refused, err)
		}
	}
	known, err := b.Known(t.Context())
	if err != nil || len(known) != 4 {
		t.Fatalf("%v, %v", known, err)
	}
	heights := map[string]uint32{}
	for _, m := range known {
		heights[string(m.Kind)+m.Key.String()] = m.Height
	}
	if heights["block"+k.String()] != 100 || heights["vote"+k.String()] != 20 || heights["set-change"+k.String()] != 2 || heights["block"+other.String()] != 50 {
		t.Errorf("%v", heights)
	}
}

// TestFirstSealWins: two boxes sign the same claim, with other bytes; both
// release the bytes of the first, then and ever after.
func TestFirstSealWins(t *testing.T) {
	t.Parallel()
	k := clustertest.NewKey()
	boxes := startEtcd(t, 1).boxes(k, 4)
	for h := uint32(10); h <= 200; h += 10 {
		c := k.Block(h, 0)
		got := make([][64]byte, len(boxes))
		var wg sync.WaitGroup
		for i, b := range boxes {
			wg.Go(func() {
				seal, err := b.Claim(t.Context(), c)
				if err != nil {
					t.Error(err)
					return
				}
				if seal != nil {
					got[i] = *seal
				} else if got[i], err = clustertest.Seal(t.Context(), b, k, c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i := range got {
			if again := claim(t, boxes[i], c); got[i] != got[0] || again == nil || *again != got[0] {
				t.Fatalf("height %d: box %d released another signature", h, i)
			}
		}
	}
	if _, err := clustertest.Seal(t.Context(), boxes[0], k, k.Block(200, 1)); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("seal of another payload: %v", err)
	}
	if _, err := clustertest.Seal(t.Context(), boxes[0], k, k.Block(300, 0)); !errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("seal of no claim: %v", err)
	}
	if _, err := boxes[0].Seal(t.Context(), k.Block(200, 0), [64]byte{1}); !errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("bad signature: %v", err)
	}
}

// TestJoin: who has not joined, is not let in; nor is anybody to a cluster that is
// too small, has another set of members, or is another. A floor holds for all boxes.
func TestJoin(t *testing.T) {
	t.Parallel()
	e, k := startEtcd(t, 1), clustertest.NewKey()
	c := e.box(k, "box")
	if _, err := cluster.Open(t.Context(), c); !errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("not joined: %v", err)
	}
	small := c
	small.AllowSingleMember = false
	if err := cluster.Join(t.Context(), small, cluster.Past{}); !errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("a single member: %v", err)
	}
	join(t, c, 100)
	if _, err := cluster.Open(t.Context(), small); !errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("a single member: %v", err)
	}
	other := e.box(k, "other")
	join(t, other, 0)
	b := open(t, other)
	for _, below := range []cluster.Claim{k.Block(100, 0), k.Vote(90, 110, 0)} {
		if _, err := b.Claim(t.Context(), below); !errors.Is(err, cluster.ErrConflict) {
			t.Errorf("%s below the floor: %v", below.Kind, err)
		}
	}
	claim(t, b, k.Vote(100, 110, 0))
	claim(t, b, k.Block(110, 0))
	if err := cluster.Join(t.Context(), other, cluster.Past{}); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("joining under a signer that runs: %v", err)
	}
	join(t, c, 120)
	if _, err := b.Claim(t.Context(), k.Block(120, 0)); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("below the floor that was raised meanwhile: %v", err)
	}
	claim(t, b, k.Block(130, 0))

	// The journal of a box knows of blocks from before the cluster; its votes are
	// those that the box has seen in the cluster.
	claim(t, b, k.Vote(120, 130, 0))
	shut(t, b)
	past := cluster.Past{Blocks: map[types.PublicKey]uint32{k.PublicKey: 200}, Votes: map[types.PublicKey]uint32{k.PublicKey: 130}}
	if err := cluster.Join(t.Context(), other, past); err != nil {
		t.Fatal(err)
	}
	b = open(t, other)
	if _, err := b.Claim(t.Context(), k.Block(200, 0)); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("below what the journal has: %v", err)
	}
	claim(t, b, k.Block(210, 0))
	claim(t, b, k.Vote(125, 140, 0))
	shut(t, b)

	elsewhere := startEtcd(t, 1)
	c.Endpoints = elsewhere.clients
	if _, err := cluster.Open(t.Context(), c); !errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("another cluster: %v", err)
	}
}

// TestMembersChanged: a box that starts looks who the members are, and a person
// has to accept others. The promises of before hold after that.
func TestMembersChanged(t *testing.T) {
	t.Parallel()
	e, k := startEtcd(t, 3), clustertest.NewKey()
	c := e.box(k, "box")
	c.AllowSingleMember = false
	join(t, c, 0)
	b := open(t, c)
	claim(t, b, k.Block(10, 0))
	shut(t, b)
	gone := (e.leader() + 1) % 3
	// A member that is asked to remove itself may stop before it answers.
	client := e.client()
	client.SetEndpoints(slices.Delete(slices.Clone(e.clients), gone, gone+1)...)
	if _, err := client.MemberRemove(t.Context(), uint64(e.servers[gone].Server.MemberID())); err != nil {
		t.Fatal(err)
	}
	e.stopOne(gone)
	if _, err := cluster.Open(t.Context(), c); !errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("two of three members: %v", err)
	}
	if err := cluster.Join(t.Context(), c, cluster.Past{}); !errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("joining two members: %v", err)
	}
	c.AllowSingleMember = true
	if _, err := cluster.Open(t.Context(), c); !errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("another set of members: %v", err)
	}
	join(t, c, 0)
	b = open(t, c)
	claim(t, b, k.Block(10, 0))
	claim(t, b, k.Block(20, 0))
}
