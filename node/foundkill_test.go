package node_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// What the re-executed test binary is told: the directory in which it finds blocks,
// the time of the genesis block, and whether to find them at a slot.
const (
	childDir     = "NODE_TEST_CHILD_DIR"
	childGenesis = "NODE_TEST_CHILD_GENESIS"
	childSlot    = "NODE_TEST_CHILD_SLOT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, findForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// killParams is a network whose first slot is the next block, or far away.
func killParams(genesis uint32, slot bool) consensus.Params {
	p := chaingen.Params()
	p.GenesisTime = genesis
	if !slot {
		p.N = 100_000
	}
	return p
}

// panicTB is for the generator outside a test.
type panicTB struct{ testing.TB }

func (panicTB) Helper()                   {}
func (panicTB) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (panicTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// findForever runs a node that finds blocks, and prints the id of each once the books
// hear of it.
func findForever(dir string) error {
	var genesis uint32
	if _, err := fmt.Sscan(os.Getenv(childGenesis), &genesis); err != nil {
		return err
	}
	slot := os.Getenv(childSlot) != ""
	g := chaingen.New(panicTB{}, killParams(genesis, slot))
	n, err := node.Open(node.Config{
		Network: g.Network(), Dir: dir, Payout: chaingen.PayToHash(0),
		OnFound: func(f node.FoundBlock) error { _, err := fmt.Println(f.ID); return err },
	}, quiet)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- n.Run(context.Background(), l) }()
	if slot && n.Chain.Tip().Height == 0 {
		g.Fill("a", 9)
		for _, b := range g.Path("a9") {
			if _, err := n.Chain.AddBlock(b); err != nil {
				return err
			}
		}
	}
	for i := 0; ; i++ {
		select {
		case err := <-failed:
			return err
		default:
		}
		tip := n.Chain.Tip()
		s := solve(n, tip.ChildHeight())
		job, _ := n.Feed.Latest()
		if job.ID != s.JobID {
			continue
		}
		s.Time = job.MinTime // so that the chain does not run ahead of the clock
		// No block is found twice, nor by two processes.
		s.Extranonce = [work.ExtranonceSize]byte{1, byte(i), byte(i >> 8), byte(os.Getpid()), byte(os.Getpid() >> 8)}
		for h := job.Header(s); !job.Target.Met(h.Hash()); h = job.Header(s) {
			s.Nonce++
		}
		if _, _, err := n.SubmitSolution(context.Background(), s); err != nil {
			return err
		}
		if slot && i > 20 {
			select {} // as many as are kept over several lives
		}
	}
}

// TestKillFinder kills a node that finds blocks, again and again, with SIGKILL:
// whatever the books heard of is on the chain after the next start or, if it was not
// due yet, waits to be.
func TestKillFinder(t *testing.T) {
	for name, tc := range map[string]struct {
		slot   bool
		rounds int
		want   []node.BlockStatus
	}{
		"mined":    {false, 12, []node.BlockStatus{node.BlockOnChain, node.BlockStale}},
		"fallback": {true, 2, []node.BlockStatus{node.BlockHeld}},
	} {
		t.Run(name, func(t *testing.T) {
			genesis := uint32(time.Now().Unix()) - 9*60
			if !tc.slot {
				genesis -= 3600
			}
			dir, all := t.TempDir(), map[types.Hash]bool{}
			for round := range tc.rounds {
				for _, id := range killFinder(t, dir, genesis, tc.slot, 1+round*5%13, round*331%2000) {
					all[id] = true
				}
				g := chaingen.New(t, killParams(genesis, tc.slot))
				n := open(t, node.Config{Network: g.Network(), Dir: dir})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- n.Run(ctx, listen(t, "127.0.0.1:0")) }()
				cancel() // the open records come before everything else
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				for id := range all {
					s, err := n.BlockState(id)
					if ok := s.Status == tc.want[0] || s.Status == tc.want[len(tc.want)-1]; !ok || err != nil {
						t.Fatalf("round %d: block %s: %+v, %v", round, id, s, err)
					}
				}
				if err := n.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if len(all) < tc.rounds {
				t.Errorf("%d blocks in %d rounds", len(all), tc.rounds)
			}
		})
	}
}

// killFinder starts the child, kills it some time after it has found as many blocks
// and returns all that its books heard of.
func killFinder(t *testing.T, dir string, genesis uint32, slot bool, finds, spin int) (ids []types.Hash) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir, fmt.Sprintf("%s=%d", childGenesis, genesis))
	if slot {
		child.Env = append(child.Env, childSlot+"=1")
	}
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		id, err := types.ParseHash(lines.Text())
		if err != nil {
			break // a line cut short by the kill
		}
		if ids = append(ids, id); len(ids) == finds {
			for range spin { // so that the kill hits any point of what comes next
				runtime.Gosched()
			}
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || len(ids) < finds {
		t.Fatalf("the child ended by itself after %d blocks: %v", len(ids), err)
	}
	return ids
}
