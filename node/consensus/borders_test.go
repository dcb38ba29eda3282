package consensus_test

import (
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestBorders holds the last value on either side of every border. What lies
// just outside is in the tables of violations as well; here both stand together.
func TestBorders(t *testing.T) {
	const ok consensus.Rule = ""
	cases := []struct {
		name   string
		kind   kind
		want   consensus.Rule
		change func(*fixture)
	}{
		{"block of exactly the limit", mined, ok, func(f *fixture) { grow(f, testMaxBytes); f.seal() }},
		{"VchBlockSig is not counted", signed, ok, func(f *fixture) { growSigned(f, testMaxBytes+65) }},
		{"block over the limit", signed, consensus.RuleBlockBytes, func(f *fixture) { growSigned(f, testMaxBytes+66) }},
		{"200 signature checks", mined, ok, func(f *fixture) { manyChecks(f, testMaxSigOps-2); f.keepFees() }},
		{"less than subsidy and fees", mined, ok, func(f *fixture) { f.block.Transactions[0].Outputs[0].Value = 0; f.seal() }},
		{"coinbase script of 2 bytes", mined, ok, func(f *fixture) { f.script(0x60, 0) }},
		{"coinbase script of 100 bytes", mined, ok, func(f *fixture) { f.script(append([]byte{0x60}, make([]byte, 99)...)...) }},
		{"third output without data", signed, ok, func(f *fixture) {
			tx := f.block.Transactions[0]
			tx.Outputs = append(tx.Outputs, data(""))
			f.seal()
		}},
		{"80 bytes of data", mined, ok, func(f *fixture) {
			f.add(f.payment(func(tx *types.Transaction) {
				tx.Outputs = append(tx.Outputs, chaingen.Pay(0, types.NullDataScript(make([]byte, testMaxData))))
			}))
		}},
		{"any version", mined, ok, func(f *fixture) { f.block.Version = -1; f.seal() }},

		{"mined one second after the parent", mined, ok, func(f *fixture) { f.at(1) }},
		{"mined a day after the parent", mined, ok, func(f *fixture) { f.at(86_400) }},
		{"fallback at 120 s", fallback, consensus.RuleFallback, func(f *fixture) { f.at(120) }},
		{"fallback at 121 s", fallback, ok, func(f *fixture) { f.at(121) }},
		{"fallback at 601 s", fallback, ok, func(f *fixture) { f.at(601) }},
		{"rank 0 at the parent's time", signed, consensus.RuleTimeOrder, func(f *fixture) { f.signAt(0, 0) }},
		{"rank 0 at 1 s", signed, ok, func(f *fixture) { f.signAt(0, 1) }},
		{"rank 1 at 19 s", signed, consensus.RuleSlotEarly, func(f *fixture) { f.signAt(1, 19) }},
		{"rank 1 at 20 s", signed, ok, func(f *fixture) { f.signAt(1, 20) }},
		{"rank 4 at 79 s", signed, consensus.RuleSlotEarly, func(f *fixture) { f.signAt(4, 79) }},
		{"rank 4 at 80 s", signed, ok, func(f *fixture) { f.signAt(4, 80) }},
		{"signed at 120 s", signed, ok, func(f *fixture) { f.signAt(2, 120) }},
		{"signed at 121 s", signed, ok, func(f *fixture) { f.signAt(2, 121) }},
		{"signed at 600 s", signed, ok, func(f *fixture) { f.signAt(0, 600) }},
		{"signed at 601 s", signed, consensus.RuleSlotLate, func(f *fixture) { f.signAt(0, 601) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.kind)
			c.change(f)
			_, _, err := f.connect()
			if rule, _ := consensus.RuleOf(err); rule != c.want || (err != nil) != (c.want != ok) {
				t.Errorf("got %v, want rule %q", err, c.want)
			}
		})
	}
}

// at moves the header time to seconds after the parent.
func (f *fixture) at(seconds uint32) {
	f.block.Time = f.parent.State.Time + seconds
	f.sealHeader()
}

