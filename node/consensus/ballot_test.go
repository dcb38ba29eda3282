package consensus_test

import (
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestProposalOfAnotherSet: a signer that does not hold the chain is shown the
// set in force, and signs nothing that this set would not.
func TestProposalOfAnotherSet(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		handover(t, s)
		s.slot(s.Certificate("s2", "s3", 0, 1, 2, 4, 5, 6))
		s.approach()
		parent := s.Tip()
		node := s.slot() // slot 5 of three validators: index 2, key 6, is in turn
		sig, err := types.ParseBlockSig(node.Block.VchBlockSig)
		if err != nil {
			t.Fatal(err)
		}
		cases := []struct {
			name   string
			want   consensus.Rule
			change func(*consensus.Proposal)
		}{
			{"good", "", func(*consensus.Proposal) {}},
			// Of five, index 2 has rank 2 at slot 5; in time, it is paid by another key.
			{"under the set of genesis", "slot-early", func(p *consensus.Proposal) { p.Set = consensus.ValidatorSet{} }},
			{"under the old set", "coinonline-fees", func(p *consensus.Proposal) {
				p.Set, p.Header.Time = s.Node("s2").State.Validators(), p.Parent.Time+40
			}},
			{"out of range", "validator", func(p *consensus.Proposal) { p.Index = 3 }},
			{"out of turn", "slot-early", func(p *consensus.Proposal) { p.Index = 0 }},
			{"a set that cannot be", "set-change-keys", func(p *consensus.Proposal) { p.Set.Keys = s.keys(4, 5, 6, 7) }},
			{"a set with a key twice", "set-change-keys", func(p *consensus.Proposal) { p.Set.Keys = s.keys(6, 5, 6) }},
			{"records of no kind", "coinonline-record", func(p *consensus.Proposal) {
				b := chaingen.Clone(node.Block)
				chaingen.Data([]byte("x"))(b)
				chaingen.FixMerkleRoot(b)
				p.Header, p.CoinOnline, p.Branch = b.Header, b.Transactions[0], types.MerkleBranch(b.TxIDs())
			}},
		}
		for _, c := range cases {
			p := consensus.NewProposal(&parent.State, parent.Block.Header, node.Block, sig.Index)
			digest := s.Network().Digest(&p)
			key, ok := s.Network().Key(&p)
			if !ok || s.numbers([]types.PublicKey{key}) != "6" {
				t.Fatalf("key %s is to sign, %t", key, ok)
			}
			if err := key.Verify(digest, sig.Signature); err != nil {
				t.Fatalf("the digest of the proposal is not what the block's signature signs: %v", err)
			}
			c.change(&p)
			err := s.Network().ValidateProposal(&p)
			if ruleOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%s: %v, want rule %q", c.name, err, c.want)
			}
		}
		p := consensus.Proposal{Index: 4}
		if key, ok := s.Network().Key(&p); !ok || key != s.Network().Validators[4] {
			t.Errorf("without a set key %s is to sign, %t", key, ok)
		}
		p.Index = 5
		if key, ok := s.Network().Key(&p); ok {
			t.Errorf("index 5 of genesis is %s", key)
		}
	})
}

