package consensus_test

import (
	"slices"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
)

// standing makes up a chain of these heights: its tip, newest signed slot,
// highest certified and highest final one. Slots in missed were mined, all others
// up to the newest signed one signed.
func standing(n *consensus.Network, tip, signed, certified, final uint32, missed ...uint32) consensus.Standing {
	s := consensus.Standing{Tip: n.GenesisState(), Certified: consensus.Checkpoint{Height: certified}, Final: consensus.Checkpoint{Height: final}}
	a := consensus.Authority{Signers: s.Tip.Validators()}
	for h := uint32(0); h <= signed; h += n.N {
		if !slices.Contains(missed, h) {
			a.Slots = append(a.Slots, consensus.Slot{Checkpoint: consensus.Checkpoint{Height: h}})
		}
	}
	var err error
	if s.Tip.Authority, err = consensus.DecodeAuthority(a.Bytes()); err != nil {
		panic(err)
	}
	s.Tip.Height, s.Tip.LastSigned = tip, signed
	return s
}

func TestConfirmations(t *testing.T) {
	n := chaingen.New(t, chaingen.Params()).Network()
	s := standing(n, 47, 40, 30, 20)
	for height, want := range map[uint32]consensus.Confirmation{
		0: "final", 20: "final", 21: "certified", 30: "certified", 31: "signed", 40: "signed", 41: "pow", 47: "pow",
	} {
		if got := s.Of(height); got != want {
			t.Errorf("height %d is %s, want %s", height, got, want)
		}
	}
	young := standing(n, 9, 0, 0, 0)
	if young.Of(0) != "final" || young.Of(1) != "pow" {
		t.Errorf("before the first slot: %s, %s", young.Of(0), young.Of(1))
	}
}

// TestDegraded: the newest slot is owed a signature, the signed one before a
// certificate, and the one before that finality, if nothing is missing between.
func TestDegraded(t *testing.T) {
	n := chaingen.New(t, chaingen.Params()).Network()
	p := chaingen.Params()
	p.Validators = p.Validators[:1]
	alone, err := consensus.NewNetwork(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name                          string
		network                       *consensus.Network
		tip, signed, certified, final uint32
		missing                       consensus.Confirmation
		since                         uint32
		mined                         []uint32
	}{
		{"before the first slot", n, 9, 0, 0, 0, "", 0, nil},
		{"first slot", n, 10, 10, 0, 0, "", 0, nil},
		{"first slot by a miner", n, 10, 0, 0, 0, "signed", 10, nil},
		{"first slot was by a miner", n, 19, 0, 0, 0, "signed", 10, nil},
		{"second slot, the first certified", n, 20, 20, 10, 0, "", 0, nil},
		{"second slot, the first not certified", n, 20, 20, 0, 0, "certified", 10, nil},
		{"third slot, as it should be", n, 30, 30, 20, 10, "", 0, nil},
		{"third slot, the first not final", n, 30, 30, 20, 0, "final", 10, nil},
		{"long after, as it should be", n, 1009, 1000, 990, 980, "", 0, nil},
		{"ahead of what is owed", n, 1009, 1000, 1000, 990, "", 0, nil},
		{"signatures stopped", n, 1009, 970, 970, 960, "signed", 980, nil},
		{"certificates stopped", n, 1009, 1000, 950, 940, "certified", 960, nil},
		{"finality stopped", n, 1009, 1000, 990, 900, "final", 910, nil},
		{"first slot after two that were mined", n, 50, 50, 20, 10, "", 0, []uint32{30, 40}},
		{"second slot after them", n, 60, 60, 50, 10, "", 0, []uint32{30, 40}},
		{"second slot after them, the first not certified", n, 60, 60, 20, 10, "certified", 50, []uint32{30, 40}},
		{"third slot after them, the first not final", n, 70, 70, 60, 10, "final", 20, []uint32{30, 40}},
		{"third slot after them, as it should be", n, 70, 70, 60, 50, "", 0, []uint32{30, 40}},
		{"one validator finalises nothing", alone, 1009, 1000, 990, 0, "", 0, nil},
		{"one validator certifies", alone, 1009, 1000, 980, 0, "certified", 990, nil},
	} {
		s := standing(c.network, c.tip, c.signed, c.certified, c.final, c.mined...)
		got, degraded := s.Degraded()
		if degraded != (c.missing != "") || got != (consensus.Degradation{Since: c.since, Missing: c.missing}) {
			t.Errorf("%s: %+v, %t", c.name, got, degraded)
		}
	}
}
