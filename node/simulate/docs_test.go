package simulate

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestDocs computes the tables of docs/simulate.md again.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/simulate.md")
	if err != nil {
		t.Fatal(err)
	}
	var (
		head  []string
		cells int
	)
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.Trim(strings.TrimSpace(line), "| "), "|")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if strings.HasSuffix(fields[0], `\ z`) {
			head = fields
			continue
		}
		if !strings.HasPrefix(line, "|") {
			head = nil
		}
		first, err := strconv.ParseFloat(fields[0], 64)
		if head == nil || err != nil { // text, or the rule below a head
			continue
		}
		m := model(PoOF, .6)
		if what, _, _ := strings.Cut(head[0], " "); what == "missed" {
			m.Missed = first
		} else {
			m.Rules, m.Q = Rules(what), first
		}
		for i, cell := range fields[1:] {
			z, err := strconv.Atoi(head[i+1])
			if err != nil {
				t.Fatalf("head %q", head)
			}
			want := "0"
			if p := exact(t, m, z); p > 0 {
				want = fmt.Sprintf("%.3f", 100*p)
			}
			if cell != want {
				t.Errorf("%s: row %v, z %d: the page says %s, calculated is %s", head[0], first, z, cell, want)
			}
			cells++
		}
	}
	if cells != 5*10+6*7+5*10+6*8 {
		t.Errorf("%d cells were checked", cells)
	}
}
