package simnet

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/syncer"
	"qcitycoin.org/qcity/node/types"
)

// Adversary knows every block of every node at once and every validator's key,
// uses what a test has it use, and says what it likes to whom it likes.
type Adversary struct {
	// Signs makes signatures for keys that are not the simulation's; nil: all are.
	Signs func(key types.PublicKey, digest types.Hash) [64]byte

	net *Net
	rng *rand.Rand

	mu     sync.Mutex
	blocks map[types.Hash]*types.Block
	states map[types.Hash]consensus.State
	made   uint64
	conns  map[*Node]*conn
	heard  []syncer.Verdict
	serves types.Hash
}

// Adversary returns a new one, without links.
func (n *Net) Adversary() *Adversary {
	return &Adversary{
		net: n, rng: rand.New(rand.NewPCG(n.cfg.Seed, 99)),
		blocks: map[types.Hash]*types.Block{}, states: map[types.Hash]consensus.State{},
		conns: map[*Node]*conn{},
	}
}

func (a *Adversary) name() string { return "evil" }

// Attach gives it a new link to each of these nodes. Splits do not cut it.
func (a *Adversary) Attach(nodes ...*Node) {
	for _, node := range nodes {
		l := newLink(a.net, a, node)
		a.net.mu.Lock()
		a.net.extra = append(a.net.extra, l)
		a.net.mu.Unlock()
		l.open()
	}
}

// Detach ends its link to a node.
func (a *Adversary) Detach(node *Node) {
	a.mu.Lock()
	c := a.conns[node]
	a.mu.Unlock()
	if c != nil {
		c.link.close("cut")
	}
}

// Dropped reports whether a node ended its link.
func (a *Adversary) Dropped(node *Node) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conns[node] == nil
}

func (a *Adversary) connected(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns[c.other.(*Node)] = c
}

func (a *Adversary) disconnected(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if node := c.other.(*Node); a.conns[node] == c {
		delete(a.conns, node)
	}
}

func (a *Adversary) receive(c *conn, m syncer.Message) {
	switch m := m.(type) {
	case syncer.Verdict:
		a.mu.Lock()
		a.heard = append(a.heard, m)
		a.mu.Unlock()
	case syncer.Ask:
		a.answer(c, m.Locator)
	}
}

// Serve makes it answer asks with the chain that ends in a block, as an honest
// node would with its best one.
func (a *Adversary) Serve(tip types.Hash) {
	a.mu.Lock()
	a.serves = tip
	conns := make([]*conn, 0, len(a.conns))
	for _, c := range a.conns {
		conns = append(conns, c)
	}
	a.mu.Unlock()
	s := a.State(tip)
	for _, c := range conns {
		c.Send(syncer.Tip{Checkpoint: s.Checkpoint()})
	}
}

func (a *Adversary) answer(c *conn, locator []types.Hash) {
	a.mu.Lock()
	tip := a.serves
	a.mu.Unlock()
	if tip.IsZero() {
		return
	}
	var list []*types.Block
	s := a.State(tip)
	for at := tip; at != a.net.Network.ID && !slices.Contains(locator, at); at = a.Block(at).PrevBlock {
		list = append(list, a.Block(at))
	}
	slices.Reverse(list)
	for _, b := range list[:min(len(list), syncer.DefaultLimits().AnswerBlocks)] {
		c.Send(syncer.Block{Block: b, Asked: true})
	}
	c.Send(syncer.Tip{Checkpoint: s.Checkpoint(), Ends: true})
}

// Verdicts returns what nodes answered about a block.
func (a *Adversary) Verdicts(id types.Hash) (rules []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range a.heard {
		if v.Block == id {
			rules = append(rules, v.Rule)
		}
	}
	return rules
}

// State returns the state after a block of its own or of any running node.
func (a *Adversary) State(id types.Hash) consensus.State {
	a.net.T.Helper()
	a.mu.Lock()
	s, ok := a.states[id]
	a.mu.Unlock()
	for i := 0; !ok && i < len(a.net.all); i++ {
		s, ok = a.net.all[i].lookup(id)
	}
	if !ok {
		a.net.T.Fatalf("nobody knows block %s", id)
	}
	return s
}

// Block returns a block of its own or of any node.
func (a *Adversary) Block(id types.Hash) *types.Block {
	a.net.T.Helper()
	a.mu.Lock()
	b := a.blocks[id]
	a.mu.Unlock()
	for i := 0; b == nil && i < len(a.net.all); i++ {
		b, _, _ = a.net.all[i].store.Block(id)
	}
	if b == nil {
		a.net.T.Fatalf("nobody has block %s", id)
	}
	return b
}

// Stored returns the state after a block if a node has stored it.
func (a *Adversary) Stored(node *Node, id types.Hash) (consensus.State, bool) { return node.lookup(id) }

// Mine makes a block on parent at once, with a time no earlier than the rules
// allow. changes are made before it is solved.
func (a *Adversary) Mine(parent types.Hash, at uint32, changes ...func(*types.Block)) types.Hash {
	s := a.State(parent)
	b := a.draft(&s, max(at, s.MinedTime()))
	b.Transactions[0].Outputs = []types.TxOut{{Value: s.Subsidy(), PkScript: chaingen.PayToHash(15)}}
	for _, change := range changes {
		change(b)
	}
	chaingen.FixMerkleRoot(b)
	target := s.NextTarget()
	for b.Nonce = 0; !types.HashMeets(b.Header.ID(), &target); b.Nonce++ {
	}
	return a.own(&s, b)
}

