package chain_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/types"
)

// usage is what a node uses of memory and disk.
type usage struct {
	heap, disk int64
	entries    int
	sizes      map[string]int
}

func measure(tb testing.TB, m *chain.Manager, s *store.Store) usage {
	tb.Helper()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	u := usage{heap: int64(mem.HeapAlloc), sizes: chain.Sizes(m)}
	names, err := filepath.Glob(filepath.Join(s.Dir(), "*"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			tb.Fatal(err)
		}
		u.disk += info.Size()
	}
	for _, err := range s.Entries() {
		if err != nil {
			tb.Fatal(err)
		}
		u.entries++
	}
	return u
}

// floodRig is a node on disk whose clock stands still.
func floodRig(tb testing.TB, change func(p *consensus.Params)) (*rig, *store.Store) {
	tb.Helper()
	p := chaingen.P256Params()
	change(&p)
	g := chaingen.New(tb, p)
	s := openDisk(tb, tb.TempDir(), g.Network(), store.Options{})
	tb.Cleanup(func() { closeDisk(tb, s) })
	now := time.Unix(4_000_000_000, 0)
	r := &rig{node: newNode(tb, g.Network(), s), g: g}
	r.m = openAt(tb, g.Network(), s, func() time.Time { return now })
	return r, s
}

// TestFloodVotes: two stolen keys vote for 100,000 different links between 316
// slots. Two votes of each key for each slot are counted, and nothing is stored.
func TestFloodVotes(t *testing.T) {
	const slots = 316
	votes := 100_000
	if race {
		votes = 10_000
	}
	r, s := floodRig(t, func(p *consensus.Params) { p.N = 2 })
	names := []string{"genesis"}
	for i := range 2 * slots {
		node := r.g.Next(fmt.Sprint("a", i+1))
		if got, err := r.m.AddBlock(node.Block); got != chain.Connected {
			t.Fatal(got, err)
		}
		if i%2 == 1 {
			names = append(names, node.Name)
		}
	}
	before := measure(t, r.m, s)
	given, counted, want, spent := 0, 0, 0, 0
	for target := 1; target <= slots; target++ {
		for source := range target {
			for _, key := range []uint8{1, 4} {
				if given == votes {
					continue
				}
				given++
				switch {
				case source < 2:
					want++
				case source == 2:
					spent++ // from here on not even the signature is looked at
				}
				added, err := r.m.AddAttestation(r.g.Vote(names[source], names[target], key))
				if added {
					counted++
				} else if !errors.Is(err, consensus.RuleVoteLimit) {
					t.Fatalf("vote %d: %v", given, err)
				}
			}
		}
	}
	after := measure(t, r.m, s)
	t.Logf("%d votes given, %d counted; heap +%d kB, disk +%d bytes; %v", given, counted, (after.heap-before.heap)>>10, after.disk-before.disk, after.sizes)
	if given != votes || counted != want || want > 2*2*slots {
		t.Errorf("%d of %d votes counted, want %d", counted, given, want)
	}
	if after.disk != before.disk || after.entries != before.entries {
		t.Errorf("disk grew by %d bytes, %d entries", after.disk-before.disk, after.entries-before.entries)
	}
	if grown := after.heap - before.heap; grown > 4<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
	for kind, n := range map[string]int{"certificates": 0, "unstored": 0, "slots": 1, "accused": 0, "evidence": 2, "spent": spent} {
		if after.sizes[kind] != n {
			t.Errorf("%d %s, want %d", after.sizes[kind], kind, n)
		}
	}
	// And the keys are accused, so that the next slot takes them their votes.
	if got := r.m.Records(tipOf(r), 10_000); len(got) != 2 {
		t.Errorf("%d records to carry, want evidence against two keys", len(got))
	}
}

