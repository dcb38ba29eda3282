package load

import (
	"context"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/server"
)

type noChain struct{}

func (noChain) SubmitSolution(context.Context, work.Solution) (work.Outcome, [32]byte, error) {
	return work.Rejected, [32]byte{}, nil
}

// TestOurServer: a thousand miners come at once to our own server, all get
// every new job, and all their shares count, but for those that a new tip
// overtakes. It judges counts; how fast it was is for `qcity pool load` on a
// quiet machine.
func TestOurServer(t *testing.T) {
	const miners, deaf, tips, answers = 1000, 10, 3, 2000
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	feed := work.NewFeed()
	job := func(n int) *work.Job {
		now := uint32(time.Now().Unix())
		return &work.Job{
			ID: uint64(n), Height: uint32(n), Version: 0x20000000, PrevBlock: [32]byte{byte(n)},
			CoinbasePrefix: make([]byte, 60), CoinbaseSuffix: make([]byte, 100), MerkleBranch: make([][32]byte, 8),
			Time: now, MinTime: now - 600, Bits: 0x03000001, Target: work.Target{31: 1},
		}
	}
	feed.Publish(job(1))
	const easy = 1.0 / (1 << 32)
	srv, err := server.New(server.Config{Difficulty: stratum.VardiffConfig{Start: easy, Min: easy, Max: easy}},
		pool.New(time.Now(), pool.Config{}), ln, feed, noChain{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()

	published := 0
	cfg := Config{
		Address: ln.Addr().String(), Connections: miners, Stalled: 0.01, Shares: Rate{Rate: 5000}, pause: 1,
		Duration: time.Hour, // ends when everything was seen
	}
	if runtime.GOOS == "linux" {
		cfg.PIDs = []int{os.Getpid()}
	}
	cfg.Progress = func(p Progress) {
		if p.Phase == "measuring" && p.Broadcasts == published && published < tips {
			published++
			feed.Publish(job(1 + published))
		}
	}
	res := runUntil(t, cfg, func(p Progress) bool { return p.Broadcasts == tips && p.Answers >= answers })

	if res.Storm.Holding != miners || res.Storm.Failed != 0 || len(res.Lost) != 0 || res.Junk+res.Stray != 0 {
		t.Errorf("%d hold a job, %d failed: %v; lost: %v; %d junk, %d stray", res.Storm.Holding, res.Storm.Failed, res.Storm.Reasons, res.Lost, res.Junk, res.Stray)
	}
	if res.Broadcasts.Count != tips || res.Broadcasts.Missing != 0 {
		t.Errorf("%d broadcasts, %d jobs missing", res.Broadcasts.Count, res.Broadcasts.Missing)
	}
	for _, b := range res.Broadcasts.List {
		if b.Reached != miners-deaf || b.Expected != miners-deaf {
			t.Errorf("%d reached of %d", b.Reached, b.Expected)
		}
	}
	if res.Stalled.Connections != deaf || res.Stalled.Closed != 0 {
		t.Errorf("stalled %+v", res.Stalled)
	}
	s := res.Shares
	var refused uint64
	for _, r := range s.Rejected {
		refused += r.Count
		if r.Code != int(stratum.CodeStale) {
			t.Errorf("%d shares refused: %d %s", r.Count, r.Code, r.Text)
		}
	}
	if s.Accepted+refused != s.Answered || s.Answered < answers || s.Accepted == 0 {
		t.Errorf("shares %+v", s)
	}
	if u := res.Pool; runtime.GOOS == "linux" && (u == nil || u.RSSBefore == 0 || u.RSSAfter == 0) {
		t.Errorf("usage %+v", u)
	}
}
