package simnet_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/simnet"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/proof"
)

// officers are five validators and a sixth key, each in a token of its own, and
// the people who handle proposals. Box 3 holds the sixth key as well.
type officers struct {
	*simnet.Net
	hsm *hsm
}

func runOfficers(t *testing.T, h *hsm, test func(*officers)) {
	t.Helper()
	cfg := simnet.Config{Params: simnet.Params(), Nodes: simnet.Validators()}
	cfg.Params.Validators = h.keys[:5]
	for i := range cfg.Nodes {
		cfg.Nodes[i].Token, cfg.Nodes[i].Public = h, h.keys[i:i+1:i+1]
	}
	cfg.Nodes[3].Public = append(cfg.Nodes[3].Public, h.keys[5])
	simnet.Run(t, cfg, func(n *simnet.Net) {
		test(&officers{Net: n, hsm: h})
	})
}

// propose makes the file that puts the sixth key in the place of validator 3.
func (o *officers) propose(reason string) []byte {
	o.T.Helper()
	tip := o.Nodes[0].Standing().Tip
	keys, k := slices.Clone(o.hsm.keys[:5]), o.hsm.keys[5]
	keys[3] = k
	challenge := []byte("asked by the officers")
	p, err := authority.Propose(o.Network, authority.Chain{
		Current: tip.Validators(), Disabled: tip.Proven().Disabled, Tip: tip.Height,
	}, keys, []proof.Proof{{
		Key: k, Network: o.Network.ID, Challenge: challenge,
		Signature: o.hsm.must(o.T, k, proof.Digest(o.Network.ID, k, challenge)),
	}}, reason, time.Now())
	if err != nil {
		o.T.Fatal(err)
	}
	return p.Encode()
}

// sign has a validator's people sign their copy of a file.
func (o *officers) sign(file []byte, index uint8) ([]byte, error) {
	o.T.Helper()
	p, err := authority.Parse(file)
	if err != nil {
		o.T.Fatal(err)
	}
	if err := p.Check(o.Network); err != nil {
		o.T.Fatal(err)
	}
	r := p.Request(index, authority.Authorisation{
		People: []string{"Ada Adler", "Bob Berg"}, Fingerprint: authority.Fingerprint(p.Next()), RemoveOwn: index == 3,
	})
	resp, err := o.Nodes[index].SignSetChange(r)
	if err != nil {
		return nil, err
	}
	p, err = p.With(authority.Signature{Index: index, Signature: [64]byte(resp.Signature), People: r.Authorisation.People})
	if err != nil {
		o.T.Fatal(err)
	}
	return p.Encode(), nil
}

// combine collects the signatures of these validators on copies of a file.
func (o *officers) combine(file []byte, signers ...uint8) *authority.Proposal {
	o.T.Helper()
	var copies []*authority.Proposal
	for _, i := range signers {
		signed, err := o.sign(file, i)
		if err != nil {
			o.T.Fatal(err)
		}
		p, err := authority.Parse(signed)
		if err != nil {
			o.T.Fatal(err)
		}
		copies = append(copies, p)
	}
	all, err := authority.Combine(copies[0], copies[1:]...)
	if err != nil {
		o.T.Fatal(err)
	}
	return all
}

// submit hands the change to nodes as submitsetchange does.
func (o *officers) submit(p *authority.Proposal, nodes ...*simnet.Node) {
	o.T.Helper()
	c, err := p.Change()
	if err != nil {
		o.T.Fatal(err)
	}
	for _, node := range nodes {
		read, err := consensus.DecodeSetChange(c.AppendTo(nil))
		if err == nil {
			err = node.Chain().AddSetChange(&read)
		}
		if err != nil {
			o.T.Fatal(err)
		}
	}
}

func number(node *simnet.Node) uint32 {
	tip := node.Standing().Tip
	return tip.Proven().Signers.Number
}

