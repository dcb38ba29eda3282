package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// areas are the hundreds of the case numbers.
var areas = [...]string{1: "Module", 2: "Slots and tokens", 3: "Sessions", 4: "Login", 5: "Mechanisms and key generation", 6: "Search and attributes", 7: "Signatures", 8: "Misuse", 9: "Life cycle and speed"}

// Markdown writes the table of cases, area by area, as it stands in docs/hsm.md.
func Markdown() string {
	var b strings.Builder
	for area, name := range areas {
		if name == "" {
			continue
		}
		fmt.Fprintf(&b, "\n### %d00 %s\n\n| no. | case | passes | why | asked |\n|---|---|---|---|---|\n", area, name)
		for _, c := range cases {
			if c.Number/100 == area {
				fmt.Fprintf(&b, "| %d | %s | %s | %s | %s |\n", c.Number, c.Name, c.Requires, c.Why, asked(c))
			}
		}
	}
	return b.String()
}

func asked(c Case) string {
	switch {
	case c.Needs&WrongPIN != 0:
		return "`--wrong-pin`"
	case c.Needs&Key != 0:
		return "`--scratch`"
	case c.Needs&Login != 0:
		return "with a PIN"
	}
	return "always"
}

// ProfilesMarkdown writes a table of the answers in which the embedded profiles
// differ, and their hashes.
func ProfilesMarkdown() string {
	all := Profiles()
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	fmt.Fprintf(&b, "\n| profile | library | curve of the scratch key | SHA-256 |\n|---|---|---|---|\n")
	for _, n := range names {
		p := all[n]
		fmt.Fprintf(&b, "| %s | %s %s | %s | `%s` |\n", n, p.Module, p.Version, p.Curve, p.Hash())
	}
	fmt.Fprintf(&b, "\n| no. | case | %s |\n|---|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, c := range cases {
		var row, told []string
		for _, n := range names {
			cell := all[n].cell(c.Number)
			if cell != notAsked {
				told = append(told, cell)
			}
			row = append(row, cell)
		}
		if c.Number != 103 && c.Number != 209 && c.Number != 220 && len(slices.Compact(told)) > 1 {
			fmt.Fprintf(&b, "| %d | %s | %s |\n", c.Number, c.Name, strings.Join(row, " | "))
		}
	}
	return b.String()
}

func (p Profile) cell(number int) string {
	for _, o := range p.Cases {
		if o.Number == number {
			if o.Result == Pass {
				return o.Value
			}
			return strings.TrimSpace(string(o.Result) + " " + o.Value)
		}
	}
	return notAsked
}

// notAsked stands for a case that was skipped, as openCryptoki has no keys.
const notAsked = "–"
