// Package stratum is the Stratum V1 wire format: bounded lines, requests whose
// ids are kept byte for byte, error codes, the encoding of server messages, hex
// fields as devices really send them, and difficulty arithmetic including the
// variable-difficulty controller. It does no I/O of its own and keeps no state
// between calls except in the values it hands out.
//
// The protocol has no standard. Sources: the original description by Slush
// Pool (2012), BIP 310 (mining.configure), BIP 320 and BIP 323 (rollable
// version bits), and the observed behaviour of the devices named in the tests.
package stratum

import "fmt"

// Methods a client may call.
const (
	MethodSubscribe           = "mining.subscribe"
	MethodAuthorize           = "mining.authorize"
	MethodConfigure           = "mining.configure"
	MethodSubmit              = "mining.submit"
	MethodExtranonceSubscribe = "mining.extranonce.subscribe"
	MethodSuggestDifficulty   = "mining.suggest_difficulty"
	MethodSuggestTarget       = "mining.suggest_target"
	MethodGetTransactions     = "mining.get_transactions"
	MethodMultiVersion        = "mining.multi_version"
	MethodPing                = "mining.ping"
	MethodClientPing          = "client.ping" // spelt so by some proxies
)

// Code is the number in a Stratum error; the values are those every pool uses.
type Code int

// The error codes of the original Stratum description.
const (
	CodeOther         Code = 20 // malformed, unsupported, or none of the below
	CodeStale         Code = 21 // job unknown or no longer worth anything
	CodeDuplicate     Code = 22
	CodeLowDifficulty Code = 23
	CodeUnauthorized  Code = 24
	CodeNotSubscribed Code = 25
)

// Error is a refusal as the client sees it: a code and a sentence for a human.
type Error struct {
	Code   Code
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("stratum error %d: %s", e.Code, e.Reason) }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Reason: fmt.Sprintf(format, args...)}
}
