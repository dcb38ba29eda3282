package node_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/template"
	"qcitycoin.org/qcity/node/types"
)

// idleListener is a port that nobody connects to, and that a bubble's clock does not
// wait for.
type idleListener struct{ closed chan struct{} }

func (l idleListener) Accept() (net.Conn, error) { <-l.closed; return nil, net.ErrClosed }
func (l idleListener) Addr() net.Addr            { return &net.TCPAddr{} }

func (l idleListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

// box is a node in the bubble of a synctest that can be stopped and started.
type box struct {
	*node.Node
	t     *testing.T
	cfg   node.Config
	heard []node.FoundBlock
	end   func()
}

// newBox runs a node on the first blocks of g, whose tip has the clock's time.
func newBox(t *testing.T, height int) (*box, *chaingen.Generator) {
	t.Helper()
	params := chaingen.Params()
	params.GenesisTime = uint32(time.Now().Unix()) - uint32(height)*params.IntervalSeconds
	g := chaingen.New(t, params)
	b := &box{t: t, cfg: node.Config{Network: g.Network(), Dir: t.TempDir(), Payout: chaingen.PayToHash(0)}}
	b.cfg.OnFound = func(f node.FoundBlock) error { b.heard = append(b.heard, f); return nil }
	b.start()
	g.Fill("a", height)
	b.add(g.Path(g.Tip().Name)...)
	return b, g
}

func (b *box) start() {
	b.t.Helper()
	b.Node = open(b.t, b.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, idleListener{make(chan struct{})}) }()
	b.end = func() {
		b.t.Helper()
		cancel()
		if err := errors.Join(<-done, b.Close()); err != nil {
			b.t.Error(err)
		}
	}
	synctest.Wait()
}

func (b *box) add(blocks ...*types.Block) {
	b.t.Helper()
	for _, block := range blocks {
		if _, err := b.Chain.AddBlock(block); err != nil {
			b.t.Fatal(err)
		}
	}
	synctest.Wait()
}

func (b *box) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// is checks what became of a block, and whether its record is open.
func (b *box) is(id types.Hash, want node.BlockState, open bool) {
	b.t.Helper()
	got, err := b.BlockState(id)
	if err != nil {
		b.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("state (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(b.cfg.Dir, "found.journal"))
	if err != nil {
		b.t.Fatal(err)
	}
	if (info.Size() > 100) != open {
		b.t.Errorf("the journal has %d bytes, want an open record: %v", info.Size(), open)
	}
}

var (
	held   = node.BlockState{Status: node.BlockHeld}
	stale  = node.BlockState{Status: node.BlockStale}
	onTip  = node.BlockState{Status: node.BlockOnChain, Depth: 1}
	second = node.BlockState{Status: node.BlockOnChain, Depth: 2}
)

// fallback finds the slot's fallback block at once, in the node's own work.
func (b *box) fallback() types.Hash {
	b.t.Helper()
	job, _ := b.Feed.Latest()
	if job == nil || job.Height != 10 || !job.Fallback || int64(job.Time) <= time.Now().Unix()+60 {
		b.t.Fatalf("no fallback work at the slot: %+v", job)
	}
	s := solve(b.Node, 10)
	s.Finder = "alice.rig1"
	outcome, id, err := b.SubmitSolution(b.t.Context(), s)
	if outcome != work.Held || err != nil {
		b.t.Fatalf("early solution: %v, %v", outcome, err)
	}
	return id
}

// TestSlotFallback: miners have fallback work from the first moment of a slot. An
// early solution is held and journaled, survives a restart, and becomes a block when
// it is due. When a validator signs after all, that block replaces it.
func TestSlotFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBox(t, 9)
		id := b.fallback()
		b.pass(3 * time.Second)
		b.is(id, held, true)
		reward := g.Tip().State.Subsidy()
		want := []node.FoundBlock{{ID: id, Height: 10, Time: b.heard[0].Time, Reward: reward, Finder: "alice.rig1"}}
		if diff := cmp.Diff(want, b.heard); diff != "" {
			t.Errorf("the books heard (-want +got):\n%s", diff)
		}

		b.end()
		b.start()
		if len(b.heard) != 2 || !cmp.Equal(b.heard[0], b.heard[1]) {
			t.Errorf("after a restart the books heard %+v", b.heard)
		}
		b.is(id, held, true)
		if job, _ := b.Feed.Latest(); !job.Fallback {
			t.Error("no fallback work after the restart")
		}
		b.pass(62 * time.Second) // stored, but not followed as the slot is not open here yet
		b.is(id, held, true)
		if tip := b.Chain.Tip(); tip.Height != 9 {
			t.Errorf("tip %d", tip.Height)
		}
		b.pass(60 * time.Second)
		b.is(id, onTip, false)
		if job, _ := b.Feed.Latest(); job.PrevBlock != id {
			t.Error("no work on the fallback block")
		}

		// A signature that was late beats it all the same.
		b.add(g.NextSigned("s10", g.Tip().State.ValidatorOfRank(0)).Block)
		b.is(id, stale, false)
		if job, _ := b.Feed.Latest(); job.PrevBlock != g.Tip().State.ID || job.Height != 11 {
			t.Error("no work on the signed block")
		}
		b.end()
		b.start()
		b.is(id, stale, false)
		if len(b.heard) != 2 {
			t.Errorf("a closed record was told again: %+v", b.heard)
		}
		b.end()
	})
}

