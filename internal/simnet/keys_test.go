package simnet_test

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/simnet"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/syncer"
	"qcitycoin.org/qcity/node/types"
)

// withLate adds nodes without keys and links, which a test starts.
func withLate(cfg simnet.Config, names ...string) simnet.Config {
	if cfg.Nodes == nil {
		cfg.Nodes = simnet.Validators()
	}
	for _, name := range names {
		cfg.Nodes = append(cfg.Nodes, simnet.NodeConfig{Name: name, Late: true, Detached: true})
	}
	return cfg
}

// join links late nodes, by their index, to nodes 0 to 2.
func join(n *simnet.Net, late ...int) {
	for _, i := range late {
		for v := range 3 {
			n.Link(v, i, true)
		}
	}
}

// TestA13StolenKeys: a thief with two keys and nine times everybody's hash
// power signs every slot of a branch of its own, against three honest validators.
func TestA13StolenKeys(t *testing.T) {
	simnet.Run(t, withLate(simnet.Config{}, "late"), func(n *simnet.Net) {
		late := n.Nodes[5]
		a := n.Adversary()
		a.Attach(n.Nodes[:5]...)
		n.Certify(n.Nodes[0], 20)
		for _, v := range n.Nodes[3:5] {
			v.Stop()
		}
		n.Nodes = n.Nodes[:3]
		for _, v := range n.Nodes {
			v.SetShare(1. / 3)
		}
		slot := n.Nodes[0].Standing().Tip.Height/10*10 + 20
		n.Certify(n.Nodes[0], slot)
		n.Sleep(10 * time.Second)
		head := signedAt(n, slot)
		b := &simnet.Branch{Tip: head.PrevBlock, Share: 9, Keys: []uint8{3, 4}}
		a.Grow(b, func(s *consensus.State) bool { return s.Height < slot+60 })
		mine, theirs := a.State(b.Tip), n.Nodes[0].Standing().Tip
		if mine.SignedSlots <= theirs.SignedSlots || !mine.Work.Gt(&theirs.Work) {
			t.Fatalf("the branch is no threat: %d signed slots to %d", mine.SignedSlots, theirs.SignedSlots)
		}
		for _, v := range n.Nodes {
			v.ResetDeepest()
		}
		for _, id := range b.IDs {
			if s := a.State(id); s.LastSigned == s.Height {
				for _, v := range n.Nodes {
					a.Send(v, syncer.Attestation{Vote: a.Vote(n.Network.ID, id, 3)}, syncer.Attestation{Vote: a.Vote(n.Network.ID, id, 4)})
				}
			}
		}
		press(n, a, b, 30*time.Minute)
		kept(n, a, head.Header.ID(), b)
		for _, v := range n.Nodes {
			if v.Deepest() >= 10 {
				t.Errorf("a reorganisation of %d blocks", v.Deepest())
			}
		}

		// Who comes later and meets the thief first gives its chain up.
		late.Start()
		a.Attach(late)
		a.Serve(b.Tip)
		n.Until(time.Hour, "the late node follows the thief", func() bool { return late.Holds(b.IDs[50]) })
		n.Nodes = append(n.Nodes, late)
		join(n, 5)
		n.Agree(time.Hour)
		if !late.Holds(head.Header.ID()) {
			t.Error("the late node lacks the certified slot")
		}
	})
}

