package pool

import (
	"context"
	"testing"
	"time"

	"qcitycoin.org/qcity/stratum/pool/reward"
)

// BenchmarkAccept is what one share costs the books, all told: taken, booked,
// divided, encoded and, in the second, written by a process that does nothing else.
func BenchmarkAccept(b *testing.B) {
	b.Run("memory", func(b *testing.B) { benchmarkAccept(b, New(time.Now(), benchConfig(""))) })
	b.Run("durable", func(b *testing.B) {
		books, err := Open(time.Now(), benchConfig(b.TempDir()))
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- books.Run(ctx) }()
		benchmarkAccept(b, books)
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		if err := books.Shut(); err != nil {
			b.Fatal(err)
		}
	})
}

func benchConfig(dir string) Config {
	return Config{Dir: dir, Rules: reward.Rules{Mode: reward.PPLNS}, Payable: func(string) bool { return true }}
}

func benchmarkAccept(b *testing.B, books *Books) {
	now := time.Now()
	var workers [100]*Worker
	for i := range workers {
		workers[i] = books.Open(now, string(rune('a'+i%20))+"."+string(rune('a'+i%5)))
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if n%50_000 == 0 {
			books.NewParent([32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
		}
		if !books.Accept(now, workers[n%len(workers)], Share{Hash: hashOf(n), Difficulty: 1024, Real: 2048}) {
			b.Fatal("a share was there already")
		}
		n++
	}
}

// BenchmarkPlan divides among 1,000 accounts in a full window.
func BenchmarkPlan(b *testing.B) {
	ledger, err := reward.New(reward.Rules{Mode: reward.PPLNS, Factor: 2000}, reward.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	books := New(time.Now(), benchConfig(""))
	books.state.ledger = ledger
	var target [32]byte
	target[4] = 0xff
	ledger.SetNetwork(reward.WorkOfTarget(target))
	for i := range 500_000 {
		ledger.Share(string(rune('a'+i%1000)), 1<<17)
	}
	for b.Loop() {
		books.Plan(1, 5_000_000_000, 3)
	}
}
