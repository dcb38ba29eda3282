package consensus

import (
	"slices"

	"qcitycoin.org/qcity/node/types"
)

// Relative lock times, BIP 68.
const (
	sequenceDisabled    = 1 << 31
	sequenceTime        = 1 << 22
	sequenceMask        = 0xffff
	sequenceGranularity = 9 // 512 seconds
	// lockTimeThreshold divides lock times into heights (below) and Unix times.
	lockTimeThreshold = 500_000_000
)

// CheckTransaction applies the rules that need nothing but the transaction,
// which must not be a coinbase.
func (n *Network) CheckTransaction(tx *types.Transaction) error {
	if len(tx.Inputs) == 0 || len(tx.Outputs) == 0 {
		return broken(RuleTxEmpty, "%d inputs, %d outputs", len(tx.Inputs), len(tx.Outputs))
	}
	spent := make(map[types.OutPoint]bool, len(tx.Inputs))
	for i := range tx.Inputs {
		prev := tx.Inputs[i].Previous
		if prev.IsNull() {
			return broken(RuleTxNullInput, "input %d", i)
		}
		if spent[prev] {
			return broken(RuleTxDuplicate, "input %d spends %s again", i, prev)
		}
		spent[prev] = true
	}
	_, err := n.checkOutputs(tx.Outputs)
	return err
}

// checkOutputs checks the outputs of anything but a CoinOnline and returns their sum.
func (n *Network) checkOutputs(outs []types.TxOut) (sum int64, err error) {
	for i, out := range outs {
		if !types.ValidAmount(out.Value) {
			return 0, broken(RuleTxAmount, "output %d has %d", i, out.Value)
		}
		if sum += out.Value; !types.ValidAmount(sum) {
			return 0, broken(RuleTxAmount, "outputs add up to %d", sum)
		}
		t, err := types.ParseTemplate(out.PkScript)
		if err != nil || t.Kind == types.PayToValidatorKey {
			return 0, broken(RuleTxTemplate, "output %d: script %x", i, out.PkScript)
		}
		if t.Kind == types.NullData && (out.Value != 0 || len(t.Data) > int(n.MaxDataBytes)) {
			return 0, broken(RuleTxData, "output %d: value %d, %d bytes (limit %d)", i, out.Value, len(t.Data), n.MaxDataBytes)
		}
	}
	return sum, nil
}

// checkLockTime applies nLockTime as BIP 113 does, with the parent's time in
// place of the median.
func checkLockTime(parent *State, tx *types.Transaction) error {
	if tx.LockTime == 0 {
		return nil
	}
	now := parent.ChildHeight()
	if tx.LockTime >= lockTimeThreshold {
		now = parent.Time
	}
	if tx.LockTime < now {
		return nil
	}
	for i := range tx.Inputs {
		if tx.Inputs[i].Sequence != 0xffffffff {
			return broken(RuleTxLockTime, "lock time %d, chain is at %d", tx.LockTime, now)
		}
	}
	return nil
}

// checkSequence applies the relative lock time of one input (BIP 68).
func checkSequence(parent *State, tx *types.Transaction, i int, coin *Coin) error {
	sequence := tx.Inputs[i].Sequence
	// BIP 68 reads the version without its sign.
	if uint32(tx.Version) < 2 || sequence&sequenceDisabled != 0 {
		return nil
	}
	count := uint64(sequence & sequenceMask)
	from, now, unit := uint64(coin.Height), uint64(parent.ChildHeight()), "height"
	if sequence&sequenceTime != 0 {
		count <<= sequenceGranularity
		from, now, unit = uint64(coin.ParentTime), uint64(parent.Time), "time"
	}
	if from+count > now {
		return broken(RuleTxSequence, "input %d may be spent at %s %d, chain is at %d", i, unit, from+count, now)
	}
	return nil
}

// Spend is what a valid transaction costs and moves.
type Spend struct {
	Fee    int64 // base units
	SigOps int
}