// signAt has the validator of a rank make the block, seconds after the parent.
func (f *fixture) signAt(rank, seconds uint32) {
	index := f.parent.State.ValidatorOfRank(rank)
	f.block.Transactions[0].Outputs[1].PkScript = types.KeyScript(f.Network().Validators[index])
	chaingen.FixMerkleRoot(f.block)
	f.block.Time = f.parent.State.Time + seconds
	f.Sign(f.block, index)
}

func (f *fixture) script(s ...byte) {
	f.block.Transactions[0].Inputs[0].SignatureScript = s
	f.seal()
}

// keepFees lets the coinbase of a grown block claim subsidy and nothing else.
func (f *fixture) keepFees() {
	f.block.Transactions[0].Outputs[0].Value = testSubsidy
	f.seal()
}

// growSigned fills a signed block with data outputs of a payment until it has
// size bytes, VchBlockSig included.
func growSigned(f *fixture, size int) {
	tx := f.payment(func(*types.Transaction) {})
	f.block.Transactions = append(f.block.Transactions, tx)
	for missing := size - len(f.block.Bytes()); missing > 0; missing = size - len(f.block.Bytes()) {
		n := min(missing, 11+testMaxData)
		if rest := missing - n; rest > 0 && rest < 100 {
			n = missing / 2
		}
		// 8 value, 1 length, OP_RETURN, push opcode (two above 75 bytes), data.
		if n > 11+75 {
			n = 11 + 75
		}
		tx.Outputs = append(tx.Outputs, data(string(make([]byte, n-11))))
	}
	// Signature lengths vary by a byte or two; the last output makes up for it.
	f.SignInputs(tx, []consensus.UTXO{f.matureMulti})
	f.trim(tx, size)
	f.seal()
}

// trim adjusts the last data output until the block, whose payment's signatures
// change with every byte, has exactly size bytes.
func (f *fixture) trim(tx *types.Transaction, size int) {
	last := &tx.Outputs[len(tx.Outputs)-1]
	fill := byte(0)
	for off := size - len(f.block.Bytes()); off != 0; off = size - len(f.block.Bytes()) {
		fill++
		n := min(max(len(last.PkScript)-2+off, 2), 75)
		body := make([]byte, n)
		body[0] = fill
		*last = chaingen.Pay(0, types.NullDataScript(body))
		f.SignInputs(tx, []consensus.UTXO{f.matureMulti})
	}
}

func TestFutureLimit(t *testing.T) {
	n := chaingen.New(t, chaingen.Params()).Network()
	h := types.Header{Time: 2_000_000_000}
	for now, want := range map[int64]bool{
		2_000_000_000 - 60: true,
		2_000_000_000 - 61: false,
		2_000_000_000:      true,
		3_000_000_000:      true,
		0:                  false,
		-1:                 false,
	} {
		if err := n.CheckFuture(&h, now); (err == nil) != want {
			t.Errorf("clock %d: %v", now, err)
		}
	}
}

func TestMaturity(t *testing.T) {
	g := chaingen.New(t, chaingen.Params())
	reward := g.Next("made").Reward() // height 1
	g.Fill("a", 8)
	for _, c := range []struct {
		height uint32
		name   string
		want   consensus.Rule
	}{{10, "nine blocks on", consensus.RuleTxImmature}, {11, "ten blocks on", ""}} {
		if g.Tip().State.ChildHeight() != c.height {
			t.Fatalf("child height %d", g.Tip().State.ChildHeight())
		}
		before := g.Tip().Name
		node := g.Next(c.name, g.Include(g.Spend([]consensus.UTXO{reward}, chaingen.Pay(1, chaingen.PayToHash(0)))))
		if rule, _ := consensus.RuleOf(node.Err); rule != c.want {
			t.Errorf("%s: %v", c.name, node.Err)
		}
		g.SetTip(before)
		g.Next("on" + before)
	}
}
