package consensus

import (
	"bytes"
	"slices"

	"qcitycoin.org/qcity/node/types"
)

// Coinbase scripts hold 2 to 100 bytes, the first of which push the height.
const (
	minCoinbaseScript = 2
	maxCoinbaseScript = 100
)

// CheckBlock applies the rules about a block after s that need no coins: its
// Merkle root, its size, that the first transaction and no other is a coinbase,
// that VchBlockSig and this first transaction belong together, and what a
// CoinOnline carries. A block that passes ValidateHeader and CheckBlock is as its
// maker meant it: whatever it breaks afterwards is the fault of its id
// (BlamesBlock).
func (s *State) CheckBlock(b *types.Block) error {
	n := s.Network
	root, mutated := types.MerkleRoot(b.TxIDs())
	if root != b.MerkleRoot {
		return broken(RuleMerkleRoot, "transactions have root %s, header says %s", root, b.MerkleRoot)
	}
	if mutated {
		return broken(RuleMerkleMutated, "transactions are repeated")
	}
	if len(b.Transactions) == 0 || !b.Transactions[0].IsCoinbase() {
		if mayBeNodes(b.Transactions) {
			return broken(RuleMerkleMutated, "inner nodes of the Merkle tree in place of transactions")
		}
		return broken(RuleNoCoinbase, "block %s", b.Header.ID())
	}
	// VchBlockSig counts as empty: the size must not depend on what the id does not commit to.
	if size := len(b.Bytes()) - len(b.VchBlockSig); size > int(n.MaxBlockBytes) {
		return broken(RuleBlockBytes, "%d bytes, limit %d", size, n.MaxBlockBytes)
	}
	for i, tx := range b.Transactions[1:] {
		if tx.IsCoinbase() {
			return broken(RuleExtraCoinbase, "transaction %d", i+1)
		}
	}
	if err := s.checkMaker(b); err != nil || !b.IsSigned() {
		return err
	}
	return s.authority().clone().carryAll(n, b.Transactions[0], true)
}

// checkMaker checks that a signed block starts with a CoinOnline of its signer
// and a mined block does not. Its id commits to the first transaction but not
// to VchBlockSig, so a stranger may have brought the two together.
func (s *State) checkMaker(b *types.Block) error {
	tx := b.Transactions[0]
	if !b.IsSigned() {
		if len(tx.Outputs) > 0 && emptyOutput(&tx.Outputs[0]) {
			return broken(RuleCoinOnline, "CoinOnline in a block without VchBlockSig")
		}
		return nil
	}
	sig, err := types.ParseBlockSig(b.VchBlockSig)
	if err != nil {
		return &RuleError{Rule: RuleSigFormat, Detail: "VchBlockSig", Cause: err}
	}
	return checkCoinOnline(s.Validators(), tx, sig.Index)
}

// mayBeNodes reports whether a list without a coinbase may be a level of the
// Merkle tree of another list: an inner node is 64 bytes, and little grinding
// makes one that reads as a transaction (CVE-2017-12842). None reads as a
// coinbase, whose 36 bytes of null outpoint nobody can grind.
func mayBeNodes(txs []*types.Transaction) bool {
	return slices.ContainsFunc(txs, func(tx *types.Transaction) bool { return len(tx.Bytes()) == 64 })
}

// Connect checks a block against its parent and the coins it spends, and
// returns the state after it and what it changes. coins must hold every output
// spent by the block that existed before it; others are ignored. The clock is
// the caller's: see CheckFuture. Errors that wrap a Rule are the block's fault.
func Connect(parent *State, b *types.Block, coins Coins, opts ...Option) (State, Diff, error) {
	if err := ValidateHeader(parent, &b.SignedHeader); err != nil {
		return State{}, Diff{}, err
	}
	if err := parent.CheckBlock(b); err != nil {
		return State{}, Diff{}, err
	}
	diff, err := ValidateBody(parent, b, coins, opts...)
	if err != nil {
		return State{}, Diff{}, err
	}
	return parent.Child(&b.SignedHeader, b.Transactions[0]), diff, nil
}

// ValidateBody checks the transactions of a block whose header may still be
// unsolved or unsigned: the block template and the proposal of a slot are
// checked with the very rules the network will apply. A CoinOnline is expected
// when VchBlockSig is not empty; of it only the signer's index is read.
func ValidateBody(parent *State, b *types.Block, coins Coins, opts ...Option) (Diff, error) {
	o := collect(opts)
	if len(b.Transactions) == 0 {
		return Diff{}, broken(RuleNoCoinbase, "block without transactions")
	}
	view := make(Coins, len(coins))
	for o, c := range coins {
		view[o] = c
	}
	var diff Diff
	var total Spend
	created := make(map[types.OutPoint]bool)
	for i, tx := range b.Transactions {
		if i > 0 {
			spend, err := validateUnsigned(parent, tx, view)
			if err == nil && !o.isVerified(tx.ID()) {
				err = verifyInputs(tx, view)
			}
			if err != nil {
				return Diff{}, err
			}
			// One fee is at most MaxMoney, so the sum is checked before it can overflow.
			if total.Fee += spend.Fee; !types.ValidAmount(total.Fee) {
				return Diff{}, broken(RuleTxAmount, "fees add up to %d", total.Fee)
			}
			if total.SigOps += spend.SigOps; total.SigOps > int(parent.Network.MaxSigOps) {
				return Diff{}, broken(RuleSigOps, "%d signature checks, limit %d", total.SigOps, parent.Network.MaxSigOps)
			}
			for j := range tx.Inputs {
				prev := tx.Inputs[j].Previous
				if !created[prev] {
					diff.Spent = append(diff.Spent, UTXO{OutPoint: prev, Coin: view[prev]})
				}
				delete(created, prev)
				delete(view, prev)
			}
		}
		for _, u := range outputs(parent, tx, i == 0) {
			created[u.OutPoint] = true
			view[u.OutPoint] = u.Coin
		}
	}
	if err := checkFirst(parent, b, total.Fee); err != nil {
		return Diff{}, err
	}
	return Undo(parent, b, diff.Spent), nil
}

