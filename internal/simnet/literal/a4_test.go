package literal_test

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// A4: signature replay. The attacker, who has no key, puts a validator's CoinOnline
// and signature on a block of his own, which takes no work.

// replay makes a block on parent with the first transaction and VchBlockSig of a
// signed one.
func (w *world) replay(signed *types.Block, parent consensus.State, at uint32, txs ...*types.Transaction) *types.Block {
	b := chaingen.Clone(signed)
	b.Transactions = append(b.Transactions[:1], txs...)
	b.Header = types.Header{Version: 1, PrevBlock: parent.ID, Time: at, Bits: w.v.bits(parent)}
	chaingen.FixMerkleRoot(b)
	return b
}

// replays are the ways to do it; each returns what the victim said of the
// replayed block, and that block. All stand on slot 20, which pays a merchant.
var replays = []struct {
	name string
	run  func(w *world, coin, signed *types.Block) (*types.Block, chain.Result, error)
}{
	{"another transaction", func(w *world, coin, signed *types.Block) (*types.Block, chain.Result, error) {
		parent, _ := w.v.state(signed.PrevBlock)
		b := w.replay(signed, parent, signed.Time, w.pay(coin, 1, 2))
		result, err := w.send(b)
		return b, result, err
	}},
	{"another branch", func(w *world, coin, signed *types.Block) (*types.Block, chain.Result, error) {
		parent, _ := w.v.state(signed.PrevBlock)
		parent, _ = w.v.state(w.v.block(parent.ID).PrevBlock)
		mined := w.mined(parent, parent.Time+50)
		if _, err := w.send(mined); err != nil {
			w.fatalf("%v", err)
		}
		parent = w.v.child(parent, mined)
		b := w.replay(signed, parent, parent.Time+20, w.pay(coin, 1, 2))
		result, err := w.send(b)
		return b, result, err
	}},
	{"another height", func(w *world, _, signed *types.Block) (*types.Block, chain.Result, error) {
		parent := w.grow(29)
		w.sleep(100 * time.Second) // in the window of every rank, and of the text
		b := w.replay(signed, parent, parent.Time+90)
		result, err := w.send(b)
		return b, result, err
	}},
}

// paidSlot grows the chain to slot 20, whose block holds a payment.
func (w *world) paidSlot() (coin, signed *types.Block) {
	w.grow(1)
	coin = w.v.block(w.v.tip().ID)
	w.grow(19)
	return coin, w.extend(w.pay(coin, 1, 1))
}

const a4Seeds = 10

func TestA4Literal(t *testing.T) {
	for _, r := range replays {
		t.Run(r.name, func(t *testing.T) {
			forSeeds(t, byTheText, a4Seeds, func(w *world) {
				coin, signed := w.paidSlot()
				b, result, err := r.run(w, coin, signed)
				if err != nil {
					w.fatalf("refused: %v", err)
				}
				if result == chain.Connected {
					return // a slot of the future, signed without a key
				}
				// A twin: who mines the next block decides between them.
				parent, _ := w.v.state(b.Header.ID())
				w.sleep(w.interval())
				w.give(w.mined(parent, unixNow()))
				if w.confirmed(signed) || !w.confirmed(b) {
					w.fatalf("the payment stands")
				}
			})
		})
	}
}

func TestA4PoOF(t *testing.T) {
	for _, r := range replays {
		t.Run(r.name, func(t *testing.T) {
			forSeeds(t, byPoOF, a4Seeds, func(w *world) {
				coin, signed := w.paidSlot()
				b, _, err := r.run(w, coin, signed)
				if ruleOf(err) != consensus.RuleBlockSig {
					w.fatalf("got %v, want rule %s", err, consensus.RuleBlockSig)
				}
				if _, stored := w.v.state(b.Header.ID()); stored || !w.confirmed(signed) {
					w.fatalf("stored %v, payment stands %v", stored, w.confirmed(signed))
				}
			})
		})
	}
}