// TestSlotSignedFirst: a signed block comes while the fallback block is held in
// memory, or while it is parked; both times it takes the slot at once, and the record
// is closed as beaten once the fallback block is stored.
func TestSlotSignedFirst(t *testing.T) {
	for name, at := range map[string]time.Duration{"held": 30 * time.Second, "parked": 90 * time.Second} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b, g := newBox(t, 9)
					id := b.fallback()
					b.pass(at)
					b.is(id, held, true)
					b.add(g.Next("s10").Block)
					if job, _ := b.Feed.Latest(); job.PrevBlock != g.Tip().State.ID || job.Height != 11 {
						t.Error("no work on the signed block at once")
					}
					if restart {
						b.end()
						b.start()
					}
					b.pass(63 * time.Second)
					b.is(id, stale, false)
					if tip := b.Chain.Tip(); tip.ID != g.Tip().State.ID {
						t.Error("the signed block is not the tip")
					}
					b.end()
				})
			})
		}
	}
}

// TestBlockStateFollowsReorganisations: off the best chain, and back.
func TestBlockStateFollowsReorganisations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBox(t, 3)
		ours := solve(b.Node, 4)
		_, raw, err := b.SubmitSolution(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		id := types.Hash(raw)
		b.pass(3 * time.Second)
		b.is(id, onTip, false)
		next := solve(b.Node, 5)
		_, raw, err = b.SubmitSolution(t.Context(), next)
		if err != nil {
			t.Fatal(err)
		}
		b.pass(3 * time.Second)
		b.is(id, second, false)
		b.is(types.Hash(raw), onTip, false)
		b.pass(10 * time.Minute) // the others' blocks have their times

		g.Fill("b", 3) // 4 to 6, of somebody else
		b.add(g.Path("b3")[3:]...)
		b.is(id, stale, false)
		b.is(types.Hash(raw), stale, false)
		b.is(g.Node("b1").State.ID, node.BlockState{Status: node.BlockOnChain, Depth: 3}, false)

		// Ours, and more on it: found where its miners are, so it has to come from them.
		branch := []types.Hash{types.Hash(raw)}
		for range 2 {
			parent, _, err := b.Chain.State(branch[len(branch)-1])
			if err != nil {
				t.Fatal(err)
			}
			block := &types.Block{Transactions: []*types.Transaction{{
				Version: 1,
				Inputs:  []types.TxIn{{Previous: types.NullOutPoint, SignatureScript: append(types.HeightScript(parent.ChildHeight()), 0), Sequence: 1<<32 - 1}},
				Outputs: []types.TxOut{{Value: 1, PkScript: chaingen.PayToHash(0)}},
			}}}
			block.Header = types.Header{Version: 1, PrevBlock: parent.ID, Time: parent.Time + 60, Bits: parent.NextBits()}
			chaingen.FixMerkleRoot(block)
			for target := parent.NextTarget(); ; block.Nonce++ {
				if bytes := work.Target(target.Bytes32()); bytes.Met(block.Header.ID()) {
					break
				}
			}
			b.add(block)
			branch = append(branch, block.Header.ID())
		}
		b.is(id, node.BlockState{Status: node.BlockOnChain, Depth: 4}, false)
		b.is(g.Node("b1").State.ID, stale, false)
		b.is(types.Hash{1}, node.BlockState{Status: node.BlockRefused}, false)
		b.end()
	})
}

// TestBlockStateMatures: what a coinbase pays can be spent after the network's
// number of blocks, and what is final stays.
func TestBlockStateMatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBox(t, 3)
		b.pass(time.Hour)
		b.add(g.Next("ours").Block)
		id := g.Tip().State.ID
		for depth := uint32(1); depth < 12; depth++ {
			got, err := b.BlockState(id)
			if want := depth >= 10; err != nil || got.Mature != want || got.Depth != depth {
				t.Errorf("%+v, %v at depth %d", got, err, depth)
			}
			b.add(g.Next(string(rune('a' + depth))).Block)
		}
		b.end()
	})
}

// fourWays pays a reward in four parts.
type fourWays struct{}

func (fourWays) Plan(height uint32, reward int64) template.Plan {
	p := template.Plan{Note: []byte{byte(height)}}
	for i := range 4 {
		p.Outputs = append(p.Outputs, types.TxOut{Value: reward / 4, PkScript: chaingen.PayToHash(i)})
	}
	p.Outputs[0].Value += reward % 4
	return p
}

// TestNodePaysByPlan: the plan's outputs are in the block and its note comes to the
// books; a variant is paid as its own plan says.
func TestNodePaysByPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBox(t, 3)
		b.end()
		b.cfg.Payouts = fourWays{}
		b.start()
		if room, size := node.CoinbaseRoom(template.DefaultMaxCoinbase), template.OutputSize(chaingen.PayToHash(0)); room/size != 4 {
			t.Errorf("room for %d bytes, an output takes %d", room, size)
		}
		reward := g.Tip().State.Subsidy()
		if _, _, err := b.SubmitSolution(t.Context(), solve(b.Node, 4)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		job, _ := b.Feed.Latest()
		solo, ok := b.Variant(job.ID, template.Plan{Outputs: []types.TxOut{{Value: reward, PkScript: chaingen.PayToHash(9)}}, Note: []byte("solo")})
		if !ok {
			t.Fatal("no variant")
		}
		s := work.Solution{JobID: solo.ID, Version: solo.Version, Time: solo.Time}
		for h := solo.Header(s); !solo.Target.Met(h.Hash()); h = solo.Header(s) {
			s.Nonce++
		}
		if _, _, err := b.SubmitSolution(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		for i, want := range []template.Plan{fourWays{}.Plan(4, reward), {Outputs: []types.TxOut{{Value: reward, PkScript: chaingen.PayToHash(9)}}, Note: []byte("solo")}} {
			block, _, err := b.Chain.Block(b.heard[i].ID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, template.Plan{Outputs: block.Transactions[0].Outputs, Note: b.heard[i].Note}); diff != "" {
				t.Errorf("block %d (-want +got):\n%s", i, diff)
			}
		}
		b.end()
	})
}
