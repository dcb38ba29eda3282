package simnet_test

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/simnet"
	"qcitycoin.org/qcity/node/consensus"
)

// minutes scales a time to the network's interval.
func minutes(n *simnet.Net, count int) time.Duration {
	return time.Duration(count) * time.Duration(n.Network.IntervalSeconds) * time.Second
}

// TestHealthy is the network as it should be: every slot signed in turn, by
// votes certified, and final one slot later.
func TestHealthy(t *testing.T) {
	for name, cfg := range map[string]simnet.Config{
		"main numbers": {},
		"fast":         {Params: simnet.FastParams(), Delay: 50 * time.Millisecond},
		"one box":      {Nodes: simnet.Split5(5)},
		"two boxes":    {Nodes: simnet.Split5(3, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Run(t, cfg, func(n *simnet.Net) {
				n.Sleep(minutes(n, 90))
				n.Agree(minutes(n, 5))
				s := n.Nodes[0].Standing()
				step := n.Network.N
				newest := s.Tip.Height - s.Tip.Height%step
				if newest < 40 {
					t.Fatalf("only at height %d after 90 intervals", s.Tip.Height)
				}
				if s.Tip.LastSigned != newest || s.Tip.SignedSlots != newest/step {
					t.Errorf("%d slots signed, the last %d, at height %d", s.Tip.SignedSlots, s.Tip.LastSigned, s.Tip.Height)
				}
				if s.Certified.Height < newest-step || s.Final.Height < newest-2*step {
					t.Errorf("certified %d, final %d at height %d", s.Certified.Height, s.Final.Height, s.Tip.Height)
				}
				if d, bad := s.Degraded(); bad {
					t.Errorf("degraded: %+v", d)
				}
				for height, by := range n.Nodes[0].Signers() {
					if want := uint8(height / step % 5); by != want {
						t.Errorf("slot %d was signed by validator %d, in turn was %d", height, by, want)
					}
				}
				for _, node := range n.Nodes {
					if depth := node.Deepest(); depth >= step {
						t.Errorf("a reorganisation of %d blocks", depth)
					}
					for rule, count := range node.Refusals() {
						t.Errorf("a signer refused %d times by rule %s", count, rule)
					}
				}
				n.Calm()
			})
		})
	}
}

// TestLossyLinks loses every fifth message and delays the others by seconds.
func TestLossyLinks(t *testing.T) {
	simnet.Run(t, simnet.Config{Loss: 0.2, Delay: 3 * time.Second}, func(n *simnet.Net) {
		n.Sleep(2 * time.Hour)
		n.Agree(time.Hour)
		final := n.Nodes[0].Standing().Final.Height
		n.Finalise(n.Nodes[0], final+20)
		n.Agree(time.Hour)
	})
}

// TestRestarts stops boxes in turn, as a power cut would, and starts them again.
func TestRestarts(t *testing.T) {
	simnet.Run(t, simnet.Config{}, func(n *simnet.Net) {
		for i := range 10 {
			node := n.Nodes[i%5]
			n.Sleep(7 * time.Minute)
			node.Stop()
			n.Sleep(4 * time.Minute)
			node.Start()
		}
		n.Sleep(20 * time.Minute)
		n.Agree(10 * time.Minute)
		s := n.Nodes[0].Standing()
		if d, bad := s.Degraded(); bad {
			t.Errorf("degraded: %+v", d)
		}
		if s.Final.Height < 40 {
			t.Errorf("final is %d after two hours", s.Final.Height)
		}
		if len(s.Tip.Proven().Disabled) > 0 {
			t.Error("a restarted box was caught signing twice")
		}
		n.Calm()
	})
}

// TestAllValidatorsDown lets the miners go on alone for two hours.
func TestAllValidatorsDown(t *testing.T) {
	cfg := simnet.Config{Nodes: append(simnet.Split5(1, 1, 1, 1, 1),
		simnet.NodeConfig{Name: "m0", Share: 0.6}, simnet.NodeConfig{Name: "m1", Share: 0.4})}
	for i := range 5 {
		cfg.Nodes[i].Share = 0
	}
	simnet.Run(t, cfg, func(n *simnet.Net) {
		miner := n.Nodes[5]
		n.Finalise(miner, 20)
		for _, v := range n.Nodes[:5] {
			v.Stop()
		}
		before := miner.Standing()
		n.Sleep(2 * time.Hour)
		s := miner.Standing()
		if s.Tip.SignedSlots > before.Tip.SignedSlots || s.Certified != before.Certified {
			t.Errorf("%d slots signed, certified %d, without validators", s.Tip.SignedSlots, s.Certified.Height)
		}
		if s.Tip.Height < before.Tip.Height+60 {
			t.Errorf("%d blocks in two hours", s.Tip.Height-before.Tip.Height)
		}
		if got := s.Of(s.Tip.Height); got != consensus.ByWork {
			t.Errorf("the newest block counts as %s", got)
		}
		if d, bad := s.Degraded(); !bad || d.Missing != consensus.BySignature || d.Since != before.Tip.LastSigned+10 {
			t.Errorf("degraded: %t, %+v; last signed %d", bad, d, before.Tip.LastSigned)
		}
		for _, v := range n.Nodes[:5] {
			v.Start()
		}
		back := s.Tip.Height
		n.Finalise(miner, back)
		n.Agree(10 * time.Minute)
		if s := miner.Standing(); s.Of(back) != consensus.Final {
			t.Errorf("what was mined meanwhile counts as %s", s.Of(back))
		}
		if d, bad := degraded(miner); bad {
			t.Errorf("still degraded: %+v", d)
		}
		if depth := miner.Deepest(); depth >= 10 {
			t.Errorf("a miner reorganised %d blocks", depth)
		}
	})
}

func degraded(node *simnet.Node) (consensus.Degradation, bool) {
	s := node.Standing()
	return s.Degraded()
}
