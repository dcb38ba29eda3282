package embedtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/cluster/clustertest"
)

// campaign runs a box's campaign; the function ends it as a crash would, without
// giving the lease back, or in order.
func campaign(t testing.TB, b *cluster.Claims) (crash func(), end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Campaign(ctx) })
	end = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(end)
	return func() {
		_ = b.Close()
		end()
	}, end
}

func leads(t testing.TB, b *cluster.Claims) {
	t.Helper()
	if !b.Await(t.Context(), time.Minute) || !b.Leading() {
		t.Fatal("the box does not get its turn")
	}
}

// TestFailOver: the box that leads is gone without a word, and the stand-by leads, then
// claims. In order, it is handed over.
func TestFailOver(t *testing.T) {
	t.Parallel()
	e, k := startEtcd(t, 3), clustertest.NewKey()
	boxes := e.boxes(k, 3)
	crash, _ := campaign(t, boxes[0])
	leads(t, boxes[0])
	claim(t, boxes[0], k.Block(10, 0))
	_, end := campaign(t, boxes[1])
	start := time.Now()
	crash()
	leads(t, boxes[1])
	claim(t, boxes[1], k.Block(20, 0))
	t.Logf("the stand-by claimed %v after the leading box died", time.Since(start).Round(time.Millisecond))

	campaign(t, boxes[2])
	start = time.Now()
	end()
	if boxes[1].Leading() {
		t.Error("a box that stopped still leads")
	}
	leads(t, boxes[2])
	t.Logf("handed over in %v", time.Since(start).Round(time.Millisecond))
}

// TestLeaseIsNotTrusted: a step of a clock can at worst end a lease early or keep
// it for ever. So a box takes a lease of ten minutes, which is ended under it, and
// another takes the turn: both believe that they lead. One payload wins nevertheless.
func TestLeaseIsNotTrusted(t *testing.T) {
	t.Parallel()
	e, k := startEtcd(t, 1), clustertest.NewKey()
	var boxes []*cluster.Claims
	for i, lease := range []time.Duration{10 * time.Minute, 0} {
		c := e.box(k, fmt.Sprint("box", i))
		c.Timeouts.Lease = lease
		join(t, c, 0)
		boxes = append(boxes, open(t, c))
	}
	campaign(t, boxes[0])
	leads(t, boxes[0])
	client := e.client()
	leases, err := client.Leases(t.Context())
	if err != nil || len(leases.Leases) != 1 {
		t.Fatal(leases, err)
	}
	if _, err := client.Revoke(t.Context(), leases.Leases[0].ID); err != nil {
		t.Fatal(err)
	}
	campaign(t, boxes[1])
	leads(t, boxes[1])
	for h := uint32(10); h <= 500; h += 10 {
		contest(t, boxes, k, h)
	}
	if !boxes[0].Leading() || !boxes[1].Leading() {
		t.Error("only one box believes that it leads: this tests nothing")
	}
}

// BenchmarkClaim measures the decision alone: one claim, durable in etcd and pin.
func BenchmarkClaim(b *testing.B) {
	for _, members := range []int{1, 3} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			k := clustertest.NewKey()
			box := startEtcd(b, members).boxes(k, 1)[0]
			times := make([]time.Duration, 0, b.N)
			for h := uint32(1); b.Loop(); h++ {
				start := time.Now()
				claim(b, box, k.Block(h, 0))
				times = append(times, time.Since(start))
			}
			clustertest.ReportPercentiles(b.ReportMetric, times)
		})
	}
}

// BenchmarkFailOver measures from the death of the leading box to the stand-by's claim.
func BenchmarkFailOver(b *testing.B) {
	k := clustertest.NewKey()
	e := startEtcd(b, 3)
	var times []time.Duration
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		var pair []*cluster.Claims
		for i := range 2 {
			c := e.box(k, fmt.Sprint("box", n, i))
			join(b, c, 0)
			pair = append(pair, open(b, c))
		}
		crash, _ := campaign(b, pair[0])
		leads(b, pair[0])
		_, end := campaign(b, pair[1])
		b.StartTimer()
		start := time.Now()
		crash()
		leads(b, pair[1])
		claim(b, pair[1], k.Block(uint32(n)+1, 0))
		times = append(times, time.Since(start))
		end()
	}
	clustertest.ReportPercentiles(b.ReportMetric, times)
}
