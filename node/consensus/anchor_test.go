package consensus_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestAuditAnchor carries one: it changes nothing that the chain says of its
// validators, and comes back out of the block, byte for byte.
func TestAuditAnchor(t *testing.T) {
	anchor := &consensus.AuditAnchor{Seq: 0x0807060504030201, Head: types.Hash(bytes.Repeat([]byte{0xab}, 32))}
	data := consensus.EncodeRecords([]consensus.Record{anchor})
	// kind 5, 40 bytes, u64 little-endian, hash
	if want := "05280102030405060708" + hex.EncodeToString(bytes.Repeat([]byte{0xab}, 32)); hex.EncodeToString(data) != want {
		t.Fatalf("%x", data)
	}
	g := chaingen.New(t, quick())
	g.Fill("b", 1)
	with := g.NextSigned("with", 0, chaingen.Records(anchor))
	if with.Err != nil {
		t.Fatal(with.Err)
	}
	if got := consensus.AnchorOf(with.Block.Transactions[0]); got == nil || *got != *anchor {
		t.Fatalf("came back as %+v", got)
	}
	g.SetTip("b1")
	without := g.NextSigned("without", 0)
	if consensus.AnchorOf(without.Block.Transactions[0]) != nil {
		t.Fatal("an anchor out of nothing")
	}
	a, b := with.State.Proven(), without.State.Proven()
	if a.Voters().ID() != b.Voters().ID() || len(a.Slots) != len(b.Slots) || a.Next != nil || len(a.Disabled) != 0 {
		t.Fatalf("%+v and %+v", a, b)
	}
	for name, bad := range map[string][]byte{
		"two anchors":   append(bytes.Clone(data), data...),
		"a byte short":  append([]byte{5, 39}, data[2:41]...),
		"a byte long":   append([]byte{5, 41}, append(bytes.Clone(data[2:]), 0)...),
		"then another":  append(bytes.Clone(data), 1, 0),
		"of no content": {5, 0},
	} {
		if list, err := consensus.DecodeRecords(bad); err == nil {
			t.Errorf("%s: %v", name, list)
		}
	}
	g.SetTip("b1")
	if twice := g.NextSigned("twice", 0, chaingen.Records(anchor, anchor)); !errors.Is(twice.Err, consensus.RuleRecords) {
		t.Fatalf("two anchors: %v", twice.Err)
	}
}

// TestEasiestParent: no header that is cheaper than the schedule allows lets a
// validator leave the heights below it behind; every parent that the schedule
// makes passes.
func TestEasiestParent(t *testing.T) {
	g := chaingen.New(t, quick())
	g.Fill("b", 1)
	parent := g.Tip()
	block := g.NextSigned("slot", 0)
	p := consensus.NewProposal(&parent.State, parent.Block.Header, block.Block, 0)
	if err := g.Network().ValidateProposal(&p); err != nil {
		t.Fatal(err)
	}
	// A height that would take the chain far ahead of its schedule, under a parent
	// as cheap as the network's first blocks.
	p.Height += 500 * uint32(g.Network().HalfLifeSeconds) / g.Network().IntervalSeconds * g.Network().N
	ahead := consensus.State{Network: g.Network(), Height: p.Height - 1, ID: p.Parent.ID(), Time: p.Parent.Time}
	p.Header.Bits = ahead.NextBits() // as far as the header goes, all is well
	if err := g.Network().ValidateProposal(&p); !errors.Is(err, consensus.RuleBits) {
		t.Fatalf("got %v", err)
	}
}

func TestHighestHeight(t *testing.T) {
	n := chaingen.New(t, quick()).Network()
	genesis := int64(n.GenesisTime)
	slack := (96*uint64(n.HalfLifeSeconds) + uint64(n.FutureLimitSeconds)) / uint64(n.IntervalSeconds)
	for _, c := range []struct {
		now  int64
		want uint64
	}{{genesis, slack}, {genesis - 1e9, slack}, {genesis + 1000*int64(n.IntervalSeconds), slack + 1000}} {
		if got := n.HighestHeight(c.now); got != c.want {
			t.Errorf("at %d: %d, want %d", c.now-genesis, got, c.want)
		}
	}
}
