package chaingen_test

import (
	"fmt"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// slots adds blocks up to and including the slots at these heights, named s10,
// s20 …; records go into the slot they are given for.
func slots(g *chaingen.Generator, records map[uint32][]consensus.Record, heights ...uint32) {
	for _, h := range heights {
		for g.Tip().State.ChildHeight() < h {
			g.Next(fmt.Sprintf("b%d", g.Tip().State.ChildHeight()))
		}
		g.Next(fmt.Sprintf("s%d", h), chaingen.Records(records[h]...))
	}
}

// TestEveryKindOfRecordIsValid goes through a change of the set with both
// algorithms, from the first votes to evidence against a key of the new set.
func TestEveryKindOfRecordIsValid(t *testing.T) {
	for name, params := range networks {
		t.Run(name, func(t *testing.T) {
			p := params()
			a := p.Validators[0].Algorithm
			other := types.Secp256k1 + types.P256 - a
			g := chaingen.New(t, p)
			slots(g, nil, 10)
			keys := append(chaingen.PublicKeys(a, 0, 7), chaingen.PublicKeys(other, 5)...)
			slots(g, map[uint32][]consensus.Record{20: {
				g.Certificate("genesis", "s10", 0, 2, 4), g.SetChange(keys, 1, 2, 3),
			}}, 20)
			slots(g, nil, 30)
			slots(g, map[uint32][]consensus.Record{40: {
				// Voters 5 and 6 are the new keys; s20 was still the old set's.
				g.Certificate("s10", "s20", 0, 1, 2, 3), g.Certificate("s20", "s30", 0, 1, 2, 3, 5, 6),
			}}, 40)
			if set := g.Tip().State.Validators(); set.Number != 1 || len(set.Keys) != 3 || set.Keys[2] != keys[2] {
				t.Fatalf("after the handover set %+v is in force", set)
			}
			slots(g, nil, 50)
			g.Fill("c", 9)
			fork := g.Tip().Name
			one := g.NextSigned("one", 2)
			g.SetTip(fork)
			g.NextSigned("two", 2)
			slots(g, map[uint32][]consensus.Record{70: {
				g.SlotEvidence("one", "two"), g.Evidence(g.Vote("s50", "two", 0), g.Vote("s40", "one", 0)),
			}}, 70)
			if got := g.Tip().State.Proven().Disabled; len(got) != 2 {
				t.Errorf("disabled: %v", got)
			}
			check(t, g, "s70")
			if one.Err != nil {
				t.Error(one.Err)
			}
			// The reward of a key of the new set can be spent.
			reward := g.Node("two").Reward()
			g.Next("spends", g.Include(g.Spend([]consensus.UTXO{reward}, chaingen.Pay(0, chaingen.PayToHash(0)))))
			check(t, g, "spends")
		})
	}
}
