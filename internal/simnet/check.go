package simnet

import (
	"bytes"
	"context"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/mempool"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/authority"
)

// lookup returns the state after a block that the node has stored.
func (n *Node) lookup(id types.Hash) (consensus.State, bool) {
	e, ok, err := n.store.Entry(id)
	n.must(err)
	return e.State, ok
}

// Stored returns how many blocks the node has in its index.
func (n *Node) Stored() (count int) {
	for _, err := range n.store.Entries() {
		n.must(err)
		count++
	}
	return count
}

// At returns the best chain's block at a height, false above the tip.
func (n *Node) At(height uint32) (types.SignedHeader, bool) {
	id, ok, err := n.store.BestID(height)
	n.must(err)
	if !ok {
		return types.SignedHeader{}, false
	}
	e, _, err := n.store.Entry(id)
	n.must(err)
	return e.Header, true
}

// Holds reports whether a block is on the node's best chain.
func (n *Node) Holds(id types.Hash) bool {
	s, ok := n.lookup(id)
	if !ok {
		return false
	}
	best, _, err := n.store.BestID(s.Height)
	n.must(err)
	return best == id
}

// Signers returns the validators of the signed slots on the node's best chain,
// by height.
func (n *Node) Signers() map[uint32]uint8 {
	list := make(map[uint32]uint8)
	step := n.net.Network.N
	for h := step; ; h += step {
		b, ok := n.At(h)
		if !ok {
			return list
		}
		if b.IsSigned() {
			list[h] = b.VchBlockSig[0]
		}
	}
}

// live returns the nodes that run.
func (n *Net) live() (list []*Node) {
	for _, node := range n.Nodes {
		if node.running() {
			list = append(list, node)
		}
	}
	return list
}

// Agreed reports whether all these nodes, or all that run, have the same tip,
// Standing and validator index.
func (n *Net) Agreed(nodes ...*Node) bool {
	if len(nodes) == 0 {
		nodes = n.live()
	}
	first := nodes[0].Standing()
	for _, node := range nodes[1:] {
		s := node.Standing()
		if s.Tip.ID != first.Tip.ID || s.Certified != first.Certified || s.Final != first.Final ||
			!bytes.Equal(s.Tip.Proven().Bytes(), first.Tip.Proven().Bytes()) {
			return false
		}
	}
	return true
}

// Agree waits until they do.
func (n *Net) Agree(most time.Duration, nodes ...*Node) {
	n.T.Helper()
	n.Until(most, "all on one tip with one standing", func() bool { return n.Agreed(nodes...) })
}

// Reach waits until a node's best chain has a height.
func (n *Net) Reach(node *Node, height uint32) {
	n.T.Helper()
	n.Until(6*time.Hour, "a height", func() bool { return node.Standing().Tip.Height >= height })
}

// Certify waits until a node has a slot at or above a height certified.
func (n *Net) Certify(node *Node, height uint32) {
	n.T.Helper()
	n.Until(6*time.Hour, "a slot certified", func() bool { return node.Standing().Certified.Height >= height })
}

// Finalise waits until a node has a slot at or above a height final.
func (n *Net) Finalise(node *Node, height uint32) {
	n.T.Helper()
	n.Until(6*time.Hour, "a slot final", func() bool { return node.Standing().Final.Height >= height })
}

// Calm fails the test if any node has dropped a peer of its own accord.
func (n *Net) Calm() {
	n.T.Helper()
	for _, node := range n.live() {
		if s := node.Relay().Stats(); s.Dropped > 0 || s.Limited > 0 {
			n.T.Errorf("%s dropped %d honest peers and ignored %d messages", node.cfg.Name, s.Dropped, s.Limited)
		}
	}
}

// Calmly is Calm of some nodes, of which no honest peer was dropped.
func (n *Net) Calmly(nodes ...*Node) {
	n.T.Helper()
	for _, a := range nodes {
		for _, b := range nodes {
			n.mu.Lock()
			l := n.links[pairOf(a, b)]
			n.mu.Unlock()
			if a != b && (l == nil || l.closed()) {
				n.T.Errorf("%s and %s are no longer connected", a.cfg.Name, b.cfg.Name)
			}
		}
	}
}

// SignedBlocks returns how many different signed blocks the node has stored at
// each slot.
func (n *Node) SignedBlocks() map[uint32]int {
	count := make(map[uint32]int)
	for e, err := range n.store.Entries() {
		n.must(err)
		if e.Header.IsSigned() {
			count[e.State.Height]++
		}
	}
	return count
}

// AskSignature has the node propose validator index's block on its tip to its
// signer, whatever the slot driver thinks of the time.
func (n *Node) AskSignature(index uint8) error {
	r := n.live()
	tip := r.chain.Tip()
	h, _, err := r.chain.Header(tip.ID)
	n.must(err)
	_, p, err := r.builder.Proposal(tip, h.Header, index, n.now())
	n.must(err)
	// It says that the chain shows nothing of the signer's keys.
	if err := r.service.Seen(context.Background(), signer.SeenRequest{}); err != nil {
		return err
	}
	_, err = seat{r.service, nil}.SignSlot(context.Background(), &p)
	return err
}

// SignSetChange has the node's signer put its key under a change of the set.
func (n *Node) SignSetChange(r authority.SetChangeRequest) (signer.Response, error) {
	service := n.live().service
	if err := service.Seen(context.Background(), signer.SeenRequest{}); err != nil {
		return signer.Response{}, err
	}
	return service.SignSetChange(context.Background(), r)
}

// Pool returns the running node's mempool.
func (n *Node) Pool() *mempool.Pool { return n.live().pool }

// Reward returns a mature coin that the node's miner was paid, false if it has none.
func (n *Node) Reward() (consensus.UTXO, bool) {
	tip := n.Chain().Tip()
	for h := uint32(1); h+n.net.Network.CoinbaseMaturity <= tip.Height; h++ {
		id, _, _ := n.store.BestID(h)
		b, _, err := n.store.Block(id)
		n.must(err)
		first := b.Transactions[0]
		parent, _ := n.lookup(b.PrevBlock)
		if !b.IsSigned() && bytes.Equal(first.Outputs[0].PkScript, n.payout()) {
			return consensus.UTXO{
				OutPoint: types.OutPoint{TxID: first.ID()},
				Coin:     consensus.Coin{Output: first.Outputs[0], Height: h, ParentTime: parent.Time, Coinbase: true},
			}, true
		}
	}
	return consensus.UTXO{}, false
}

// ChangeSet has the operators of validators with these numbers in the set in
// force sign a change to other keys, and gives it to some nodes.
func (n *Net) ChangeSet(keys []types.PublicKey, signers []uint8, nodes ...*Node) {
	n.T.Helper()
	tip := nodes[0].Chain().Tip()
	set := tip.Validators()
	a := n.Adversary()
	c := &consensus.SetChange{Keys: keys}
	for _, i := range signers {
		c.Sign(i, a.Key(set.Keys[i]).Sign(consensus.SetChangeDigest(n.Network.ID, set, keys)))
	}
	for _, node := range nodes {
		node.must(node.Chain().AddSetChange(c))
	}
}
