package chain_test

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/types"
)

// childEnv names the directory in which the re-executed test binary adds blocks.
const childEnv = "CHAIN_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, addForever(dir))
		os.Exit(1)
	}
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); race && checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("20"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// addForever adds blocks to the chain in dir, every seventh time a branch of
// two that replaces the tip, and votes for each slot; slots carry what there is to
// be carried. It prints each block's id, and how high certified and final slots
// are, once that is acknowledged.
func addForever(dir string) error {
	var tb panicTB
	net := testNetwork(tb, nil)
	s, err := store.Open(dir, net, store.Options{})
	if err != nil {
		return err
	}
	m := open(tb, net, s)
	for round := uint32(os.Getpid()); ; round++ {
		from := m.Tip()
		count := 1
		if round%7 == 0 && from.Height > 1 && from.Height%testN > 1 {
			b, _, err := m.Block(from.ID)
			if err != nil {
				return err
			}
			from, _, err = m.State(b.PrevBlock)
			if err != nil {
				return err
			}
			count = 2
		}
		for range count {
			r := recipe{tag: round, signed: from.ChildIsSlot()}
			if r.signed {
				r.index, r.carry = from.ValidatorOfRank(0), m.Records(&from, 10_000)
			}
			parent := from
			var b *types.Block
			b, from = r.make(from)
			if _, err := m.AddBlock(b); err != nil {
				return err
			}
			fmt.Println(b.Header.ID())
			if r.signed {
				if err := vote(m, parent, from); err != nil {
					return err
				}
			}
		}
	}
}

// vote has all three validators vote for a slot from the highest certified one.
func vote(m *chain.Manager, parent, slot consensus.State) error {
	l := consensus.Link{Set: parent.Voters().ID(), Source: m.Standing().Certified, Target: slot.Checkpoint()}
	for i := range uint8(3) {
		if _, err := m.AddAttestation(attest(m.Network(), l, i)); err != nil {
			return err
		}
		fmt.Println("certified", m.Standing().Certified.Height)
		fmt.Println("final", m.Standing().Final.Height)
	}
	return nil
}

// panicTB is for helpers outside a test.
type panicTB struct{ testing.TB }

func (panicTB) Helper()           {}
func (panicTB) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// acked is what a killed process has acknowledged.
type acked struct {
	blocks           []types.Hash
	certified, final uint64
}

// TestKill kills a process that adds blocks and votes, again and again: whatever
// it acknowledged is there, the chain is in order, and so is all that is proven.
func TestKill(t *testing.T) {
	net, dir := testNetwork(t, nil), t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	var all acked
	rounds := 40
	if race {
		rounds = 10
	}
	for round := range rounds {
		killAfter(t, dir, &all, 1+round*7%19, rng.IntN(3000))
		s := openDisk(t, dir, net, store.Options{})
		// What is stored proves what is stored, before anything is made up for.
		verify(t, net, s)
		m := open(t, net, s)
		standing := m.Standing()
		if uint64(standing.Certified.Height) < all.certified || uint64(standing.Final.Height) < all.final {
			t.Fatalf("round %d: certified %d, final %d; acknowledged were %d, %d", round, standing.Certified.Height, standing.Final.Height, all.certified, all.final)
		}
		for _, id := range all.blocks {
			if _, ok, err := m.Block(id); !ok || err != nil {
				t.Fatalf("round %d: block %s was acknowledged: %v, %v", round, id, ok, err)
			}
			state, _, err := m.State(id)
			if err != nil || state.Weight(0).Compare(standing.Tip.Weight(0)) > 0 {
				t.Fatalf("round %d: block %s is better than the tip %s (%v)", round, id, standing.Tip.ID, err)
			}
		}
		if again := open(t, net, s).Standing(); again.Tip.ID != standing.Tip.ID || again.Certified != standing.Certified || again.Final != standing.Final {
			t.Fatalf("round %d: opened twice, %+v and %+v", round, standing, again)
		}
		verify(t, net, s)
		closeDisk(t, s)
	}
	s := openDisk(t, dir, net, store.Options{ReadOnly: true})
	defer closeDisk(t, s)
	if signed := sameIndex(t, net, s); signed < rounds/2 || int(all.final) < rounds*testN/4 {
		t.Errorf("%d signed slots, final is height %d", signed, all.final)
	}
}

// killAfter starts the child, kills it some time after a number of
// acknowledged blocks, and notes all that it has acknowledged.
func killAfter(t *testing.T, dir string, all *acked, acks, spin int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if what, height, ok := strings.Cut(lines.Text(), " "); ok {
			h, err := strconv.ParseUint(height, 10, 32)
			if err != nil {
				break // a line cut short by the kill
			}
			if what == "final" {
				all.final = max(all.final, h)
			} else {
				all.certified = max(all.certified, h)
			}
			continue
		}
		id, err := types.ParseHash(lines.Text())
		if err != nil {
			break
		}
		all.blocks = append(all.blocks, id)
		if blocks++; blocks == acks {
			for range spin { // so that the kill hits any point of what comes next
				runtime.Gosched()
			}
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // always "signal: killed"
	if blocks < acks {
		t.Fatalf("the child ended by itself after %d blocks", blocks)
	}
}