// TestFloodBlocks: thousands of blocks that cost nothing to make leave nothing
// behind but the few of a key at a slot that may be twins; those that cost work
// leave a header.
func TestFloodBlocks(t *testing.T) {
	r, s := floodRig(t, func(p *consensus.Params) { p.N = testN })
	r.grow(chain.Connected, "genesis", "a", 3*testN+3)
	r.certify("genesis", "a4", 0, 1, 2)
	r.certify("a4", "a8", 0, 1, 2, 3)
	r.on("a15", "a8", "a4")
	stolen := r.g.Tip().State.ValidatorOfRank(3)
	start := measure(t, r.m, s)
	count := 0
	flood := func(name string, n, entries int, bytesEach int64, want error, next func() *types.Block) {
		t.Helper()
		before := measure(t, r.m, s)
		refused := 0
		for range n {
			if _, err := r.m.AddBlock(next()); errors.Is(err, want) {
				refused++
			} else {
				mustBlame(t, err)
			}
		}
		after := measure(t, r.m, s)
		grown, disk := after.entries-before.entries, after.disk-before.disk
		t.Logf("%s: %d blocks, %d refused; %d entries, disk +%d bytes, heap %+d kB; %v", name, n, refused, grown, disk, (after.heap-before.heap)>>10, after.sizes)
		if grown != entries || refused < n-entries || disk > bytesEach*int64(n) {
			t.Errorf("%s: %d entries, want %d; %d bytes, want at most %d each", name, grown, entries, disk, bytesEach)
		}
	}
	// Blocks are made without the generator, which would remember them all.
	block := func(parent string, make func(p *consensus.State, b *types.Block)) *types.Block {
		count++
		p := r.g.Node(parent).State
		b := chaingen.Clone(r.g.Node("a1").Block)
		in := &b.Transactions[0].Inputs[0]
		in.SignatureScript = append(types.HeightScript(p.ChildHeight()), 4, byte(count), byte(count>>8), 1, 1)
		b.PrevBlock, b.Time, b.Bits, b.Nonce = p.ID, p.Time+60, p.NextBits(), 0
		make(&p, b)
		return b
	}
	work := func(p *consensus.State, b *types.Block) {
		chaingen.FixMerkleRoot(b)
		target := p.NextTarget()
		for b.Nonce = 0; !types.HashMeets(b.Header.ID(), &target); b.Nonce++ {
		}
	}
	sign := func(p *consensus.State, b *types.Block) {
		key := p.Validators().Keys[stolen]
		b.Time, _ = p.SignedWindow(stolen)
		b.Transactions[0].Outputs = append([]types.TxOut{{}, {PkScript: types.KeyScript(key)}}, b.Transactions[0].Outputs[2:]...)
		chaingen.FixMerkleRoot(b)
		digest := consensus.SlotDigest(r.net.ID, p.ValidatorSetID(), p.ChildHeight(), b.Header.ID())
		b.VchBlockSig = types.BlockSig{Index: stolen, Signature: r.g.Secret(key).Sign(digest)}.Bytes()
	}
	twin := func(p *consensus.State, b *types.Block) {
		b.Transactions[0].Outputs = append(b.Transactions[0].Outputs, types.TxOut{})
		sign(p, b)
	}
	flood("below the final slot", 3000, 0, 0, consensus.RuleBelowFinal, func() *types.Block { return block("a2", work) })
	flood("without work", 3000, 0, 0, consensus.RuleWork, func() *types.Block {
		return block("a14", func(p *consensus.State, b *types.Block) {
			target := p.NextTarget()
			for b.Nonce = 0; types.HashMeets(b.Header.ID(), &target); b.Nonce++ {
			}
		})
	})
	flood("spoiled signature", 3000, 0, 0, consensus.RuleBlockSig, func() *types.Block {
		return block("a15", func(p *consensus.State, b *types.Block) { twin(p, b); b.VchBlockSig[9]++ })
	})
	flood("other transactions", 3000, 0, 0, consensus.RuleMerkleRoot, func() *types.Block {
		return block("a14", func(p *consensus.State, b *types.Block) { work(p, b); b.Transactions[0].LockTime++ })
	})
	flood("twins", 3000, 2, 100, consensus.RuleTwinLimit, func() *types.Block { return block("a15", twin) })
	flood("invalid twins", 3000, 2, 100, consensus.RuleTwinLimit, func() *types.Block {
		return block("a11", func(p *consensus.State, b *types.Block) {
			b.Transactions = append(b.Transactions, r.g.Node("a1").Block.Transactions[0])
			twin(p, b)
		})
	})
	const solved = 300
	flood("invalid, with work", solved, solved, 1000, consensus.RuleExtraCoinbase, func() *types.Block {
		return block("a14", func(p *consensus.State, b *types.Block) {
			b.Transactions = append(b.Transactions, r.g.Node("a1").Block.Transactions[0])
			work(p, b)
		})
	})
	end := measure(t, r.m, s)
	for kind, most := range map[string]int{"held": 0, "arrivals": 8, "leaves": 8, "recent": 1, "certificates": 2, "unstored": 0, "slots": 2, "twins": 8, "accused": 1, "heard": 5, "evidence": 0} {
		if end.sizes[kind] > most {
			t.Errorf("%d %s, want at most %d", end.sizes[kind], kind, most)
		}
	}
	if grown := end.heap - start.heap; grown > 4<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
	verify(t, r.net, s)
}
