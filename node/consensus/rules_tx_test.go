package consensus_test

import (
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// payment is a valid transaction the table below corrupts before it is signed.
// It spends a 2-of-3 coin of 50 native coins.
func (f *fixture) payment(change func(*types.Transaction)) *types.Transaction {
	coins := []consensus.UTXO{f.matureMulti}
	tx := f.Spend(coins, chaingen.Pay(50*types.Coin, chaingen.PayToHash(0)))
	change(tx)
	f.SignInputs(tx, coins)
	return tx
}

func transactionViolations() []violation {
	var cases []violation
	// unsigned changes are made before the payment is signed.
	unsigned := func(rule consensus.Rule, name string, change func(*types.Transaction)) {
		cases = append(cases, violation{name: name, rule: rule, corrupt: func(f *fixture) { f.add(f.payment(change)) }})
	}
	unsigned(consensus.RuleTxEmpty, "no outputs", func(tx *types.Transaction) { tx.Outputs = nil })
	unsigned(consensus.RuleTxAmount, "negative", func(tx *types.Transaction) { tx.Outputs[0].Value = -1 })
	unsigned(consensus.RuleTxAmount, "more than there may be", func(tx *types.Transaction) { tx.Outputs[0].Value = testMaxMoney + 1 })
	unsigned(consensus.RuleTxAmount, "a sum of more than there may be", func(tx *types.Transaction) {
		tx.Outputs = append(tx.Outputs, chaingen.Pay(testMaxMoney, chaingen.PayToHash(0)))
	})
	unsigned(consensus.RuleTxAmount, "a sum that overflows 64 bits", func(tx *types.Transaction) {
		for range 60 {
			tx.Outputs = append(tx.Outputs, chaingen.Pay(testMaxMoney, chaingen.PayToHash(0)))
		}
	})
	unsigned(consensus.RuleTxValue, "one base unit from nothing", func(tx *types.Transaction) { tx.Outputs[0].Value++ })
	unsigned(consensus.RuleTxLockTime, "this block's height", func(tx *types.Transaction) {
		tx.LockTime, tx.Inputs[0].Sequence = 16, 0xfffffffe
	})
	unsigned(consensus.RuleTxSequence, "14 blocks deep at 13", func(tx *types.Transaction) { tx.Inputs[0].Sequence = 14 })
	for name, script := range map[string][]byte{
		"empty":           {},
		"OP_TRUE":         {0x51},
		"witness program": append([]byte{0x00, 20}, make([]byte, 20)...),
		"taproot":         append([]byte{0x51, 32}, make([]byte, 32)...),
		"bare multisig":   mustMultisig(),
		"validator key":   types.KeyScript(chaingen.ValidatorKey(types.P256, 0).Public()),
		"uncompressed":    append(append([]byte{65, 4}, make([]byte, 64)...), 0xac),
		"two pushes":      {0x6a, 1, 99, 1, 99},
		"data, long form": {0x6a, 0x4c, 1, 99},
		"key and more":    append(chaingen.PayToKey(0), 0x61),
	} {
		unsigned(consensus.RuleTxTemplate, name, func(tx *types.Transaction) { tx.Outputs[0].PkScript = script })
	}
	unsigned(consensus.RuleTxData, "with value", func(tx *types.Transaction) {
		tx.Outputs[0] = chaingen.Pay(1, types.NullDataScript([]byte("x")))
	})
	unsigned(consensus.RuleTxData, "81 bytes", func(tx *types.Transaction) {
		tx.Outputs[0] = chaingen.Pay(0, types.NullDataScript(make([]byte, testMaxData+1)))
	})
	return append(cases, inputViolations()...)
}

func mustMultisig() []byte {
	script, err := types.MultisigScript(1, []types.PublicKey{chaingen.PaymentKey(0).Public()})
	if err != nil {
		panic(err)
	}
	return script
}

func inputViolations() []violation {
	spend := func(f *fixture, coins ...consensus.UTXO) *types.Transaction {
		return f.Spend(coins, chaingen.Pay(types.Coin, chaingen.PayToHash(0)))
	}
	return []violation{
		{name: "no inputs", rule: consensus.RuleTxEmpty, corrupt: func(f *fixture) { f.add(spend(f)) }},
		{name: "one coin twice", rule: consensus.RuleTxDuplicate, corrupt: func(f *fixture) {
			f.add(spend(f, f.matureMulti, f.matureMulti))
		}},
		{name: "beside a good input", rule: consensus.RuleTxNullInput, corrupt: func(f *fixture) {
			tx := spend(f, f.matureMulti)
			tx.Inputs = append(tx.Inputs, types.TxIn{Previous: types.NullOutPoint})
			f.add(tx)
		}},
		{name: "unknown coin", rule: consensus.RuleTxMissing, corrupt: func(f *fixture) {
			coin := f.matureMulti
			coin.OutPoint.Index = 9
			f.add(spend(f, coin))
		}},
		{name: "spent by the transaction before", rule: consensus.RuleTxMissing, corrupt: func(f *fixture) {
			f.add(spend(f, f.matureHash))
		}},
		{name: "made by the transaction after", rule: consensus.RuleTxMissing, corrupt: func(f *fixture) {
			first := spend(f, f.matureMulti)
			second := spend(f, f.parent.Output(first, 0))
			f.block.Transactions = append(f.block.Transactions, second, first)
			f.seal()
		}},
		{name: "data output", rule: consensus.RuleTxMissing, corrupt: func(f *fixture) {
			note := f.parent.Output(f.block.Transactions[1], 1)
			note.Coin.Output.PkScript = chaingen.PayToHash(0) // something to sign for
			f.add(spend(f, note))
		}},
		{name: "this block's own coinbase", rule: consensus.RuleTxImmature, corrupt: func(f *fixture) {
			f.add(spend(f, f.parent.Output(f.block.Transactions[0], 0)))
		}},
		{name: "nine blocks deep", rule: consensus.RuleTxImmature, corrupt: func(f *fixture) { f.add(spend(f, f.young)) }},
		{name: "no signature", rule: consensus.RuleTxScript, corrupt: func(f *fixture) {
			tx := spend(f, f.matureMulti)
			tx.Inputs[0].SignatureScript = nil
			f.add(tx)
		}},
		{name: "signed for another output", rule: consensus.RuleTxScript, corrupt: func(f *fixture) {
			tx := spend(f, f.matureMulti)
			tx.Outputs[0].Value--
			f.add(tx)
		}},
		{name: "signed by another key", rule: consensus.RuleTxScript, corrupt: func(f *fixture) {
			tx := spend(f, f.matureMulti)
			other := f.matureHash
			f.SignInputs(tx, []consensus.UTXO{other})
			f.add(tx)
		}},
	}
}