// inForce waits until set 1 is in force on these nodes.
func (o *officers) inForce(nodes ...*simnet.Node) {
	o.T.Helper()
	o.Until(3*time.Hour, "the new set in force", func() bool {
		return !slices.ContainsFunc(nodes, func(node *simnet.Node) bool { return number(node) != 1 })
	})
}

// TestAuthorityChange goes from a proposal to its activation over five nodes
// whose keys, and the sixth that comes in, are in SoftHSM2 tokens.
func TestAuthorityChange(t *testing.T) {
	h := newHSM(t, 6)
	t.Run("proposal to activation", func(t *testing.T) { runOfficers(t, h, changeOver) })
	t.Run("two signers", func(t *testing.T) { runOfficers(t, h, twoSigners) })
	t.Run("partition", func(t *testing.T) { runOfficers(t, h, partitioned) })
	t.Run("second proposal", func(t *testing.T) { runOfficers(t, h, secondProposal) })
}

func changeOver(o *officers) {
	o.Finalise(o.Nodes[0], 10)
	p := o.combine(o.propose("validator 3 retires"), 0, 3, 4)
	o.submit(p, o.Nodes...)
	o.Until(time.Hour, "the change carried", func() bool {
		tip := o.Nodes[0].Standing().Tip
		return tip.Proven().Next != nil
	})
	tip := o.Nodes[0].Standing().Tip
	carrier := tip.Proven().Carrier.Height
	if carrier < p.Chain.Carrier || len(tip.Voters().Sets()) != 2 || len(tip.Voters().Keys()) != 6 {
		o.T.Errorf("carried at %d, said to be %d at the earliest; %d sets vote", carrier, p.Chain.Carrier, len(tip.Voters().Sets()))
	}
	o.inForce(o.Nodes...)

	// The new set is in force when the words say: from the third slot above the
	// carrier on, which was carried a number of slots after the earliest.
	a := o.Adversary()
	for height, want := range map[uint32]uint32{carrier + 2*o.Network.N - 1: 0, carrier + 2*o.Network.N: 1} {
		o.Reach(o.Nodes[0], height)
		b, _ := o.Nodes[0].At(height)
		s := a.State(b.Header.ID())
		if got := s.Proven().Signers.Number; got != want {
			o.T.Errorf("after block %d set %d is in force, want %d", height, got, want)
		}
	}
	effective := p.Chain.Effective + carrier - p.Chain.Carrier

	// The sixth key signs slots, as validator 3, and votes.
	o.Until(6*time.Hour, "a slot signed by the sixth key", func() bool {
		for h, index := range o.Nodes[1].Signers() {
			if h >= effective && index == 3 {
				return true
			}
		}
		return false
	})
	// A slot of another's, as old as to have been the sixth's turn as well.
	slot := uint32(0)
	o.Until(6*time.Hour, "a slot just signed by another", func() bool {
		tip := o.Nodes[0].Standing().Tip
		slot = tip.LastSigned
		return tip.Height == slot && o.Nodes[0].Signers()[slot] != 3
	})
	o.Sleep(100 * time.Second)
	o.Agree(10 * time.Minute)
	head, _ := o.Nodes[0].At(slot)
	before, _ := o.Nodes[0].At(slot - o.Network.N)
	if !slices.ContainsFunc(o.Nodes[0].Chain().Certificates(), func(c consensus.Certificate) bool {
		return c.Target.Height >= effective && c.Signers>>3&1 == 1
	}) {
		o.T.Error("no certificate has a vote of the sixth key")
	}

	// The key that was removed does not: neither a block nor a vote of its counts.
	offer := func(key types.PublicKey) (types.Hash, error) {
		a.Signs = func(_ types.PublicKey, digest types.Hash) [64]byte { return o.hsm.must(o.T, key, digest) }
		id := a.Sign(head.PrevBlock, 3, now())
		_, err := o.Nodes[0].Chain().AddBlock(a.Block(id))
		return id, err
	}
	twin, err := offer(o.hsm.keys[5])
	if err != nil {
		o.T.Errorf("a block by the sixth key: %v", err)
	}
	_, err = offer(o.hsm.keys[3])
	if rule, _ := consensus.RuleOf(err); rule != consensus.RuleBlockSig {
		o.T.Errorf("a block by the removed key: %v", err)
	}
	_, err = o.Nodes[0].Chain().AddAttestation(a.Vote(before.Header.ID(), twin, 3))
	if rule, _ := consensus.RuleOf(err); rule != consensus.RuleAttestSig {
		o.T.Errorf("a vote by the removed key: %v", err)
	}
	final := o.Nodes[0].Standing().Tip
	if _, ok := final.Voters().Index(o.hsm.keys[3]); ok {
		o.T.Error("the removed key is still a voter")
	}
}

