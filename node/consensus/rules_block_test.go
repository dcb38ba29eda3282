package consensus_test

import (
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

func blockViolations() []violation {
	cases := []violation{
		{name: "one bit", rule: consensus.RuleMerkleRoot, corrupt: func(f *fixture) {
			f.block.MerkleRoot[31] ^= 0x80
			f.sealHeader()
		}},
		{name: "oversized foreign body", rule: consensus.RuleMerkleRoot, corrupt: func(f *fixture) {
			// Anybody can hang this on a good header: the id must not suffer.
			grow(f, testMaxBytes+1)
		}},
		{name: "last transaction twice", rule: consensus.RuleMerkleMutated, corrupt: func(f *fixture) {
			txs := f.block.Transactions // 3 of them: the tree pairs the last with itself
			f.block.Transactions = append(txs, txs[2])
		}},
		{name: "inner node as a transaction", rule: consensus.RuleMerkleMutated, corrupt: func(f *fixture) {
			f.block.Transactions = []*types.Transaction{sixtyFourBytes()}
			f.seal()
		}},
		{name: "one byte too many", rule: consensus.RuleBlockBytes, corrupt: func(f *fixture) {
			grow(f, testMaxBytes+1)
			f.seal()
		}},
		{name: "201 checks in one transaction", rule: consensus.RuleSigOps, corrupt: func(f *fixture) {
			manyChecks(f, testMaxSigOps+1-2) // the fixture's payments take two
		}},
		{name: "no transactions", rule: consensus.RuleNoCoinbase, corrupt: func(f *fixture) {
			f.block.Transactions = nil
			f.seal()
		}},
		{name: "payment first", rule: consensus.RuleNoCoinbase, corrupt: func(f *fixture) {
			f.block.Transactions = f.block.Transactions[1:]
			f.seal()
		}},
		{name: "second coinbase", rule: consensus.RuleExtraCoinbase, corrupt: func(f *fixture) {
			f.add(chaingen.Clone(f.block).Transactions[0])
		}},
		{name: "one base unit too much", rule: consensus.RuleCoinbaseValue, corrupt: func(f *fixture) {
			f.block.Transactions[0].Outputs[0].Value++
			f.seal()
		}},
		{name: "fallback with one base unit too much", rule: consensus.RuleCoinbaseValue, kind: fallback, corrupt: func(f *fixture) {
			f.block.Transactions[0].Outputs[0].Value++
			f.seal()
		}},
		{name: "coinbase without outputs", rule: consensus.RuleTxEmpty, corrupt: func(f *fixture) {
			f.block.Transactions[0].Outputs = nil
			f.seal()
		}},
		{name: "coinbase with lock time", rule: consensus.RuleTxLockTime, corrupt: func(f *fixture) {
			f.block.Transactions[0].LockTime = 16
			f.block.Transactions[0].Inputs[0].Sequence = 0
			f.seal()
		}},
		{name: "coinbase with unknown script", rule: consensus.RuleTxTemplate, corrupt: func(f *fixture) {
			f.block.Transactions[0].Outputs[0].PkScript = []byte{0x51}
			f.seal()
		}},
	}
	// The fixture's mined block has height 16: OP_16, 0x60.
	for name, script := range map[string][]byte{
		"height of another block": {0x5f, 1, 1},
		"height as a number":      {0x01, 16, 1},
		"one byte":                {0x60},
		"101 bytes":               append([]byte{0x60}, make([]byte, 100)...),
	} {
		cases = append(cases, violation{name: name, rule: consensus.RuleCoinbaseScript, corrupt: func(f *fixture) {
			f.block.Transactions[0].Inputs[0].SignatureScript = script
			f.seal()
		}})
	}
	return append(cases, coinOnlineViolations()...)
}

func coinOnlineViolations() []violation {
	shapes := map[string]func(*types.Transaction){
		"one output":             func(tx *types.Transaction) { tx.Outputs = tx.Outputs[:1] },
		"four outputs":           func(tx *types.Transaction) { tx.Outputs = append(tx.Outputs, data(""), data("")) },
		"first output has value": func(tx *types.Transaction) { tx.Outputs[0].Value = 1 },
		"first output pays":      func(tx *types.Transaction) { tx.Outputs[0].PkScript = chaingen.PayToHash(0) },
		"third output pays": func(tx *types.Transaction) {
			tx.Outputs = append(tx.Outputs, chaingen.Pay(0, chaingen.PayToHash(0)))
		},
		"third output has value": func(tx *types.Transaction) {
			tx.Outputs = append(tx.Outputs, chaingen.Pay(1, types.NullDataScript(nil)))
		},
	}
	pays := map[string]func(*types.Transaction){
		"one base unit more":   func(tx *types.Transaction) { tx.Outputs[1].Value++ },
		"one base unit less":   func(tx *types.Transaction) { tx.Outputs[1].Value-- },
		"subsidy":              func(tx *types.Transaction) { tx.Outputs[1].Value += testSubsidy },
		"somebody else":        func(tx *types.Transaction) { tx.Outputs[1].PkScript = chaingen.PayToKey(0) },
		"the signer's hash":    func(tx *types.Transaction) { tx.Outputs[1].PkScript = hashOf(tx.Outputs[1].PkScript) },
		"more than there is":   func(tx *types.Transaction) { tx.Outputs[1].Value = testMaxMoney + 1 },
		"a negative amount":    func(tx *types.Transaction) { tx.Outputs[1].Value = -1 },
		"nobody, empty script": func(tx *types.Transaction) { tx.Outputs[1].PkScript = nil },
	}
	var cases []violation
	add := func(rule consensus.Rule, name string, change func(*types.Transaction)) {
		cases = append(cases, violation{name: name, rule: rule, kind: signed, corrupt: func(f *fixture) {
			change(f.block.Transactions[0])
			f.seal()
		}})
	}
	for name, change := range shapes {
		add(consensus.RuleCoinOnline, name, change)
	}
	for name, change := range pays {
		add(consensus.RuleCoinOnlinePay, name, change)
	}
	add(consensus.RuleRecords, "a record of no known kind", func(tx *types.Transaction) {
		tx.Outputs = append(tx.Outputs, data("x"))
	})
	add(consensus.RuleCoinbaseScript, "height of another slot", func(tx *types.Transaction) {
		tx.Inputs[0].SignatureScript = []byte{0x01, 30, 0}
	})
	return append(cases, violation{name: "mined", rule: consensus.RuleCoinOnline, kind: fallback, corrupt: func(f *fixture) {
		f.block.Transactions[0].Outputs = []types.TxOut{{}, chaingen.Pay(0, chaingen.PayToKey(0))}
		f.seal()
	}})
}

func data(s string) types.TxOut { return chaingen.Pay(0, types.NullDataScript([]byte(s))) }

func hashOf(keyScript []byte) []byte {
	return types.PubKeyHashScript(types.Hash160(keyScript[1:34]))
}

// sixtyFourBytes returns a transaction as long as an inner node of a Merkle
// tree: what two hashes can be made to read as (CVE-2017-12842).
func sixtyFourBytes() *types.Transaction {
	return &types.Transaction{
		Inputs:  []types.TxIn{{Previous: types.OutPoint{TxID: types.Hash{7}}, SignatureScript: []byte{1, 2}}},
		Outputs: []types.TxOut{{PkScript: []byte{3, 4}}},
	}
}

// grow fills the coinbase until the block has size bytes.
func grow(f *fixture, size int) {
	coinbase := f.block.Transactions[0]
	for {
		missing := size - len(f.block.Bytes())
		if missing < 34+34 {
			// The last output is data, 8 + 1 + 1 + 1 bytes and what it carries.
			coinbase.Outputs = append(coinbase.Outputs, data(string(make([]byte, missing-11))))
			return
		}
		coinbase.Outputs = append(coinbase.Outputs, chaingen.Pay(0, chaingen.PayToHash(0)))
	}
}

// manyChecks adds a transaction with n outputs to one key and one that spends
// them all with good signatures.
func manyChecks(f *fixture, n int) {
	script := chaingen.PayToKey(1)
	make1 := f.Spend([]consensus.UTXO{f.matureMulti}) // three checks
	for range n - 3 {
		make1.Outputs = append(make1.Outputs, chaingen.Pay(types.Coin/100, script))
	}
	f.SignInputs(make1, []consensus.UTXO{f.matureMulti})
	var coins []consensus.UTXO
	for i := range make1.Outputs {
		coins = append(coins, consensus.UTXO{
			OutPoint: types.OutPoint{TxID: make1.ID(), Index: uint32(i)},
			Coin:     consensus.Coin{Output: make1.Outputs[i]},
		})
	}
	spend := f.Spend(coins, chaingen.Pay(types.Coin/100, script))
	f.block.Transactions = append(f.block.Transactions, make1, spend)
	f.seal()
}
