package consensus_test

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// BenchmarkSlotHistory verifies the slot signatures of a history of 800,000 blocks,
// 80,000 of them with ten blocks to a slot, one after the other on one core: over
// different digests, by five validators in turn.
func BenchmarkSlotHistory(b *testing.B) {
	const slots = 80_000
	for _, algorithm := range []types.KeyAlgorithm{types.Secp256k1, types.P256} {
		b.Run(algorithm.String(), func(b *testing.B) {
			// Signing them all would take longer than verifying: a thousand do for all.
			type signed struct {
				key    types.PublicKey
				digest types.Hash
				sig    [64]byte
			}
			var list []signed
			for i := range 1000 {
				k := chaingen.ValidatorKey(algorithm, i%5)
				digest := consensus.SlotDigest(types.Hash{1}, types.Hash{2}, uint32(i+1)*10, types.Hash{byte(i), byte(i >> 8)})
				list = append(list, signed{k.Public(), digest, k.Sign(digest)})
			}
			b.ResetTimer()
			began := time.Now()
			n := 0
			for b.Loop() {
				for i := range slots {
					s := &list[i%len(list)]
					if err := s.key.Verify(s.digest, s.sig); err != nil {
						b.Fatal(err)
					}
				}
				n += slots
			}
			took := time.Since(began).Seconds()
			b.ReportMetric(float64(n)/took, "signatures/s")
			b.ReportMetric(took*slots/float64(n), "s/history")
		})
	}
}
