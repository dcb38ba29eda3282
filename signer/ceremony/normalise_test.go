package ceremony

import (
	"cmp"
	"slices"
	"strings"
)

// same are the facts that do not differ between two ceremonies by one script.
var same = map[string]bool{"script": true, "binary": true, "token": true, "keys": true, "id": true, "attributes": true, "steps": true}

// Normalise returns a transcript without what a rehearsal and the run differ in by
// nature: keys and what follows from them, devices, the day, the kind, and
// interruptions. Two ceremonies by one script are then equal line by line.
func Normalise(entries []Entry) []Entry {
	type pair struct{ value, name string }
	var all []pair
	for _, e := range entries {
		for name, value := range e.Facts {
			if !same[name] && len(value) >= tellingLength {
				if name == "restored" {
					name = "serial" // SoftHSM's copies have that of the original
				}
				all = append(all, pair{value, "<" + name + ">"})
			}
		}
		if e.Asked != "" && e.Asked != confirmation {
			all = append(all, pair{e.Asked, "<words>"})
		}
	}
	// A value may be part of another, so the longest go first.
	slices.SortFunc(all, func(a, b pair) int {
		return cmp.Or(cmp.Compare(len(b.value), len(a.value)), cmp.Compare(a.value, b.value), cmp.Compare(a.name, b.name))
	})
	seen := map[string]bool{}
	var list []string
	for _, p := range all {
		if !seen[p.value] {
			seen[p.value] = true
			list = append(list, p.value, p.name)
		}
	}
	r := strings.NewReplacer(list...)
	var out []Entry
	for _, e := range entries {
		if e.Kind == KindResumed || e.Kind == KindRefused {
			continue
		}
		n := Entry{Kind: e.Kind, Step: e.Step, Role: e.Role, Asked: r.Replace(e.Asked), Answer: r.Replace(e.Answer), Facts: map[string]string{}}
		for _, line := range e.Shown {
			n.Shown = append(n.Shown, r.Replace(nameFact(e, line)))
		}
		for name, value := range e.Facts {
			if !same[name] {
				value = "<" + name + ">"
			}
			n.Facts[name] = value
		}
		out = append(out, n)
	}
	return out
}

// tellingLength is how long a value must be to be looked for in other lines.
const tellingLength = 8

// nameFact replaces the line that shows a fact.
func nameFact(e Entry, line string) string {
	for name, value := range e.Facts {
		if !same[name] && line == factLine(name, value) {
			return factLine(name, "<"+name+">")
		}
	}
	return line
}
