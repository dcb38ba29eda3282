package consensus_test

import (
	"slices"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// BenchmarkSignedHeader compares, in turns, validating a decoded header with its
// VchBlockSig to the bare verification of that signature.
func BenchmarkSignedHeader(b *testing.B) {
	for _, algorithm := range []types.KeyAlgorithm{types.Secp256k1, types.P256} {
		b.Run(algorithm.String(), func(b *testing.B) {
			p := chaingen.Params()
			if algorithm == types.P256 {
				p = chaingen.P256Params()
			}
			g := chaingen.New(b, p)
			parent := &g.Fill("a", int(p.N)-1).State
			h := &g.Next("slot").Block.SignedHeader
			sig, err := types.ParseBlockSig(h.VchBlockSig)
			if err != nil {
				b.Fatal(err)
			}
			key := parent.Validators().Keys[sig.Index]
			digest := consensus.SlotDigest(g.Network().ID, parent.ValidatorSetID(), parent.ChildHeight(), h.Header.ID())
			var whole, bare []time.Duration
			for b.Loop() {
				start := time.Now()
				if err := consensus.ValidateHeader(parent, h); err != nil {
					b.Fatal(err)
				}
				middle := time.Now()
				if err := key.Verify(digest, sig.Signature); err != nil {
					b.Fatal(err)
				}
				whole, bare = append(whole, middle.Sub(start)), append(bare, time.Since(middle))
			}
			w, s := median(whole), median(bare)
			b.ReportMetric(float64(w.Nanoseconds()), "ns/header")
			b.ReportMetric(float64(s.Nanoseconds()), "ns/signature")
			b.ReportMetric(float64(w)/float64(s), "ratio")
		})
	}
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}
