package conformance

import (
	"testing"

	"qcitycoin.org/qcity/signer/conformance"
)

// TestEveryCaseIsAsked: the table and the answers are about the same cases.
func TestEveryCaseIsAsked(t *testing.T) {
	cases := conformance.Cases()
	if len(cases) < 60 {
		t.Errorf("%d cases, want 60 at least", len(cases))
	}
	last := 0
	for _, c := range cases {
		if answers[c.Number] == nil {
			t.Errorf("case %d is in the table and never asked", c.Number)
		}
		if c.Number <= last {
			t.Errorf("case %d stands behind %d", c.Number, last)
		}
		last = c.Number
	}
	if len(answers) != len(cases) {
		t.Errorf("%d answers for %d cases", len(answers), len(cases))
	}
}
