package consensus_test

import (
	"bytes"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// FuzzConnect changes bytes of a valid block of each kind. A changed block that
// still decodes must be refused, unless the change undid itself or made a
// block that is valid in its own right, which has another id.
func FuzzConnect(f *testing.F) {
	g := chaingen.New(f, chaingen.Params())
	reward := g.Next("reward").Reward()
	g.Fill("a", 17)
	pay := func() chaingen.Munger {
		return g.Include(g.Spend([]consensus.UTXO{reward}, chaingen.Pay(types.Coin, chaingen.PayToKey(1)), data("note")))
	}
	mined := g.Next("mined", pay())
	g.SetTip("a17")
	g.Next("last")
	signed := g.NextSigned("signed", g.Tip().State.ValidatorOfRank(0), pay())
	g.SetTip("last")
	fallback := g.NextFallback("fallback", pay())
	g.SetTip("signed")
	g.Fill("b", 9)
	voted := g.Next("voted", chaingen.Records(
		g.Certificate("genesis", "a9", 0, 1, 4), g.SetChange(chaingen.PublicKeys(types.Secp256k1, 5), 0, 1, 2),
		g.Evidence(g.Vote("genesis", "signed", 3), g.Vote("a9", "signed", 3)),
	))
	nodes := []*chaingen.Node{mined, signed, fallback, voted}
	var coins []consensus.Coins
	for i, node := range nodes {
		g.SetTip(node.Parent.Name)
		coins = append(coins, g.CoinsFor(node.Block))
		if node.Err != nil {
			f.Fatal(node.Err)
		}
		raw := node.Block.Bytes()
		for _, at := range []int{0, 4, 36, 68, 72, 76, 80, 81, 82, 147, 150, len(raw) / 2, len(raw) - 1} {
			f.Add(uint8(i), uint16(at), []byte{raw[at] ^ 1})
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint16, with []byte) {
		which %= uint8(len(nodes))
		node := nodes[which]
		raw := node.Block.Bytes()
		changed := bytes.Clone(raw)
		copy(changed[int(at)%len(changed):], with)
		b, err := types.DecodeBlock(changed)
		if err != nil {
			return
		}
		state, diff, err := consensus.Connect(&node.Parent.State, b, coins[which])
		if err != nil {
			if _, ok := consensus.RuleOf(err); !ok {
				t.Fatalf("an error that names no rule: %v", err)
			}
			if b.Header.ID() == node.State.ID && consensus.BlamesBlock(err) {
				t.Fatalf("%v blames a good block", err)
			}
			return
		}
		if state.ID == node.State.ID && !bytes.Equal(changed, raw) {
			// ECDSA has other signatures of the same key, but nobody finds one by changing bytes.
			t.Fatalf("another block with the same id is valid:\n%x\n%x", raw, changed)
		}
		if consensus.Undo(&node.Parent.State, b, diff.Spent); state.Height != node.State.Height {
			t.Fatalf("height %d", state.Height)
		}
	})
}

// FuzzDecodeState checks that what decodes is what would be written.
func FuzzDecodeState(f *testing.F) {
	n := chaingen.New(f, chaingen.Params()).Network()
	genesis := n.GenesisState()
	f.Add(genesis.AppendTo(nil))
	f.Add([]byte{})
	f.Add(make([]byte, 4+32+4+4+4+32+32))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := types.NewDecoder(raw)
		s, id := n.DecodeState(d)
		if d.Finish() != nil {
			return
		}
		// The id at the end is what the authority is found by, which is not there.
		again := append(s.AppendTo(nil)[:len(raw)-len(id)], id[:]...)
		if !bytes.Equal(again, raw) {
			t.Fatalf("%x comes back as %x", raw, again)
		}
	})
}

// FuzzDecodeCoin checks that what decodes is what would be written.
func FuzzDecodeCoin(f *testing.F) {
	g := chaingen.New(f, chaingen.Params())
	coin := g.Next("a1").Reward().Coin
	f.Add(coin.AppendTo(nil))
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := types.NewDecoder(raw)
		var c consensus.Coin
		c.DecodeFrom(d)
		if d.Finish() == nil && !bytes.Equal(c.AppendTo(nil), raw) {
			t.Fatalf("%x comes back as %x", raw, c.AppendTo(nil))
		}
	})
}