// ValidateTransaction checks a transaction, not a coinbase, as part of the
// block after parent. coins must hold every output it spends that exists.
func ValidateTransaction(parent *State, tx *types.Transaction, coins Coins) (Spend, error) {
	spend, err := validateUnsigned(parent, tx, coins)
	if err == nil {
		err = verifyInputs(tx, coins)
	}
	if err != nil {
		return Spend{}, err
	}
	return spend, nil
}

// Option changes how, not what, is validated.
type Option func(*options)

type options struct {
	verified []func(txid types.Hash) bool
}

// Verified spares the signature checks of transactions the caller has verified
// before. That is sound because the checks depend on nothing but the id: it
// commits to the transaction, and through the outpoints to every script spent.
// Of several such options each counts.
func Verified(known func(txid types.Hash) bool) Option {
	return func(o *options) { o.verified = append(o.verified, known) }
}

// IsVerified reports whether opts spare the signature checks of a transaction.
func IsVerified(txid types.Hash, opts ...Option) bool {
	o := collect(opts)
	return o.isVerified(txid)
}

func collect(opts []Option) (o options) {
	for _, set := range opts {
		set(&o)
	}
	return o
}

func (o *options) isVerified(txid types.Hash) bool {
	return slices.ContainsFunc(o.verified, func(known func(types.Hash) bool) bool { return known(txid) })
}

// validateUnsigned applies every rule about a transaction but its signatures.
func validateUnsigned(parent *State, tx *types.Transaction, coins Coins) (Spend, error) {
	if err := parent.Network.CheckTransaction(tx); err != nil {
		return Spend{}, err
	}
	if err := checkLockTime(parent, tx); err != nil {
		return Spend{}, err
	}
	var in int64
	spend := Spend{}
	for i := range tx.Inputs {
		prev := tx.Inputs[i].Previous
		coin, ok := coins[prev]
		if !ok {
			return Spend{}, broken(RuleTxMissing, "input %d: %s does not exist or is spent", i, prev)
		}
		if err := checkInput(parent, tx, i, &coin); err != nil {
			return Spend{}, err
		}
		if in += coin.Output.Value; !types.ValidAmount(in) {
			return Spend{}, broken(RuleTxAmount, "inputs add up to %d", in)
		}
		template, _ := types.ParseTemplate(coin.Output.PkScript)
		spend.SigOps += types.SigOps(template, &tx.Inputs[i])
	}
	var out int64
	for _, o := range tx.Outputs {
		out += o.Value
	}
	if spend.Fee = in - out; spend.Fee < 0 {
		return Spend{}, broken(RuleTxValue, "inputs %s, outputs %s", types.FormatAmount(in), types.FormatAmount(out))
	}
	if spend.SigOps > int(parent.Network.MaxSigOps) {
		return Spend{}, broken(RuleSigOps, "%d signature checks, limit %d", spend.SigOps, parent.Network.MaxSigOps)
	}
	return spend, nil
}

// verifyInputs checks the signatures, a thousand times dearer than all else.
func verifyInputs(tx *types.Transaction, coins Coins) error {
	for i := range tx.Inputs {
		if err := types.VerifyInput(tx, i, coins[tx.Inputs[i].Previous].Output.PkScript); err != nil {
			return &RuleError{Rule: RuleTxScript, Detail: "input " + tx.Inputs[i].Previous.String(), Cause: err}
		}
	}
	return nil
}

func checkInput(parent *State, tx *types.Transaction, i int, coin *Coin) error {
	if coin.Coinbase && uint64(parent.ChildHeight()) < uint64(coin.Height)+uint64(parent.Network.CoinbaseMaturity) {
		return broken(RuleTxImmature, "input %d: coinbase of height %d matures at height %d", i, coin.Height, coin.Height+parent.Network.CoinbaseMaturity)
	}
	return checkSequence(parent, tx, i, coin)
}
