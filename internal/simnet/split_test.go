package simnet_test

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/simnet"
	"qcitycoin.org/qcity/node/consensus"
)

// TestA15Partition3And2 cuts the network: the side with three validators goes on
// certifying, the other one says so, and gives way when they meet again.
func TestA15Partition3And2(t *testing.T) {
	simnet.Run(t, simnet.Config{}, func(n *simnet.Net) {
		most, few := n.Nodes[0], n.Nodes[3]
		n.Finalise(most, 20)
		n.Agree(10 * time.Minute)
		n.Split([]int{0, 1, 2}, []int{3, 4})
		n.Sleep(10 * time.Second) // what was under way
		before := few.Standing()
		n.Sleep(90 * time.Minute)
		a, b := most.Standing(), few.Standing()
		if a.Certified.Height < before.Certified.Height+20 {
			t.Errorf("three validators certified %d, before the split it was %d", a.Certified.Height, before.Certified.Height)
		}
		if a.Final != before.Final {
			t.Errorf("three validators made %d final", a.Final.Height)
		}
		if b.Certified != before.Certified || b.Final != before.Final {
			t.Errorf("two validators certified %d, final %d", b.Certified.Height, b.Final.Height)
		}
		if d, bad := b.Degraded(); !bad || d.Missing != consensus.Certified {
			t.Errorf("the smaller side is degraded: %t, %+v", bad, d)
		}
		if b.Tip.SignedSlots <= before.Tip.SignedSlots {
			t.Error("two validators do not sign")
		}
		most.ResetDeepest()
		certified := a.Certified
		n.Heal()
		n.Agree(20 * time.Minute)
		if !few.Holds(certified.ID) {
			t.Error("the smaller side did not take up what the larger one certified")
		}
		if most.Deepest() >= 10 {
			t.Errorf("the larger side reorganised %d blocks", most.Deepest())
		}
		if few.Deepest() == 0 {
			t.Error("there was nothing to heal")
		}
		n.Finalise(few, certified.Height)
		n.Agree(10 * time.Minute)
		n.Calm()
	})
}

// TestA15Partition2And2And1 leaves no side a majority: nothing is certified, and
// the network goes on as one when it heals.
func TestA15Partition2And2And1(t *testing.T) {
	for name, d := range map[string]time.Duration{"20 minutes": 20 * time.Minute, "1 hour": time.Hour, "4 hours": 4 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			simnet.Run(t, simnet.Config{}, func(n *simnet.Net) {
				n.Finalise(n.Nodes[0], 20)
				n.Agree(10 * time.Minute)
				n.Split([]int{0, 1}, []int{2, 3}, []int{4})
				n.Sleep(10 * time.Second)
				before := n.Nodes[0].Standing()
				n.Sleep(d)
				for _, node := range n.Nodes {
					s := node.Standing()
					if s.Certified != before.Certified {
						t.Errorf("slot %d was certified", s.Certified.Height)
					}
				}
				n.Heal()
				n.Agree(time.Hour)
				n.Certify(n.Nodes[0], n.Nodes[0].Standing().Tip.Height)
				n.Finalise(n.Nodes[0], n.Nodes[0].Standing().Certified.Height)
				n.Agree(10 * time.Minute)
				n.Calm()
			})
		})
	}
}
