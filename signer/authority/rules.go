package authority

import (
	"math"
	"slices"
	"unicode"
	"unicode/utf8"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// MaxReason is the longest reason, in bytes.
const MaxReason = 400

// change is a change of the set with what is known of the chain, as both a
// proposal and a request to sign it have it.
type change = SetChangeRequest

// check is one rule. It looks at nothing that another rule judges, so that a
// change with one fault breaks one rule.
type check struct {
	rule Rule
	run  func(r *change, n *consensus.Network) error
}

// setChecks are the rules about the new set, signChecks those about signing it.
var (
	setChecks = []check{
		{RuleNetwork, checkNetwork},
		{RuleUnknownSet, checkCurrent},
		{RuleLastNumber, checkNumber},
		{RuleUnchanged, checkUnchanged},
		{RuleEven, checkEven},
		{RuleTooSmall, checkTooSmall},
		{RuleTooLarge, checkTooLarge},
		{RuleTurns, checkTurns},
		{RuleVoters, checkVoters},
		{RuleDuplicate, checkDuplicate},
		{RuleKey, checkPoints},
		{RuleDisabled, checkDisabled},
		{RuleNoProof, checkProofMissing},
		{RuleProof, checkProofs},
		{RuleSurplusProof, checkProofSurplus},
		{RuleReason, checkReason},
	}
	signChecks = []check{
		{RuleIndex, checkIndex},
		{RuleOwnDisabled, checkOwnDisabled},
		{RulePeople, checkPeople},
		{RuleFingerprint, checkFingerprint},
		{RuleOwnRemoved, checkOwnRemoved},
		{RuleHandOver, checkHandOver},
	}
)

// first returns what the first rule that refuses says.
func first(checks []check, r *change, n *consensus.Network) error {
	for _, c := range checks {
		if err := c.run(r, n); err != nil {
			return err
		}
	}
	return nil
}

func checkNetwork(r *change, n *consensus.Network) error {
	if r.Network != n.ID {
		return refuse(RuleNetwork, "it is for network %s, this is %s (%s)", r.Network, n.ID, n.Name)
	}
	return nil
}

// checkCurrent is all that can be said without the chain: set 0 is in the
// network file, and every other one passed the rules about sets.
func checkCurrent(r *change, n *consensus.Network) error {
	if r.Current.Number == 0 && !slices.Equal(r.Current.Keys, n.Validators) {
		return refuse(RuleUnknownSet, "it starts from a set 0 that is not the network's")
	}
	if err := n.CheckSet(r.Current.Keys); err != nil {
		return refuse(RuleUnknownSet, "set %d cannot be one of this network: %v", r.Current.Number, err)
	}
	return nil
}

func checkNumber(r *change, _ *consensus.Network) error {
	if r.Current.Number == math.MaxUint32 {
		return refuse(RuleLastNumber, "set %d is the last there can be", r.Current.Number)
	}
	return nil
}

func checkUnchanged(r *change, _ *consensus.Network) error {
	if slices.Equal(r.Keys, r.Current.Keys) {
		return refuse(RuleUnchanged, "the new set has the keys of the set in force in the same order")
	}
	return nil
}

func checkEven(r *change, _ *consensus.Network) error {
	if len(r.Keys)%2 == 0 {
		return refuse(RuleEven, "%d keys: a set has an odd number of them", len(r.Keys))
	}
	return nil
}

func checkTooSmall(r *change, _ *consensus.Network) error {
	if len(r.Keys) == 1 {
		return refuse(RuleTooSmall, "a single key: nothing would ever be final, and its loss would end the signed slots for good; keep 3 at least")
	}
	return nil
}

func checkTooLarge(r *change, _ *consensus.Network) error {
	if len(r.Keys) > consensus.MaxValidators {
		return refuse(RuleTooLarge, "%d keys: a set has at most %d", len(r.Keys), consensus.MaxValidators)
	}
	return nil
}

func checkTurns(r *change, n *consensus.Network) error {
	if uint64(len(r.Keys))*uint64(n.RankStepSeconds) >= uint64(n.SlotOpenSeconds) {
		return refuse(RuleTurns, "%d keys with turns of %d s: slots of this network open to miners after %d s, before the last had its turn", len(r.Keys), n.RankStepSeconds, n.SlotOpenSeconds)
	}
	return nil
}

func checkVoters(r *change, _ *consensus.Network) error {
	both := make(map[types.PublicKey]bool)
	for _, k := range slices.Concat(r.Current.Keys, r.Keys) {
		both[k] = true
	}
	if len(both) > consensus.MaxVoters {
		return refuse(RuleVoters, "%d different keys in both sets, at most %d can vote together: change in two steps", len(both), consensus.MaxVoters)
	}
	return nil
}

func checkDuplicate(r *change, _ *consensus.Network) error {
	seen := make(map[types.PublicKey]bool)
	for i, k := range r.Keys {
		if seen[k] {
			return refuse(RuleDuplicate, "%s is listed twice, again as validator %d", k, i)
		}
		seen[k] = true
	}
	return nil
}

func isPoint(k types.PublicKey) bool {
	_, err := types.NewPublicKey(k.Algorithm, k.Point[:])
	return err == nil
}

func checkPoints(r *change, _ *consensus.Network) error {
	for i, k := range r.Keys {
		if !isPoint(k) {
			return refuse(RuleKey, "validator %d, %s, is no point of its curve", i, k)
		}
	}
	return nil
}

func checkDisabled(r *change, _ *consensus.Network) error {
	for i, k := range r.Keys {
		if slices.Contains(r.Disabled, k) {
			return refuse(RuleDisabled, "validator %d, %s, was disabled by evidence against it: it cannot be in a new set, put another key in its place", i, k)
		}
	}
	return nil
}

// newKeys lists the keys of the new set that are not in force, in order.
func (r *change) newKeys() (list []types.PublicKey) {
	for _, k := range r.Keys {
		if !slices.Contains(r.Current.Keys, k) && !slices.Contains(list, k) {
			list = append(list, k)
		}
	}
	return list
}

func (r *change) proofs(k types.PublicKey) (count int) {
	for i := range r.Proofs {
		if r.Proofs[i].Key == k {
			count++
		}
	}
	return count
}

func checkProofMissing(r *change, _ *consensus.Network) error {
	for _, k := range r.newKeys() {
		if r.proofs(k) == 0 {
			return refuse(RuleNoProof, "nobody has proven to hold the new key %s: have its holder run `qcity key prove`", k)
		}
	}
	return nil
}

func checkProofs(r *change, n *consensus.Network) error {
	for i := range r.Proofs {
		if !isPoint(r.Proofs[i].Key) {
			continue // RuleKey's
		}
		if err := r.Proofs[i].Verify(n.ID); err != nil {
			return refuse(RuleProof, "%v", err)
		}
	}
	return nil
}

func checkProofSurplus(r *change, _ *consensus.Network) error {
	fresh := r.newKeys()
	for i := range r.Proofs {
		if k := r.Proofs[i].Key; !slices.Contains(fresh, k) || r.proofs(k) > 1 {
			return refuse(RuleSurplusProof, "a proof of %s: there is one of each new key, and no other", k)
		}
	}
	return nil
}

func checkReason(r *change, _ *consensus.Network) error {
	if !showable(r.Reason, MaxReason) {
		return refuse(RuleReason, "give the reason in one line of at most %d bytes that can be printed", MaxReason)
	}
	return nil
}

// showable reports whether a text is one line of 1 to limit bytes that shows as
// what it is: no control characters, and none that turn the direction of writing.
func showable(text string, limit int) bool {
	if text == "" || len(text) > limit || !utf8.ValidString(text) {
		return false
	}
	for _, c := range text {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return text[0] != ' ' && text[len(text)-1] != ' '
}
