package authority

import (
	"slices"
	"strings"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/proof"
)

// SetChangeRequest asks a signer to put one validator's key under a change of
// the set. It holds everything that is signed, never a digest.
type SetChangeRequest struct {
	Network  types.Hash             `json:"network"`
	Current  consensus.ValidatorSet `json:"current"`
	Disabled []types.PublicKey      `json:"disabled"` // of the set in force, as the asker knows it
	Keys     []types.PublicKey      `json:"keys"`     // of the new set, in order
	Proofs   []proof.Proof          `json:"proofs"`   // of each new key
	Reason   string                 `json:"reason"`
	Index    uint8                  `json:"index"` // of the signing key in the set in force
	// Authorisation is what people confirmed. A signer cannot know who typed it:
	// whoever may ask it at all answers for that.
	Authorisation Authorisation `json:"authorisation"`
}

// Authorisation is what the people who had a key sign confirmed.
type Authorisation struct {
	People      []string `json:"people"`      // names, two at least
	Fingerprint string   `json:"fingerprint"` // of the new set, as typed: Fingerprint
	// RemoveOwn and HandOver confirm what is otherwise refused: that the signer's
	// own key leaves the set, and that keys which were not in the set before get
	// its majority.
	RemoveOwn bool `json:"removeOwn"`
	HandOver  bool `json:"handOver"`
	Scripted  bool `json:"scripted"` // answers came from a file, not from a terminal
}

// MaxName is the longest name of a person, in bytes.
const MaxName = 64

// Number returns the new set's number.
func (r *SetChangeRequest) Number() uint32 { return r.Current.Number + 1 }

// Next returns the new set.
func (r *SetChangeRequest) Next() consensus.ValidatorSet {
	return consensus.ValidatorSet{Number: r.Number(), Keys: r.Keys}
}

// Check applies all rules, and returns the key that is to sign and what it
// signs. The error is a *Refusal.
func (r *SetChangeRequest) Check(n *consensus.Network) (key types.PublicKey, digest types.Hash, err error) {
	if err := first(setChecks, r, n); err != nil {
		return key, digest, err
	}
	if err := first(signChecks, r, n); err != nil {
		return key, digest, err
	}
	return r.Current.Keys[r.Index], consensus.SetChangeDigest(n.ID, r.Current, r.Keys), nil
}

// own returns the signing key, false where there is none (RuleIndex).
func (r *SetChangeRequest) own() (types.PublicKey, bool) {
	if int(r.Index) >= len(r.Current.Keys) {
		return types.PublicKey{}, false
	}
	return r.Current.Keys[r.Index], true
}

func checkIndex(r *change, _ *consensus.Network) error {
	if _, ok := r.own(); !ok {
		return refuse(RuleIndex, "the set in force has %d validators, none with number %d", len(r.Current.Keys), r.Index)
	}
	return nil
}

func checkOwnDisabled(r *change, _ *consensus.Network) error {
	if k, ok := r.own(); ok && slices.Contains(r.Disabled, k) {
		return refuse(RuleOwnDisabled, "validator %d, %s, was disabled by evidence against it: its signature would not count", r.Index, k)
	}
	return nil
}

func checkPeople(r *change, _ *consensus.Network) error {
	return CheckPeople(r.Authorisation.People)
}

// CheckPeople refuses a list that does not name two people at least, each once
// (rule set-two-people).
func CheckPeople(people []string) error {
	seen := make(map[string]bool)
	for _, name := range people {
		if !showable(name, MaxName) {
			return refuse(RulePeople, "%q: give a name of at most %d bytes that can be printed", name, MaxName)
		}
		folded := strings.ToLower(strings.Join(strings.Fields(name), " "))
		if seen[folded] {
			return refuse(RulePeople, "%s confirmed twice: it takes two people", name)
		}
		seen[folded] = true
	}
	if len(seen) < 2 {
		return refuse(RulePeople, "confirmed by %d: it takes two people", len(seen))
	}
	return nil
}

// fingerprintDigits are 128 bits: whoever composes two sets to look alike would
// have to try 2^64 of them.
const fingerprintDigits = 32

// Fingerprint returns the first 32 digits of a set's id, as getvalidators shows
// it, in groups of four: short enough to be read aloud and typed.
func Fingerprint(set consensus.ValidatorSet) string {
	digits := set.ID().String()[:fingerprintDigits]
	var groups []string
	for i := 0; i < len(digits); i += 4 {
		groups = append(groups, digits[i:i+4])
	}
	return strings.Join(groups, " ")
}

// SameFingerprint compares what was typed with a fingerprint; spaces, dashes and
// capitals do not matter.
func SameFingerprint(typed, want string) bool {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer(" ", "", "-", "", "\t", "").Replace(s))
	}
	return plain(typed) == plain(want)
}

func checkFingerprint(r *change, _ *consensus.Network) error {
	if !SameFingerprint(r.Authorisation.Fingerprint, Fingerprint(r.Next())) {
		return refuse(RuleFingerprint, "what was typed is not the fingerprint of the new set: compare the proposal with what the others have")
	}
	return nil
}

// RemovesOwn reports whether the signing key is not in the new set.
func (r *SetChangeRequest) RemovesOwn() bool {
	k, ok := r.own()
	return ok && !slices.Contains(r.Keys, k)
}

func checkOwnRemoved(r *change, _ *consensus.Network) error {
	if r.RemovesOwn() && !r.Authorisation.RemoveOwn {
		return refuse(RuleOwnRemoved, "this key, validator %d, is not in the new set and cannot sign once that is in force: confirm that", r.Index)
	}
	return nil
}

// HandsOver reports whether the keys that stay are no majority of the new set:
// keys that proved nothing yet but that somebody holds them could then decide
// everything by themselves.
func (r *SetChangeRequest) HandsOver() bool {
	stay := 0
	for _, k := range r.Keys {
		if slices.Contains(r.Current.Keys, k) {
			stay++
		}
	}
	return stay < consensus.CertifyQuorum(len(r.Keys))
}

func checkHandOver(r *change, _ *consensus.Network) error {
	if r.HandsOver() && !r.Authorisation.HandOver {
		return refuse(RuleHandOver, "the keys that stay are no majority of the new set: change fewer at a time, or confirm that authority is handed over")
	}
	return nil
}
