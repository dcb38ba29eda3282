package worker_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

// BenchmarkSign measures signatures through the whole stack: supervisor, socket
// pair, worker, SoftHSM, normalisation and verification, with as many callers as
// sessions. BenchmarkBareSign in package pkcs11 is what to compare with.
func BenchmarkSign(b *testing.B) {
	for _, alg := range []worker.Algorithm{worker.Secp256k1, worker.P256} {
		for _, callers := range []int{1, 2, 4, 8} {
			b.Run(fmt.Sprintf("%s/%d sessions", alg, callers), func(b *testing.B) {
				ctx := context.Background()
				bench := newBench(b)
				bench.cfg.Sessions = callers
				s := bench.start(b)
				key := makeKey(b, s, "bench", alg)
				var next atomic.Int64
				took := make([][]time.Duration, callers)
				b.ResetTimer()
				var wg sync.WaitGroup
				for c := range callers {
					wg.Go(func() {
						for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
							began := time.Now()
							if _, err := s.Sign(ctx, key, digest(n)); err != nil {
								b.Error(err)
								return
							}
							took[c] = append(took[c], time.Since(began))
						}
					})
				}
				wg.Wait()
				reportPercentiles(b, slices.Concat(took...))
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signatures/s")
				b.ReportMetric(float64(residentKiB(b, s.Status().PID))/1024, "worker-MiB")
			})
		}
	}
}

func reportPercentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// residentKiB is the resident memory of a process, with the libraries it shares.
func residentKiB(b *testing.B, pid int) int {
	for line := range strings.Lines(string(must[[]byte](b)(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))))) {
		if strings.HasPrefix(line, "VmRSS:") {
			return must[int](b)(strconv.Atoi(strings.Fields(line)[1]))
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// BenchmarkHang measures from a call to a library that never returns to the good
// signature of the next worker, with the deadlines as they are by default.
func BenchmarkHang(b *testing.B) {
	ctx := context.Background()
	bench := newBench(b).withShim(b)
	bench.cfg.Timeouts, bench.cfg.Budget = worker.Timeouts{}, worker.Budget{Restarts: 1 << 20}
	s := bench.start(b)
	key := makeKey(b, s, "bench", worker.Secp256k1)
	must[worker.Signature](b)(s.Sign(ctx, key, digest(0)))
	for b.Loop() {
		bench.order(b, "C_Sign hang -")
		must[worker.Signature](b)(s.Sign(ctx, key, digest(0)))
	}
}

// BenchmarkRestart measures a killed worker's replacement up to the next
// signature: process, module, login, key search, signature.
func BenchmarkRestart(b *testing.B) {
	ctx := context.Background()
	bench := newBench(b)
	bench.cfg.Budget = worker.Budget{Restarts: 1 << 20}
	s := bench.start(b)
	key := makeKey(b, s, "bench", worker.Secp256k1)
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		killWorker(b, s)
		b.StartTimer()
		began := time.Now()
		must[worker.Signature](b)(s.Sign(ctx, key, digest(0)))
		took = append(took, time.Since(began))
	}
	reportPercentiles(b, took)
}
