package consensus

import (
	"testing"

	"qcitycoin.org/qcity/node/types"
)

// TestPrunedTallyStaysSmall counts a thousand slots with a bad key that votes
// for a twin of each, and for twins of twins, and prunes at each final one.
func TestPrunedTallyStaysSmall(t *testing.T) {
	voters := NewElectorate(ValidatorSet{Keys: modelKeys(0, 5)}, nil, nil)
	at := func(s uint32, twin byte) Checkpoint {
		return Checkpoint{Height: 10 * s, ID: types.Hash{byte(s), byte(s >> 8), twin}}
	}
	tally := newTally(10, at(0, 0))
	most := 0
	for s := range uint32(1000) {
		for i := range uint8(5) {
			votes := []Link{{Source: at(s, 0), Target: at(s+1, 0)}}
			if i == 4 {
				votes = []Link{{Source: at(s, 0), Target: at(s+1, 1)}, {Source: at(s, 1), Target: at(s+1, 2)}}
			}
			for _, l := range votes {
				l.Set = voters.ID()
				if _, err := tally.Add(Attestation{Link: l, Index: i}, voters); err != nil && tally.above(l) {
					t.Fatal(err)
				}
			}
		}
		if s > 0 {
			if err := tally.Prune(at(s, 0)); err != nil {
				t.Fatal(err)
			}
		}
		size := len(tally.links) + len(tally.from) + len(tally.certified) + len(tally.evidence)
		for _, votes := range tally.votes {
			size += len(votes)
		}
		most = max(most, size)
	}
	t.Logf("at most %d entries", most)
	if most > 20 {
		t.Errorf("%d entries after 1,000 final slots", most)
	}
}