// checkFirst checks the coinbase of a mined block or the CoinOnline of a signed one.
func checkFirst(parent *State, b *types.Block, fees int64) error {
	if b.IsSigned() {
		sig, err := types.ParseBlockSig(b.VchBlockSig)
		if err != nil {
			return &RuleError{Rule: RuleSigFormat, Detail: "VchBlockSig", Cause: err}
		}
		return ValidateCoinOnline(parent, b.Transactions[0], sig.Index, &fees)
	}
	tx := b.Transactions[0]
	if err := checkCoinbaseScript(parent, tx); err != nil {
		return err
	}
	if len(tx.Outputs) == 0 {
		return broken(RuleTxEmpty, "coinbase has no outputs")
	}
	paid, err := parent.Network.checkOutputs(tx.Outputs)
	if err != nil {
		return err
	}
	if most := parent.Subsidy() + fees; paid > most {
		return broken(RuleCoinbaseValue, "coinbase pays %s, subsidy and fees are %s", types.FormatAmount(paid), types.FormatAmount(most))
	}
	return nil
}

func checkCoinbaseScript(parent *State, tx *types.Transaction) error {
	if !tx.IsCoinbase() {
		return broken(RuleNoCoinbase, "first transaction spends something")
	}
	script := tx.Inputs[0].SignatureScript
	if n := len(script); n < minCoinbaseScript || n > maxCoinbaseScript {
		return broken(RuleCoinbaseScript, "%d bytes, want %d to %d", n, minCoinbaseScript, maxCoinbaseScript)
	}
	if want := types.HeightScript(parent.ChildHeight()); !bytes.HasPrefix(script, want) {
		return broken(RuleCoinbaseScript, "script %x does not start with height %d (%x)", script, parent.ChildHeight(), want)
	}
	return checkLockTime(parent, tx)
}

// ValidateCoinOnline checks the first transaction of a signed block (C3, P11,
// P12). fees is what the block's other transactions pay, or nil where that is
// unknown: then any amount passes, as the signer, who sees no other
// transaction, must leave it to the node.
func ValidateCoinOnline(parent *State, tx *types.Transaction, index uint8, fees *int64) error {
	if err := checkCoinbaseScript(parent, tx); err != nil {
		return err
	}
	if err := checkCoinOnline(parent.Validators(), tx, index); err != nil {
		return err
	}
	out, key := &tx.Outputs[1], parent.Validators().Keys[index]
	if !bytes.Equal(out.PkScript, types.KeyScript(key)) {
		return broken(RuleCoinOnlinePay, "second output does not pay validator %d, %s", index, key)
	}
	if !types.ValidAmount(out.Value) || (fees != nil && out.Value != *fees) {
		return broken(RuleCoinOnlinePay, "second output pays %d, not exactly the fees", out.Value)
	}
	_, err := Records(tx)
	return err
}

// checkCoinOnline checks what tells a CoinOnline of validator index from other
// first transactions: its shape, and that it pays no other validator.
func checkCoinOnline(set ValidatorSet, tx *types.Transaction, index uint8) error {
	outs := tx.Outputs
	if len(outs) < 2 || len(outs) > 3 {
		return broken(RuleCoinOnline, "%d outputs, want 2 or 3", len(outs))
	}
	if !emptyOutput(&outs[0]) {
		return broken(RuleCoinOnline, "first output must be empty")
	}
	if len(outs) == 3 {
		t, err := types.ParseTemplate(outs[2].PkScript)
		if err != nil || t.Kind != types.NullData || outs[2].Value != 0 {
			return broken(RuleCoinOnline, "third output must be zero-value data")
		}
	}
	if int(index) >= len(set.Keys) {
		return broken(RuleValidator, "index %d in a set of %d", index, len(set.Keys))
	}
	payee := slices.IndexFunc(set.Keys, func(k types.PublicKey) bool {
		return bytes.Equal(outs[1].PkScript, types.KeyScript(k))
	})
	if payee >= 0 && payee != int(index) {
		return broken(RuleValidator, "CoinOnline pays validator %d, VchBlockSig names %d", payee, index)
	}
	return nil
}

func emptyOutput(out *types.TxOut) bool { return out.Value == 0 && len(out.PkScript) == 0 }
