package consensus_test

import (
	"bytes"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// The numbers of the records, a second time.
const (
	testMaxRecords = 16
	testMaxKeys    = 32 // in two sets together
)

// vote makes the fixture of kind voted: the slots s10 to s30 of five validators,
// of which number 3 is disabled because it signed t10 as well. s10 and s20 are
// certified on the chain, s30 is not and has the twin t30, both of validator 0.
// The block at height 40 carries a record of each kind.
func (f *fixture) vote() {
	f.t.Helper()
	f.Fill("a", 9)
	f.NextSigned("t10", 3)
	f.SetTip("a9")
	f.NextSigned("s10", 3)
	f.Fill("b", 9)
	f.Next("s20", chaingen.Records(f.Certificate("genesis", "s10", 0, 1, 2), f.SlotEvidence("s10", "t10")))
	f.Fill("c", 9)
	f.NextSigned("t30", 0)
	f.SetTip("c9")
	f.NextSigned("s30", 0, chaingen.Records(f.Certificate("s10", "s20", 0, 1, 2)))
	f.propose(f.Certificate("s20", "s30", 0, 1, 2), f.SetChange(chaingen.PublicKeys(types.Secp256k1, 0, 1, 5), 0, 1, 2),
		f.Evidence(f.Vote("s20", "s30", 1), f.Vote("s20", "t30", 1)), f.SlotEvidence("s30", "t30"))
}

// propose goes on from the tip to the next slot and makes its block the one to
// corrupt: by the validator of rank 1, with records that are good.
func (f *fixture) propose(records ...consensus.Record) {
	f.t.Helper()
	f.Fill("to "+f.Tip().Name+" + ", 9)
	f.parent = f.Tip()
	f.index = f.parent.State.ValidatorOfRank(1)
	node := f.NextSigned("after "+f.parent.Name, f.index, chaingen.Records(records...))
	if node.Err != nil {
		f.t.Fatalf("the block to corrupt is invalid itself: %v", node.Err)
	}
	f.SetTip(f.parent.Name)
	f.block = chaingen.Clone(node.Block)
}

// onward puts the slot s40 with these records below the block to corrupt.
func (f *fixture) onward(records ...consensus.Record) {
	f.t.Helper()
	f.Next("s40", chaingen.Records(records...))
	f.propose()
}

// carry makes the fixture's block carry these records and no other.
func (f *fixture) carry(records ...consensus.Record) { f.carryData(consensus.EncodeRecords(records)) }

func (f *fixture) carryData(data []byte) {
	chaingen.Data(data)(f.block)
	f.seal()
}

// carrying is a violation by one record, the only one of its block.
func carrying[R consensus.Record](rule consensus.Rule, name string, record func(*fixture) R) violation {
	return violation{name: name, rule: rule, kind: voted, corrupt: func(f *fixture) { f.carry(record(f)) }}
}

// record writes a record of a kind as docs/protocol.md says.
func record(kind byte, body []byte) []byte {
	return types.AppendVarBytes([]byte{kind}, body)
}

func listViolations() []violation {
	listed := func(name string, data func(certificate, evidence []byte) []byte) violation {
		return violation{name: name, rule: "coinonline-record", kind: voted, corrupt: func(f *fixture) {
			certificate := f.Certificate("s20", "s30", 0, 1, 2).AppendTo(nil)
			evidence := f.SlotEvidence("s30", "t30").AppendTo(nil)
			f.carryData(record(1, certificate))
			if _, _, err := f.connect(); err != nil {
				f.t.Fatalf("what is to be spoiled is bad already: %v", err)
			}
			f.carryData(data(certificate, evidence))
		}}
	}
	return []violation{
		listed("a record of kind 0", func(c, _ []byte) []byte { return record(0, c) }),
		listed("a record of kind 5", func(_, e []byte) []byte { return record(5, e) }),
		listed("a good record, then one of kind 5", func(c, _ []byte) []byte { return append(record(1, c), record(5, nil)...) }),
		listed("a certificate after evidence", func(c, e []byte) []byte { return append(record(4, e), record(1, c)...) }),
		listed("a kind and no length", func(_, _ []byte) []byte { return []byte{1} }),
		listed("a record cut short", func(c, _ []byte) []byte { return record(1, c)[:200] }),
		listed("a body a byte short", func(c, _ []byte) []byte { return record(1, c[:len(c)-1]) }),
		listed("a body a byte long", func(c, _ []byte) []byte { return record(1, append(bytes.Clone(c), 0)) }),
		listed("a length not in its shortest form", func(_, e []byte) []byte {
			return append([]byte{4, 0xfd, byte(len(e)), 0}, e...)
		}),
		listed("a certificate as evidence", func(c, _ []byte) []byte { return record(4, c) }),
		listed("a certificate that nobody signed", func(c, _ []byte) []byte {
			return record(1, append(bytes.Clone(c[:104]), 0, 0, 0, 0))
		}),
		listed("a vote with the index 32", func(_, _ []byte) []byte {
			votes := make([]byte, 2*169)
			votes[104] = 32
			return record(3, votes)
		}),
		listed("17 records", func(c, _ []byte) []byte { return bytes.Repeat(record(1, c), testMaxRecords+1) }),
		listed("a byte behind the last record", func(_, e []byte) []byte { return append(record(4, e), 0) }),
	}
}
