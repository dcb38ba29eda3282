package consensus

import (
	"errors"
	"fmt"
)

// Rule names a rule of the chain. A violated rule is found with
// errors.Is(err, RuleXxx); its text is stable and travels in reject messages.
type Rule string

func (r Rule) Error() string { return string(r) }

// The rules. Each is checked in exactly one place.
const (
	// Headers.
	RulePrevBlock  Rule = "prev-block"         // header does not name the parent
	RuleTimeOrder  Rule = "time-order"         // C1: time not after the parent's
	RuleTimeFuture Rule = "time-future"        // C1: time too far ahead of the clock; temporary
	RuleBelowFinal Rule = "below-final"        // forks off below a final slot or a release's checkpoint; local
	RuleTwinLimit  Rule = "twin-limit"         // too many blocks of one key at one slot; local, temporary
	RuleBits       Rule = "bits"               // bits differ from what ASERT asks for
	RuleWork       Rule = "proof-of-work"      // C2: hash above the target
	RuleNotASlot   Rule = "not-a-slot"         // C2: VchBlockSig at a height that is no slot
	RuleSigFormat  Rule = "sig-format"         // C3: VchBlockSig is not index ‖ r ‖ s
	RuleDisabled   Rule = "validator-disabled" // C10: the validator's key is disabled
	RuleValidator  Rule = "validator"          // C3: index is not in the validator set, or not the one CoinOnline pays
	RuleSlotNonce  Rule = "slot-nonce"         // C3: nonce of a signed block is not zero
	RuleSlotEarly  Rule = "slot-early"         // C3: signed before the validator's rank delay
	RuleSlotLate   Rule = "slot-late"          // C3: signed after the slot closed
	RuleBlockSig   Rule = "block-signature"    // C5: signature does not verify
	RuleFallback   Rule = "fallback-early"     // C4: mined slot block before the slot opened to miners

	// Blocks.
	RuleMerkleRoot     Rule = "merkle-root"      // header commits to other transactions
	RuleMerkleMutated  Rule = "merkle-mutated"   // list may stand for another with the same root (CVE-2012-2459, CVE-2017-12842)
	RuleBlockBytes     Rule = "block-bytes"      // block is too large
	RuleSigOps         Rule = "signature-ops"    // too many signature checks in a block
	RuleNoCoinbase     Rule = "no-coinbase"      // first transaction is no coinbase
	RuleExtraCoinbase  Rule = "extra-coinbase"   // a later transaction is a coinbase
	RuleCoinbaseScript Rule = "coinbase-script"  // script is not 2–100 bytes starting with the height (BIP 34)
	RuleCoinbaseValue  Rule = "coinbase-value"   // coinbase pays more than subsidy and fees
	RuleCoinOnline     Rule = "coinonline-shape" // C3: not 2 or 3 outputs, first empty, third data; or unsigned
	RuleCoinOnlinePay  Rule = "coinonline-fees"  // C3: second output is not exactly the fees to the signer

	// Transactions.
	RuleTxEmpty     Rule = "tx-empty"      // no inputs or no outputs
	RuleTxAmount    Rule = "tx-amount"     // an amount or a sum is out of range
	RuleTxDuplicate Rule = "tx-duplicate"  // the same output is spent twice in one transaction
	RuleTxNullInput Rule = "tx-null-input" // an input spends the null outpoint
	RuleTxTemplate  Rule = "tx-template"   // an output script is none of the templates
	RuleTxData      Rule = "tx-data"       // a data output carries value or too many bytes
	RuleTxLockTime  Rule = "tx-lock-time"  // lock time not reached
	RuleTxSequence  Rule = "tx-sequence"   // relative lock time not reached (BIP 68)
	RuleTxMissing   Rule = "tx-missing"    // an output that is spent does not exist
	RuleTxImmature  Rule = "tx-immature"   // a coinbase output is spent too early
	RuleTxValue     Rule = "tx-value"      // outputs exceed inputs
	RuleTxScript    Rule = "tx-script"     // an input is not authorised
)

// RuleError says which rule something breaks and how. It unwraps to the Rule,
// and to the cause where there is one.
type RuleError struct {
	Rule   Rule
	Detail string
	Cause  error
}

func (e *RuleError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Rule, e.Detail, e.Cause)
	}
	return fmt.Sprintf("%s: %s", e.Rule, e.Detail)
}

// Unwrap gives errors.Is the rule and the cause.
func (e *RuleError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Rule}
	}
	return []error{e.Rule, e.Cause}
}

func broken(r Rule, format string, args ...any) error {
	return &RuleError{Rule: r, Detail: fmt.Sprintf(format, args...)}
}

// RuleOf returns the rule an error reports, and false when it reports none:
// such an error is an I/O failure or a bug, and says nothing about the block.
func RuleOf(err error) (Rule, bool) {
	var r Rule
	ok := errors.As(err, &r)
	return r, ok
}

// BlamesBlock reports whether err proves that the block with this id can never
// be valid, so that the id may be remembered as bad. It is false where anybody
// between the block's maker and us could have caused the error: a transaction
// list the header does not commit to, and everything that depends on
// VchBlockSig, which stands outside the id. Otherwise a peer could make nodes
// refuse a good block by handing them the same id with a signature stripped,
// spoiled or replaced by another validator's. After such an error the caller
// forgets the header it came with and takes the same id with another
// VchBlockSig. It is also false for a time ahead of the clock, which passes,
// and for a parent that is not the block's.
func BlamesBlock(err error) bool {
	r, ok := RuleOf(err)
	if !ok {
		return false
	}
	switch r {
	case RulePrevBlock, RuleTimeFuture, RuleBelowFinal, RuleTwinLimit, RuleMerkleRoot, RuleMerkleMutated,
		RuleWork, RuleNotASlot, RuleSigFormat, RuleValidator, RuleDisabled, RuleSlotNonce,
		RuleSlotEarly, RuleSlotLate, RuleBlockSig, RuleFallback, RuleCoinOnline:
		return false
	}
	return true
}
