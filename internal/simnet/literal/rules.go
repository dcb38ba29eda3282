package literal

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Bitcoin's rules about time, which apply where the text says nothing.
const (
	medianBlocks = 11
	// FutureLimit is how far a block may be ahead of the clock.
	FutureLimit = 2 * time.Hour
)

// The statements of the source text that a block can break, by the numbers of
// the package comment.
const (
	P8  consensus.Rule = "P8"  // the signature does not verify over the CoinOnline
	P9  consensus.Rule = "P9"  // VchBlockSig has not its default in an ordinary block, or is no signature
	P10 consensus.Rule = "P10" // nonce of an auth block is not the default
	P11 consensus.Rule = "P11" // first transaction of an auth block has not the one null input
	P12 consensus.Rule = "P12" // outputs of the CoinOnline
	P15 consensus.Rule = "P15" // the key is not one of the validators'
	P17 consensus.Rule = "P17" // hash of an ordinary block is above the target

	MedianTime consensus.Rule = "median-time" // Bitcoin's: not after the median of the last eleven
)

func broken(r consensus.Rule, format string, args ...any) error {
	return &consensus.RuleError{Rule: r, Detail: fmt.Sprintf(format, args...)}
}

// Digest is what a validator signs: the data of the CoinOnline, and nothing
// else of the block (P8).
func Digest(coinOnline *types.Transaction) types.Hash { return coinOnline.ID() }

// isAuth reports whether a block at this time has to be an auth block: its
// height is a multiple of n (P1, P2) and its own time stamp is within the set
// time of its parent's (P22). Whoever makes the block chooses that stamp.
func (c *Chain) isAuth(parent *block, at uint32) bool {
	return parent.state.ChildIsSlot() && int64(at)-int64(parent.state.Time) <= c.setTime()
}

// checkHeader applies the rules about time and target, which are Bitcoin's.
func (c *Chain) checkHeader(parent *block, h *types.SignedHeader) error {
	if earliest := parent.median() + 1; h.Time < earliest {
		return broken(MedianTime, "time %d, earliest %d", h.Time, earliest)
	}
	if ahead := int64(h.Time) - c.now().Unix(); ahead > int64(FutureLimit/time.Second) {
		return broken(consensus.RuleTimeFuture, "%d s ahead of the clock", ahead)
	}
	if h.Bits != c.Bits() {
		return broken(consensus.RuleBits, "bits %08x, want %08x", h.Bits, c.Bits())
	}
	return nil
}

// checkOrdinary is ordinary verification: default VchBlockSig (P9), proof of
// work, and transactions as everywhere (P17). At a slot it is all that a
// fallback block has to pass (P20).
func (c *Chain) checkOrdinary(parent *block, b *types.Block) (consensus.Diff, error) {
	if b.IsSigned() {
		return consensus.Diff{}, broken(P9, "VchBlockSig in an ordinary block") // P21 too
	}
	if id := b.Header.ID(); !types.HashMeets(id, &c.target) {
		return consensus.Diff{}, broken(P17, "hash %s is above the target", id)
	}
	if err := parent.state.CheckBlock(b); err != nil {
		return consensus.Diff{}, err
	}
	return consensus.ValidateBody(&parent.state, b, parent.coins(b))
}

// checkAuth is auth verification (P15): the key comes from the CoinOnline and
// the signature from the header (P6, P7), there is no proof of work (P10).
func (c *Chain) checkAuth(parent *block, b *types.Block) (consensus.Diff, error) {
	none := consensus.Diff{}
	sig, err := types.ParseBlockSig(b.VchBlockSig)
	if err != nil {
		return none, broken(P9, "%v", err)
	}
	if b.Nonce != 0 {
		return none, broken(P10, "nonce %d", b.Nonce)
	}
	if root, mutated := types.MerkleRoot(b.TxIDs()); root != b.MerkleRoot || mutated {
		return none, broken(consensus.RuleMerkleRoot, "transactions have root %s", root)
	}
	if len(b.Transactions) == 0 || !b.Transactions[0].IsCoinbase() {
		return none, broken(P11, "first transaction is no CoinOnline")
	}
	coinOnline := b.Transactions[0]
	diff, err := othersOf(parent, b)
	if err != nil {
		return none, err
	}
	if err := checkCoinOnline(coinOnline.Outputs, fees(&diff)); err != nil {
		return none, err
	}
	keys := c.net.Validators // P5: hard-coded
	i := slices.IndexFunc(keys, func(k types.PublicKey) bool {
		return bytes.Equal(coinOnline.Outputs[1].PkScript, types.KeyScript(k))
	})
	if i < 0 {
		return none, broken(P15, "output 1 pays no validator")
	}
	if err := keys[i].Verify(Digest(coinOnline), sig.Signature); err != nil {
		return none, broken(P8, "validator %d: %v", i, err)
	}
	return diff, nil
}

// checkCoinOnline applies P12, with the one shape that its table can mean: two or
// three outputs (PA9). P13, no subsidy, follows. Neither says that the script
// holds the height.
func checkCoinOnline(outs []types.TxOut, fees int64) error {
	switch {
	case len(outs) < 2 || len(outs) > 3:
		return broken(P12, "%d outputs", len(outs))
	case outs[0].Value != 0 || len(outs[0].PkScript) > 0:
		return broken(P12, "output 0 is not empty")
	case outs[1].Value != fees:
		return broken(P12, "output 1 pays %d, fees are %d", outs[1].Value, fees)
	case len(outs) == 3 && outs[2].Value != 0:
		return broken(P12, "output 2 has value")
	}
	return nil
}

// othersOf checks all transactions of an auth block but the first by the
// ordinary rules, behind a coinbase that claims nothing. What the CoinOnline
// pays is not made spendable: no attack here is about that.
func othersOf(parent *block, b *types.Block) (consensus.Diff, error) {
	standIn := &types.Transaction{
		Version: 1,
		Inputs:  []types.TxIn{{Previous: types.NullOutPoint, SignatureScript: append(types.HeightScript(parent.state.ChildHeight()), 0)}},
		Outputs: []types.TxOut{{PkScript: types.NullDataScript(nil)}},
	}
	others := &types.Block{Transactions: append([]*types.Transaction{standIn}, b.Transactions[1:]...)}
	return consensus.ValidateBody(&parent.state, others, parent.coins(b))
}

// fees is what transactions spend and do not pay on.
func fees(d *consensus.Diff) (sum int64) {
	for _, u := range d.Spent {
		sum += u.Coin.Output.Value
	}
	for _, u := range d.Created {
		sum -= u.Coin.Output.Value
	}
	return sum
}