// TestA13RetiredKeys: the validators hand over to other keys. Later somebody
// with all the old ones writes another history from genesis, with certificates.
func TestA13RetiredKeys(t *testing.T) {
	cfg := simnet.Config{Nodes: simnet.Validators()}
	for i := range cfg.Nodes {
		cfg.Nodes[i].Keys = []int{i, i + 5}
	}
	simnet.Run(t, withLate(cfg, "honest", "vouched"), func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes[:5]...)
		honest, vouched := n.Nodes[5], n.Nodes[6]
		n.Nodes = n.Nodes[:5]
		n.Finalise(n.Nodes[0], 20)
		n.ChangeSet(chaingen.PublicKeys(types.Secp256k1, 5, 6, 7, 8, 9), []uint8{0, 2, 4}, n.Nodes...)
		n.Until(3*time.Hour, "the new set in force", func() bool {
			s := n.Nodes[0].Standing()
			return s.Tip.Proven().Signers.Number == 1 && s.Final.Height > 60
		})
		n.Agree(10 * time.Minute)

		// Times run evenly from genesis to now.
		b := &simnet.Branch{Tip: n.Network.ID, Share: 1e6, Keys: []uint8{0, 1, 2, 3, 4}, Time: func(s *consensus.State, _ uint32) uint32 { return s.Time + 60 }}
		a.Grow(b, func(s *consensus.State) bool { return s.Time+120 < now() })
		certify := func(node *simnet.Node) {
			source := n.Network.ID
			for _, id := range b.IDs {
				if s := a.State(id); s.LastSigned == s.Height {
					a.Send(node, syncer.Certificate{Certificate: a.Certificate(source, id, 0, 1, 2, 3, 4)})
					source = id
				}
			}
		}
		before := n.Nodes[0].Standing()
		offer := func() {
			a.Serve(b.Tip)
			n.Sleep(time.Minute)
			for _, node := range n.Nodes {
				certify(node)
			}
			n.Sleep(10 * time.Minute)
		}
		offer()
		for i, node := range n.Nodes {
			if !node.Holds(before.Final.ID) {
				t.Errorf("node %d gave its final slot up", i)
			}
		}

		// A new node that meets honest peers first keeps to their chain; one whose
		// release vouches for a block of it takes no other.
		honest.Start()
		join(n, 5)
		n.Until(10*time.Minute, "synced", func() bool { return honest.Standing().Final.Height > 0 && n.Agreed(n.Nodes[0], honest) })
		vouched.Trust(50, func() types.Hash { h, _ := n.Nodes[0].At(50); return h.Header.ID() }())
		vouched.Start()
		n.Nodes = append(n.Nodes, honest, vouched)
		a.Attach(honest, vouched)
		offer()
		if h := vouched.Standing().Tip.Height; h >= 50 {
			t.Errorf("the node whose release knows better followed to height %d", h)
		}
		join(n, 6)
		n.Agree(time.Hour)
	})
}

// TestA16SetChangeFork: a change of the set is carried on one side of a split
// only. It takes effect when it is final, and then for all.
func TestA16SetChangeFork(t *testing.T) {
	cfg := simnet.Config{Nodes: simnet.Validators()}
	for i := range cfg.Nodes {
		cfg.Nodes[i].Keys = []int{i, i + 5}
	}
	simnet.Run(t, cfg, func(n *simnet.Net) {
		n.Finalise(n.Nodes[0], 10)
		n.Split([]int{0, 1, 2}, []int{3, 4})
		n.Sleep(10 * time.Second)
		keys := chaingen.PublicKeys(types.Secp256k1, 5, 6, 7, 8, 9)
		n.ChangeSet(keys, []uint8{0, 1, 2}, n.Nodes[:3]...)
		n.Sleep(time.Hour)
		a, b := n.Nodes[0].Standing().Tip, n.Nodes[3].Standing().Tip
		if p := a.Proven(); p.Next == nil || p.Signers.Number != 0 || n.Nodes[0].Standing().Certified.Height <= p.Carrier.Height {
			t.Errorf("on the carrying side: next %v, set %d, certified %d, carrier %d", p.Next, p.Signers.Number, n.Nodes[0].Standing().Certified.Height, p.Carrier.Height)
		}
		if p := b.Proven(); p.Next != nil || p.Signers.Number != 0 {
			t.Error("the other side has a change as well")
		}
		n.Heal()
		n.Until(3*time.Hour, "the new set in force everywhere", func() bool {
			for _, node := range n.Nodes {
				if tip := node.Standing().Tip; tip.Proven().Signers.Number != 1 {
					return false
				}
			}
			return true
		})
		at := n.Nodes[0].Standing().Tip.Height
		n.Finalise(n.Nodes[0], at+10)
		n.Agree(10 * time.Minute)
		if d, bad := degraded(n.Nodes[0]); bad {
			t.Errorf("under the new set: %v", d)
		}
	})
}

