package worker

import (
	"fmt"
	"slices"
	"strings"
)

// Attributes are the PKCS#11 attributes of a private key that decide whether
// it can leave the token, and what else it may be used for.
type Attributes struct {
	Sensitive        Answer `json:"sensitive,omitempty"`
	AlwaysSensitive  Answer `json:"alwaysSensitive,omitempty"`
	Extractable      Answer `json:"extractable,omitempty"`
	NeverExtractable Answer `json:"neverExtractable,omitempty"`
	Local            Answer `json:"local,omitempty"` // generated in the token; NSS says false regardless
	Sign             Answer `json:"sign,omitempty"`
	Decrypt          Answer `json:"decrypt,omitempty"`
	Unwrap           Answer `json:"unwrap,omitempty"`
	Derive           Answer `json:"derive,omitempty"`
}

// The faults of a key's attributes that keep it from signing. Each is a Kind
// for errors.Is, as is ErrKeyUnprotected for all of them together.
const (
	ErrKeyNotSensitive       Kind = "key-not-sensitive"
	ErrKeySensitiveUnknown   Kind = "key-sensitive-not-answered"
	ErrKeyExtractable        Kind = "key-extractable"
	ErrKeyExtractableUnknown Kind = "key-extractable-not-answered"
	ErrKeyOnceReadable       Kind = "key-not-always-sensitive"
	ErrKeyOnceExtractable    Kind = "key-once-extractable"
	ErrKeyCannotSign         Kind = "key-may-not-sign"
)

// AttributeError says why a key is not fit for signing.
type AttributeError struct{ Faults []Kind }

func (e *AttributeError) Error() string {
	words := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		words[i] = string(f)
		if text, ok := faultText(f); ok {
			words[i] = text + " (" + string(f) + ")"
		}
	}
	return fmt.Sprintf("the key is not fit for signing: %s; generate a new key inside the token", strings.Join(words, ", "))
}

// Is reports whether target is ErrKeyUnprotected or one of the faults.
func (e *AttributeError) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && (k == ErrKeyUnprotected || slices.Contains(e.Faults, k))
}

func faultText(k Kind) (string, bool) {
	switch k {
	case ErrKeyNotSensitive:
		return "it is not sensitive", true
	case ErrKeySensitiveUnknown:
		return "the token does not say whether it is sensitive", true
	case ErrKeyExtractable:
		return "it is extractable", true
	case ErrKeyExtractableUnknown:
		return "the token does not say whether it is extractable", true
	case ErrKeyOnceReadable:
		return "it was not always sensitive", true
	case ErrKeyOnceExtractable:
		return "it was extractable once", true
	case ErrKeyCannotSign:
		return "it may not sign", true
	}
	return "", false
}

// Check refuses a key that can, or ever could, be read out of its token, or
// that may not sign. Sensitive and Extractable must be answered; for the rest
// silence is accepted. The error is an *AttributeError.
func (a Attributes) Check() error {
	var faults []Kind
	note := func(bad bool, k Kind) {
		if bad {
			faults = append(faults, k)
		}
	}
	note(a.Sensitive == False, ErrKeyNotSensitive)
	note(a.Sensitive == NotAnswered, ErrKeySensitiveUnknown)
	note(a.Extractable == True, ErrKeyExtractable)
	note(a.Extractable == NotAnswered, ErrKeyExtractableUnknown)
	note(a.AlwaysSensitive == False, ErrKeyOnceReadable)
	note(a.NeverExtractable == False, ErrKeyOnceExtractable)
	note(a.Sign == False, ErrKeyCannotSign)
	if faults == nil {
		return nil
	}
	return &AttributeError{faults}
}

// Remarks lists what a person should know of the key though it may sign: that
// it can be used for more than signing, or came from outside.
func (a Attributes) Remarks() []string {
	var out []string
	for _, r := range [...]struct {
		yes  bool
		text string
	}{
		{a.Decrypt == True, "it may decrypt"},
		{a.Unwrap == True, "it may unwrap keys"},
		{a.Derive == True, "it may derive keys"},
		{a.Local == False, "the token says that it was not generated inside"},
	} {
		if r.yes {
			out = append(out, r.text)
		}
	}
	return out
}
