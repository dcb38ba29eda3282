package template

import (
	"fmt"
	"testing"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

func TestAProposalSignedByItsValidatorConnects(t *testing.T) {
	for name, params := range map[string]func() consensus.Params{"secp256k1": chaingen.Params, "P-256": chaingen.P256Params} {
		for _, slot := range []uint32{10, 20} { // a height of one byte, and of two
			for index := range uint8(5) {
				t.Run(fmt.Sprintf("%s, slot %d, validator %d", name, slot, index), func(t *testing.T) {
					p := params()
					r := newRig(t, func(d *consensus.Params) { *d = p })
					r.advance(slot - 1)
					if slot == 20 {
						var coin consensus.UTXO
						for o, c := range r.tip.coins {
							if c.Height == 1 {
								coin = consensus.UTXO{OutPoint: o, Coin: c}
							}
						}
						r.pool.put(10_000, r.pay(10_000, coin))
					}
					sign(t, r, index, p.Validators[0].Algorithm)
				})
			}
		}
	}
}

func sign(t *testing.T, r *rig, index uint8, algorithm types.KeyAlgorithm) {
	t.Helper()
	parent := r.Tip()
	block, proposal, err := r.builder.Proposal(parent, r.tip.block.Header, index, r.clock())
	if err != nil {
		t.Fatal(err)
	}
	if block.IsSigned() {
		t.Error("a proposal comes with a signature")
	}
	if err := r.net.ValidateProposal(&proposal); err != nil {
		t.Fatalf("a signer would refuse it: %v", err)
	}
	var fees int64
	for range r.pool.txs {
		fees += 10_000
	}
	out := block.Transactions[0].Outputs
	if len(out) != 2 || out[1].Value != fees {
		t.Errorf("outputs %v, want the fees of %d", out, fees)
	}
	key := chaingen.ValidatorKey(algorithm, int(index))
	block.VchBlockSig = types.BlockSig{Index: index, Signature: key.Sign(r.net.Digest(&proposal))}.Bytes()
	if outcome, err := r.AddBlock(block); outcome != work.Accepted || err != nil {
		t.Fatalf("%v, %v", outcome, err)
	}
	if r.Tip().SignedSlots != parent.SignedSlots+1 {
		t.Error("no slot was signed")
	}
}

func TestProposalTimeStaysInTheWindow(t *testing.T) {
	r := newRig(t)
	r.advance(9)
	parent := r.Tip()
	// Slot 1: validator 1 is in turn, validator 3 has rank 2.
	for name, tc := range map[string]struct {
		index     uint8
		now, want int64 // after the parent
	}{
		"in turn, at once":     {1, 0, 1},
		"in turn, later":       {1, 30, 30},
		"before its rank":      {3, 5, 40},
		"after its rank":       {3, 41, 41},
		"clock behind":         {3, -500, 40},
		"last second":          {1, 600, 600},
		"window closed by now": {1, 700, 600},
	} {
		t.Run(name, func(t *testing.T) {
			block, _, err := r.builder.Proposal(parent, r.tip.block.Header, tc.index, time.Unix(int64(parent.Time)+tc.now, 0))
			if err != nil {
				t.Fatal(err)
			}
			if got := int64(block.Time) - int64(parent.Time); got != tc.want {
				t.Errorf("%d s after the parent, want %d", got, tc.want)
			}
		})
	}
}

func TestProposalFails(t *testing.T) {
	r := newRig(t)
	r.advance(8)
	early, earlyHeader := r.Tip(), r.tip.block.Header
	r.advance(9)
	header := r.tip.block.Header
	for name, try := range map[string]func() error{
		"no slot": func() error {
			r.tip = r.nodes[early.ID]
			_, _, err := r.builder.Proposal(early, earlyHeader, 0, r.clock())
			return err
		},
		"header of another block": func() error { _, _, err := r.builder.Proposal(r.Tip(), earlyHeader, 0, r.clock()); return err },
		"no such validator":       func() error { _, _, err := r.builder.Proposal(r.Tip(), header, 5, r.clock()); return err },
		"pool stands elsewhere": func() error {
			r.pool.at = &early
			defer func() { r.pool.at = nil }()
			_, _, err := r.builder.Proposal(r.Tip(), header, 0, r.clock())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r.tip = r.nodes[header.ID()]
			if err := try(); err == nil {
				t.Error("a proposal was made")
			}
		})
	}
}

func TestAPoisonedPoolCannotStopProposals(t *testing.T) {
	r := newRig(t, func(p *consensus.Params) { p.CoinbaseMaturity = 3 })
	coins := r.coins(2)
	r.advance(9)
	bad, good := r.pay(10_000, coins[0]), r.pay(10_000, coins[1])
	bad.Outputs[0].Value--
	r.pool.put(10_000, bad, good)
	sign(t, r, 0, types.Secp256k1)
	if len(r.pool.removed) != 1 {
		t.Errorf("%d transactions dropped, want 1", len(r.pool.removed))
	}
}
