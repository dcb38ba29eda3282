package simnet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
)

// Config describes a network. The zero value is five nodes, each with one of
// five validator keys and a fifth of the hash power.
type Config struct {
	Params *consensus.Params // nil: Params()
	Nodes  []NodeConfig      // nil: Validators()
	Delay  time.Duration     // of each message; 0: 200 ms
	Loss   float64           // share of messages that are lost
	Seed   uint64
}

// NodeConfig describes a node.
type NodeConfig struct {
	Name string
	Keys []int // numbers of validator keys (chaingen) its signer holds
	// Token, unless it is nil, holds the signer's keys, Public, in place of Keys.
	Token  signer.Token
	Public []types.PublicKey
	Share  float64       // of the hash power that finds a block an interval at first
	Skew   time.Duration // of its clock
	// Late nodes are started by the test.
	Late bool
	// Detached nodes have links only where Net.Link makes them.
	Detached bool
}

// Params returns the main numbers of the protocol. Mining starts a little above
// the easiest target, so that difficulty can move both ways.
func Params() *consensus.Params {
	p := chaingen.Params()
	p.Name = "simnet"
	p.GenesisTime = bubbleStart
	p.GenesisBits = 0x200fffff
	return &p
}

// FastParams returns a network of seconds: a tenth of the times of Params.
func FastParams() *consensus.Params {
	p := Params()
	p.Name = "simnet-fast"
	p.IntervalSeconds, p.HalfLifeSeconds = 6, 720
	p.SlotOpenSeconds, p.SlotCloseSeconds, p.RankStepSeconds, p.FutureLimitSeconds = 12, 60, 2, 6
	return p
}

// bubbleStart is when the clock of a synctest bubble starts: 2000-01-01 UTC.
const bubbleStart = 946_684_800

// Validators returns five nodes with one key and a fifth of the hash power each.
func Validators() []NodeConfig { return Split5(1, 1, 1, 1, 1) }

// Split5 returns nodes that hold the five keys in groups of these sizes, each
// with its part of the hash power.
func Split5(sizes ...int) []NodeConfig {
	var list []NodeConfig
	key := 0
	for i, size := range sizes {
		c := NodeConfig{Name: fmt.Sprintf("v%d", i), Share: float64(size) / 5}
		for range size {
			c.Keys = append(c.Keys, key)
			key++
		}
		list = append(list, c)
	}
	return list
}

// Net is a running network.
type Net struct {
	T       *testing.T
	Network *consensus.Network
	Nodes   []*Node // a test may leave out those it does not look at any more

	cfg   Config
	all   []*Node
	ctx   context.Context
	start time.Time
	log   timeline
	wg    sync.WaitGroup // of links

	mu     sync.Mutex
	rng    *rand.Rand
	group  map[*Node]int // 0 where nothing is split
	linked map[pair]bool // that should be up when both ends run
	links  map[pair]*link
	finals map[uint32]types.Hash // what any node called final
	extra  []*link               // of adversaries
}

// pair is two nodes, the lower index first.
type pair struct{ a, b *Node }

func pairOf(a, b *Node) pair {
	if a.index > b.index {
		a, b = b, a
	}
	return pair{a, b}
}

// Run brings a network up, runs a test on it, and stops it. It also holds every
// run to what must hold in all of them: no node ever gives up a final slot, and
// no two nodes have different ones.
func Run(t *testing.T, cfg Config, test func(*Net)) {
	t.Helper()
	if cfg.Params == nil {
		cfg.Params = Params()
	}
	if cfg.Nodes == nil {
		cfg.Nodes = Validators()
	}
	if cfg.Delay == 0 {
		cfg.Delay = 200 * time.Millisecond
	}
	dir, outer := directory(t), t
	synctest.Test(t, func(t *testing.T) {
		network, err := consensus.NewNetwork(*cfg.Params)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		n := &Net{
			T: t, Network: network, cfg: cfg, ctx: ctx, start: time.Now(),
			rng:   rand.New(rand.NewPCG(cfg.Seed, 1)),
			group: map[*Node]int{}, linked: map[pair]bool{}, links: map[pair]*link{}, finals: map[uint32]types.Hash{},
		}
		n.log.start = n.start
		defer func() {
			for _, l := range n.extra {
				l.close("cut")
			}
			for _, node := range n.all {
				node.Stop()
			}
			cancel()
			n.wg.Wait()
			if t.Failed() || outer.Failed() {
				t.Log(n.log.String())
			}
		}()
		for i, c := range cfg.Nodes {
			n.Nodes = append(n.Nodes, newNode(n, i, c, dir))
		}
		for i, a := range n.Nodes {
			for _, b := range n.Nodes[:i] {
				n.linked[pairOf(a, b)] = !a.cfg.Detached && !b.cfg.Detached
			}
		}
		n.all = slices.Clone(n.Nodes)
		for _, node := range n.Nodes {
			if !node.cfg.Late {
				node.Start()
			}
		}
		test(n)
	})
}

// directory is where the signers' journals lie: in memory where that can be, as
// no run looks at what a disk does, and waiting for one takes most of the time.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "simnet")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Sleep lets virtual time pass.
func (n *Net) Sleep(d time.Duration) { time.Sleep(d) }

// Elapsed returns the virtual time since the start.
func (n *Net) Elapsed() time.Duration { return time.Since(n.start) }

// Event writes a line into the timeline.
func (n *Net) Event(format string, args ...any) { n.log.add("test", format, args...) }

// Until waits until a condition holds, and fails the test after most.
func (n *Net) Until(most time.Duration, what string, cond func() bool) {
	n.T.Helper()
	for deadline := time.Now().Add(most); !cond(); time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			n.T.Fatalf("after %v of virtual time, %v since the start, still not: %s", most, n.Elapsed().Round(time.Second), what)
		}
	}
}

// Split cuts all links between nodes of different groups, given by index. Nodes
// in no group make up one more.
func (n *Net) Split(groups ...[]int) {
	n.Event("split %v", groups)
	n.regroup(groups)
	n.rewire()
}

// Heal ends a split.
func (n *Net) Heal() {
	n.Event("heal")
	n.regroup(nil)
	n.rewire()
}

func (n *Net) regroup(groups [][]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.group)
	for g, list := range groups {
		for _, i := range list {
			n.group[n.all[i]] = g + 1
		}
	}
}

// Link says whether two nodes have a link.
func (n *Net) Link(a, b int, up bool) {
	n.mu.Lock()
	n.linked[pairOf(n.all[a], n.all[b])] = up
	n.mu.Unlock()
	n.rewire()
}

// rewire brings links up and down as they should be.
func (n *Net) rewire() {
	var up, down []*link
	n.mu.Lock()
	for p, linked := range n.linked {
		want := linked && p.a.running() && p.b.running() && n.group[p.a] == n.group[p.b]
		switch l := n.links[p]; {
		case want && l == nil:
			l = newLink(n, p.a, p.b)
			n.links[p] = l
			up = append(up, l)
		case !want && l != nil:
			delete(n.links, p)
			down = append(down, l)
		}
	}
	n.mu.Unlock()
	for _, l := range down {
		l.close("cut")
	}
	for _, l := range up {
		l.open()
	}
}

func (n *Net) random() float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rng.Float64()
}

// final notes a final slot and fails the test if another block was final there.
func (n *Net) final(who string, c consensus.Checkpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old, ok := n.finals[c.Height]; ok && old != c.ID {
		n.T.Errorf("%s has slot %s final at height %d, another node had %s", who, short(c.ID), c.Height, short(old))
	}
	n.finals[c.Height] = c.ID
}
