package consensus_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/consensus"
)

// TestDocumentedRules keeps the list of rules in docs/protocol.md equal to the
// constants, and its † marks to BlamesBlock.
func TestDocumentedRules(t *testing.T) {
	text, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	blames := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)`( †)? \\| .+ \\|$").FindAllStringSubmatch(section(t, text, "Rules"), -1) {
		if _, ok := blames[row[1]]; ok {
			t.Errorf("%s is listed twice", row[1])
		}
		blames[row[1]] = row[2] == ""
	}
	documented := slices.Sorted(maps.Keys(blames))
	declared := slices.Sorted(maps.Values(declaredRules(t)))
	if diff := cmp.Diff(declared, documented); diff != "" {
		t.Errorf("rules of blocks (-) and docs/protocol.md (+) differ:\n%s", diff)
	}
	for rule, want := range blames {
		if got := consensus.BlamesBlock(&consensus.RuleError{Rule: consensus.Rule(rule)}); got != want {
			t.Errorf("%s: BlamesBlock says %t, the document %t", rule, got, want)
		}
	}
}

// section returns the text of a chapter of the document.
func section(t *testing.T, text []byte, title string) string {
	t.Helper()
	found := regexp.MustCompile(`(?ms)^## ` + title + `\n(.*?)(?:^## |\z)`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("docs/protocol.md has no chapter %q", title)
	}
	return string(found[1])
}

// TestDocumentedParameters keeps the table of parameters complete and in the
// order of the network file.
func TestDocumentedParameters(t *testing.T) {
	text, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("params.go")
	if err != nil {
		t.Fatal(err)
	}
	names := func(pattern string, in []byte) (list []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(in, -1) {
			list = append(list, string(m[1]))
		}
		return list
	}
	declared := names("toml:\"([a-zA-Z]+)\"", source)
	documented := names("(?m)^\\| `([a-zA-Z]+)` \\|", []byte(section(t, text, "Networks")))
	if len(declared) < 20 {
		t.Fatalf("only %d parameters found in params.go: this test reads it wrongly", len(declared))
	}
	if diff := cmp.Diff(declared, documented); diff != "" {
		t.Errorf("params.go (-) and docs/protocol.md (+) differ:\n%s", diff)
	}
}
