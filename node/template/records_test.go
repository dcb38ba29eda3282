package template

import (
	"bytes"
	"slices"
	"testing"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// certified has the chain at slot 20 with slot 10 signed, and returns slot 10 with
// its certificate by these voters.
func certified(r *rig, voters ...uint8) (consensus.Checkpoint, *consensus.Certificate) {
	r.t.Helper()
	r.advance(9)
	electorate := r.tip.state.Voters()
	signed(r, nil)
	l := consensus.Link{Set: electorate.ID(), Source: consensus.Checkpoint{ID: r.net.ID}, Target: r.tip.state.Checkpoint()}
	var votes []consensus.Attestation
	for _, i := range voters {
		votes = append(votes, r.g.SignLink(l, electorate, i))
	}
	c, err := consensus.NewCertificate(votes)
	if err != nil {
		r.t.Fatal(err)
	}
	r.advance(19)
	return l.Target, &c
}

// signed adds the proposal of the validator in turn to the chain, and checks what
// it carries.
func signed(r *rig, want []byte) *types.Block {
	r.t.Helper()
	parent := r.Tip()
	index := parent.ValidatorOfRank(0)
	block, proposal, err := r.builder.Proposal(parent, r.tip.block.Header, index, r.clock())
	if err != nil {
		r.t.Fatal(err)
	}
	out := block.Transactions[0].Outputs
	switch {
	case want == nil && len(out) == 2:
	case want != nil && len(out) == 3 && out[2].Value == 0 && bytes.Equal(out[2].PkScript, types.NullDataScript(want)):
	default:
		r.t.Errorf("outputs %v, want records %x", out, want)
	}
	if err := r.net.ValidateProposal(&proposal); err != nil {
		r.t.Fatalf("a signer would refuse it: %v", err)
	}
	block.VchBlockSig = types.BlockSig{Index: index, Signature: chaingen.ValidatorKey(types.Secp256k1, int(index)).Sign(r.net.Digest(&proposal))}.Bytes()
	if outcome, err := r.AddBlock(block); outcome != work.Accepted || err != nil {
		r.t.Fatalf("%v, %v", outcome, err)
	}
	return block
}

// TestProposalCarriesRecords: what the chain offers is in the CoinOnline, and says
// there what it should.
func TestProposalCarriesRecords(t *testing.T) {
	r := newRig(t)
	slot, c := certified(r, 0, 2, 3, 4)
	change := &consensus.SetChange{Keys: chaingen.PublicKeys(types.Secp256k1, 0, 1, 9)}
	tip := r.Tip()
	set := tip.Validators()
	for _, i := range []uint8{1, 2, 3} {
		change.Sign(i, chaingen.ValidatorKey(types.Secp256k1, int(i)).Sign(consensus.SetChangeDigest(r.net.ID, set, change.Keys)))
	}
	r.records = []consensus.Record{change, c}
	signed(r, consensus.EncodeRecords([]consensus.Record{c, change}))
	tip = r.Tip()
	if proven := tip.Proven(); proven.Certified() != slot || proven.Next == nil || !slices.Equal(proven.Next.Keys, change.Keys) {
		t.Errorf("the chain says %+v of its validators", proven)
	}
	// Carried once they are of no more use.
	r.advance(29)
	signed(r, nil)
}

// TestProposalLeavesRoomForRecords: a pool that would fill the block twice over
// gives way to the records, byte for byte.
func TestProposalLeavesRoomForRecords(t *testing.T) {
	r := newRig(t, func(p *consensus.Params) { p.CoinbaseMaturity, p.MaxBlockBytes = 1, 3000 })
	_, c := certified(r, 0, 1, 2, 3, 4)
	for o, coin := range r.tip.coins {
		if coin.Coinbase && coin.Height < 19 && coin.Output.Value > 0 {
			r.pool.put(10_000, r.pay(10_000, consensus.UTXO{OutPoint: o, Coin: coin}))
		}
	}
	r.records, r.pool.room = []consensus.Record{c}, nil
	data := consensus.EncodeRecords(r.records)
	block := signed(r, data)
	if want := []int{3000 - reserve - len(data)}; !slices.Equal(r.pool.room, want) {
		t.Errorf("transactions were given %d bytes, want %d", r.pool.room, want)
	}
	size := len(block.Bytes()) - len(block.VchBlockSig)
	if rest := 3000 - size; rest < 0 || rest > reserve {
		t.Errorf("a block of %d bytes with %d transactions", size, len(block.Transactions))
	}
}

// TestProposalDropsRecordsThatAreTooLarge: records take a part of a block, no more.
func TestProposalDropsRecordsThatAreTooLarge(t *testing.T) {
	for _, c := range []struct {
		maxBytes uint32
		fits     bool
	}{{1700, false}, {1800, true}} {
		r := newRig(t, func(p *consensus.Params) { p.MaxBlockBytes = c.maxBytes })
		_, cert := certified(r, 0, 1, 2, 3, 4)
		r.records = []consensus.Record{cert}
		data := consensus.EncodeRecords(r.records)
		if fits := len(data) <= int(c.maxBytes)/recordShare; fits != c.fits {
			t.Fatalf("%d bytes of records in a block of %d: the test has it wrong", len(data), c.maxBytes)
		}
		if !c.fits {
			data = nil
		}
		signed(r, data)
	}
}

// TestBadRecordsCannotStopProposals: a chain that offers what it must not costs
// the records, not the slot and not the transactions.
func TestBadRecordsCannotStopProposals(t *testing.T) {
	r := newRig(t, func(p *consensus.Params) { p.CoinbaseMaturity = 1 })
	_, c := certified(r, 0, 1)
	r.pool.put(10_000, r.pay(10_000, r.coins(1)[0]))
	r.records, r.spoiled = []consensus.Record{c}, true
	block := signed(r, nil)
	if len(block.Transactions) != 2 || len(r.pool.removed) != 0 {
		t.Errorf("%d transactions in the block, %d dropped from the pool", len(block.Transactions), len(r.pool.removed))
	}
}

// TestOwnRecords: what the caller gives is carried beside what the chain has.
func TestOwnRecords(t *testing.T) {
	r := newRig(t)
	_, c := certified(r, 0, 1, 2)
	r.records = []consensus.Record{c}
	anchor := &consensus.AuditAnchor{Seq: 5, Head: types.Hash{5}}
	parent := r.Tip()
	block, p, err := r.builder.Proposal(parent, r.tip.block.Header, parent.ValidatorOfRank(0), r.clock(), anchor)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.net.ValidateProposal(&p); err != nil {
		t.Fatal(err)
	}
	list, err := consensus.Records(block.Transactions[0])
	if err != nil || len(list) != 2 || !slices.EqualFunc(list, []consensus.Record{c, anchor}, func(a, b consensus.Record) bool {
		return bytes.Equal(a.AppendTo(nil), b.AppendTo(nil))
	}) {
		t.Fatalf("%v, %v", list, err)
	}
}
