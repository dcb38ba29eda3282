package authority

import "fmt"

// Rule names what refuses a set change or its signature. Its text is stable: it
// is shown to people, counted and written to audit logs.
type Rule string

func (r Rule) Error() string { return string(r) }

// The rules about the new set. Where the chain has the same rule, the name says
// more exactly what is wrong.
const (
	RuleNetwork      Rule = "set-network"       // it is for another network
	RuleUnknownSet   Rule = "set-unknown"       // the set it starts from cannot be one of this network
	RuleLastNumber   Rule = "set-last-number"   // there is no number after this set's
	RuleUnchanged    Rule = "set-unchanged"     // the new set is the one in force
	RuleEven         Rule = "set-even"          // an even number of keys, or none: no majority without a tie
	RuleTooSmall     Rule = "set-too-small"     // a single key, under which nothing ever becomes final
	RuleTooLarge     Rule = "set-too-large"     // more keys than a set can have
	RuleTurns        Rule = "set-turns"         // more keys than have their turn before a slot opens to miners
	RuleVoters       Rule = "set-voters"        // both sets together have more keys than can vote
	RuleDuplicate    Rule = "set-duplicate"     // a key is listed twice
	RuleKey          Rule = "set-key"           // a key is no point of its curve
	RuleDisabled     Rule = "set-disabled"      // a key that evidence disabled is to stay or to come back
	RuleNoProof      Rule = "set-proof-missing" // a new key without a proof of possession
	RuleProof        Rule = "set-proof"         // a proof that does not hold
	RuleSurplusProof Rule = "set-proof-surplus" // a proof of a key that is not new, or twice
	RuleReason       Rule = "set-reason"        // no reason, or one that cannot be shown on a line
)

// The rules about signing it.
const (
	RuleIndex       Rule = "set-index"        // the set in force has no such validator
	RuleOwnDisabled Rule = "set-own-disabled" // the signer's key is disabled: its signature would not count
	RulePeople      Rule = "set-two-people"   // not confirmed by two people
	RuleFingerprint Rule = "set-fingerprint"  // what they typed is not the new set's fingerprint
	RuleOwnRemoved  Rule = "set-own-removed"  // the signer's own key goes, which was not confirmed by itself
	RuleHandOver    Rule = "set-hand-over"    // the keys that stay are no majority of the new set, which was not confirmed by itself
)

// Refusal says which rule refuses, and why.
type Refusal struct {
	Rule   Rule
	Detail string
}

func (e *Refusal) Error() string { return fmt.Sprintf("refused by rule %s: %s", e.Rule, e.Detail) }

// Unwrap gives errors.Is the rule.
func (e *Refusal) Unwrap() error { return e.Rule }

func refuse(r Rule, format string, args ...any) error {
	return &Refusal{Rule: r, Detail: fmt.Sprintf(format, args...)}
}
