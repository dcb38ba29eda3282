package chaingen

import (
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// validatorKeys is how many validator keys of each algorithm a Generator knows.
const validatorKeys = 64

// PublicKeys returns the keys of the validators with these numbers.
func PublicKeys(a types.KeyAlgorithm, numbers ...int) []types.PublicKey {
	keys := make([]types.PublicKey, len(numbers))
	for i, n := range numbers {
		keys[i] = ValidatorKey(a, n).Public()
	}
	return keys
}

// Records is a munger that makes a CoinOnline carry records, those of lower
// kind first.
func Records(records ...consensus.Record) Munger { return Data(consensus.EncodeRecords(records)) }

// Data is a munger that makes a CoinOnline carry bytes, whatever they are.
func Data(data []byte) Munger {
	return func(b *types.Block) {
		first := b.Transactions[0]
		first.Outputs = append(first.Outputs[:2:2], types.TxOut{PkScript: types.NullDataScript(data)})
	}
}

// Secret returns the private half of a key, which must be ValidatorKey(a, i) for
// some i below 64.
func (g *Generator) Secret(k types.PublicKey) Key {
	g.tb.Helper()
	if key, ok := g.keys[k]; ok {
		return key
	}
	for i := range validatorKeys {
		if key := ValidatorKey(k.Algorithm, i); key.Public() == k {
			g.keys[k] = key
			return key
		}
	}
	g.tb.Fatalf("chaingen: %s is none of the %d keys known", k, validatorKeys)
	return Key{}
}

// Voters returns who may vote for a named block.
func (g *Generator) Voters(target string) *consensus.Electorate {
	g.tb.Helper()
	node := g.Node(target)
	if node.Parent == nil {
		g.tb.Fatalf("chaingen: nobody votes for %s", target)
	}
	return node.Parent.State.Voters()
}

// Link returns what validators sign to vote for a named block from another.
func (g *Generator) Link(source, target string) consensus.Link {
	g.tb.Helper()
	return consensus.Link{
		Set:    g.Voters(target).ID(),
		Source: g.Node(source).State.Checkpoint(),
		Target: g.Node(target).State.Checkpoint(),
	}
}

// Vote returns the attestation of the link between two named blocks by the
// voter with this index in the target's electorate.
func (g *Generator) Vote(source, target string, index uint8) consensus.Attestation {
	g.tb.Helper()
	return g.SignLink(g.Link(source, target), g.Voters(target), index)
}

// SignLink returns the attestation of any link by a voter of an electorate.
func (g *Generator) SignLink(l consensus.Link, voters *consensus.Electorate, index uint8) consensus.Attestation {
	g.tb.Helper()
	key := g.Secret(voters.Keys()[index])
	return consensus.Attestation{Link: l, Index: index, Signature: key.Sign(l.Digest(g.network.ID))}
}

// Certificate returns the votes of the voters with these indexes for the link
// between two named blocks. They need not be enough.
func (g *Generator) Certificate(source, target string, indexes ...uint8) *consensus.Certificate {
	g.tb.Helper()
	votes := make([]consensus.Attestation, len(indexes))
	for i, index := range indexes {
		votes[i] = g.Vote(source, target, index)
	}
	c, err := consensus.NewCertificate(votes)
	if err != nil {
		g.tb.Fatalf("chaingen: certificate for %s: %v", target, err)
	}
	return &c
}

// SetChange returns the change to a set of these keys, signed by the validators
// with these indexes of the set in force after the tip.
func (g *Generator) SetChange(keys []types.PublicKey, indexes ...uint8) *consensus.SetChange {
	g.tb.Helper()
	set := g.tip.State.Validators()
	c := &consensus.SetChange{Keys: keys}
	for _, index := range indexes {
		c.Sign(index, g.Secret(set.Keys[index]).Sign(consensus.SetChangeDigest(g.network.ID, set, keys)))
	}
	return c
}

// Evidence returns two votes as evidence.
func (g *Generator) Evidence(a, b consensus.Attestation) *consensus.Evidence {
	return &consensus.Evidence{A: a, B: b}
}

// SlotEvidence returns the signatures under two named blocks as evidence. The
// blocks must be signed by one validator at one height, or it is none.
func (g *Generator) SlotEvidence(a, b string) *consensus.SlotEvidence {
	g.tb.Helper()
	e := &consensus.SlotEvidence{Set: g.Node(a).Parent.State.ValidatorSetID(), Height: g.Node(a).State.Height}
	for i, name := range []string{a, b} {
		node := g.Node(name)
		sig, err := types.ParseBlockSig(node.Block.VchBlockSig)
		if err != nil {
			g.tb.Fatalf("chaingen: %s is not signed: %v", name, err)
		}
		e.Index, e.Blocks[i], e.Signatures[i] = sig.Index, node.State.ID, sig.Signature
	}
	return e
}