// Sign makes the block of validator index at a slot, with a time within its
// window that is as close to at as may be.
func (a *Adversary) Sign(parent types.Hash, index uint8, at uint32, records ...consensus.Record) types.Hash {
	s := a.State(parent)
	from, to := s.SignedWindow(index)
	b := a.draft(&s, min(max(at, from), to))
	key := s.Validators().Keys[index]
	first := b.Transactions[0]
	first.Outputs = []types.TxOut{{}, {PkScript: types.KeyScript(key)}}
	if len(records) > 0 {
		first.Outputs = append(first.Outputs, types.TxOut{PkScript: types.NullDataScript(consensus.EncodeRecords(records))})
	}
	chaingen.FixMerkleRoot(b)
	digest := consensus.SlotDigest(a.net.Network.ID, s.ValidatorSetID(), s.ChildHeight(), b.Header.ID())
	b.VchBlockSig = types.BlockSig{Index: index, Signature: a.sign(key, digest)}.Bytes()
	return a.own(&s, b)
}

// Key returns the private half of a validator's key.
func (a *Adversary) Key(public types.PublicKey) chaingen.Key {
	for i := range 64 {
		if k := secret(i); k.Public() == public {
			return k
		}
	}
	a.net.T.Fatalf("%s is no validator's key", public)
	return chaingen.Key{}
}

func (a *Adversary) sign(key types.PublicKey, digest types.Hash) [64]byte {
	if a.Signs != nil {
		return a.Signs(key, digest)
	}
	return a.Key(key).Sign(digest)
}

// draft returns a block with everything but outputs; no two are alike.
func (a *Adversary) draft(s *consensus.State, at uint32) *types.Block {
	a.mu.Lock()
	a.made++
	script := binary.LittleEndian.AppendUint64(append(types.HeightScript(s.ChildHeight()), 8), a.made)
	a.mu.Unlock()
	b := &types.Block{Transactions: []*types.Transaction{{
		Version: 1,
		Inputs:  []types.TxIn{{Previous: types.NullOutPoint, SignatureScript: script, Sequence: math.MaxUint32}},
	}}}
	b.Header = types.Header{Version: 1, PrevBlock: s.ID, Time: at, Bits: s.NextBits()}
	return b
}

func (a *Adversary) own(parent *consensus.State, b *types.Block) types.Hash {
	s := parent.Child(&b.SignedHeader, b.Transactions[0])
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blocks[s.ID], a.states[s.ID] = b, s
	return s.ID
}

// Vote returns voter index's vote for a slot, from another.
func (a *Adversary) Vote(source, target types.Hash, index uint8) consensus.Attestation {
	t, s := a.State(target), a.State(source)
	parent := a.State(a.Block(target).PrevBlock)
	voters := parent.Voters()
	l := consensus.Link{Set: voters.ID(), Source: s.Checkpoint(), Target: t.Checkpoint()}
	return consensus.Attestation{Link: l, Index: index, Signature: a.sign(voters.Keys()[index], l.Digest(a.net.Network.ID))}
}

// Certificate returns the votes of several voters as a certificate.
func (a *Adversary) Certificate(source, target types.Hash, indexes ...uint8) consensus.Certificate {
	var votes []consensus.Attestation
	for _, i := range indexes {
		votes = append(votes, a.Vote(source, target, i))
	}
	c, err := consensus.NewCertificate(votes)
	if err != nil {
		a.net.T.Fatal(err)
	}
	return c
}

// Send says something to a node it has a link to.
func (a *Adversary) Send(to *Node, list ...syncer.Message) {
	a.mu.Lock()
	c := a.conns[to]
	a.mu.Unlock()
	if c == nil {
		return
	}
	for _, m := range list {
		c.Send(m)
	}
}

// Publish sends blocks to every node it has a link to.
func (a *Adversary) Publish(ids ...types.Hash) {
	for _, node := range a.net.Nodes {
		for _, id := range ids {
			a.Send(node, syncer.Block{Block: a.Block(id)})
		}
	}
}

// Branch is a chain that the adversary builds in secret.
type Branch struct {
	Tip   types.Hash
	IDs   []types.Hash // of its own blocks, ascending
	Share float64      // of the hash power that finds a block an interval at first
	Keys  []uint8      // validators it can sign for; none: its slots are fallback blocks
	// Time returns the header time of a mined block; nil: the clock.
	Time func(s *consensus.State, now uint32) uint32
}

// Grow builds on while a condition holds; finding blocks takes time as it does
// for everybody.
func (a *Adversary) Grow(b *Branch, while func(s *consensus.State) bool) {
	for {
		s := a.State(b.Tip)
		if !while(&s) {
			return
		}
		if s.ChildIsSlot() && len(b.Keys) > 0 {
			a.extend(b, a.Sign(b.Tip, a.lowest(&s, b.Keys), clock()))
			continue
		}
		time.Sleep(a.net.finding(a.rng, &s, b.Share))
		at := clock()
		if b.Time != nil {
			at = b.Time(&s, at)
		}
		a.extend(b, a.Mine(b.Tip, at))
	}
}

func (a *Adversary) extend(b *Branch, id types.Hash) {
	b.Tip = id
	b.IDs = append(b.IDs, id)
}

// lowest returns the key whose turn is first.
func (a *Adversary) lowest(s *consensus.State, keys []uint8) uint8 {
	return slices.MinFunc(keys, func(x, y uint8) int { return int(s.Rank(x)) - int(s.Rank(y)) })
}

func clock() uint32 { return uint32(time.Now().Unix()) }
