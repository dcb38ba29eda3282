package authority

import (
	"slices"

	"qcitycoin.org/qcity/node/consensus"
)

// Broken lists all rules that a request breaks.
func Broken(r *SetChangeRequest, n *consensus.Network) (list []Rule) {
	for _, c := range slices.Concat(setChecks, signChecks) {
		if c.run(r, n) != nil {
			list = append(list, c.rule)
		}
	}
	return list
}

// RulesOf lists the rules of a request to sign, in the order of their checks.
func RulesOf() (list []Rule) {
	for _, c := range slices.Concat(setChecks, signChecks) {
		list = append(list, c.rule)
	}
	return list
}
