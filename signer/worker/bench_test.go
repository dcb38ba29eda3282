package worker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

// BenchmarkSign measures one signature through the whole stack: supervisor,
// socket pair, worker, SoftHSM, normalisation and verification.
func BenchmarkSign(b *testing.B) {
	for _, alg := range []worker.Algorithm{worker.Secp256k1, worker.P256} {
		b.Run(alg.String(), func(b *testing.B) {
			ctx := context.Background()
			s := newBench(b).start(b)
			key := makeKey(b, s, "bench", alg)
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				must[worker.Signature](b)(s.Sign(ctx, key, digest(len(took))))
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
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
	for b.Loop() {
		b.StopTimer()
		killWorker(b, s)
		b.StartTimer()
		must[worker.Signature](b)(s.Sign(ctx, key, digest(0)))
	}
}