// twoSigners: with two signatures nothing happens, whatever is handed in.
func twoSigners(o *officers) {
	o.Finalise(o.Nodes[0], 10)
	p := o.combine(o.propose("reached two only"), 1, 2)
	if _, err := p.Change(); !errors.Is(err, authority.ErrIncomplete) {
		o.T.Errorf("two of five: %v", err)
	}
	c := &consensus.SetChange{Keys: p.Keys}
	for _, s := range p.Signatures {
		c.Sign(s.Index, s.Signature)
	}
	for _, node := range o.Nodes {
		if rule, _ := consensus.RuleOf(node.Chain().AddSetChange(c)); rule != consensus.RuleSetQuorum {
			o.T.Errorf("a node's answer: %q", rule)
		}
	}
	at := o.Nodes[0].Standing().Tip.Height
	o.Finalise(o.Nodes[0], at+30)
	for _, node := range o.Nodes {
		if tip := node.Standing().Tip; tip.Proven().Next != nil || number(node) != 0 {
			o.T.Error("the set changes")
		}
	}
}

// partitioned: a node that was away during all of it follows.
func partitioned(o *officers) {
	o.Finalise(o.Nodes[0], 10)
	o.Split([]int{0, 1, 2, 3}, []int{4})
	with := o.Nodes[:4]
	o.submit(o.combine(o.propose("while validator 4 is away"), 0, 1, 2), with...)
	o.inForce(with...)
	if number(o.Nodes[4]) != 0 {
		o.T.Error("the change crossed the split")
	}
	o.Heal()
	o.inForce(o.Nodes[4])
	at := o.Nodes[0].Standing().Tip.Height
	o.Finalise(o.Nodes[4], at+10)
	o.Agree(10 * time.Minute)
}

// secondProposal: who signed one proposal signs no other of its number, so that
// two cannot both have a majority.
func secondProposal(o *officers) {
	o.Finalise(o.Nodes[0], 10)
	firstFile := o.propose("the first")
	p := o.combine(firstFile, 0, 1, 2)
	second, err := authority.Parse(o.propose("the second"))
	if err != nil {
		o.T.Fatal(err)
	}
	// Another order of the same keys is another set.
	keys := slices.Clone(second.Keys)
	keys[0], keys[1] = keys[1], keys[0]
	tip := o.Nodes[0].Standing().Tip
	second, err = authority.Propose(o.Network, authority.Chain{Current: tip.Validators(), Tip: tip.Height}, keys, second.Proofs, "the second", time.Now())
	if err != nil {
		o.T.Fatal(err)
	}
	for i := range uint8(3) {
		if _, err := o.sign(second.Encode(), i); !errors.Is(err, signer.RuleSetDouble) {
			o.T.Errorf("validator %d signed two sets of one number: %v", i, err)
		}
	}
	if rest := o.combine(second.Encode(), 3, 4); rest.Complete() {
		o.T.Error("two proposals of one number are complete")
	}
	// The first goes on; what was signed for the set before is worth nothing then.
	o.submit(p, o.Nodes...)
	o.inForce(o.Nodes...)
	if again, err := p.Change(); err != nil || o.Nodes[0].Chain().AddSetChange(again) == nil {
		o.T.Errorf("the same change once more was taken: %v", err)
	}
}
