package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedTests: the tests and benchmarks that the documents name exist.
func TestDocumentedTests(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{$d := .Dir}}{{range .TestGoFiles}}{{$d}}/{{.}}\n{{end}}{{range .XTestGoFiles}}{{$d}}/{{.}}\n{{end}}", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	declared := make(map[string]bool)
	name := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	nested, err := filepath.Glob("signer/cluster/embedtest/*_test.go") // another module
	if err != nil || len(nested) == 0 {
		t.Fatal(nested, err)
	}
	for _, file := range append(strings.Fields(string(out)), nested...) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllSubmatch(source, -1) {
			declared[string(m[1])] = true
		}
	}
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(files, "README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w+)").FindAllSubmatch(text, -1) {
			if found++; !declared[string(m[1])] {
				t.Errorf("%s names %s, which does not exist", file, m[1])
			}
		}
	}
	if found < 60 {
		t.Errorf("only %d names found: this test reads the documents wrongly", found)
	}
}