// TestBallot: a voter is shown the electorate and the target's signed header.
func TestBallot(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		handover(t, s)
		s.slot(s.Certificate("s2", "s3", 0, 1, 2, 4, 5, 6))
		s.slot()
		cases := []struct {
			name   string
			want   consensus.Rule
			change func(*consensus.Ballot)
		}{
			{"good", "", func(*consensus.Ballot) {}},
			{"no set", "attest-set", func(b *consensus.Ballot) { b.Sets = nil }},
			{"three sets", "attest-set", func(b *consensus.Ballot) { b.Sets = append(b.Sets[:2:2], b.Sets[0]) }},
			{"one set of two", "attest-set", func(b *consensus.Ballot) { b.Sets = b.Sets[:1] }},
			{"the sets in each other's place", "attest-set", func(b *consensus.Ballot) {
				b.Sets = []consensus.ValidatorSet{b.Sets[1], b.Sets[0]}
			}},
			{"an even set", "set-change-keys", func(b *consensus.Ballot) {
				b.Sets = []consensus.ValidatorSet{b.Sets[0], {Number: 1, Keys: s.keys(4, 5)}}
			}},
			{"index of nobody", "attest-index", func(b *consensus.Ballot) { b.Index = 7 }},
			{"target between slots", "attest-target", func(b *consensus.Ballot) { b.Target.Height++ }},
			{"source above", "attest-source", func(b *consensus.Ballot) { b.Source.Height = 50 }},
			{"another genesis", "attest-genesis", func(b *consensus.Ballot) { b.Source = consensus.Checkpoint{} }},
			{"another block", "attest-target", func(b *consensus.Ballot) { b.Block = s.Node("s2").Block.SignedHeader }},
			{"another height", "block-signature", func(b *consensus.Ballot) { b.Target.Height = 50 }},
			{"a fallback block", "sig-format", func(b *consensus.Ballot) { b.Block.VchBlockSig = nil }},
			{"signed by nobody", "validator", func(b *consensus.Ballot) {
				b.Block.VchBlockSig = append([]byte{5}, b.Block.VchBlockSig[1:]...)
			}},
			{"signed by another", "block-signature", func(b *consensus.Ballot) {
				b.Block.VchBlockSig = append([]byte{0}, b.Block.VchBlockSig[1:]...)
			}},
		}
		for _, target := range []struct{ name, source, last string }{{"s3", "s2", "6"}, {"s4", "s2", "6"}} {
			node := s.Node(target.name)
			for _, c := range cases {
				b := consensus.NewBallot(&node.Parent.State, s.Link(target.source, target.name), node.Block.SignedHeader, 6)
				c.change(&b)
				key, err := s.Network().ValidateBallot(&b)
				if ruleOf(err) != c.want || (err == nil) != (c.want == "") {
					t.Errorf("%s, %s: %v, want rule %q", target.name, c.name, err, c.want)
				}
				if err == nil && s.numbers([]types.PublicKey{key}) != target.last {
					t.Errorf("%s: key %s is to vote", target.name, key)
				}
				if err != nil && key != (types.PublicKey{}) {
					t.Errorf("%s, %s: a key in spite of %v", target.name, c.name, err)
				}
			}
		}
		// After the takeover, the new set alone.
		node := s.Node("s5")
		b := consensus.NewBallot(&node.Parent.State, s.Link("s3", "s5"), node.Block.SignedHeader, 1)
		if key, err := s.Network().ValidateBallot(&b); err != nil || s.numbers([]types.PublicKey{key}) != "5" {
			t.Errorf("key %s is to vote, %v", key, err)
		}
	})
}

// TestBallotOfTooManyVoters: no signature can be placed behind the 32nd voter.
func TestBallotOfTooManyVoters(t *testing.T) {
	p := chaingen.Params()
	p.RankStepSeconds = 5
	s := newStory(t, p)
	s.slot()
	var numbers []int
	for i := range 42 {
		numbers = append(numbers, i)
	}
	node := s.Node("s1")
	for shared, want := range map[int]consensus.Rule{10: "", 9: "set-change-keys"} {
		sets := []consensus.ValidatorSet{{Keys: s.keys(numbers[:21]...)}, {Number: 1, Keys: s.keys(numbers[21-shared : 42-shared]...)}}
		joint := consensus.NewElectorate(sets[0], &sets[1], nil)
		l := s.Link("genesis", "s1")
		l.Set = joint.ID()
		b := consensus.Ballot{Link: l, Sets: sets, Index: 0, Block: node.Block.SignedHeader}
		sig, err := types.ParseBlockSig(b.Block.VchBlockSig)
		if err != nil {
			t.Fatal(err)
		}
		sig.Signature = s.Secret(sets[0].Keys[sig.Index]).Sign(consensus.SlotDigest(s.Network().ID, sets[0].ID(), 10, l.Target.ID))
		b.Block.VchBlockSig = sig.Bytes()
		if _, err := s.Network().ValidateBallot(&b); ruleOf(err) != want || (err == nil) != (want == "") {
			t.Errorf("%d keys in both: %v, want rule %q", shared, err, want)
		}
	}
}