// TestUndoBeforeCertificateIsCarried: one bad validator with nine tenths of the
// hash power tries to undo a slot that is certified, before the next slot can
// carry the certificate. Without the certificate it would succeed.
func TestUndoBeforeCertificateIsCarried(t *testing.T) {
	for name, c := range map[string]struct {
		honest    []int
		certified bool
	}{"certified": {[]int{0, 1, 2, 3}, true}, "only signed": {[]int{0, 1}, false}} {
		t.Run(name, func(t *testing.T) {
			cfg := still()
			simnet.Run(t, withLate(cfg, "late"), func(n *simnet.Net) {
				late := n.Nodes[5]
				a := n.Adversary()
				a.Attach(n.Nodes[:5]...)
				bad := uint8(4)
				n.Nodes = n.Nodes[:5]
				lead(n, a, 35)
				for i, v := range n.Nodes {
					if i >= len(c.honest) {
						v.Stop()
					}
				}
				n.Nodes = n.Nodes[:len(c.honest)]
				lead(n, a, 39)
				n.Sleep(2 * time.Minute)
				head := signedAt(n, 40)
				if got := n.Nodes[0].Standing().Certified.Height == 40; got != c.certified {
					t.Fatalf("certified: %t", got)
				}
				tip := n.Nodes[0].Standing().Tip
				if tip.Proven().Certified().Height >= 40 {
					t.Fatal("the certificate is carried already")
				}
				b := &simnet.Branch{Tip: head.PrevBlock, Share: 9, Keys: []uint8{bad}}
				a.Grow(b, func(s *consensus.State) bool { return s.Height < 49 })
				n.Sleep(2 * time.Minute)
				a.Serve(b.Tip)
				n.Sleep(5 * time.Minute)
				for i, v := range n.Nodes {
					if v.Holds(head.Header.ID()) != c.certified {
						t.Errorf("node %d holds the slot: %t", i, !c.certified)
					}
				}
				if !c.certified {
					return
				}
				late.Start()
				a.Attach(late)
				n.Until(time.Hour, "the late node follows the bad validator", func() bool { return late.Holds(b.Tip) })
				join(n, 5)
				n.Until(time.Minute, "the certificate has reached the late node", func() bool { return n.Agreed(n.Nodes[0], late) })
			})
		})
	}
}

// TestLateNodesAgree has nodes join a network with a past in various ways: all
// end with the same tip, the same Standing and the same validator index.
func TestLateNodesAgree(t *testing.T) {
	cfg := simnet.Config{Nodes: simnet.Validators()}
	for i := range cfg.Nodes {
		cfg.Nodes[i].Keys = []int{i, i + 5}
	}
	simnet.Run(t, withLate(cfg, "one", "evil", "last"), func(n *simnet.Net) {
		a := n.Adversary()
		a.Attach(n.Nodes[:5]...)
		late := n.Nodes[5:]
		n.Nodes = n.Nodes[:5]
		n.Finalise(n.Nodes[0], 10)

		// A past: a split, a set that changes, a key found out.
		n.Split([]int{0, 1, 2}, []int{3, 4})
		n.Sleep(45 * time.Minute)
		n.Heal()
		n.ChangeSet(chaingen.PublicKeys(types.Secp256k1, 5, 1, 7, 3, 9), []uint8{0, 1, 2, 3}, n.Nodes...)
		n.Until(3*time.Hour, "the new set in force", func() bool {
			tip := n.Nodes[0].Standing().Tip
			return tip.Proven().Signers.Number == 1
		})
		n.Until(time.Hour, "just after a slot", func() bool { s := n.Nodes[0].Standing().Tip; return s.Height == s.LastSigned })
		n.Sleep(2 * time.Second)
		slot := n.Nodes[0].Standing().Tip.LastSigned
		head := signedAt(n, slot)
		twin := a.Sign(head.PrevBlock, head.VchBlockSig[0], 0)
		branch := &simnet.Branch{Tip: twin, Share: 20, Keys: []uint8{head.VchBlockSig[0]}, IDs: []types.Hash{twin}}
		a.Publish(twin)
		n.Finalise(n.Nodes[0], slot+20)
		if tip := n.Nodes[0].Standing().Tip; len(tip.Proven().Disabled) != 1 {
			t.Fatalf("%d keys disabled", len(tip.Proven().Disabled))
		}
		a.Grow(branch, func(s *consensus.State) bool { return s.Height < slot+60 })

		late[0].Start()
		n.Link(0, 5, true) // one honest peer
		late[1].Start()
		a.Attach(late[1])
		a.Serve(branch.Tip)
		n.Until(time.Hour, "the evil branch followed", func() bool { return late[1].Holds(branch.IDs[len(branch.IDs)/2]) })
		join(n, 6)
		late[2].Start()
		n.Link(5, 7, true) // behind another late node
		n.Link(6, 7, true)
		n.Nodes = append(n.Nodes, late...)
		n.Agree(time.Hour)
		final := n.Nodes[0].Standing().Final.Height
		n.Finalise(late[2], final+10)
		n.Agree(10 * time.Minute)
	})
}
