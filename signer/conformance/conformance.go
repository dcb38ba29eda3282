// Package conformance asks a PKCS#11 module, case by case, what a signer needs
// to know of it. This package holds the table of cases, starts the processes
// that ask, and keeps what was answered as a profile; it is pure Go. The asking
// itself is signer/pkcs11/conformance, inside qcity-p11: a module that crashes
// or hangs costs the case at hand and no more.
package conformance

import "fmt"

// Result is how a case ended.
type Result string

// The four results.
const (
	Pass        Result = "PASS"
	Fail        Result = "FAIL"
	NotAnswered Result = "NOT ANSWERED" // the token does not tell; no fault, but no assurance
	Skipped     Result = "SKIPPED"      // not asked; the note says why
)

// Need is what a case cannot do without.
type Need uint8

// The needs. A case that needs a key, or a wrong PIN, is not harmless.
const (
	Login    Need = 1 << iota // the user's PIN
	Key                       // a scratch key pair, generated and destroyed: --scratch
	WrongPIN                  // one wrong PIN: --wrong-pin
	Alone                     // a process of its own
	Varies                    // the answer is a figure or a race and is not compared with a profile
	Bare                      // C_Initialize is not called for the case
)

// Case is one numbered question.
type Case struct {
	Number   int
	Name     string
	Needs    Need
	Requires string // what passes
	Why      string // what the signer, or its operator, does with it
}

// Outcome is the answer to one case. Value is short, and the same every time
// unless the case Varies.
type Outcome struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
	Result Result `json:"result"`
	Value  string `json:"value,omitempty"`
	Note   string `json:"note,omitempty"`
}

// Request goes to the probing process, followed by the PIN.
type Request struct {
	Module   string `json:"module"`
	InitArgs string `json:"initArgs,omitempty"` // for modules that want a string in C_Initialize (NSS)
	Label    string `json:"label,omitempty"`    // empty: list the tokens
	Serial   string `json:"serial,omitempty"`
	Cases    []int  `json:"cases,omitempty"`
}

// Token is a token as `qcity hsm list` shows it.
type Token struct {
	Label        string `json:"label"`
	Serial       string `json:"serial"`
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model"`
	Firmware     string `json:"firmware"`
	PIN          string `json:"pin"`       // ok, low, final, locked, expired, not set
	Sessions     string `json:"sessions"`  // open of at most, as far as the token tells
	Secp256k1    string `json:"secp256k1"` // yes, no, or unknown
	Module       string `json:"module"`    // what the library calls itself
	Version      string `json:"version"`   // of the library
}

// Answer is one line from the probing process.
type Answer struct {
	Tokens  []Token  `json:"tokens,omitempty"`
	Outcome *Outcome `json:"outcome,omitempty"`
	Curve   string   `json:"curve,omitempty"` // that the scratch key is on
	// PINRefused: a login failed. No further process may try.
	PINRefused bool `json:"pinRefused,omitempty"`
	// LoggedIn comes once the login succeeded. A process that got a PIN and ended
	// without saying so may have cost a try.
	LoggedIn bool   `json:"loggedIn,omitempty"`
	Rates    []Rate `json:"rates,omitempty"`
	Err      string `json:"err,omitempty"`
}

// Rate is a measurement of signing.
type Rate struct {
	Sessions  int     `json:"sessions"`
	PerSecond float64 `json:"perSecond"`
}

// PoolSize recommends a number of sessions: the smallest from which doubling
// brings less than a fifth more signatures.
func PoolSize(rates []Rate) int {
	best := Rate{Sessions: 1}
	for _, r := range rates {
		if r.PerSecond > 1.2*best.PerSecond {
			best = r
		}
	}
	return best.Sessions
}

// Lookup returns the case with this number.
func Lookup(number int) (Case, error) {
	for _, c := range Cases() {
		if c.Number == number {
			return c, nil
		}
	}
	return Case{}, fmt.Errorf("there is no case %d", number)
}
