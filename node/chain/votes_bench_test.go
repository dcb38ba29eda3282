package chain_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/store"
)

// BenchmarkAddAttestation gives a node on disk the five votes for each of 100
// slots, and some that change nothing: what one costs that only counts, the one that
// certifies a slot (a Commit), the one that makes the slot before final (two), one
// known before, and one too many of a key.
func BenchmarkAddAttestation(b *testing.B) {
	for _, name := range []string{"secp256k1", "P-256"} {
		b.Run(name, func(b *testing.B) {
			var took [5]time.Duration
			var count [5]int
			for b.Loop() {
				benchmarkVotes(b, algorithms[name](), &took, &count)
			}
			for i, unit := range []string{"µs/counted", "µs/certifies", "µs/finalises", "µs/known", "µs/too-many"} {
				b.ReportMetric(float64(took[i].Microseconds())/float64(count[i]), unit)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func benchmarkVotes(b *testing.B, p consensus.Params, took *[5]time.Duration, count *[5]int) {
	const slots = 100
	p.N = 2
	g := chaingen.New(b, p)
	s := openDisk(b, b.TempDir(), g.Network(), store.Options{})
	defer closeDisk(b, s)
	m := open(b, g.Network(), s)
	names := []string{"genesis"}
	for i := range 2 * slots {
		name := fmt.Sprint("a", i+1)
		if got, err := m.AddBlock(g.Next(name).Block); got != chain.Connected {
			b.Fatal(got, err)
		}
		if i%2 == 1 {
			names = append(names, name)
		}
	}
	give := func(kind int, a consensus.Attestation, want error, added bool) {
		start := time.Now()
		got, err := m.AddAttestation(a)
		took[kind] += time.Since(start)
		count[kind]++
		if got != added || !errors.Is(err, want) {
			b.Fatalf("vote %d for slot %d: %v, %v", a.Index, a.Target.Height, got, err)
		}
	}
	for i := 1; i < slots; i++ {
		vote := func(index uint8) consensus.Attestation { return g.Vote(names[i-1], names[i], index) }
		give(0, vote(0), nil, true)
		give(0, vote(1), nil, true)
		give(1, vote(2), nil, true)
		if i == 1 {
			continue
		}
		// From two sources more, of which the latter is one too many.
		give(0, g.Vote(names[i-1], names[i+1], 4), nil, true)
		if i > 3 {
			give(0, g.Vote(names[i-2], names[i+1], 4), nil, true)
			give(4, g.Vote(names[i], names[i+1], 4), consensus.RuleVoteLimit, false)
			give(4, g.Vote(names[i], names[i+1], 4), consensus.RuleVoteLimit, false)
		}
		give(2, vote(3), nil, true)
		give(3, vote(3), nil, false)
	}
	if final := m.Standing().Final.Height; final != 2*(slots-2) {
		b.Fatalf("final is height %d", final)
	}
}
